# SPDX-License-Identifier: GPL-3.0-or-later
"""Run in dom0 of a debug host: when is a guest's violation on record, and when does its peer end the channel?

Usage: ``channel_end.py EVENTLOG GUEST PEER_CARD GUEST_ADDRESS LIMIT_S``. Prints one JSON line when it listens, and one
with the seconds (time of day) at which each thing was first seen:

=============  =============================================================================================
``violation``  the event log has a violation of the guest
``told``       after that, the host opened a connection to the peer's port authority
``deleted``    after that, IKE went from the peer to the guest: the one thing left to say is that it is over
=============  =============================================================================================

What is not seen within the limit is left out. Needs the standard library and a packet socket.
"""

from __future__ import annotations

import json
import select
import socket
import sys
import time

ETH_P_ALL, ETH_P_IPV6 = 0x0003, 0x86DD
"""Of all, a packet socket shows what this host sends, too."""

IKE_PORTS = (500, 4500)
AUTHORITY_PORT = 4460
TCP, UDP = 6, 17
SYN = b"\x02"
LINK_LOCAL = b"\xfe\x80"
"""What a host says to a guest has the host's address on that card."""

POLL_S = 0.002


def main(eventlog: str, guest: str, card: str, address: str, limit: str) -> None:
    """Watch until everything was seen, or the limit is over."""
    peer = socket.inet_pton(socket.AF_INET6, address)
    seen: dict[str, float] = {}
    deadline = time.monotonic() + float(limit)
    with (
        socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(ETH_P_ALL)) as packets,
        open(eventlog, encoding="utf-8") as events,
    ):
        packets.bind((card, ETH_P_ALL))
        events.read()
        print(json.dumps({"listening": time.time()}), flush=True)
        rest = ""
        while time.monotonic() < deadline and len(seen) < 3:
            if select.select([packets], [], [], POLL_S)[0]:
                note(packets.recv(2048), peer, seen)
            rest += events.read()
            *lines, rest = rest.split("\n")
            for line in lines:
                content = json.loads(line)["content"]
                if (content["event"], content.get("guest")) == ("guest.violation", guest):
                    seen.setdefault("violation", time.time())
    print(json.dumps(seen), flush=True)


def note(frame: bytes, peer: bytes, seen: dict[str, float]) -> None:
    """Write down what a frame on the card says. Its headers: Ethernet 14 bytes, IPv6 40, then TCP or UDP."""
    if len(frame) < 14 + 40 + 14 or int.from_bytes(frame[12:14], "big") != ETH_P_IPV6:
        return
    protocol, source, target, port = frame[20], frame[22:38], frame[38:54], int.from_bytes(frame[56:58], "big")
    host = source.startswith(LINK_LOCAL) and "violation" in seen
    if host and protocol == TCP and port == AUTHORITY_PORT and frame[67:68] == SYN:
        seen.setdefault("told", time.time())
    elif protocol == UDP and port in IKE_PORTS and target == peer and "told" in seen:
        seen.setdefault("deleted", time.time())


if __name__ == "__main__":
    main(*sys.argv[1:])
