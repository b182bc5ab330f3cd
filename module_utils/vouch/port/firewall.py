# SPDX-License-Identifier: GPL-3.0-or-later
"""The host's firewall for one guest: IPsec and its declared services, nothing else, and in an instant nothing at all.

The image's nftables.conf has the table ``inet vouch``, in it the maps ``from_guest`` and ``to_guest`` from a card to
the chain that judges it. A card that is in no map reaches nobody. So opening is two map elements and two chains,
closing is taking them away, each in one transaction. A chain returns for what may pass.

Source: nft(8), VERDICT STATEMENTS (goto), and ``destroy``, which is no error where there is nothing.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Protocol

from .tool import run_tool

NFT = "/usr/sbin/nft"
LIMIT_S = 30.0
IKE_PORTS = "{ 500, 4500 }"
"""IKE, and ESP in UDP where a router translates addresses (RFC 7296, RFC 3948)."""


class Firewall(Protocol):
    """What the VM verifier does with it; ``NftFirewall`` is the real form."""

    def open(self, guest: str, card: str, services: Iterable[tuple[str, int]]) -> None:
        """Let the guest behind ``card`` be reached as its package says."""
        ...

    def close(self, guest: str, card: str) -> None:
        """Return when nothing passes any more."""
        ...


class NftFirewall:
    """The kernel's.

    Raises:
        UnreachableError: ``tool.missing``, ``tool.timeout``, ``tool.failed``.
    """

    __slots__ = ("_nft",)

    def __init__(self, nft: str = NFT) -> None:
        self._nft = nft

    def open(self, guest: str, card: str, services: Iterable[tuple[str, int]]) -> None:
        """Let the guest behind ``card`` be reached as its package says.

        Args:
            guest: Its id.
            card: dom0's end of its network card.
            services: Protocol and port of what anybody may reach in plain.
        """
        run_tool([self._nft, "-f", "-"], timeout_s=LIMIT_S, stdin=opening(guest, card, services).encode())

    def close(self, guest: str, card: str) -> None:
        """Return when nothing passes any more, also of what had begun."""
        run_tool([self._nft, "-f", "-"], timeout_s=LIMIT_S, stdin=closing(guest, card).encode())


def opening(guest: str, card: str, services: Iterable[tuple[str, int]]) -> str:
    """Return the transaction that opens.

    >>> print(opening("g1", "vif3.0", [("tcp", 3632)]).splitlines()[-1])
    add element inet vouch to_guest { "vif3.0" : goto to-g1 }
    """
    passed = [
        "meta l4proto esp return",
        f"udp dport {IKE_PORTS} return",
        "ct state established,related return",
    ]
    lines = [closing(guest, card).rstrip()]
    for chain, rules in (
        (f"from-{guest}", passed),
        (f"to-{guest}", [*passed, *(f"{protocol} dport {port} return" for protocol, port in services)]),
    ):
        lines.append(f"add chain inet vouch {chain}")
        lines += [f"add rule inet vouch {chain} {rule}" for rule in (*rules, "drop")]
    lines += [f'add element inet vouch {way}_guest {{ "{card}" : goto {way}-{guest} }}' for way in ("from", "to")]
    return "\n".join(lines) + "\n"


def closing(guest: str, card: str) -> str:
    """Return the transaction that closes."""
    elements = [f'destroy element inet vouch {way}_guest {{ "{card}" }}' for way in ("from", "to")] if card else []
    return "\n".join([*elements, *(f"destroy chain inet vouch {way}-{guest}" for way in ("from", "to"))]) + "\n"
