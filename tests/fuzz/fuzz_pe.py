# SPDX-License-Identifier: GPL-3.0-or-later
"""Fuzz target: an image gives a digest and can be extended, or fails with ParseError or UsageError; nothing else.

Run ``python tests/fuzz/fuzz_pe.py CORPUS_FOLDER`` where the package ``atheris`` is installed; without it, the same
property runs on random changes in tests/property/test_firmware.py. Each crash becomes a unit test.
"""

from __future__ import annotations

import pathlib
import sys

ROOT = pathlib.Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "module_utils"))

from vouch.errors import ParseError, UsageError  # noqa: E402
from vouch.make.xenefi import append_sections  # noqa: E402
from vouch.parse.pe import authenticode_digest, parse_pe  # noqa: E402


def one_input(data: bytes) -> None:
    """Hash ``data``, append a section both ways, and read the result back."""
    try:
        authenticode_digest(data)
    except ParseError:
        return
    for strip in (True, False):
        try:
            extended = append_sections(data, [(".fuzz", b"fuzz")], strip_debug=strip)
        except UsageError:
            continue
        section = parse_pe(extended).section(".fuzz")
        if section is None or extended[section.raw_offset :][:4] != b"fuzz":
            raise AssertionError("the appended section is not in the file")
        authenticode_digest(extended)


def main() -> None:
    """Hand the target to libFuzzer."""
    import atheris  # type: ignore[import-not-found]

    atheris.instrument_all()
    atheris.Setup(sys.argv, one_input)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
