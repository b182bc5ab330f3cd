# SPDX-License-Identifier: GPL-3.0-or-later
"""The authority's sockets under strangers: what a connection may cost, and that others are served meanwhile."""

from __future__ import annotations

import asyncio
import contextlib
import pathlib
import stat
from collections.abc import AsyncIterator, Mapping
from typing import Any

import pytest
from ansible.module_utils.vouch.authority.link import Link, opened
from ansible.module_utils.vouch.authority.messages import Question, encode_question
from ansible.module_utils.vouch.authority.server import Limits, Server
from ansible.module_utils.vouch.errors import ParseError, UnreachableError
from ansible.module_utils.vouch.parse.frame import MAX_REQUEST_BYTES

TIGHT = Limits(connections=6, each=4, requests=3, idle_s=0.3, send_s=0.3, answers=2)
KNOWN = frozenset({"who", "wait", "bad", "gone", "much"})


class Desk:
    """Answers in a few ways; counts how many it answers at a time."""

    def __init__(self) -> None:
        self.now = self.most = 0
        self.go = asyncio.Event()

    async def answer(self, address: str, question: Question) -> Mapping[str, Any]:
        self.now += 1
        self.most = max(self.most, self.now)
        try:
            if question.kind == "wait":
                await self.go.wait()
            elif question.kind == "bad":
                raise ParseError("request.x", 0, "is bad")
            elif question.kind == "gone":
                raise UnreachableError("not here", code="peer.busy")
            elif question.kind == "much":
                return {"much": "x" * (32 << 20)}
            return {"address": address}
        finally:
            self.now -= 1


@contextlib.asynccontextmanager
async def serving(limits: Limits = TIGHT) -> AsyncIterator[tuple[Desk, int]]:
    desk = Desk()
    server = Server(desk.answer, limits, known=KNOWN)
    await server.listen_tcp("::1", 0)
    assert server._server is not None
    try:
        yield desk, server._server.sockets[0].getsockname()[1]
    finally:
        desk.go.set()
        await server.close()


async def code(link: Link, kind: str) -> str:
    with pytest.raises(UnreachableError) as caught:
        await link.ask(kind, timeout_s=5)
    return caught.value.code


def test_answers_and_refusals() -> None:
    async def scenario() -> None:
        async with serving() as (_, port), opened("::1", port) as link:
            assert (await link.ask("who")).rest() == {"address": "::1"}
            assert await code(link, "bad") == "request.field"
            assert await code(link, "gone") == "peer.busy"
            # So many requests on one connection, and no more.
            assert await code(link, "who") == "authority.lost"
        async with serving() as (_, port), opened("::1", port) as link:
            assert await code(link, "coffee") == "request.unknown"

    asyncio.run(scenario())


@pytest.mark.parametrize("said", [b"\0\0\0\0", b"\xff\xff\xff\xff", b"\0\0\0\1x", encode_question("1", "who", {})[:-3]])
def test_who_does_not_speak_the_protocol_is_left(said: bytes) -> None:
    async def scenario() -> None:
        async with serving() as (_, port):
            reader, writer = await asyncio.open_connection("::1", port)
            writer.write(said)
            async with asyncio.timeout(5):
                left = await reader.read()
            assert not left or b"request.malformed" in left
            writer.close()

    asyncio.run(scenario())


def test_a_request_that_is_too_long_is_not_waited_for() -> None:
    async def scenario() -> None:
        async with serving() as (_, port):
            reader, writer = await asyncio.open_connection("::1", port)
            writer.write((MAX_REQUEST_BYTES + 1).to_bytes(4, "big"))
            async with asyncio.timeout(TIGHT.idle_s / 2):
                assert b"request.malformed" in await reader.read()
            writer.close()

    asyncio.run(scenario())


def test_one_address_takes_only_its_share() -> None:
    async def scenario() -> None:
        async with serving() as (_, port):
            silent = [await asyncio.open_connection("::1", port) for _ in range(TIGHT.each)]
            await asyncio.sleep(0.05)
            async with opened("::1", port) as link:
                assert await code(link, "who") == "authority.lost"
            # Those that say nothing are left, and then there is room again.
            await asyncio.sleep(TIGHT.idle_s + 0.1)
            async with opened("::1", port) as link:
                assert (await link.ask("who")).rest() == {"address": "::1"}
            for _, writer in silent:
                writer.close()

    asyncio.run(scenario())


def test_only_so_many_are_answered_at_a_time() -> None:
    async def scenario() -> None:
        async with serving() as (desk, port), contextlib.AsyncExitStack() as stack:
            links = [await stack.enter_async_context(opened("::1", port)) for _ in range(TIGHT.each)]
            asked = [asyncio.ensure_future(link.ask("wait")) for link in links]
            await asyncio.sleep(0.1)
            assert desk.most == TIGHT.answers
            desk.go.set()
            assert len(await asyncio.gather(*asked)) == TIGHT.each
            assert desk.most == TIGHT.answers

    asyncio.run(scenario())


def test_who_does_not_take_its_answer_is_left() -> None:
    async def scenario() -> None:
        async with serving() as (_, port):
            reader, writer = await asyncio.open_connection("::1", port, limit=1024)
            writer.write(encode_question("1", "much", {}))
            await asyncio.sleep(TIGHT.send_s + 1.5)
            found = 0
            with contextlib.suppress(ConnectionError):
                async with asyncio.timeout(5):
                    while data := await reader.read(1 << 16):
                        found += len(data)
            assert found < 32 << 20
            writer.close()

    asyncio.run(scenario())


def test_only_the_group_may_use_the_socket_of_programs(tmp_path: pathlib.Path) -> None:
    async def scenario() -> None:
        desk = Desk()
        for _ in range(2):
            # Twice: a service that starts again finds the old socket.
            server = Server(desk.answer, TIGHT, known=KNOWN)
            await server.listen_unix(str(tmp_path / "s"), mode=0o660)
            assert stat.S_IMODE((tmp_path / "s").stat().st_mode) == 0o660
            reader, writer = await asyncio.open_unix_connection(str(tmp_path / "s"))
            assert (await Link(reader, writer).ask("who")).rest() == {"address": ""}
            writer.close()
            await server.close()
        with pytest.raises(UnreachableError) as caught:
            await Server(desk.answer, TIGHT, known=KNOWN).listen_unix(str(tmp_path / "no" / "s"), mode=0o660)
        assert caught.value.code == "authority.listen"

    asyncio.run(scenario())


def test_a_port_that_is_taken() -> None:
    async def scenario() -> None:
        async with serving() as (desk, port):
            with pytest.raises(UnreachableError) as caught:
                await Server(desk.answer, TIGHT, known=KNOWN).listen_tcp("::1", port)
            assert caught.value.code == "authority.listen"

    asyncio.run(scenario())


def test_nobody_listens() -> None:
    async def scenario() -> None:
        with pytest.raises(UnreachableError) as caught:
            async with opened("::1", 1):
                pass
        assert caught.value.code == "authority.connect"

    asyncio.run(scenario())


@pytest.mark.parametrize(
    ("said", "code"),
    [
        (b"", "authority.lost"),
        (b"\0\0\0\0", "authority.answer"),
        (b"\0\0\0\2{}", "authority.answer"),
        (b"\0\0\0\2{}more", "authority.answer"),
        (None, "authority.timeout"),
    ],
)
def test_who_answers_no_answer(said: bytes | None, code: str) -> None:
    async def scenario() -> None:
        async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await reader.read(100)
            if said is None:
                await asyncio.sleep(1)
            writer.write(said or b"")
            writer.close()

        server = await asyncio.start_server(answer, "::1", 0)
        port = server.sockets[0].getsockname()[1]
        async with server, opened("::1", port) as link:
            with pytest.raises(UnreachableError) as caught:
                await link.ask("who", timeout_s=0.2)
        assert caught.value.code == code

    asyncio.run(scenario())
