# SPDX-License-Identifier: GPL-3.0-or-later
"""Proofs of policies: any bytes are refused with ``EvidenceError`` or prove the policy, nothing else.

Run with atheris: ``python tests/fuzz/fuzz_flowproof.py -max_total_time=60``.
"""

from __future__ import annotations

import pathlib
import sys

import ansible.module_utils

TESTS = pathlib.Path(__file__).resolve().parents[1]
ansible.module_utils.__path__.append(str(TESTS.parent / "module_utils"))
sys.path.insert(0, str(TESTS))

from ansible.module_utils.vouch.check.flowproof import verify_proof  # noqa: E402
from ansible.module_utils.vouch.errors import EvidenceError  # noqa: E402
from ansible.module_utils.vouch.model.digest import sha256  # noqa: E402

from sim.buildnode import policy  # noqa: E402

POLICY = policy().to_bytes()


def one_input(data: bytes) -> None:
    """Read one input."""
    try:
        verified = verify_proof(data, policy=POLICY)
    except EvidenceError:
        return
    assert verified.policy_sha256 == sha256(POLICY)


if __name__ == "__main__":
    import atheris

    atheris.instrument_all()
    atheris.Setup(sys.argv, one_input)
    atheris.Fuzz()
