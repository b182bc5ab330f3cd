# SPDX-License-Identifier: GPL-3.0-or-later
"""A node's notary by itself: who asks without a nonce gets a plain answer, who hangs up ends the job."""

from __future__ import annotations

import asyncio
import pathlib
import threading

import pytest
from ansible.module_utils.vouch.check.provenance import check_answer, verify_job, verify_work_key
from ansible.module_utils.vouch.notary import node as module
from ansible.module_utils.vouch.notary.jobio import GoneError, read_answer
from ansible.module_utils.vouch.parse.distcc import DistccAnswer, DistccRequest, encode_request

from notaryparts import Farm, compile_by_hash, farm, unlimited

NONCE = bytes(range(32))


async def ask(site: Farm, source: bytes, nonce: bytes | None) -> DistccAnswer:
    """Return a node's answer."""
    reader, writer = await asyncio.open_connection("127.0.0.2", site.node_port)
    writer.write(encode_request(("gcc", "-c"), source, nonce))
    try:
        return await read_answer(reader, unlimited(), notarised=nonce is not None)
    finally:
        writer.close()


def test_with_and_without_a_nonce(tmp_path: pathlib.Path) -> None:
    async def scenario() -> None:
        async with farm(tmp_path) as site:
            node = await site.add_node("127.0.0.2")
            plain = await ask(site, b"x", None)
            assert plain == compile_by_hash(DistccRequest(nonce=None, arguments=(), source=b"x"))
            for source in (b"x", b"error"):
                stated = await ask(site, source, NONCE)
                assert stated.endorsement is not None
                assert stated.statement is not None
                verified = verify_job(stated.statement, verify_work_key(stated.endorsement, node.guest.owner))
                request = DistccRequest(nonce=NONCE, arguments=("gcc", "-c"), source=source)
                check_answer(verified, request, stated, package=node.guest.package)

    asyncio.run(scenario())


def test_a_job_waits_for_the_first_endorsement(tmp_path: pathlib.Path) -> None:
    async def scenario() -> None:
        async with farm(tmp_path) as site:
            node = await site.add_node("127.0.0.2")
            standing, node.keeper.standing = node.keeper.standing, None
            asked = asyncio.ensure_future(ask(site, b"x", NONCE))
            await asyncio.sleep(0.1)
            assert node.compiled == []
            node.keeper.standing = standing
            assert (await asyncio.wait_for(asked, 20)).statement is not None

    asyncio.run(scenario())


def test_jobs_wait_for_a_slot(tmp_path: pathlib.Path) -> None:
    async def scenario() -> None:
        running, most, lock = 0, 0, threading.Lock()

        def counting(request: DistccRequest) -> DistccAnswer:
            nonlocal running, most
            with lock:
                running += 1
                most = max(most, running)
            threading.Event().wait(0.02)
            with lock:
                running -= 1
            return compile_by_hash(request)

        async with farm(tmp_path) as site:
            await site.add_node("127.0.0.2", compile_job=counting, slots=2)
            await asyncio.gather(*(ask(site, b"%d" % number, NONCE) for number in range(8)))
            assert most == 2

    asyncio.run(scenario())


def test_who_hangs_up_ends_the_job(tmp_path: pathlib.Path) -> None:
    async def scenario() -> None:
        reached, ended = asyncio.Event(), asyncio.Event()

        async def never(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            reached.set()
            while await reader.read(1 << 16):
                pass
            ended.set()
            writer.close()

        async with farm(tmp_path) as site:
            backend = await asyncio.start_server(never, "127.0.0.2", 0)
            await site.add_node("127.0.0.2", backend=backend.sockets[0].getsockname()[:2], slots=1)
            _, writer = await asyncio.open_connection("127.0.0.2", site.node_port)
            writer.write(encode_request(("gcc",), b"x", NONCE))
            async with asyncio.timeout(5):
                await reached.wait()
                writer.transport.abort()
                # distccd sees its client gone, which is how it comes to stop the compiler.
                await ended.wait()
            backend.close()

    asyncio.run(scenario())


@pytest.mark.parametrize(
    "said", [b"GET / HTTP/1.1\r\n\r\n", b"DIST00000002", encode_request(("gcc",), b"x", NONCE) + b"x"]
)
def test_what_is_no_request(tmp_path: pathlib.Path, said: bytes) -> None:
    async def scenario() -> None:
        async with farm(tmp_path) as site:
            node = await site.add_node("127.0.0.2")
            reader, writer = await asyncio.open_connection("127.0.0.2", site.node_port)
            writer.write(said)
            with pytest.raises(GoneError):
                await read_answer(reader, unlimited(), notarised=True)
            writer.close()
            assert node.compiled == []

    asyncio.run(scenario())


def test_connections_are_bounded(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_CONNECTIONS", 1)

    async def scenario() -> None:
        async with farm(tmp_path) as site:
            await site.add_node("127.0.0.2")
            _, held = await asyncio.open_connection("127.0.0.2", site.node_port)
            await asyncio.sleep(0.05)
            with pytest.raises((GoneError, OSError)):
                await ask(site, b"x", None)
            held.close()
            await asyncio.sleep(0.05)
            assert (await ask(site, b"x", None)).status == 0

    asyncio.run(scenario())
