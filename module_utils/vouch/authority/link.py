# SPDX-License-Identifier: GPL-3.0-or-later
"""One connection to somebody who answers: the host's guest port, or another guest's authority.

Everything is bounded: how long a connection and an answer may take, how long an answer may be.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import Any

from ..errors import ParseError, UnreachableError
from ..parse.fields import Fields
from ..parse.frame import FrameReader
from .messages import MAX_ANSWER_BYTES, encode_question, read_answer

CONNECT_S = 3.0
ANSWER_S = 10.0
CHUNK_BYTES = 1 << 16


class Link:
    """Questions, one after the other; made by ``opened``.

    Raises:
        UnreachableError: ``authority.lost``, ``authority.timeout``, ``authority.answer``, or, as an ``AnswerError``,
            the other side's own code.
    """

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader, self._writer = reader, writer
        self._sent = 0

    async def ask(
        self, kind: str, *, limit_bytes: int = MAX_ANSWER_BYTES, timeout_s: float = ANSWER_S, **members: Any
    ) -> Fields:
        """Return the result of one request."""
        self._sent += 1
        ident = str(self._sent)
        try:
            async with asyncio.timeout(timeout_s):
                self._writer.write(encode_question(ident, kind, members))
                await self._writer.drain()
                body = await self._body(limit_bytes)
        except TimeoutError:
            raise UnreachableError(f"no answer to {kind} in {timeout_s:g} s", code="authority.timeout") from None
        except OSError as error:
            raise UnreachableError(f"the connection broke: {error.strerror}", code="authority.lost") from None
        except ParseError as error:
            raise UnreachableError(f"the answer is none: {error}", code="authority.answer") from None
        return read_answer(body, ident, limit_bytes=limit_bytes)

    async def _body(self, limit_bytes: int) -> bytes:
        frames = FrameReader(limit_bytes=limit_bytes)
        while (body := frames.next_body()) is None:
            data = await self._reader.read(CHUNK_BYTES)
            if not data:
                raise UnreachableError("the other side closed the connection", code="authority.lost")
            frames.feed(data)
        if frames.partial:
            raise UnreachableError("the other side says more than it was asked", code="authority.answer")
        return body

    async def close(self) -> None:
        """Close the connection."""
        self._writer.close()
        with contextlib.suppress(OSError):
            await self._writer.wait_closed()


@contextlib.asynccontextmanager
async def opened(address: str, port: int, *, local: str = "") -> AsyncIterator[Link]:
    """Give a connection for a while.

    Args:
        address: Where to; a link-local one with its card, ``fe80::1%eth0``.
        port: TCP port.
        local: Our own address; empty lets the kernel choose.

    Raises:
        UnreachableError: ``authority.connect``.
    """
    try:
        async with asyncio.timeout(CONNECT_S):
            reader, writer = await asyncio.open_connection(
                address, port, local_addr=(local, 0) if local else None, limit=CHUNK_BYTES
            )
    except OSError as error:
        # TimeoutError is one.
        raise UnreachableError(f"{address} port {port}: {error or 'no answer'}", code="authority.connect") from None
    link = Link(reader, writer)
    try:
        yield link
    finally:
        await link.close()
