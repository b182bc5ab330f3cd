#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-3.0-or-later
"""Atheris target: any bytes are a list of measurements or a ParseError, in linear time.

Run with ``python3 tests/fuzz/fuzz_imalog.py CORPUS_FOLDER`` where atheris is installed; without it, each file named on
the command line is run once.
"""

from __future__ import annotations

import contextlib
import pathlib
import sys

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[2] / "module_utils"))

from vouch.errors import ParseError
from vouch.parse.imalog import encode_entry, parse_ascii, parse_binary


def one_input(data: bytes) -> None:
    """Hold the parser to its promise for one input."""
    try:
        entries = parse_binary(data)
    except ParseError:
        entries = ()
    else:
        assert sum(entry.size_bytes for entry in entries) == len(data)
    for entry in entries:
        if entry.template != "ima":
            again = encode_entry(entry.pcr, entry.template, entry.template_data)
            (same,) = parse_binary(again)
            assert (same.template, same.template_data) == (entry.template, entry.template_data)
    with contextlib.suppress(ParseError):
        parse_ascii(data)


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
