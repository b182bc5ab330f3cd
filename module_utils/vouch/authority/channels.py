# SPDX-License-Identifier: GPL-3.0-or-later
"""The acts behind the table of peers: asking, judging, telling charon, and answering those who ask us.

A channel is opened by whom a program asked for it. Both sides judge, at the same time: that somebody asks for our
evidence is reason enough to ask for theirs. When both accept, the one that wants the channel starts IKE.

Source: docs/channels.md.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

from ..appraise.peer import AcceptedPeer, PeerAppraiser, PeerPapers
from ..check.signature import verify_signature
from ..errors import EvidenceError, ParseError, UnreachableError, VouchError
from ..model.channelcert import channel_name
from ..model.digest import sha256
from ..model.enrolment import Enrolment
from ..model.key import PublicKey
from ..model.merkle import NONCE_BYTES
from ..model.revocation import MAX_REVOCATION_BYTES, RENEWED, Revocation
from ..parse.canonical import dump_canonical
from ..parse.fields import Fields, encode_base64
from ..port.clock import Clock
from .host import Host, states
from .ike import Ike, connection, connection_name
from .link import opened
from .messages import EvidenceQuestion, read_evidence_question
from .own import Own
from .peering import PORT, PaperCache, ask_evidence, ask_papers, ask_ready
from .peers import ASKING, REVOKED, Action, Ask, Load, PeerTable

JUDGED_AT_ONCE = 2
"""Appraisals under way; each holds one peer's evidence in memory."""

DECISION_S = 12.0
TICK_S = 0.5
MAX_EARLY = 32
MAX_SIGNATURE_BYTES = 128
RESTARTED = frozenset({"ima.offset.mismatch", "request.ima-offset"})
"""The peer's host began its measurement list anew: ask for all of it."""


@dataclass(slots=True)
class Outcome:
    """How a channel came to be.

    Attributes:
        steps_ms: Milliseconds of each step, in order.
        up: Whether it is there.
    """

    steps_ms: dict[str, float] = field(default_factory=dict)
    up: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Judged:
    """An acceptance, and what it was made of."""

    peer: AcceptedPeer
    evidence: bytes
    papers: PeerPapers
    nonce: bytes


class Channels:
    """All channels of one guest.

    Args:
        own: Who we are.
        host: Our host.
        ike: charon.
        clock: Time and nonces.
        report: Told what happens, one line each.
        ttl_s: Seconds an acceptance counts.
        peer_port: TCP port of other authorities.
    """

    def __init__(
        self,
        *,
        own: Own,
        host: Host,
        ike: Ike,
        clock: Clock,
        report: Callable[[str], None],
        ttl_s: int,
        peer_port: int = PORT,
    ) -> None:
        self.own, self._host, self._ike = own, host, ike
        self._clock, self._report, self._ttl_s, self._peer_port = clock, report, ttl_s, peer_port
        self.table = PeerTable(own.papers.address, ttl_s=ttl_s)
        self.last_evidence = b""
        self._appraiser, self._cache = PeerAppraiser(), PaperCache()
        self._credential: dict[str, bytes] = {}
        """Peer to the digest of the credential that its host's enrolment began from."""
        self._judging = asyncio.Semaphore(JUDGED_AT_ONCE)
        self._loading: dict[str, asyncio.Lock] = {}
        self._opening: dict[str, asyncio.Lock] = {}
        self._changed = asyncio.Condition()
        self._answering: set[str] = set()
        self._ending: dict[str, str] = {}
        self._early: deque[tuple[bytes, bytes]] = deque(maxlen=MAX_EARLY)
        self._tasks: set[asyncio.Task[None]] = set()
        self._steps: dict[str, dict[str, float]] = {}

    def now_s(self) -> float:
        """Return Unix seconds."""
        return self._clock.now().timestamp()

    # What programs of this guest ask for.

    async def connect(self, address: str) -> Outcome:
        """Return when there is a channel to that peer, or why there is none is in the table.

        Raises:
            UnreachableError: ``peer.own``, ``peer.many``, ``peer.not-ready`` when the peer does not accept us, and as
                charon.
        """
        began = time.monotonic()
        outcome = Outcome()
        self._steps[address] = outcome.steps_ms
        try:
            await self._do(self.table.want(address, self.now_s()))
            await self._decided(address)
            if (accepted := self.table.accepted(address)) is not None:
                await self._open(accepted, outcome.steps_ms)
                outcome.up = self.table.accepted(address) is not None
        finally:
            self._steps.pop(address, None)
        outcome.steps_ms["all"] = _ms_since(began)
        return outcome

    async def disconnect(self, address: str) -> None:
        """End the channel to that peer; it may open another."""
        await self._do(self.table.dropped(address, self.now_s()))

    async def judge_again(self, address: str) -> Judged:
        """Return a fresh acceptance that rests on nothing but its own evidence and papers.

        Raises:
            EvidenceError, UnreachableError: it is not accepted now.
        """
        async with self._judging, opened(address, self._peer_port, local=self.own.papers.address) as link:
            return await self._ask_and_judge(link, address, {}, fresh=True)

    # What other guests, and their hosts, ask for.

    async def answer_evidence(self, address: str, fields: Fields) -> dict[str, Any]:
        """Answer ``peer.evidence``: prove to that guest what we are, and begin to ask what it is.

        Raises:
            ParseError, UnreachableError: among them ``peer.busy``: one question of one peer at a time.
        """
        question = read_evidence_question(fields)
        if address in self._answering:
            raise UnreachableError("one question at a time", code="peer.busy")
        self._answering.add(address)
        try:
            await self._do(self.table.heard(address, self.now_s()))
            evidence = await self.prove(question, notify=address)
        finally:
            self._answering.discard(address)
        return {"evidence": evidence, **self.own.digests()}

    async def prove(self, question: EvidenceQuestion, *, notify: str) -> dict[str, Any]:
        """Return evidence of our host that states our present certificate.

        Raises:
            UnreachableError: as ``Host``; ``authority.unstated`` when it never does.
        """
        evidence = await self._host.evidence(question, notify=notify)
        if not states(evidence, self.own):
            # Its VM verifier started again, and has forgotten whom it certified.
            await self.renew()
            evidence = await self._host.evidence(question, notify=notify)
            if not states(evidence, self.own):
                raise UnreachableError("the host does not state our certificate", code="authority.unstated")
        self.last_evidence = sha256(dump_canonical(evidence))
        return evidence

    def answer_paper(self, fields: Fields) -> dict[str, Any]:
        """Answer ``peer.paper``.

        Raises:
            ParseError, UnreachableError: ``peer.paper`` when we have none of that digest.
        """
        digest = fields.hex("sha256", 32)
        fields.done()
        for paper in self.own.shown.values():
            if sha256(paper) == digest:
                return {"paper": encode_base64(paper)}
        raise UnreachableError("no such paper", code="peer.paper")

    async def answer_ready(self, address: str, fields: Fields) -> dict[str, Any]:
        """Answer ``peer.ready``: whether we accept the asker with the certificate it has now. Waits for a judgement
        that is under way.

        Raises:
            ParseError.
        """
        certificate = fields.hex("certificate", 32)
        fields.done()
        if not self._accepts(address, certificate) and self.table.find(address) is not None:
            await self._decided(address)
            if not self._accepts(address, certificate) and self.table.accepted(address) is not None:
                # It has another certificate than when we asked it.
                await self._do(self.table.ask_now(address, self.now_s()))
                await self._decided(address)
        return {"ready": self._accepts(address, certificate)}

    async def answer_revoke(self, fields: Fields) -> dict[str, Any]:
        """Answer ``revoke``: a host says that a guest of its own is no longer to be spoken to.

        Raises:
            ParseError.
        """
        notice = fields.blob("notice", limit_bytes=MAX_REVOCATION_BYTES)
        signature = fields.blob("signature", limit_bytes=MAX_SIGNATURE_BYTES)
        fields.done()
        signed = [peer for peer in self.table if peer.accepted and _revokes(notice, signature, peer.accepted)]
        for peer in signed:
            said = Revocation.from_bytes(notice)
            self._report(f"{said.guest} of {said.host_id}: {said.reason}")
            again = said.reason == RENEWED
            now_s = self.now_s()
            await self._do(
                self.table.ask_now(peer.address, now_s) if again else self.table.revoked(said.certificate, now_s)
            )
        if not signed and any(peer.asking for peer in self.table):
            # It may be about one that is being judged right now: who that is shows when it is accepted.
            self._early.append((notice, signature))
        return {"ended": len(signed)}

    # What time brings.

    async def keep(self) -> None:
        """Do what is due, for ever."""
        while True:
            await asyncio.sleep(TICK_S)
            now_s = self.now_s()
            await self._do(self.table.tick(now_s))
            for address, reason in list(self._ending.items()):
                await self._end(address, reason)
            if self.own.stale(now_s):
                try:
                    await self.renew()
                except VouchError as error:
                    self._report(f"no new certificate: {error}")
                    await asyncio.sleep(TICK_S)

    async def renew(self) -> None:
        """Get another certificate for the same key, and have charon use it."""
        self.own = await self._host.certified(self.own.key, now_s=int(self.now_s()))
        await asyncio.to_thread(self._ike.load_own, self.own.key.private_der, self.own.certificate)
        for peer in self.table:
            if peer.accepted is not None:
                await self._load(peer.accepted)

    async def close(self) -> None:
        """End every channel: without us nobody would end them in time."""
        for task in self._tasks:
            task.cancel()
        await asyncio.to_thread(self._ike.forget_all)

    # How.

    async def _do(self, actions: Iterable[Action]) -> None:
        for action in actions:
            if isinstance(action, Ask):
                self._spawn(self._judge(action.address))
            elif isinstance(action, Load):
                await self._load(action.peer)
            else:
                self._report(f"{action.address}: ended, {action.reason}")
                await self._end(action.address, action.reason)
        async with self._changed:
            self._changed.notify_all()

    def _spawn(self, work: Any) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _judge(self, address: str) -> None:
        """Ask a peer, judge it, and tell the table."""
        steps = self._steps.get(address, {})
        try:
            async with self._judging, opened(address, self._peer_port, local=self.own.papers.address) as link:
                judged = await self._ask_and_judge(link, address, steps)
        except EvidenceError as error:
            self._report(f"{address}: refused: {error}")
            actions = self.table.refused(address, error.code, self.now_s())
        except VouchError as error:
            actions = self.table.failed(address, error.code, self.now_s())
        else:
            if self._revoked_early(judged.peer):
                actions = self.table.refused(address, REVOKED, self.now_s())
            else:
                actions = self.table.judged(judged.peer, self.now_s())
        await self._do(actions)
        peer = self.table.find(address)
        if peer is not None and peer.wanted and peer.accepted is not None and address not in self._steps:
            with contextlib.suppress(UnreachableError):
                await self._open(peer.accepted, {})

    async def _ask_and_judge(self, link: Any, address: str, steps: dict[str, float], *, fresh: bool = False) -> Judged:
        before = None if fresh else self.table.accepted(address)
        known = None if before is None else before.enrolment
        try:
            return await self._ask_once(link, address, steps, known)
        except (EvidenceError, UnreachableError) as error:
            codes = {error.code} | {item.code for item in getattr(error, "findings", ())}
            if known is None or not codes & RESTARTED:
                raise
        return await self._ask_once(link, address, steps, None)

    async def _ask_once(self, link: Any, address: str, steps: dict[str, float], known: Enrolment | None) -> Judged:
        nonce, asked_at_s = self._clock.random_bytes(NONCE_BYTES), int(self.now_s())
        offset = 0 if known is None or known.ima is None else known.ima.offset_bytes
        began = time.monotonic()
        shown = await ask_evidence(link, nonce, ima_offset=offset)
        steps["evidence"], began = _ms_since(began), time.monotonic()
        papers = await ask_papers(link, shown, self._cache)
        steps["papers"], began = _ms_since(began), time.monotonic()
        own = self.own.papers
        if known is not None and sha256(papers.credential) != self._credential.get(address):
            known = None
        peer = await asyncio.to_thread(
            self._appraiser.accept,
            shown.evidence,
            papers,
            criteria=own.criteria(shown.keys, ttl_s=self._ttl_s),
            nonce=nonce,
            asker=own.address,
            address=address,
            now_s=int(self.now_s()),
            asked_at_s=asked_at_s,
            known=known,
        )
        self._credential[address] = sha256(papers.credential)
        steps["appraise"] = _ms_since(began)
        return Judged(peer=peer, evidence=shown.evidence, papers=papers, nonce=nonce)

    async def _load(self, peer: AcceptedPeer) -> None:
        own = self.own
        loaded = connection(
            own_address=own.papers.address,
            own_name=own.papers.name,
            own_certificate=own.certificate,
            address=peer.address,
            name=channel_name(peer.host_id, peer.guest),
            certificate=peer.certificate,
        )
        async with self._loading.setdefault(peer.address, asyncio.Lock()):
            try:
                await asyncio.to_thread(self._ike.load_peer, connection_name(peer.address), loaded)
            except UnreachableError as error:
                self._report(f"{peer.address}: charon does not take it: {error}")

    async def _end(self, address: str, reason: str) -> None:
        self._ending[address] = reason
        async with self._loading.setdefault(address, asyncio.Lock()):
            if self.table.accepted(address) is not None:
                # Accepted again in the meantime: there is nothing left to end.
                self._ending.pop(address, None)
                return
            try:
                await asyncio.to_thread(self._ike.end_peer, connection_name(address))
            except UnreachableError as error:
                self._report(f"{address}: charon still has the channel, tried again: {error}")
                return
        self._ending.pop(address, None)

    async def _open(self, peer: AcceptedPeer, steps: dict[str, float]) -> None:
        """Open the channel to an accepted peer, where there is none yet.

        Raises:
            UnreachableError: ``peer.not-ready``, and as charon.
        """
        name = connection_name(peer.address)
        async with self._opening.setdefault(peer.address, asyncio.Lock()):
            if await asyncio.to_thread(self._ike.is_up, name):
                return
            began = time.monotonic()
            async with opened(peer.address, self._peer_port, local=self.own.papers.address) as link:
                ready = await ask_ready(link, self.own.certificate)
            steps["ready"], began = _ms_since(began), time.monotonic()
            if not ready:
                raise UnreachableError("the peer does not accept this guest", code="peer.not-ready")
            await asyncio.to_thread(self._ike.initiate, name)
            steps["ike"] = _ms_since(began)
        if self.table.accepted(peer.address) is None:
            # Revoked while IKE ran.
            await self._end(peer.address, REVOKED)

    async def _decided(self, address: str) -> None:
        """Return when no judgement of that peer is under way, or when that takes too long."""

        def decided() -> bool:
            peer = self.table.find(address)
            return peer is None or not peer.asking or peer.state != ASKING

        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(DECISION_S), self._changed:
                await self._changed.wait_for(decided)

    def _accepts(self, address: str, certificate: bytes) -> bool:
        accepted = self.table.accepted(address)
        return accepted is not None and sha256(accepted.certificate) == certificate

    def _revoked_early(self, peer: AcceptedPeer) -> bool:
        return any(_revokes(*early, peer) for early in self._early)


def _revokes(notice: bytes, signature: bytes, peer: AcceptedPeer) -> bool:
    """Say whether a notice is the word of that peer's host about that peer's certificate."""
    try:
        verify_signature(PublicKey.from_der(peer.channel_authority), notice, signature, subject="revocation")
        said = Revocation.from_bytes(notice)
    except (EvidenceError, ParseError):
        return False
    return (said.host_id, said.guest, said.certificate) == (peer.host_id, peer.guest, sha256(peer.certificate))


def _ms_since(began: float) -> float:
    return round((time.monotonic() - began) * 1000, 3)
