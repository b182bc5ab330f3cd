# SPDX-License-Identifier: GPL-3.0-or-later
"""One distcc message off a stream, and work that ends when nobody waits for it any more."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Coroutine, Iterator
from typing import Any, TypeVar

from ..errors import ParseError
from ..parse.distcc import AnswerReader, DistccAnswer, DistccRequest, RequestReader

CHUNK_BYTES = 1 << 18
IDLE_LIMIT_S = 600.0
"""Between two pieces of a message: a client opens the connection before it preprocesses."""

CONNECT_LIMIT_S = 5.0
"""A host that lost its power refuses nothing: it is silent."""

Result = TypeVar("Result")


class GoneError(Exception):
    """The other side closed the connection, or broke it."""


class BusyError(GoneError):
    """This side cannot hold another message now; no fault of the other one."""


class Budget:
    """How many bytes all messages under way may hold together: a message may have 64 MiB, a guest little more.

    >>> budget = Budget(100)
    >>> with budget.share() as share:
    ...     share.take(60)
    ...     budget.held_bytes
    60
    >>> budget.held_bytes
    0
    """

    def __init__(self, limit_bytes: int) -> None:
        self.limit_bytes = limit_bytes
        self.held_bytes = 0

    @contextlib.contextmanager
    def share(self) -> Iterator[Share]:
        """Hold the share of one job; what it took is given back at the end."""
        share = Share(self)
        try:
            yield share
        finally:
            self.held_bytes -= share.taken_bytes


class Share:
    """What one job holds of a budget."""

    def __init__(self, budget: Budget) -> None:
        self._budget = budget
        self.taken_bytes = 0

    def take(self, count: int) -> None:
        """Take so many bytes more.

        Raises:
            BusyError: the budget is used up; whoever comes last has to go.
        """
        if self._budget.held_bytes + count > self._budget.limit_bytes:
            raise BusyError(f"more than {self._budget.limit_bytes} bytes of messages are under way")
        self._budget.held_bytes += count
        self.taken_bytes += count


async def read_request(reader: asyncio.StreamReader, share: Share) -> DistccRequest:
    """Return the request that ``reader`` brings; raises as ``read_answer``."""
    messages = RequestReader()
    while messages.message is None:
        messages.feed(await _piece(reader, share))
    return messages.message


async def read_answer(reader: asyncio.StreamReader, share: Share, *, notarised: bool) -> DistccAnswer:
    """Return the answer that ``reader`` brings; its bytes are taken out of ``share``.

    Raises:
        ParseError: a code of family ``distcc``.
        GoneError: it ended before, or brought nothing for ``IDLE_LIMIT_S``.
        BusyError: as ``Share.take``.
    """
    messages = AnswerReader(notarised=notarised)
    while messages.message is None:
        messages.feed(await _piece(reader, share))
    return messages.message


async def _piece(reader: asyncio.StreamReader, share: Share) -> bytes:
    try:
        async with asyncio.timeout(IDLE_LIMIT_S):
            data = await reader.read(CHUNK_BYTES)
    except OSError as error:
        raise GoneError(f"{type(error).__name__}") from None
    if not data:
        raise GoneError("the connection was closed")
    share.take(len(data))
    return data


async def unless_gone(reader: asyncio.StreamReader, work: Coroutine[Any, Any, Result]) -> Result:
    """Return what ``work`` returns; it is cancelled when whoever waits for it hangs up.

    Raises:
        GoneError: nobody waits any more.
        ParseError: ``distcc.trailing``, the other side went on talking.
    """
    task, listening = asyncio.ensure_future(work), asyncio.ensure_future(reader.read(1))
    try:
        await asyncio.wait({task, listening}, return_when=asyncio.FIRST_COMPLETED)
        if task.done():
            return task.result()
        try:
            more = listening.result()
        except OSError:
            more = b""
        if more:
            raise ParseError("distcc.end", 0, "something follows the message", code="distcc.trailing")
        raise GoneError("nobody waits for the answer")
    finally:
        for future in (task, listening):
            future.cancel()
        await asyncio.gather(task, listening, return_exceptions=True)


@contextlib.asynccontextmanager
async def connected(address: str, port: int) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    """Hold a TCP connection; what was not sent when it is left is thrown away.

    Raises:
        GoneError: nobody answers there, for ``CONNECT_LIMIT_S``.
    """
    try:
        async with asyncio.timeout(CONNECT_LIMIT_S):
            reader, writer = await asyncio.open_connection(address, port, limit=CHUNK_BYTES)
    except OSError as error:
        raise GoneError(f"no connection to [{address}]:{port}: {type(error).__name__}") from None
    try:
        yield reader, writer
    finally:
        writer.transport.abort()


async def send(writer: asyncio.StreamWriter, data: bytes) -> None:
    """Send all of ``data``.

    Raises:
        GoneError: the other side takes no more.
    """
    try:
        writer.write(data)
        async with asyncio.timeout(IDLE_LIMIT_S):
            await writer.drain()
    except OSError as error:
        raise GoneError(f"{type(error).__name__}") from None
