# SPDX-License-Identifier: GPL-3.0-or-later
"""Fuzz the request reader of the VM verifier (atheris): requests or refusals, nothing else.

Run: ``python tests/fuzz/fuzz_exchange.py [corpus]``; needs the package ``atheris``.
"""

from __future__ import annotations

import pathlib
import sys
import typing

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[2] / "module_utils"))

from vouch.daemon.exchange import Exchange, Request

SEEDS = (
    b'\0\0\0\x2d{"id":"1","request":"hello","version":1}',
    b'\0\0\0\x9f{"ima_offset":0,"id":"1","nonce":"' + b"00" * 32 + b'","pcrs":[0,14],"request":"evidence","version":1}',
    b'\0\0\0\x3d{"id":"1","order":"e30=","request":"guest.order","version":1}',
    b"\xff\xff\xff\xff",
)


def one_input(data: bytes) -> None:
    """Read ``data`` whole and byte by byte; both must say the same."""
    whole, pieces = Exchange(), Exchange()
    whole.receive(data)
    found = []
    while (request := whole.next_request()) is not None:
        assert isinstance(request, typing.get_args(Request))
        found.append(request)
    again = []
    for at in range(len(data)):
        pieces.receive(data[at : at + 1])
        while (request := pieces.next_request()) is not None:
            again.append(request)
    assert found == again


def main() -> None:
    """Fuzz until stopped; without atheris, run the seeds."""
    try:
        import atheris
    except ImportError:
        for seed in SEEDS:
            one_input(seed)
        print("atheris is not installed: only the seeds were run")
        return
    atheris.instrument_all()
    atheris.Setup(sys.argv, one_input)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
