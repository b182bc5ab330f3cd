# SPDX-License-Identifier: GPL-3.0-or-later
"""The host's firewall for one guest: IPsec and its declared services, nothing else, and in an instant nothing at all.

A guest is held to its card's address and its own IPv6 address: whatever says another sender goes nowhere. Where it has
peers, port authorities speak with each other both ways, which is where channels begin.

The image's nftables.conf has the table ``inet vouch``, in it the maps ``from_guest`` and ``to_guest`` from a card to
the chain that judges it, and the set ``cards`` of those that may ask the VM verifier. A card that is in none of them
reaches nobody, not even its host. So opening is three elements and two chains, closing is taking them away, each in one
transaction. A chain returns for what may pass.

Source: nft(8), VERDICT STATEMENTS (goto), and ``destroy``, which is no error where there is nothing.
"""

from __future__ import annotations

from typing import NamedTuple, Protocol

from .tool import run_tool

NFT, IP = "/usr/sbin/nft", "/usr/bin/ip"
LIMIT_S = 30.0
IKE_PORTS = "{ 500, 4500 }"
"""IKE, and ESP in UDP where a router translates addresses (RFC 7296, RFC 3948)."""

AUTHORITY_PORT = 4460
"""Of the port authorities of guests (docs/channels.md)."""

_ERRORS = "{ destination-unreachable, packet-too-big, time-exceeded, parameter-problem }"
"""ICMPv6 that tells a sender what became of its packets (RFC 4443, 3)."""


class Opening(NamedTuple):
    """What of a guest is let through.

    Attributes:
        guest: Its id.
        card: dom0's end of its network card.
        services: Protocol and port of what anybody may reach in plain.
        mac: Address of the guest's own end of the card.
        address: Its IPv6 address.
        talks: Whether it has peers: its port authority may ask others, and be asked by them.
    """

    guest: str
    card: str
    services: tuple[tuple[str, int], ...] = ()
    mac: str = ""
    address: str = ""
    talks: bool = False


class Firewall(Protocol):
    """What the VM verifier does with it; ``NftFirewall`` is the real form."""

    def open(self, opening: Opening) -> None:
        """Let a guest be reached as its package says."""
        ...

    def close(self, guest: str, card: str) -> None:
        """Return when nothing passes any more."""
        ...


class NftFirewall:
    """The kernel's.

    Raises:
        UnreachableError: ``tool.missing``, ``tool.timeout``, ``tool.failed``.
    """

    __slots__ = ("_ip", "_nft")

    def __init__(self, nft: str = NFT, ip: str = IP) -> None:
        self._nft, self._ip = nft, ip

    def open(self, opening: Opening) -> None:
        """Let a guest be reached as its package says, and lead its address to its card."""
        run_tool([self._nft, "-f", "-"], timeout_s=LIMIT_S, stdin=rules(opening).encode())
        if opening.address:
            route = [self._ip, "-6", "route", "replace", f"{opening.address}/128", "dev", opening.card]
            run_tool(route, timeout_s=LIMIT_S)

    def close(self, guest: str, card: str) -> None:
        """Return when nothing passes any more, also of what had begun."""
        run_tool([self._nft, "-f", "-"], timeout_s=LIMIT_S, stdin=closing(guest, card).encode())


def rules(opening: Opening) -> str:
    """Return the transaction that opens.

    >>> print(rules(Opening("g1", "vif3.0", (("tcp", 3632),))).splitlines()[-1])
    add element inet vouch cards { "vif3.0" }
    """
    guest, card = opening.guest, opening.card
    passed = [
        "meta l4proto esp return",
        f"udp dport {IKE_PORTS} return",
        f"icmpv6 type {_ERRORS} return",
        "ct state established,related return",
    ]
    pinned = [f"ether saddr != {opening.mac} drop"] if opening.mac else []
    if opening.address:
        pinned += [f"ip6 saddr != {opening.address} drop", "meta nfproto != ipv6 drop"]
    talking = [f"tcp dport {AUTHORITY_PORT} return"] if opening.talks else []
    lines = [closing(guest, card).rstrip()]
    for chain, members in (
        (f"from-{guest}", [*pinned, *passed, *talking]),
        (
            f"to-{guest}",
            [*passed, *talking, *(f"{protocol} dport {port} return" for protocol, port in opening.services)],
        ),
    ):
        lines.append(f"add chain inet vouch {chain}")
        lines += [f"add rule inet vouch {chain} {rule}" for rule in (*members, "drop")]
    lines += [f'add element inet vouch {way}_guest {{ "{card}" : goto {way}-{guest} }}' for way in ("from", "to")]
    lines.append(f'add element inet vouch cards {{ "{card}" }}')
    return "\n".join(lines) + "\n"


def closing(guest: str, card: str) -> str:
    """Return the transaction that closes."""
    places = ("from_guest", "to_guest", "cards") if card else ()
    elements = [f'destroy element inet vouch {place} {{ "{card}" }}' for place in places]
    return "\n".join([*elements, *(f"destroy chain inet vouch {way}-{guest}" for way in ("from", "to"))]) + "\n"
