# SPDX-License-Identifier: GPL-3.0-or-later
"""A node's notary: stands before distccd, passes jobs on, and signs a statement about each one it is asked for.

1. A whole request is read, within the limits of ``parse.distcc``.
2. distccd, on the loopback of the same guest, gets it without the nonce.
3. Its whole answer is read.
4. With a nonce: the statement is made and signed, and both go back. Without: the plain answer goes back.

Whatever goes wrong ends in a closed connection, which a dispatcher takes for a lost node and a plain client for a
failed job. A client that hangs up ends its job: the connection to distccd is closed, which stops the compiler.
"""

from __future__ import annotations

import asyncio
import dataclasses
import time
from collections.abc import Callable, Mapping

from ..errors import ParseError
from ..model.digest import sha256
from ..model.provenance import JobStatement
from ..parse.distcc import DistccAnswer, DistccRequest, encode_answer, encode_request
from .jobio import Budget, GoneError, Share, connected, read_answer, read_request, send, unless_gone
from .signer import WorkSigner
from .standing import StandingKeeper

MAX_CONNECTIONS = 64
"""Held at once, each with at most one source or one object; further ones are closed."""


WAIT_LIMIT_S, POLL_S = 30.0, 0.2


class NodeNotary:
    """Serves connections of ``asyncio.start_server``.

    Args:
        backend: Address and port of distccd.
        compilers: Path to SHA-256 of the files that compile.
        signer: The work key.
        keeper: What statements rest on.
        slots: Jobs that distccd is given at once; the others wait.
        budget: Bytes of all jobs together.
        say: Takes one line for the journal.
        wait_limit_s: How long a job waits for the port authority's first endorsement.
        now_s: The time of day, Unix seconds.
    """

    def __init__(
        self,
        *,
        backend: tuple[str, int],
        compilers: Mapping[str, bytes],
        signer: WorkSigner,
        keeper: StandingKeeper,
        slots: int,
        budget: Budget,
        say: Callable[[str], None],
        wait_limit_s: float = WAIT_LIMIT_S,
        now_s: Callable[[], float] = time.time,
    ) -> None:
        self._wait_limit_s = wait_limit_s
        self._backend = backend
        self._compilers = compilers
        self._signer = signer
        self._keeper = keeper
        self._slots = asyncio.Semaphore(slots)
        self._budget = budget
        self._say = say
        self._now_s = now_s
        self._open = 0

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Do the job of one connection."""
        if self._open >= MAX_CONNECTIONS:
            writer.transport.abort()
            return
        self._open += 1
        try:
            with self._budget.share() as share:
                request = await read_request(reader, share)
                await send(writer, encode_answer(await unless_gone(reader, self._work(request, share))))
        except (GoneError, ParseError) as error:
            self._say(f"a job ended: {error}")
            writer.transport.abort()
        finally:
            self._open -= 1
            writer.close()

    async def _work(self, request: DistccRequest, share: Share) -> DistccAnswer:
        if request.nonce is not None:
            await self._endorsed()
        async with self._slots:
            started_s = int(self._now_s())
            answer = await self._compile(request, share)
            finished_s = int(self._now_s())
        if request.nonce is None:
            return answer
        standing = self._keeper.standing
        if standing is None:
            raise GoneError("the port authority has not endorsed the work key yet")
        job = JobStatement(
            builder=standing.builder,
            run=standing.run(started_s, finished_s),
            arguments=request.arguments,
            source=sha256(request.source),
            nonce=request.nonce,
            compilers=self._compilers,
            status=answer.status,
            object=b"" if answer.status else sha256(answer.object),
        )
        return dataclasses.replace(answer, endorsement=standing.endorsement, statement=self._signer.seal(job))

    async def _endorsed(self) -> None:
        """Return when statements have something to rest on: a node may be asked as soon as it is accepted."""
        until_s = time.monotonic() + self._wait_limit_s
        while self._keeper.standing is None and time.monotonic() < until_s:
            await asyncio.sleep(POLL_S)

    async def _compile(self, request: DistccRequest, share: Share) -> DistccAnswer:
        async with connected(*self._backend) as (reader, writer):
            await send(writer, encode_request(request.arguments, request.source))
            return await read_answer(reader, share, notarised=False)
