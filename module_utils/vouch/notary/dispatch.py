# SPDX-License-Identifier: GPL-3.0-or-later
"""The dispatcher: stands before all nodes as one distcc server, and hands over nothing that was not proven.

1. A whole request is read from a distcc client of the same guest.
2. A slot of a node is taken that the port authority accepts now.
3. The job goes there with a fresh nonce.
4. Its answer is held against its statement: work key endorsed by the very channel certificate that the authority
   accepted, nonce, arguments, source, status, object, package.
5. The node is still accepted; the statement is kept; the client gets the plain answer.

A node that is lost, revoked in mid-job, or whose statement does not hold is used no more (``roster``), and the job is
done again elsewhere, ``TRIES`` times at most. Then the client is told that the compiler failed: with
``DISTCC_SKIP_LOCAL_RETRY`` and ``DISTCC_FALLBACK=0`` it never compiles by itself.
"""

from __future__ import annotations

import asyncio
import dataclasses
import os
from collections.abc import Callable, Coroutine
from typing import Any

from ..check.provenance import VerifiedJob, VerifiedWorkKey, check_answer, verify_job, verify_work_key
from ..errors import EvidenceError, ParseError, UnreachableError
from ..parse.distcc import NONCE_BYTES, DistccAnswer, DistccRequest, encode_answer, encode_request
from ..port.servicemanager import WARNING
from .authority import AuthorityClient, Bell, Peer
from .jobio import Budget, BusyError, GoneError, connected, read_answer, read_request, send, unless_gone
from .journal import Entry, Journal
from .roster import Lease, RevokedError, Roster

NODE_PORT = 3632
PAUSE_S = 0.5
TRIES = 3
WAIT_LIMIT_S = 300.0
"""For a free slot; without any node, the client waits as long. A host whose VM verifier starts again looks at all of
its guests before one of them goes on.
"""

JOB_LIMIT_S = 900.0
MAX_CONNECTIONS = 256

NO_HOSTS = 116
"""distcc's exit code where no host could do the job (distcc 3.4, src/exitcode.h)."""


class Dispatcher:
    """Serves connections of ``asyncio.start_server``.

    Args:
        authority: Client of the port authority of this guest.
        archive: Another one, for papers: these are long, and what is said of the nodes must not wait for them.
        roster: The nodes.
        journal: Where statements are kept.
        budget: Bytes of all jobs together.
        say: Takes one line for the journal of the system.
        node_port: Where nodes listen.
        wait_limit_s: How long a job waits for a slot.
    """

    def __init__(
        self,
        *,
        authority: AuthorityClient,
        archive: AuthorityClient,
        roster: Roster,
        journal: Journal,
        budget: Budget,
        say: Callable[[str], None],
        node_port: int = NODE_PORT,
        wait_limit_s: float = WAIT_LIMIT_S,
    ) -> None:
        self._authority = authority
        self._archive = archive
        self._roster = roster
        self._journal = journal
        self._budget = budget
        self._say = say
        self._node_port = node_port
        self._wait_limit_s = wait_limit_s
        self._open = 0
        self._keys: dict[tuple[bytes, bytes], VerifiedWorkKey] = {}
        self._asked: set[bytes] = set()
        self._fetching: set[asyncio.Task[None]] = set()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Have the job of one connection done."""
        if self._open >= MAX_CONNECTIONS:
            writer.transport.abort()
            return
        self._open += 1
        try:
            with self._budget.share() as share:
                request = await read_request(reader, share)
                if request.nonce is not None:
                    raise ParseError("distcc.NOTA", 0, "a client draws no nonce", code="distcc.token")
                await send(writer, encode_answer(await unless_gone(reader, self.dispatch(request))))
        except BusyError as error:
            self._say(f"a client was refused: {error}")
            writer.transport.abort()
        except GoneError:
            # A client whose preprocessor failed hangs up as well: nothing to tell.
            writer.transport.abort()
        except ParseError as error:
            self._say(f"a client was refused: {error}")
            writer.transport.abort()
        finally:
            self._open -= 1
            writer.close()

    async def watch_nodes(self, bell: Bell) -> None:
        """Follow what the authority says of the nodes, for ever: ``bell`` tells when it may be something else.

        When it says nothing, no node counts.
        """
        told = ""
        while True:
            try:
                await bell.rings()
                await self._refresh()
                told = ""
            except UnreachableError as error:
                bell.forget()
                await self._roster.update(())
                if str(error) != told:
                    told = str(error)
                    self._say(f"nodes: {error}")
                await asyncio.sleep(PAUSE_S)

    async def dispatch(self, request: DistccRequest) -> DistccAnswer:
        """Return the answer of a node that proved it; or one that says that no node did."""
        why = "no attested node"
        for _ in range(TRIES):
            lease = await self._roster.acquire(limit_s=self._wait_limit_s)
            if lease is None:
                break
            try:
                return await self._attempt(request, lease)
            except RevokedError:
                why = f"{lease.peer.address} was revoked"
            except BusyError as error:
                why = str(error)
            except (GoneError, TimeoutError) as error:
                why = f"{lease.peer.address} was lost: {str(error) or type(error).__name__}"
                await self._roster.distrust(lease, false=False)
                self._background(self._judge_anew(lease.peer.address))
            except (ParseError, EvidenceError) as error:
                why = f"{lease.peer.address} is not believed: {error}"
                await self._roster.distrust(lease, false=True)
            finally:
                await self._roster.release(lease)
            self._say(f"{WARNING}job: {why}")
        return DistccAnswer(status=NO_HOSTS << 8, stderr=f"vouch: {why}\n".encode(), stdout=b"", object=b"")

    async def _attempt(self, request: DistccRequest, lease: Lease) -> DistccAnswer:
        asked = dataclasses.replace(request, nonce=os.urandom(NONCE_BYTES))
        answer = await self._unless_revoked(lease, self._ask(lease.peer, asked))
        endorsement, statement = answer.endorsement or b"", answer.statement or b""
        peer, work_key = await self._work_key(lease, endorsement)
        verified = verify_job(statement, work_key)
        check_answer(verified, asked, answer, package=peer.package)
        if lease.revoked.is_set() or self._roster.peer(peer.address) is None:
            raise RevokedError
        self._keep(peer, verified, endorsement, statement)
        return dataclasses.replace(answer, endorsement=None, statement=None)

    async def _ask(self, peer: Peer, asked: DistccRequest) -> DistccAnswer:
        with self._budget.share() as share:
            async with asyncio.timeout(JOB_LIMIT_S), connected(peer.address, self._node_port) as (reader, writer):
                await send(writer, encode_request(asked.arguments, asked.source, asked.nonce))
                return await read_answer(reader, share, notarised=True)

    async def _unless_revoked(self, lease: Lease, work: Coroutine[Any, Any, DistccAnswer]) -> DistccAnswer:
        task, revoked = asyncio.ensure_future(work), asyncio.ensure_future(lease.revoked.wait())
        try:
            await asyncio.wait({task, revoked}, return_when=asyncio.FIRST_COMPLETED)
            if lease.revoked.is_set():
                raise RevokedError
            return task.result()
        finally:
            for future in (task, revoked):
                future.cancel()
            await asyncio.gather(task, revoked, return_exceptions=True)

    async def _work_key(self, lease: Lease, endorsement: bytes) -> tuple[Peer, VerifiedWorkKey]:
        """Return the work key, and the node as the channel certificate behind it was accepted.

        A node renews its certificate while jobs run, and at once when its host's VM verifier started again: where the
        endorsement is not by the one we know, the authority judges the node anew, once.
        """
        try:
            return lease.peer, self._endorsed(endorsement, lease.peer)
        except EvidenceError:
            try:
                await self._refresh()
                known = self._roster.peer(lease.peer.address)
                if known is not None and known.owner == lease.peer.owner:
                    await self._archive.ask(lease.peer.address)
                    await self._refresh()
            except UnreachableError as error:
                raise GoneError(str(error)) from None
            peer = self._roster.peer(lease.peer.address)
            if peer is None:
                raise RevokedError from None
            if peer.owner == lease.peer.owner:
                raise
            return peer, self._endorsed(endorsement, peer)

    def _endorsed(self, endorsement: bytes, peer: Peer) -> VerifiedWorkKey:
        known = (endorsement, peer.owner.certificate)
        if known not in self._keys:
            work_key = verify_work_key(endorsement, peer.owner)
            if len(self._keys) >= MAX_CONNECTIONS:
                self._keys.clear()
            self._keys[known] = work_key
        return self._keys[known]

    def _keep(self, peer: Peer, verified: VerifiedJob, endorsement: bytes, statement: bytes) -> None:
        self._journal.add(
            Entry(
                verified=verified,
                statement=statement,
                endorsement=endorsement,
                certificate=peer.certificate,
                address=peer.address,
            )
        )

    async def _refresh(self) -> None:
        peers = await self._authority.peers()
        await self._roster.update(peers)
        for peer in peers:
            self._fetch(peer)

    def _fetch(self, peer: Peer) -> None:
        """Ask in the background by what a node was accepted: for bundles, no job waits for it."""
        if peer.owner.certificate not in self._asked:
            self._asked.add(peer.owner.certificate)
            self._background(self._fetch_accepted(peer))

    def _background(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work)
        self._fetching.add(task)
        task.add_done_callback(self._fetching.discard)

    async def _judge_anew(self, address: str) -> None:
        """Have a lost node judged before its turn: it may have stood still for a while, and be as good as before."""
        try:
            await self._archive.ask(address)
        except UnreachableError as error:
            self._say(f"{address} is not judged anew: {error}")

    async def _fetch_accepted(self, peer: Peer) -> None:
        try:
            self._journal.keep_accepted(await self._archive.accepted(peer.address))
        except UnreachableError as error:
            self._say(f"papers of {peer.address}: {error}")
