# SPDX-License-Identifier: GPL-3.0-or-later
"""Whom this guest accepts now: events in, things to do out. No I/O, no clock of its own.

::

               want, heard                 accepted
    (unknown) ────────────► asking ─────────────────────► accepted ──┐ half a life later:
                 ▲            │  refused, failed              │  ▲    │ asked again, and accepted
                 │ want,      ▼                               │  └────┘ all the while
                 │ later   refused ◄──── refused ─────────────┤
                 │            │                               │ revoked, expired, dropped, gone
                 └────────────┴──────────── ended ◄───────────┘

A channel exists only in state *accepted*, and ends with it: ``End`` is said in the same step that leaves that state.
An acceptance is left alone by silence until it expires; a refusal, a revocation and an expiry end it at once.

Source: docs/channels.md, "Life of a peer".
"""

from __future__ import annotations

import math
from collections import OrderedDict
from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

from ..appraise.peer import AcceptedPeer
from ..errors import UnreachableError
from ..model.digest import sha256

ASKING, ACCEPTED, REFUSED, ENDED = "asking", "accepted", "refused", "ended"

MAX_PEERS = 256
MAX_STRANGERS = 64
"""Peers that are not accepted, and that no program of this guest wants: who comes later pushes the oldest out."""

MAX_REVOKED = 1024
FIRST_PAUSE_S, MAX_PAUSE_S = 1.0, 60.0
LIVES_UNHEARD = 3
"""A peer that nobody here wants, and that did not ask for so many lives of an acceptance, is gone."""

EXPIRED, DROPPED, GONE, REVOKED, NEW_KEY = "peer.expired", "peer.dropped", "peer.gone", "peer.revoked", "peer.new-key"


class Ask(NamedTuple):
    """Ask that peer for evidence."""

    address: str


class Load(NamedTuple):
    """Let charon speak with that peer; where it is wanted, open the channel."""

    peer: AcceptedPeer


class End(NamedTuple):
    """End the channel to that peer at once."""

    address: str
    reason: str


Action = Ask | Load | End


@dataclass(slots=True)
class Peer:
    """One peer.

    Attributes:
        address: Where it is.
        state: One of the four.
        reason: Code of why it is not accepted, or of why the last question had no answer.
        accepted: What it was accepted as; None but in state ``ACCEPTED``.
        asking: Whether a question is under way.
        wanted: Whether a program of this guest wants a channel.
        next_s: When it is to be asked again.
        heard_s: When it last asked for our evidence.
        failures: Questions in a row that led to nothing.
    """

    address: str
    state: str = ASKING
    reason: str = ""
    accepted: AcceptedPeer | None = None
    asking: bool = False
    wanted: bool = False
    next_s: float = 0.0
    heard_s: float = 0.0
    failures: int = 0


class PeerTable:
    """All peers of one guest.

    Args:
        own_address: Ours; nobody is asked there.
        ttl_s: Seconds an acceptance counts.

    Every method takes the time, Unix seconds, and returns what has to be done, in that order.
    """

    def __init__(self, own_address: str, *, ttl_s: float) -> None:
        self._own, self._ttl_s = own_address, ttl_s
        self._peers: OrderedDict[str, Peer] = OrderedDict()
        self._revoked: OrderedDict[bytes, None] = OrderedDict()

    def __iter__(self) -> Iterator[Peer]:
        return iter(self._peers.values())

    def find(self, address: str) -> Peer | None:
        """Return what is known of a peer."""
        return self._peers.get(address)

    def accepted(self, address: str) -> AcceptedPeer | None:
        """Return what a peer is accepted as now, None when it is not."""
        peer = self._peers.get(address)
        return None if peer is None else peer.accepted

    def accepts(self, address: str, certificate: bytes) -> bool:
        """Say whether a peer is accepted now, with the certificate of that SHA-256."""
        accepted = self.accepted(address)
        return accepted is not None and sha256(accepted.certificate) == certificate

    def want(self, address: str, now_s: float) -> list[Action]:
        """A program of this guest wants a channel.

        Raises:
            UnreachableError: ``peer.own`` for our own address, ``peer.many`` when there is no room.
        """
        if address == self._own:
            raise UnreachableError("that is this guest itself", code="peer.own")
        peer = self._peers.get(address)
        if peer is None:
            if not self._room():
                raise UnreachableError(f"{MAX_PEERS} peers are as many as there may be", code="peer.many")
            peer = self._peers[address] = Peer(address)
        peer.wanted = True
        return [] if peer.state == ACCEPTED else self._ask(peer, now_s)

    def heard(self, address: str, now_s: float) -> list[Action]:
        """A peer asked for our evidence: so it wants a channel, and we want to know who it is."""
        if address == self._own:
            return []
        peer = self._peers.get(address)
        if peer is None:
            if self._forget_strangers(MAX_STRANGERS - 1) >= MAX_STRANGERS or not self._room():
                return []
            peer = self._peers[address] = Peer(address)
        peer.heard_s = now_s
        return self._ask(peer, now_s) if peer.state != ACCEPTED and now_s >= peer.next_s else []

    def judged(self, found: AcceptedPeer, now_s: float) -> list[Action]:
        """The appraisal accepted a peer."""
        peer = self._peers.get(found.address)
        if peer is None:
            return []
        certificate = sha256(found.certificate)
        if certificate in self._revoked:
            # Evidence from just before the host's word arrives after it.
            return self.refused(found.address, REVOKED, now_s)
        if now_s >= found.expires_at_s:
            return self.refused(found.address, EXPIRED, now_s)
        before = peer.accepted
        peer.state, peer.reason, peer.accepted = ACCEPTED, "", found
        peer.asking, peer.failures = False, 0
        peer.next_s = now_s + self._ttl_s / 2
        if before is None:
            return [Load(found)]
        if before.key != found.key:
            # Another start of the guest, or another guest: nothing of the old channel goes on.
            return [End(found.address, NEW_KEY), Load(found)]
        return [] if before.certificate == found.certificate else [Load(found)]

    def refused(self, address: str, code: str, now_s: float) -> list[Action]:
        """The appraisal refused a peer."""
        peer = self._peers.get(address)
        return [] if peer is None else self._leave(peer, REFUSED, code, now_s)

    def failed(self, address: str, code: str, now_s: float) -> list[Action]:
        """A peer could not be asked: nothing is known, so nothing changes before its acceptance expires."""
        peer = self._peers.get(address)
        if peer is None:
            return []
        if peer.state == ACCEPTED:
            peer.asking, peer.reason = False, code
            peer.failures += 1
            peer.next_s = now_s + min(FIRST_PAUSE_S * 2 ** min(peer.failures - 1, 6), self._ttl_s / 8)
            return []
        return self._leave(peer, REFUSED, code, now_s)

    def revoked(self, certificate: bytes, now_s: float) -> list[Action]:
        """A peer's host took a certificate back; the caller verified that it did.

        Args:
            certificate: SHA-256 of it.
            now_s: Unix seconds.
        """
        self._revoked[certificate] = None
        while len(self._revoked) > MAX_REVOKED:
            self._revoked.popitem(last=False)
        actions: list[Action] = []
        for peer in self._peers.values():
            if peer.accepted is not None and sha256(peer.accepted.certificate) == certificate:
                actions += self._leave(peer, ENDED, REVOKED, now_s)
        return actions

    def ask_now(self, address: str, now_s: float) -> list[Action]:
        """Something changed at a peer: ask it before its turn."""
        peer = self._peers.get(address)
        return [] if peer is None else self._ask(peer, now_s)

    def dropped(self, address: str, now_s: float) -> list[Action]:
        """No program of this guest wants the channel any more."""
        peer = self._peers.get(address)
        if peer is None:
            return []
        peer.wanted = False
        return self._leave(peer, ENDED, DROPPED, now_s)

    def tick(self, now_s: float) -> list[Action]:
        """Time went by."""
        actions: list[Action] = []
        for peer in list(self._peers.values()):
            if peer.accepted is not None:
                if now_s >= peer.accepted.expires_at_s:
                    actions += self._leave(peer, ENDED, EXPIRED, now_s)
                elif not peer.wanted and now_s - peer.heard_s > LIVES_UNHEARD * self._ttl_s:
                    actions += self._leave(peer, ENDED, GONE, now_s)
            if now_s >= peer.next_s and (peer.wanted or peer.state == ACCEPTED):
                actions += self._ask(peer, now_s)
        return actions

    def due_s(self) -> float:
        """Return when ``tick`` has something to do, unless something else happens before: Unix seconds, or infinity."""
        times = [math.inf]
        for peer in self._peers.values():
            if peer.accepted is not None:
                times.append(peer.accepted.expires_at_s)
                if not peer.wanted:
                    times.append(peer.heard_s + LIVES_UNHEARD * self._ttl_s)
            if not peer.asking and (peer.wanted or peer.state == ACCEPTED):
                times.append(peer.next_s)
        return min(times)

    def _ask(self, peer: Peer, now_s: float) -> list[Action]:
        if peer.asking:
            return []
        peer.asking = True
        if peer.state != ACCEPTED:
            peer.state = ASKING
        return [Ask(peer.address)]

    def _leave(self, peer: Peer, state: str, code: str, now_s: float) -> list[Action]:
        was_open = peer.accepted is not None
        peer.state, peer.reason, peer.accepted, peer.next_s = state, code, None, now_s
        if state == REFUSED:
            # Judging costs: who was refused again and again waits longer and longer.
            peer.asking = False
            peer.failures += 1
            peer.next_s += min(FIRST_PAUSE_S * 2 ** min(peer.failures - 1, 6), MAX_PAUSE_S)
        return [End(peer.address, code)] if was_open else []

    def _room(self) -> bool:
        if len(self._peers) >= MAX_PEERS:
            self._forget_strangers(0)
        return len(self._peers) < MAX_PEERS

    def _forget_strangers(self, keep: int) -> int:
        """Forget all but the newest ``keep`` peers that nobody wants and that are not accepted; return what is left.

        One that is being judged stays: its judgement is under way.
        """
        strangers = [peer for peer in self._peers.values() if not peer.wanted and peer.accepted is None]
        left = len(strangers)
        for peer in strangers[: max(0, left - keep)]:
            if not peer.asking:
                del self._peers[peer.address]
                left -= 1
        return left
