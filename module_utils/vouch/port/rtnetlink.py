# SPDX-License-Identifier: GPL-3.0-or-later
"""One network card told what it is: up, with one IPv6 address and a default route. Three messages to the kernel.

    message    nlmsghdr (port.netlink), then ifinfomsg, ifaddrmsg or rtmsg, then attributes
    attribute  length u16 (of all of it), type u16, value, filled up to 4 bytes

Everything is in the machine's byte order. A guest has no other program that would do this.

Source: rtnetlink(7), netlink(7); linux/netlink.h, linux/rtnetlink.h, linux/if_addr.h.
"""

from __future__ import annotations

import socket
import struct

from ..errors import UnreachableError, UsageError
from .netlink import CREATE, REPLACE, Netlink

RTM_NEWLINK, RTM_NEWADDR, RTM_NEWROUTE = 16, 20, 24
_IFF_UP = 0x1
_IFA_LOCAL, _IFA_ADDRESS, _IFA_F_NODAD = 2, 1, 0x02
_RTA_OIF, _RTA_GATEWAY = 4, 5
_RT_TABLE_MAIN, _RTPROT_STATIC, _RT_SCOPE_UNIVERSE, _RTN_UNICAST = 254, 4, 0, 1


class Rtnetlink:
    """Changes to the network of this machine's own namespace; each returns when the kernel did it.

    Raises:
        UnreachableError: ``rtnetlink.card`` for a card that is not there, and as ``port.netlink.Netlink``.
        UsageError: ``rtnetlink.address`` for what is no IPv6 address.
    """

    def __init__(self) -> None:
        self._kernel = Netlink(socket.NETLINK_ROUTE)

    def __enter__(self) -> Rtnetlink:
        return self

    def __exit__(self, *_: object) -> None:
        self._kernel.close()

    def set_up(self, card: str) -> None:
        """Set a card up."""
        body = struct.pack("=BxHiII", socket.AF_UNSPEC, 0, _index(card), _IFF_UP, _IFF_UP)
        self._kernel.ask(RTM_NEWLINK, 0, body)

    def add_address(self, card: str, address: str, *, prefix_bits: int = 128) -> None:
        """Give a card an address; one that it has already is left as it is.

        No other host has it (it is made of the host's and the card's own ids), so it is usable at once: no duplicate
        address detection.
        """
        raw = _address(address)
        body = struct.pack("=BBBBi", socket.AF_INET6, prefix_bits, _IFA_F_NODAD, _RT_SCOPE_UNIVERSE, _index(card))
        self._kernel.ask(
            RTM_NEWADDR, CREATE | REPLACE, body + _attribute(_IFA_LOCAL, raw) + _attribute(_IFA_ADDRESS, raw)
        )

    def add_default_route(self, card: str, gateway: str) -> None:
        """Send everything that has no other route to ``gateway``, an address on the other side of the card."""
        body = struct.pack(
            "=BBBBBBBBI",
            *(socket.AF_INET6, 0, 0, 0, _RT_TABLE_MAIN, _RTPROT_STATIC, _RT_SCOPE_UNIVERSE, _RTN_UNICAST),
            0,
        )
        body += _attribute(_RTA_GATEWAY, _address(gateway)) + _attribute(_RTA_OIF, struct.pack("=I", _index(card)))
        self._kernel.ask(RTM_NEWROUTE, CREATE | REPLACE, body)


def _index(card: str) -> int:
    try:
        return socket.if_nametoindex(card)
    except OSError:
        raise UnreachableError(f"there is no network card {card}", code="rtnetlink.card") from None


def _address(text: str) -> bytes:
    try:
        return socket.inet_pton(socket.AF_INET6, text)
    except OSError:
        raise UsageError(f"{text!r} is no IPv6 address", code="rtnetlink.address") from None


def _attribute(kind: int, value: bytes) -> bytes:
    return struct.pack("=HH", 4 + len(value), kind) + value + bytes(-len(value) % 4)
