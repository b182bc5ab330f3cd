#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-3.0-or-later
"""Atheris target: any bytes are an SELinux policy or a ParseError; what parses has a digest and a verdict.

Run with ``python3 tests/fuzz/fuzz_sepolicy.py CORPUS_FOLDER`` where atheris is installed; without it, each file named
on the command line is run once.
"""

from __future__ import annotations

import pathlib
import sys

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[2] / "module_utils"))

from vouch.check.cwlite import check_policy
from vouch.errors import ParseError
from vouch.model.integrity import Intent
from vouch.model.policydigest import semantic_digest
from vouch.parse.sepolicy import parse_policy


def one_input(data: bytes) -> None:
    """Hold parser, digest and check to their promise for one input."""
    try:
        policy = parse_policy(data)
    except ParseError:
        return
    assert semantic_digest(policy) == semantic_digest(policy)
    if policy.types:
        verdict = check_policy(policy, Intent(tcb=frozenset({policy.types[min(policy.types)]})))
        assert verdict.conflict_count == sum(1 for _ in verdict.conflicts())


def main() -> None:
    """Fuzz, or run single inputs."""
    try:
        import atheris
    except ImportError:
        for name in sys.argv[1:]:
            one_input(pathlib.Path(name).read_bytes())
        return
    atheris.Setup(sys.argv, one_input)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
