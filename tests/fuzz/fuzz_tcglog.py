# SPDX-License-Identifier: GPL-3.0-or-later
"""Fuzz target: a firmware event log gives records, a ParseError or an EvidenceError, and nothing else.

Run ``python tests/fuzz/fuzz_tcglog.py CORPUS_FOLDER`` where the package ``atheris`` is installed; without it, the same
property runs on random changes in tests/property/test_firmware.py. Each crash becomes a unit test.
"""

from __future__ import annotations

import pathlib
import sys

ROOT = pathlib.Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "module_utils"))

from vouch.check.replay import replay, verify_event_log  # noqa: E402
from vouch.errors import EvidenceError, ParseError  # noqa: E402
from vouch.model.boot import claim_of  # noqa: E402
from vouch.model.digest import HASH_SIZE_BYTES  # noqa: E402
from vouch.parse.tcglog import parse_event_log  # noqa: E402


def one_input(data: bytes) -> None:
    """Parse, replay and read every claim of ``data``."""
    try:
        log = parse_event_log(data)
    except ParseError:
        return
    for algorithm in log.algorithms:
        for event in log.events:
            claim_of(event, algorithm) if algorithm in HASH_SIZE_BYTES else None
        if algorithm not in HASH_SIZE_BYTES:
            continue
        try:
            bank = replay(log, algorithm)
            if len(bank):
                verify_event_log(log, bank)
        except EvidenceError:
            continue


def main() -> None:
    """Hand the target to libFuzzer."""
    import atheris  # type: ignore[import-not-found]

    atheris.instrument_all()
    atheris.Setup(sys.argv, one_input)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
