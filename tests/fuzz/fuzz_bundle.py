# SPDX-License-Identifier: GPL-3.0-or-later
"""Evidence bundles: any bytes are read or refused with ``ParseError``, and what is read has that one spelling.

Run with atheris: ``python tests/fuzz/fuzz_bundle.py -max_total_time=60``.
"""

from __future__ import annotations

import pathlib
import sys

import ansible.module_utils

ansible.module_utils.__path__.append(str(pathlib.Path(__file__).resolve().parents[2] / "module_utils"))

from ansible.module_utils.vouch.appraise.anchors import Anchors  # noqa: E402
from ansible.module_utils.vouch.appraise.recheck import Outcome, recheck  # noqa: E402
from ansible.module_utils.vouch.errors import EvidenceError, ParseError, VouchError  # noqa: E402
from ansible.module_utils.vouch.make.bundle import write_bundle  # noqa: E402
from ansible.module_utils.vouch.parse.bundle import parse_bundle  # noqa: E402


def of_family(error: VouchError) -> None:
    """Fail unless the error is one about bundles."""
    if not error.code.startswith("bundle."):
        raise AssertionError(error.code) from error


def one_input(data: bytes) -> None:
    """Read one input, and check again what can be read."""
    try:
        bundle = parse_bundle(data)
    except ParseError as error:
        of_family(error)
        return
    assert write_bundle(bundle.parts) == data
    try:
        found = recheck(bundle, Anchors())
    except EvidenceError as error:
        of_family(error)
        return
    assert found.outcome in (Outcome.UNANCHORED, Outcome.FALSE)


if __name__ == "__main__":
    import atheris

    atheris.instrument_all()
    atheris.Setup(sys.argv, one_input)
    atheris.Fuzz()
