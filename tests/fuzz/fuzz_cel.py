#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-3.0-or-later
"""Atheris target: any bytes are a log of events or a ParseError; what was read is written back byte for byte.

Run with ``python3 tests/fuzz/fuzz_cel.py CORPUS_FOLDER`` where atheris is installed; without it, each file named on the
command line is run once.
"""

from __future__ import annotations

import pathlib
import sys

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[2] / "module_utils"))

from vouch.errors import ParseError
from vouch.parse.cel import encode_record, parse_cel


def one_input(data: bytes) -> None:
    """Hold the parser to its promise for one input."""
    try:
        records = parse_cel(data)
    except ParseError:
        return
    written = (encode_record(item.recnum, item.pcr, item.digest, item.content) for item in records)
    assert b"".join(written) == data


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
