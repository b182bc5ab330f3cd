# SPDX-License-Identifier: GPL-3.0-or-later
"""Which nodes a dispatcher may use now, how busy they are, and which ones have lost its trust.

===========  ==========================================  ===============================================
a node       is used                                     comes back
===========  ==========================================  ===============================================
accepted     while its latest evidence counts
unlisted     no: its jobs are broken off at once         when the authority accepts it again
lost         no: its other jobs are broken off as well   with evidence younger than the loss
false        no, as lost                                 with another channel certificate, and as lost
===========  ==========================================  ===============================================

A false statement is worse than a lost connection: evidence that was good before and after it explains nothing, so the
same channel key is not believed again.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from .authority import Peer


class RevokedError(Exception):
    """The node of a running job is no longer accepted."""


@dataclass(slots=True, eq=False)
class Lease:
    """One slot of one node, for one job.

    Attributes:
        peer: The node as it was accepted when the job began.
        revoked: Set when the node stops being accepted.
    """

    peer: Peer
    revoked: asyncio.Event = field(default_factory=asyncio.Event)


@dataclass(slots=True)
class _Seat:
    peer: Peer
    leases: set[Lease] = field(default_factory=set)
    turn: int = 0
    """Of its latest job: among nodes that do as little, the one that rested longest is next."""


@dataclass(frozen=True, slots=True)
class _Distrust:
    since_s: float
    certificate: bytes | None
    """Of a node whose statement was false; None of one that was lost."""


class Roster:
    """The nodes.

    Args:
        slots: Jobs that one node is given at once.
        now_s: The time of day, Unix seconds.
    """

    def __init__(self, *, slots: int, now_s: Callable[[], float]) -> None:
        self._slots = slots
        self._now_s = now_s
        self._seats: dict[str, _Seat] = {}
        self._distrusted: dict[str, _Distrust] = {}
        self._changed = asyncio.Condition()
        self._turns = 0

    @property
    def addresses(self) -> frozenset[str]:
        """Nodes that may be used now."""
        return frozenset(address for address, seat in self._seats.items() if self._counts(seat.peer))

    def peer(self, address: str) -> Peer | None:
        """Return a node as it is accepted now; None when it is not."""
        seat = self._seats.get(address)
        return seat.peer if seat is not None and self._counts(seat.peer) else None

    async def update(self, peers: Iterable[Peer]) -> None:
        """Take over what the authority says now."""
        listed = {peer.address: peer for peer in peers}
        for address, peer in listed.items():
            if self._is_distrusted(peer):
                continue
            self._distrusted.pop(address, None)
            if address in self._seats:
                self._seats[address].peer = peer
            else:
                self._seats[address] = _Seat(peer)
        for address, seat in list(self._seats.items()):
            if address not in listed or not self._counts(seat.peer):
                self._drop(address)
        await self._tell()

    async def acquire(self, *, limit_s: float) -> Lease | None:
        """Return a slot of the node that does the least; None when there was none for ``limit_s``."""
        try:
            async with asyncio.timeout(limit_s), self._changed:
                while (seat := self._best()) is None:
                    await self._changed.wait()
                lease = Lease(seat.peer)
                seat.leases.add(lease)
                self._turns += 1
                seat.turn = self._turns
                return lease
        except TimeoutError:
            return None

    async def release(self, lease: Lease) -> None:
        """Give a slot back."""
        seat = self._seats.get(lease.peer.address)
        if seat is not None:
            seat.leases.discard(lease)
        await self._tell()

    async def distrust(self, lease: Lease, *, false: bool) -> None:
        """Use the node of ``lease`` no more: it was lost, or what it stated is false."""
        address = lease.peer.address
        known = self._distrusted.get(address)
        certificate = lease.peer.owner.certificate if false else known.certificate if known else None
        self._distrusted[address] = _Distrust(self._now_s(), certificate)
        self._drop(address)
        await self._tell()

    def _is_distrusted(self, peer: Peer) -> bool:
        known = self._distrusted.get(peer.address)
        return known is not None and (
            peer.accepted_at_s <= known.since_s or peer.owner.certificate == known.certificate
        )

    def _best(self) -> _Seat | None:
        good = (seat for seat in self._seats.values() if self._counts(seat.peer) and len(seat.leases) < self._slots)
        return min(good, key=lambda seat: (len(seat.leases), seat.turn), default=None)

    def _counts(self, peer: Peer) -> bool:
        return self._now_s() < peer.expires_at_s

    def _drop(self, address: str) -> None:
        seat = self._seats.pop(address, None)
        for lease in seat.leases if seat is not None else ():
            lease.revoked.set()

    async def _tell(self) -> None:
        async with self._changed:
            self._changed.notify_all()
