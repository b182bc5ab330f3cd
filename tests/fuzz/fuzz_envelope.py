# SPDX-License-Identifier: GPL-3.0-or-later
"""DSSE envelopes: any bytes are read or refused with ``ParseError``, nothing else.

Run with atheris: ``python tests/fuzz/fuzz_envelope.py -max_total_time=60``.
"""

from __future__ import annotations

import pathlib
import sys

import ansible.module_utils

ansible.module_utils.__path__.append(str(pathlib.Path(__file__).resolve().parents[2] / "module_utils"))

from ansible.module_utils.vouch.errors import ParseError  # noqa: E402
from ansible.module_utils.vouch.parse.envelope import pae, parse_envelope  # noqa: E402


def one_input(data: bytes) -> None:
    """Read one input."""
    try:
        envelope = parse_envelope(data)
    except ParseError:
        return
    pae(envelope.payload_type, envelope.payload)


if __name__ == "__main__":
    import atheris

    atheris.instrument_all()
    atheris.Setup(sys.argv, one_input)
    atheris.Fuzz()
