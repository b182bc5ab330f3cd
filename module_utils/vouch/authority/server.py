# SPDX-License-Identifier: GPL-3.0-or-later
"""Connections of those who ask: other guests and their hosts over TCP, programs of this guest over a Unix socket.

Anybody who reaches the port may speak, so everything that a connection can cost is bounded: how many there are, how
many from one address, how long each waits and lasts, how much it says, how much is being answered at a time.
"""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
import os
import socket
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any

from ..errors import ParseError, UnreachableError, VouchError
from ..parse.frame import MAX_REQUEST_BYTES, FrameReader
from .messages import Question, encode_refusal, encode_result, read_question

CHUNK_BYTES = 1 << 16
BACKLOG = 64

Answer = Callable[[str, Question], Awaitable[Mapping[str, Any]]]
"""Address of who asks (empty for programs of this guest) and the request, to the result."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """What connections may cost.

    Attributes:
        connections: How many there may be.
        each: How many from one address.
        requests: How many on one connection.
        idle_s: How long one may be silent between two requests, or within one.
        send_s: How long an answer may take to be taken.
        answers: How many requests are answered at a time.
    """

    connections: int
    each: int
    requests: int
    idle_s: float
    send_s: float
    answers: int


PEERS = Limits(connections=64, each=4, requests=64, idle_s=15, send_s=30, answers=16)
PROGRAMS = Limits(connections=32, each=32, requests=1 << 30, idle_s=24 * 3600, send_s=10, answers=32)


class Server:
    """One listening socket.

    Args:
        answer: Gives the result of a request, or raises what is told to the asker by its code.
        limits: What connections may cost.
        known: The requests there are.
    """

    def __init__(self, answer: Answer, limits: Limits, *, known: frozenset[str]) -> None:
        self._answer, self._limits, self._known = answer, limits, known
        self._open: Counter[str] = Counter()
        self._room = asyncio.Semaphore(limits.answers)
        self._server: asyncio.Server | None = None

    async def listen_tcp(self, address: str, port: int) -> None:
        """Listen on a port, IPv6 alone.

        Raises:
            UnreachableError: ``authority.listen``.
        """
        listener = socket.socket(socket.AF_INET6, socket.SOCK_STREAM)
        try:
            listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listener.bind((address, port))
        except OSError as error:
            listener.close()
            raise UnreachableError(f"port {port}: {error.strerror}", code="authority.listen") from None
        self._server = await asyncio.start_server(self._serve, sock=listener, backlog=BACKLOG, limit=CHUNK_BYTES)

    async def listen_unix(self, path: str, *, mode: int) -> None:
        """Listen on a Unix socket that only its owner, and with ``mode`` its group, may connect to.

        Raises:
            UnreachableError: ``authority.listen``.
        """
        with contextlib.suppress(FileNotFoundError):
            os.unlink(path)
        before = os.umask(0o777 & ~mode)
        try:
            self._server = await asyncio.start_unix_server(self._serve, path, backlog=BACKLOG, limit=CHUNK_BYTES)
        except OSError as error:
            raise UnreachableError(f"{path}: {error.strerror}", code="authority.listen") from None
        finally:
            os.umask(before)

    async def close(self) -> None:
        """Stop listening."""
        if self._server is not None:
            self._server.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        address = _address_of(writer)
        if self._open.total() >= self._limits.connections or self._open[address] >= self._limits.each:
            writer.close()
            return
        self._open[address] += 1
        try:
            await self._converse(address, reader, writer)
        except OSError:
            # Gone, silent for too long (TimeoutError is one), or slow to take its answer: what waits for it is dropped.
            writer.transport.abort()
        finally:
            self._open[address] -= 1
            if not self._open[address]:
                del self._open[address]
            writer.close()
            with contextlib.suppress(OSError):
                await writer.wait_closed()

    async def _converse(self, address: str, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        frames = FrameReader(limit_bytes=MAX_REQUEST_BYTES)
        for _ in range(self._limits.requests):
            try:
                async with asyncio.timeout(self._limits.idle_s):
                    body = await _next_body(frames, reader)
                if body is None:
                    return
                question = read_question(body)
            except ParseError as error:
                await self._send(writer, encode_refusal("", "request.malformed", str(error)))
                return
            async with self._room:
                answer = await self._result(address, question)
                await self._send(writer, answer)

    async def _result(self, address: str, question: Question) -> bytes:
        if question.kind not in self._known:
            known = ", ".join(sorted(self._known))
            return encode_refusal(question.id, "request.unknown", f"known requests are {known}")
        try:
            return encode_result(question.id, await self._answer(address, question))
        except ParseError as error:
            return encode_refusal(question.id, "request.field", str(error))
        except VouchError as error:
            return encode_refusal(question.id, error.code, error.message)

    async def _send(self, writer: asyncio.StreamWriter, answer: bytes) -> None:
        writer.write(answer)
        async with asyncio.timeout(self._limits.send_s):
            await writer.drain()


async def _next_body(frames: FrameReader, reader: asyncio.StreamReader) -> bytes | None:
    """Return the next whole body, None at the end of the stream."""
    while (body := frames.next_body()) is None:
        data = await reader.read(CHUNK_BYTES)
        if not data:
            return None
        frames.feed(data)
    return body


def _address_of(writer: asyncio.StreamWriter) -> str:
    name = writer.get_extra_info("peername")
    if not isinstance(name, tuple):
        return ""
    try:
        return str(ipaddress.IPv6Address(str(name[0]).partition("%")[0]))
    except ValueError:
        return ""
