# SPDX-License-Identifier: GPL-3.0-or-later
"""Statements, endorsements, acceptances and bundles: any bytes are read or refused, and have one spelling.

Run with atheris: ``python tests/fuzz/fuzz_provenance.py -max_total_time=60``.
"""

from __future__ import annotations

import contextlib
import pathlib
import sys

import ansible.module_utils

ROOT = pathlib.Path(__file__).resolve().parents[2]
ansible.module_utils.__path__.append(str(ROOT / "module_utils"))

from ansible.module_utils.vouch.appraise.provenance import recheck_provenance  # noqa: E402
from ansible.module_utils.vouch.appraise.recheck import Outcome  # noqa: E402
from ansible.module_utils.vouch.errors import ParseError  # noqa: E402
from ansible.module_utils.vouch.make.provenance import write_provenance_bundle  # noqa: E402
from ansible.module_utils.vouch.model.acceptance import Acceptance  # noqa: E402
from ansible.module_utils.vouch.model.channelowner import ChannelOwner  # noqa: E402
from ansible.module_utils.vouch.model.provenance import BuildStatement, JobStatement  # noqa: E402
from ansible.module_utils.vouch.model.workkey import WorkKey  # noqa: E402
from ansible.module_utils.vouch.parse.provenancebundle import parse_provenance_bundle  # noqa: E402


def one_input(data: bytes) -> None:
    """Read one input as everything it may be."""
    for kind in (JobStatement, BuildStatement, WorkKey, Acceptance):
        try:
            found = kind.from_bytes(data)
        except ParseError:
            continue
        assert found.to_bytes() == data
    with contextlib.suppress(ParseError):
        ChannelOwner.from_der(data)
    try:
        bundle = parse_provenance_bundle(data)
    except ParseError:
        return
    assert write_provenance_bundle(bundle.parts) == data
    # Nothing is trusted from outside here, so nothing can be proven.
    assert recheck_provenance(bundle, None).outcome is not Outcome.PROVEN


if __name__ == "__main__":
    import atheris

    atheris.instrument_all()
    atheris.Setup(sys.argv, one_input)
    atheris.Fuzz()
