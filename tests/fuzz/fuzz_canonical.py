# SPDX-License-Identifier: GPL-3.0-or-later
"""Strict JSON: any bytes are read or refused with ``ParseError``, nothing else.

Run with atheris: ``python tests/fuzz/fuzz_canonical.py -max_total_time=60``.
"""

from __future__ import annotations

import pathlib
import sys

import ansible.module_utils

ansible.module_utils.__path__.append(str(pathlib.Path(__file__).resolve().parents[2] / "module_utils"))

from ansible.module_utils.vouch.errors import ParseError  # noqa: E402
from ansible.module_utils.vouch.parse.canonical import dump_canonical, load_json  # noqa: E402


def one_input(data: bytes) -> None:
    """Read one input."""
    try:
        value = load_json(data, limit_bytes=1 << 20)
    except ParseError:
        return
    # What is read can be written, and the written form is read as the same value.
    again = dump_canonical(value)
    if load_json(again, limit_bytes=1 << 21) != value:
        raise AssertionError("written and read back, the value is another one")


if __name__ == "__main__":
    import atheris

    atheris.instrument_all()
    atheris.Setup(sys.argv, one_input)
    atheris.Fuzz()
