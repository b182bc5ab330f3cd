# SPDX-License-Identifier: GPL-3.0-or-later
"""The acts behind the table of peers: having them judged, telling charon, and answering those who ask us.

A channel is opened by whom a program asked for it. Both sides judge, at the same time: that somebody asks for our
evidence is reason enough to ask for theirs. When both accept, the one that wants the channel starts IKE.

Source: docs/channels.md.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Coroutine, Iterable
from typing import Any

from ..appraise.peer import AcceptedPeer, PeerPapers
from ..appraise.policy import NEEDED_PCRS
from ..errors import EvidenceError, UnreachableError, VouchError
from ..model.channelcert import channel_name
from ..model.digest import sha256
from ..model.revocation import MAX_REVOCATION_BYTES, RENEWED
from ..parse.canonical import dump_canonical
from ..parse.fields import Fields
from ..port.clock import Clock
from ..port.servicemanager import WARNING
from .changes import Changes
from .host import Host, states
from .ike import Ike, connection, connection_name
from .judging import Judge, Judged, ms_since
from .link import opened
from .locks import Locks
from .messages import EvidenceQuestion, read_evidence_question
from .notices import EarlyNotices, notice_about
from .own import Own
from .peering import PORT, ask_ready
from .peers import REVOKED, Action, Ask, Load, PeerTable

DECISION_S, AGAIN_S, TICK_S, REST_S = 12.0, 60.0, 0.5, 2.0
MAX_SIGNATURE_BYTES = 128


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
        self.changes = Changes()
        self.last_evidence = b""  # SHA-256 of what went to a peer last
        self._judge = Judge(lambda: self.own, clock, ttl_s=ttl_s, port=peer_port)
        self._credentials: dict[str, bytes] = {}
        self._early = EarlyNotices()
        self._loading, self._opening = Locks(), Locks()
        self._renewing = asyncio.Lock()
        self._answering: set[str] = set()
        self._ending: dict[str, str] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._broken: BaseException | None = None
        self._steps: dict[str, dict[str, float]] = {}

    def now_s(self) -> float:
        """Return Unix seconds."""
        return self._clock.now().timestamp()

    async def connect(self, address: str) -> dict[str, float]:
        """Return when there is a channel to that peer, or when it is not accepted: the table says which, and why.

        Returns:
            Milliseconds of each step by its name.

        Raises:
            UnreachableError: ``peer.own``, ``peer.many``, ``peer.not-ready`` when it does not accept us, and as charon.
        """
        began, steps = time.monotonic(), dict[str, float]()
        self._steps[address] = steps
        try:
            await self._do(self.table.want(address, self.now_s()))
            await self._decided(address)
            if (accepted := self.table.accepted(address)) is not None:
                await self._open(accepted, steps)
        finally:
            self._steps.pop(address, None)
        steps["all"] = ms_since(began)
        return steps

    async def disconnect(self, address: str) -> None:
        """End the channel to that peer; it may open another."""
        await self._do(self.table.dropped(address, self.now_s()))

    async def ask_again(self, address: str) -> None:
        """Return once a peer was asked anew, before its turn; it may stand still with its whole host for a while."""
        await self._do(self.table.ask_now(address, self.now_s()))
        await self._decided(address, AGAIN_S)

    async def judge_again(self, address: str) -> Judged:
        """Return a fresh acceptance that rests on nothing but its own evidence and papers.

        Raises:
            EvidenceError, UnreachableError: it is not accepted now.
        """
        _, judged = await self._judge.judge(address, None, {})
        return judged

    async def prove_to_anybody(self, nonce: bytes) -> Judged:
        """Return evidence about this guest itself, from the beginning, for who judges it elsewhere and later.

        Raises:
            UnreachableError: as ``prove``.
        """
        now_s, address = int(self.now_s()), self.own.papers.address
        evidence = await self.prove(EvidenceQuestion(nonce, NEEDED_PCRS, 0), notify=address)
        return Judged(
            address=address,
            nonce=nonce,
            evidence=dump_canonical(evidence),
            papers=PeerPapers(**self.own.shown, former=self.own.papers.former),
            accepted_at_s=now_s,
            expires_at_s=now_s + self._ttl_s,
        )

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
            await self.renew(self.own)
            evidence = await self._host.evidence(question, notify=notify)
            if not states(evidence, self.own):
                raise UnreachableError("the host does not state our certificate", code="authority.unstated")
        self.last_evidence = sha256(dump_canonical(evidence))
        await self.changes.tell()
        return evidence

    async def answer_ready(self, address: str, fields: Fields) -> dict[str, Any]:
        """Answer ``peer.ready``: whether we accept the asker with the certificate it has now, and told charon so.

        Waits for a judgement that is under way.

        Raises:
            ParseError.
        """
        certificate = fields.hex("certificate", 32)
        fields.done()
        if not self.table.accepts(address, certificate):
            await self._decided(address)
        if not self.table.accepts(address, certificate) and self.table.accepted(address) is not None:
            # It has another certificate than when we asked it.
            await self._do(self.table.ask_now(address, self.now_s()))
            await self._decided(address)
        async with self._loading[address]:
            return {"ready": self.table.accepts(address, certificate)}

    async def answer_revoke(self, fields: Fields) -> dict[str, Any]:
        """Answer ``revoke``: a host says that a guest of its own is no longer to be spoken to.

        Raises:
            ParseError.
        """
        notice = fields.blob("notice", limit_bytes=MAX_REVOCATION_BYTES)
        signature = fields.blob("signature", limit_bytes=MAX_SIGNATURE_BYTES)
        fields.done()
        peers = [(peer.address, peer.accepted) for peer in self.table if peer.accepted is not None]
        ended, now_s = 0, self.now_s()
        for address, accepted in peers:
            said = notice_about(notice, signature, accepted)
            if said is None:
                continue
            ended += 1
            self._report(f"{address}: its host says {said.reason}")
            renewed = said.reason == RENEWED
            await self._do(
                self.table.ask_now(address, now_s) if renewed else self.table.revoked(said.certificate, now_s)
            )
        if not ended and any(peer.asking for peer in self.table):
            self._early.keep(notice, signature)
        return {"ended": ended}

    async def keep(self) -> None:
        """Do what is due, for ever; a fault of ours in a task ends it."""
        complaint, rest_s = "", TICK_S
        while True:
            await self.changes.next(rest_s)
            if self._broken is not None:
                raise self._broken
            now_s = self.now_s()
            if due := self.table.tick(now_s):
                await self._do(due)
            if not any(peer.asking for peer in self.table):
                self._early.clear()
            for address in list(self._ending):
                await self._end(address)
            try:
                await self._tend_charon()
                if self.own.stale(now_s):
                    await self.renew(self.own)
                complaint = ""
            except VouchError as error:
                if complaint != error.code:
                    self._report(f"tried again: {error}")
                complaint = error.code
            busy = bool(self._ending or complaint)
            rest_s = TICK_S if busy else min(max(self.table.due_s() - self.now_s(), TICK_S), REST_S)

    async def renew(self, before: Own) -> None:
        """Get another certificate for the same key, and have charon use it, unless somebody did since ``before``.

        Raises:
            UnreachableError: as ``Host``, and as charon.
        """
        async with self._renewing:
            if self.own is not before:
                return
            own = await self._host.certified(before.key, now_s=int(self.now_s()))
            await self._tell_charon(own)
            self.own = own
            await self.changes.tell()
            await self._load_accepted()

    async def _tend_charon(self) -> None:
        """Where charon started anew: begin anew with it."""
        if self._ike.started_anew():
            self._report("charon started anew")
            async with self._renewing:
                await asyncio.to_thread(self._ike.forget_all)
                await self._tell_charon(self.own)
                await self._load_accepted()

    async def _tell_charon(self, own: Own) -> None:
        await asyncio.to_thread(self._ike.load_own, own.key.private_der, own.certificate)

    async def _load_accepted(self) -> None:
        for peer in list(self.table):
            if peer.accepted is not None:
                await self._load(peer.accepted)

    async def close(self) -> None:
        """End every channel: without us nobody would end them in time."""
        for task in self._tasks:
            task.cancel()
        await asyncio.to_thread(self._ike.forget_all)

    async def _do(self, actions: Iterable[Action]) -> None:
        for action in actions:
            if isinstance(action, Ask):
                self._spawn(self._ask(action.address))
            elif isinstance(action, Load):
                await self._load(action.peer)
            else:
                self._ending[action.address] = action.reason
                await self._end(action.address)
        await self.changes.tell()

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._done)

    def _done(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and task.exception() is not None:
            self._broken = task.exception()

    async def _ask(self, address: str) -> None:
        """Have a peer judged, and tell the table."""
        try:
            found, judged = await self._judge.judge(address, self._before(address), self._steps.get(address, {}))
        except EvidenceError as error:
            self._report(f"{address}: refused: {error}")
            actions = self.table.refused(address, error.code, self.now_s())
        except VouchError as error:
            self._report(f"{address}: not asked: {error}")
            actions = self.table.failed(address, error.code, self.now_s())
        else:
            self._credentials[address] = sha256(judged.papers.credential)
            early = self._early.end(found)
            now_s = self.now_s()
            actions = self.table.refused(address, REVOKED, now_s) if early else self.table.judged(found, now_s)
        await self._do(actions)
        peer = self.table.find(address)
        if peer is None:
            self._credentials.pop(address, None)
        elif peer.wanted and peer.accepted is not None and address not in self._steps:
            # Wanted, and nobody waits for it: see that the channel is there.
            try:
                await self._open(peer.accepted, {})
            except UnreachableError as error:
                self._report(f"{address}: no channel: {error}")

    def _before(self, address: str) -> tuple[AcceptedPeer, bytes] | None:
        accepted, credential = self.table.accepted(address), self._credentials.get(address)
        return None if accepted is None or credential is None else (accepted, credential)

    async def _load(self, peer: AcceptedPeer) -> None:
        own = self.own
        loaded = connection(
            own_address=own.papers.address,
            own_name=own.papers.name,
            own_certificate=own.certificate,
            address=peer.address,
            name=channel_name(peer.host_id, peer.guest),
            certificate=peer.certificate,
            tunnel=self._ike.tunnel,
            dead_peer_s=self._ike.dead_peer_s,
        )
        async with self._loading[peer.address]:
            try:
                await asyncio.to_thread(self._ike.load_peer, connection_name(peer.address), loaded)
            except UnreachableError as error:
                self._report(f"{peer.address}: charon does not take it: {error}")

    async def _end(self, address: str) -> None:
        """End the channel; what charon does not do now stays to be done."""
        async with self._loading[address]:
            try:
                await asyncio.to_thread(self._ike.end_peer, connection_name(address))
            except UnreachableError as error:
                self._report(f"{address}: charon still has the channel, tried again: {error}")
                return
        if address in self._ending:
            self._report(f"{WARNING}{address}: ended, {self._ending.pop(address)}")
        if (accepted := self.table.accepted(address)) is not None:
            # Accepted anew while the old one ended.
            await self._load(accepted)

    async def _open(self, peer: AcceptedPeer, steps: dict[str, float]) -> None:
        """Open the channel to an accepted peer, where there is none yet.

        Raises:
            UnreachableError: ``peer.not-ready``, and as charon.
        """
        name = connection_name(peer.address)
        async with self._opening[peer.address]:
            if await asyncio.to_thread(self._ike.is_up, name):
                return
            began = time.monotonic()
            async with opened(peer.address, self._peer_port, local=self.own.papers.address) as link:
                ready = await ask_ready(link, self.own.certificate)
            steps["ready"], began = ms_since(began), time.monotonic()
            if not ready:
                raise UnreachableError("the peer does not accept this guest", code="peer.not-ready")
            await asyncio.to_thread(self._ike.initiate, name)
            steps["ike"] = ms_since(began)
        if self.table.accepted(peer.address) is None:
            # It ended while IKE ran.
            self._ending[peer.address] = "it ended while IKE ran"
            await self._end(peer.address)

    async def _decided(self, address: str, limit_s: float = DECISION_S) -> None:
        """Return when no judgement of that peer is under way, or when that takes too long."""

        def decided() -> bool:
            peer = self.table.find(address)
            return peer is None or not peer.asking

        await self.changes.until(decided, limit_s)
