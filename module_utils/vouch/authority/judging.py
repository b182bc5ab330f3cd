# SPDX-License-Identifier: GPL-3.0-or-later
"""One peer asked and judged, from the nonce to the acceptance.

What an acceptance leaves of the peer's host (where its measurement list was judged up to) is where the next question to
that peer goes on from.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass

from ..appraise.peer import AcceptedPeer, PeerAppraiser, PeerPapers
from ..errors import EvidenceError, UnreachableError, VouchError
from ..model.digest import sha256
from ..model.enrolment import Enrolment
from ..model.merkle import NONCE_BYTES
from ..port.clock import Clock
from .link import Link, opened
from .own import Own
from .peering import PaperCache, ask_evidence, ask_papers

AT_ONCE = 2
"""Judgements under way; each holds one peer's evidence in memory."""

RESTARTED = frozenset({"ima.offset.mismatch", "request.ima-offset"})
"""The peer's host began its measurement list anew: ask for all of it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Judged:
    """Evidence with what it was, or can be, judged by.

    Attributes:
        address: Whose it is.
        nonce: What it was made for.
        evidence: Canonical JSON.
        papers: What was shown with it.
        accepted_at_s, expires_at_s: Unix seconds.
    """

    address: str
    nonce: bytes
    evidence: bytes
    papers: PeerPapers
    accepted_at_s: int
    expires_at_s: int


class Judge:
    """Asks peers and judges them by our own package.

    Args:
        own: Returns who we are now.
        clock: Time and nonces.
        ttl_s: Seconds an acceptance counts.
        port: TCP port of other authorities.
    """

    def __init__(self, own: Callable[[], Own], clock: Clock, *, ttl_s: int, port: int) -> None:
        self._own, self._clock, self._ttl_s, self._port = own, clock, ttl_s, port
        self._appraiser, self._cache = PeerAppraiser(), PaperCache()
        self._room = asyncio.Semaphore(AT_ONCE)

    async def judge(
        self, address: str, before: tuple[AcceptedPeer, bytes] | None, steps: dict[str, float]
    ) -> tuple[AcceptedPeer, Judged]:
        """Return the peer at that address, accepted.

        Args:
            address: Where it is.
            before: Our last acceptance of it, and the digest of the credential it rests on; None begins anew.
            steps: Gets milliseconds by the name of each step.

        Raises:
            EvidenceError: as ``appraise.peer``.
            UnreachableError: as ``link``.
        """
        async with self._room, opened(address, self._port, local=self._own().papers.address) as link:
            if before is not None:
                try:
                    return await self._once(link, address, before, steps)
                except (EvidenceError, UnreachableError) as error:
                    if not _codes(error) & RESTARTED:
                        raise
            return await self._once(link, address, None, steps)

    async def _once(
        self, link: Link, address: str, before: tuple[AcceptedPeer, bytes] | None, steps: dict[str, float]
    ) -> tuple[AcceptedPeer, Judged]:
        known = None if before is None else before[0].enrolment
        nonce, asked_at_s = self._clock.random_bytes(NONCE_BYTES), self._now_s()
        began = time.monotonic()
        shown = await ask_evidence(link, nonce, ima_offset=_offset(known))
        steps["evidence"], began = ms_since(began), time.monotonic()
        papers = await ask_papers(link, shown, self._cache)
        steps["papers"], began = ms_since(began), time.monotonic()
        if before is not None and sha256(papers.credential) != before[1]:
            # Another credential: its enrolment is the one to go on from.
            known = None
        own = self._own().papers
        peer = await asyncio.to_thread(
            self._appraiser.accept,
            shown.evidence,
            papers,
            criteria=own.criteria(shown.keys, ttl_s=self._ttl_s),
            nonce=nonce,
            asker=own.address,
            address=address,
            now_s=self._now_s(),
            asked_at_s=asked_at_s,
            known=known,
        )
        steps["appraise"] = ms_since(began)
        judged = Judged(
            address=address,
            nonce=nonce,
            evidence=shown.evidence,
            papers=papers,
            accepted_at_s=peer.accepted_at_s,
            expires_at_s=peer.expires_at_s,
        )
        return peer, judged

    def _now_s(self) -> int:
        return int(self._clock.now().timestamp())


def ms_since(began: float) -> float:
    """Return milliseconds since a time of ``time.monotonic``."""
    return (time.monotonic() - began) * 1000


def _offset(known: Enrolment | None) -> int:
    return 0 if known is None or known.ima is None else known.ima.offset_bytes


def _codes(error: VouchError) -> set[str]:
    found = error.findings if isinstance(error, EvidenceError) else ()
    return {error.code, *(item.code for item in found)}
