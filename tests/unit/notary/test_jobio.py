# SPDX-License-Identifier: GPL-3.0-or-later
"""Messages off streams, and work that ends with whoever waits for it."""

from __future__ import annotations

import asyncio
import contextlib
import socket

import pytest
from ansible.module_utils.vouch.errors import ParseError
from ansible.module_utils.vouch.notary import jobio
from ansible.module_utils.vouch.notary.jobio import Budget, BusyError, GoneError, connected, read_request, unless_gone
from ansible.module_utils.vouch.parse.distcc import encode_request

from notaryparts import free_port, unlimited

REQUEST = encode_request(("gcc", "-c"), b"int a;")


def stream(data: bytes = b"", *, ended: bool = False) -> asyncio.StreamReader:
    """Return a stream that brings ``data``."""
    reader = asyncio.StreamReader()
    reader.feed_data(data)
    if ended:
        reader.feed_eof()
    return reader


def test_a_request() -> None:
    async def scenario() -> None:
        assert (await read_request(stream(REQUEST), unlimited())).source == b"int a;"
        with pytest.raises(GoneError):
            await read_request(stream(REQUEST[:-1], ended=True), unlimited())
        with pytest.raises(ParseError):
            await read_request(stream(REQUEST + b"x"), unlimited())

    asyncio.run(scenario())


def test_a_stream_that_stands_still(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(jobio, "IDLE_LIMIT_S", 0.02)

    async def scenario() -> None:
        with pytest.raises(GoneError):
            await read_request(stream(REQUEST[:20]), unlimited())

    asyncio.run(scenario())


def test_work_that_is_waited_for() -> None:
    async def scenario() -> None:
        async def work() -> int:
            await asyncio.sleep(0.01)
            return 7

        async def fail() -> int:
            raise KeyError("x")

        assert await unless_gone(stream(), work()) == 7
        with pytest.raises(KeyError):
            await unless_gone(stream(), fail())

    asyncio.run(scenario())


@pytest.mark.parametrize(("data", "error"), [(b"", GoneError), (b"x", ParseError)], ids=["gone", "more"])
def test_work_that_nobody_waits_for(data: bytes, error: type[Exception]) -> None:
    async def scenario() -> None:
        cancelled = asyncio.Event()

        async def work() -> None:
            try:
                await asyncio.sleep(60)
            finally:
                cancelled.set()

        with pytest.raises(error):
            await unless_gone(stream(data, ended=not data), work())
        assert cancelled.is_set()

    asyncio.run(scenario())


def test_nobody_listens() -> None:
    async def scenario() -> None:
        with pytest.raises(GoneError):
            async with connected("127.0.0.1", free_port()):
                raise AssertionError("there is nobody")

    asyncio.run(scenario())


def test_somebody_is_silent(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(jobio, "CONNECT_LIMIT_S", 0.05)

    async def scenario() -> None:
        # A queue of one that is full: the kernel answers no further connection, as a host without power.
        with socket.create_server(("127.0.0.1", 0), backlog=0) as silent, contextlib.ExitStack() as held:
            address, port = silent.getsockname()
            for _ in range(3):
                other = held.enter_context(socket.socket())
                other.setblocking(False)
                other.connect_ex((address, port))
            with pytest.raises(GoneError, match="TimeoutError"):
                async with connected(address, port):
                    raise AssertionError("it answered")

    asyncio.run(scenario())


def test_messages_share_a_budget() -> None:
    async def scenario() -> None:
        budget = Budget(len(REQUEST) + 10)
        with budget.share() as first, budget.share() as second:
            await read_request(stream(REQUEST), first)
            with pytest.raises(BusyError):
                await read_request(stream(REQUEST), second)
            assert budget.held_bytes == len(REQUEST)
        assert budget.held_bytes == 0
        with budget.share() as third:
            await read_request(stream(REQUEST), third)

    asyncio.run(scenario())
