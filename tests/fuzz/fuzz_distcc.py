# SPDX-License-Identifier: GPL-3.0-or-later
"""distcc messages: any bytes, in any pieces, are one message or refused with ``ParseError``, in one spelling.

Run with atheris: ``python tests/fuzz/fuzz_distcc.py -max_total_time=60``.
"""

from __future__ import annotations

import pathlib
import sys

import ansible.module_utils

ansible.module_utils.__path__.append(str(pathlib.Path(__file__).resolve().parents[2] / "module_utils"))

from ansible.module_utils.vouch.errors import ParseError  # noqa: E402
from ansible.module_utils.vouch.parse.distcc import (  # noqa: E402
    AnswerReader,
    RequestReader,
    encode_answer,
    encode_request,
)


def one_input(data: bytes) -> None:
    """Read one input: its first byte says as what, its second in which pieces."""
    kind, size, data = data[:1], (data[1:2] or b"\1")[0] or 1, data[2:]
    reader = RequestReader() if kind < b"\x55" else AnswerReader(notarised=kind < b"\xaa")
    try:
        for at in range(0, len(data), size):
            reader.feed(data[at : at + size])
        message = reader.finish()
    except ParseError as error:
        if not error.code.startswith("distcc."):
            raise AssertionError(error.code) from error
        return
    if isinstance(reader, RequestReader):
        assert encode_request(message.arguments, message.source, message.nonce) == data
    else:
        assert encode_answer(message) == data


if __name__ == "__main__":
    import atheris

    atheris.instrument_all()
    atheris.Setup(sys.argv, one_input)
    atheris.Fuzz()
