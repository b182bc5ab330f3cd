# SPDX-License-Identifier: GPL-3.0-or-later
"""Run in dom0 of a debug host: when is a guest's violation on record, and when does its peer end the channel?

Usage: ``channel_end.py EVENTLOG GUEST PEER_CARD PEER_CONSOLE GUEST_ADDRESS LIMIT_S``. Prints one JSON line when it
listens, and one with the seconds (time of day) at which each thing was first seen:

=============  =============================================================================================
``violation``  the event log has a violation of the guest
``told``       after that, the host opened a connection to the peer's port authority
``ended``      after that, the peer's console says that the channel has ended
=============  =============================================================================================

What is not seen within the limit is left out. Whether IKE says goodbye is not looked at: while it waits for an answer
of the guest that stands still, it has to wait with anything else (RFC 7296, 2.3). Needs the standard library and a
packet socket.
"""

from __future__ import annotations

import json
import select
import socket
import sys
import time
from typing import TextIO

ETH_P_ALL, ETH_P_IPV6 = 0x0003, 0x86DD
"""Of all, a packet socket shows what this host sends, too."""

AUTHORITY_PORT = 4460
TCP = 6
SYN = b"\x02"
LINK_LOCAL = b"\xfe\x80"
"""What a host says to a guest has the host's address on that card."""

POLL_S = 0.002


def main(eventlog: str, guest: str, card: str, console: str, address: str, limit: str) -> None:
    """Watch until everything was seen, or the limit is over."""
    seen: dict[str, float] = {}
    deadline = time.monotonic() + float(limit)
    with (
        socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(ETH_P_ALL)) as packets,
        open(eventlog, encoding="utf-8") as events,
        open(console, encoding="utf-8", errors="replace") as said,
    ):
        packets.bind((card, ETH_P_ALL))
        records, lines = Lines(events), Lines(said)
        print(json.dumps({"listening": time.time()}), flush=True)
        while time.monotonic() < deadline and len(seen) < 3:
            if select.select([packets], [], [], POLL_S)[0] and is_notice(packets.recv(2048)) and "violation" in seen:
                seen.setdefault("told", time.time())
            for line in records.new():
                content = json.loads(line)["content"]
                if (content["event"], content.get("guest")) == ("guest.violation", guest):
                    seen.setdefault("violation", time.time())
            if any(f"{address}: ended, " in line for line in lines.new()) and "told" in seen:
                seen.setdefault("ended", time.time())
    print(json.dumps(seen), flush=True)


class Lines:
    """The lines that a file gets from now on."""

    def __init__(self, stream: TextIO) -> None:
        self._stream, self._rest = stream, ""
        stream.read()

    def new(self) -> list[str]:
        """Return those that are whole since the last time."""
        *lines, self._rest = (self._rest + self._stream.read()).split("\n")
        return lines


def is_notice(frame: bytes) -> bool:
    """Say whether the host connects to the port authority. Headers: Ethernet 14 bytes, IPv6 40, then TCP."""
    if len(frame) < 14 + 40 + 14 or int.from_bytes(frame[12:14], "big") != ETH_P_IPV6 or frame[20] != TCP:
        return False
    port, host = int.from_bytes(frame[56:58], "big"), frame[22:38].startswith(LINK_LOCAL)
    return host and port == AUTHORITY_PORT and frame[67:68] == SYN


if __name__ == "__main__":
    main(*sys.argv[1:])
