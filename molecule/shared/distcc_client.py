# SPDX-License-Identifier: GPL-3.0-or-later
"""One compile job for a distccd, in protocol version 1. Runs wherever there is a Python: needs nothing but sockets.

=====  =======================  ======  ===============================
asks   parameter                says    parameter
=====  =======================  ======  ===============================
DIST   version, 1               DONE    version, 1
ARGC   number of arguments      STAT    wait status of the compiler
ARGV   length; then the bytes   SERR    length; then the bytes
DOTI   length; then the source  SOUT    length; then the bytes
                                DOTO    length; then the object
=====  =======================  ======  ===============================

A token is four letters and eight hex digits.

usage: distcc_client.py HOST PORT TIMEOUT_S ARGUMENT... < SOURCE    (prints one JSON object)

Source: distcc 3.4, doc/protocol-1.txt.
"""

from __future__ import annotations

import base64
import json
import socket
import sys
from collections.abc import Callable, Sequence

MAX_PART_BYTES = 16 << 20


def request(arguments: Sequence[str], source: bytes) -> bytes:
    """Return the job: ``arguments`` of the compiler, its own name first, and preprocessed source."""
    out = [_token("DIST", 1), _token("ARGC", len(arguments))]
    for argument in arguments:
        out += [_token("ARGV", len(argument)), argument.encode()]
    return b"".join([*out, _token("DOTI", len(source)), source])


def read_answer(receive: Callable[[int], bytes]) -> dict[str, object]:
    """Return wait status, messages and object; ``receive`` gives exactly so many bytes.

    Raises:
        ValueError: the answer is none of protocol 1.
    """
    if (version := _parameter(receive, "DONE")) != 1:
        raise ValueError(f"the answer is of version {version}")
    status = _parameter(receive, "STAT")
    parts = {name: receive(_parameter(receive, name)) for name in ("SERR", "SOUT", "DOTO")}
    return {
        "status": status,
        "messages": (parts["SERR"] + parts["SOUT"]).decode("utf-8", "replace"),
        "object": base64.b64encode(parts["DOTO"]).decode(),
    }


def _token(name: str, value: int) -> bytes:
    return f"{name}{value:08x}".encode()


def _parameter(receive: Callable[[int], bytes], name: str) -> int:
    token = receive(12)
    if token[:4] != name.encode():
        raise ValueError(f"expected {name}, found {token!r}")
    value = int(token[4:], 16)
    if value > MAX_PART_BYTES:
        raise ValueError(f"{name} is {value} bytes long")
    return value


def main() -> None:
    """Run the program."""
    host, port, timeout_s, *arguments = sys.argv[1:]
    source = sys.stdin.buffer.read()
    with socket.create_connection((host, int(port)), float(timeout_s)) as connection:
        connection.sendall(request(arguments, source))
        with connection.makefile("rb") as stream:

            def receive(size: int) -> bytes:
                data = stream.read(size)
                if len(data) != size:
                    raise ValueError(f"the answer ends {size - len(data)} bytes early")
                return data

            print(json.dumps(read_answer(receive)))


if __name__ == "__main__":
    main()
