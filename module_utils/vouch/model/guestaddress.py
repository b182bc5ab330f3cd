# SPDX-License-Identifier: GPL-3.0-or-later
"""Where a guest is on the network: its card's address, its IPv6 address, and where it finds its host.

A guest's card leads to its host alone, which routes. Nobody hands out addresses: host id and guest id decide them, so
everybody who knows both knows where the guest is, and a host can hold each guest to its own.

    card     02-like byte and 5 more of SHA-256(host id "/" guest id), unless the order names another
    prefix   fd and the first 7 bytes of SHA-256("vouch guest network/" host id): a /64 for each host
    address  prefix and modified EUI-64 of the card

Source: RFC 4193, 3.1 (unique local addresses); RFC 4291, 2.5.1 and appendix A (modified EUI-64); IEEE 802-2014, 8.2.2.
"""

from __future__ import annotations

import hashlib
import re

from ..errors import UsageError

PREFIX_BYTES, ADDRESS_BYTES, MAC_BYTES = 8, 16, 6

HOST_MAC = "fe:ff:ff:ff:ff:ff"
"""The host's end of each guest's card (Xen's vif)."""

_MAC = re.compile(r"[0-9a-f]{2}(?::[0-9a-f]{2}){5}\Z")


def derived_mac(host_id: str, guest: str) -> str:
    """Return the address of a guest's card where nobody chose one."""
    digest = hashlib.sha256(f"{host_id}/{guest}".encode()).digest()
    # The second lowest bit says locally administered, the lowest one that it is no group.
    return bytes([digest[0] & 0xFC | 0x02, *digest[1:MAC_BYTES]]).hex(":")


def prefix_of(host_id: str) -> bytes:
    """Return the first 8 bytes of every address of that host's guests."""
    return b"\xfd" + hashlib.sha256(b"vouch guest network/" + host_id.encode()).digest()[: PREFIX_BYTES - 1]


def address_of(host_id: str, mac: str) -> str:
    """Return the address of the guest behind a card, as RFC 5952 writes it.

    Args:
        host_id: UUID of its host.
        mac: Address of its card, six pairs of hexadecimal digits.

    Raises:
        UsageError: ``address.mac``.
    """
    return address_text(prefix_of(host_id) + _interface(mac))


def mac_of_address(address: bytes) -> str:
    """Return the address of the card behind a guest's address, 16 bytes: the reverse of ``address_of``.

    Raises:
        UsageError: ``address.mac``: no card's address leads to it.
    """
    interface = address[PREFIX_BYTES:]
    if len(address) != ADDRESS_BYTES or interface[3:5] != b"\xff\xfe":
        raise UsageError("no card's address leads to this one", code="address.mac")
    return (bytes([interface[0] ^ 0x02]) + interface[1:3] + interface[5:]).hex(":")


def link_local(mac: str) -> str:
    """Return the link-local address of the card; raises as ``address_of``.

    >>> link_local(HOST_MAC)
    'fe80::fcff:ffff:feff:ffff'
    """
    return address_text(b"\xfe\x80" + bytes(6) + _interface(mac))


def address_text(address: bytes) -> str:
    """Return 16 bytes as RFC 5952 writes an IPv6 address: the longest run of zeros, the first of them, as ``::``.

    >>> address_text(bytes.fromhex("20010db8000000000001000000000001"))
    '2001:db8::1:0:0:1'
    """
    groups = [int.from_bytes(address[at : at + 2], "big") for at in range(0, ADDRESS_BYTES, 2)]
    best, length, at = 0, 0, 0
    while at < len(groups):
        run = at
        while run < len(groups) and groups[run] == 0:
            run += 1
        if run - at > length:
            best, length = at, run - at
        at = max(run, at + 1)
    words = [f"{group:x}" for group in groups]
    if length < 2:
        return ":".join(words)
    return f"{':'.join(words[:best])}::{':'.join(words[best + length :])}"


def _interface(mac: str) -> bytes:
    if _MAC.match(mac) is None:
        raise UsageError(f"{mac!r} is no address of a network card", code="address.mac")
    raw = bytes.fromhex(mac.replace(":", ""))
    return bytes([raw[0] ^ 0x02]) + raw[1:3] + b"\xff\xfe" + raw[3:]
