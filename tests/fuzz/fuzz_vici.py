#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-3.0-or-later
"""Atheris target: any bytes are a VICI message or a ParseError; what was read is written back byte for byte.

Run with ``python3 tests/fuzz/fuzz_vici.py CORPUS_FOLDER`` where atheris is installed; without it, each file named on
the command line is run once.
"""

from __future__ import annotations

import pathlib
import sys

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[2] / "module_utils"))

from vouch.errors import ParseError
from vouch.parse.vici import encode_message, parse_message


def one_input(data: bytes) -> None:
    """Hold the parser to its promise for one input."""
    try:
        message = parse_message(data)
    except ParseError:
        return
    assert encode_message(message) == data


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
