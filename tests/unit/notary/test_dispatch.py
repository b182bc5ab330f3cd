# SPDX-License-Identifier: GPL-3.0-or-later
"""The dispatcher between clients and nodes over real sockets: what reaches a client was proven, or it is a failure."""

from __future__ import annotations

import asyncio
import pathlib
import threading

import pytest
from ansible.module_utils.vouch.model.digest import sha256
from ansible.module_utils.vouch.notary import dispatch as dispatch_module
from ansible.module_utils.vouch.notary import node as node_module
from ansible.module_utils.vouch.notary.dispatch import NO_HOSTS, TRIES
from ansible.module_utils.vouch.notary.jobio import GoneError, read_answer
from ansible.module_utils.vouch.parse.distcc import DistccAnswer, DistccRequest, encode_request

from notaryparts import COMPILERS, compile_by_hash, farm, unlimited

FAILED = NO_HOSTS << 8


def test_a_job_is_done_and_its_statement_is_kept(tmp_path: pathlib.Path) -> None:
    async def scenario() -> None:
        async with farm(tmp_path) as site:
            node = await site.add_node("127.0.0.2")
            answer = await site.job(b"int x;", "gcc", "-c", "x.c", "-o", "x.o")
            assert answer == DistccAnswer(status=0, stderr=b"", stdout=b"", object=sha256(b"int x;"))
            (entry,) = site.journal.of_objects([sha256(answer.object)])
            job = entry.verified.job
            assert job.arguments == ("gcc", "-c", "x.c", "-o", "x.o")
            assert job.source == sha256(b"int x;")
            assert job.builder.uri == f"urn:vouch:guest:{node.guest.host_id}:node1"
            assert job.builder.package == node.guest.package
            assert dict(job.compilers) == COMPILERS
            assert entry.verified.work_key.key == node.signer.public
            # distccd itself never sees the nonce.
            assert [request.nonce for request in node.compiled] == [None]

    asyncio.run(scenario())


def test_a_failed_compile_is_stated_and_not_repeated(tmp_path: pathlib.Path) -> None:
    async def scenario() -> None:
        async with farm(tmp_path) as site:
            node = await site.add_node("127.0.0.2")
            answer = await site.job(b"error")
            assert (answer.status, answer.stderr, answer.object) == (1 << 8, b"no", b"")
            assert len(node.compiled) == 1
            assert len(site.journal) == 1

    asyncio.run(scenario())


def test_jobs_spread_over_free_slots(tmp_path: pathlib.Path) -> None:
    async def scenario() -> None:
        barrier = threading.Barrier(4, timeout=10)

        def together(request: DistccRequest) -> DistccAnswer:
            barrier.wait()
            return compile_by_hash(request)

        async with farm(tmp_path, slots=2) as site:
            nodes = [await site.add_node(address, compile_job=together) for address in ("127.0.0.2", "127.0.0.3")]
            answers = await asyncio.gather(*(site.job(b"%d" % number) for number in range(4)))
            assert [answer.object for answer in answers] == [sha256(b"%d" % number) for number in range(4)]
            assert [len(node.compiled) for node in nodes] == [2, 2]

    asyncio.run(scenario())


def test_without_a_node_the_client_is_told(tmp_path: pathlib.Path) -> None:
    async def scenario() -> None:
        async with farm(tmp_path, wait_limit_s=0.05) as site:
            answer = await site.job(b"x")
            assert (answer.status, answer.object) == (FAILED, b"")
            assert answer.stderr == b"vouch: no attested node\n"

    asyncio.run(scenario())


def test_a_client_that_comes_before_its_node_waits(tmp_path: pathlib.Path) -> None:
    async def scenario() -> None:
        async with farm(tmp_path) as site:
            job = asyncio.create_task(site.job(b"x"))
            await asyncio.sleep(0.05)
            await site.add_node("127.0.0.2")
            assert (await job).status == 0

    asyncio.run(scenario())


# --- nodes that go --------------------------------------------------------------------------------------------------


def test_a_node_that_is_lost_in_mid_job(tmp_path: pathlib.Path) -> None:
    async def scenario() -> None:
        async with farm(tmp_path, slots=1) as site:
            dying = await site.add_node("127.0.0.2", backend=("127.0.0.2", 1))
            assert dying.keeper.standing is not None
            other = await site.add_node("127.0.0.3")
            answers = [await site.job(b"%d" % number) for number in range(3)]
            assert [answer.status for answer in answers] == [0, 0, 0]
            assert len(other.compiled) == 3
            assert len([line for line in site.said if "127.0.0.2 was lost" in line]) == 1
            # It comes back with evidence that is younger than the loss.
            assert site.roster.peer("127.0.0.2") is None
            site.shift_s = -5
            await site.accept(dying)
            assert site.roster.peer("127.0.0.2") is None
            site.shift_s = 5
            await site.accept(dying)
            assert site.roster.peer("127.0.0.2") is not None

    asyncio.run(scenario())


def test_a_node_that_is_revoked_in_mid_job(tmp_path: pathlib.Path) -> None:
    async def scenario() -> None:
        reached, go_on = threading.Event(), threading.Event()

        def slow(request: DistccRequest) -> DistccAnswer:
            reached.set()
            go_on.wait(10)
            return compile_by_hash(request)

        async with farm(tmp_path) as site:
            revoked = await site.add_node("127.0.0.2", compile_job=slow)
            job = asyncio.create_task(site.job(b"x"))
            await asyncio.to_thread(reached.wait, 10)
            other = await site.add_node("127.0.0.3")
            await site.refuse(revoked)
            answer = await job
            go_on.set()
            assert (answer.status, len(other.compiled)) == (0, 1)
            assert any("127.0.0.2 was revoked" in line for line in site.said)
            (entry,) = site.journal.of_objects([sha256(answer.object)])
            assert entry.verified.work_key.owner.guest == "node2"

    asyncio.run(scenario())


def test_tries_end(tmp_path: pathlib.Path) -> None:
    async def scenario() -> None:
        async with farm(tmp_path) as site:
            for number in range(TRIES + 1):
                await site.add_node(f"127.0.0.{number + 2}", backend=("127.0.0.2", 1))
            answer = await site.job(b"x")
            assert answer.status == FAILED
            assert b"was lost" in answer.stderr
            assert len(site.roster.addresses) == 1

    asyncio.run(scenario())


def test_a_node_that_never_answers(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dispatch_module, "JOB_LIMIT_S", 0.2)

    async def scenario() -> None:
        go_on = threading.Event()

        def never(request: DistccRequest) -> DistccAnswer:
            go_on.wait(10)
            return compile_by_hash(request)

        async with farm(tmp_path) as site:
            await site.add_node("127.0.0.2", compile_job=never)
            other = await site.add_node("127.0.0.3")
            assert (await site.job(b"x")).status == 0
            go_on.set()
            assert len(other.compiled) == 1
            assert any("127.0.0.2 was lost: TimeoutError" in line for line in site.said)

    asyncio.run(scenario())


def test_what_exceeds_the_budget_is_no_fault_of_the_node(tmp_path: pathlib.Path) -> None:
    async def scenario() -> None:
        async with farm(tmp_path) as site:
            await site.add_node("127.0.0.2")
            budget = site.dispatcher._budget
            budget.limit_bytes = 8000
            with pytest.raises((GoneError, OSError)):
                await site.job(b"x" * 8000)
            # The request fits, its answer with the statement does not.
            answer = await site.job(b"x" * 7500)
            assert answer.status == FAILED
            assert b"more than 8000 bytes of messages are under way" in answer.stderr
            assert (await site.job(b"x")).status == 0
            assert budget.held_bytes == 0

    asyncio.run(scenario())


def test_evidence_that_expires_ends_a_node(tmp_path: pathlib.Path) -> None:
    async def scenario() -> None:
        async with farm(tmp_path, wait_limit_s=0.1, watch=False) as site:
            await site.add_node("127.0.0.2")
            assert (await site.job(b"x")).status == 0
            site.shift_s = 61
            assert (await site.job(b"y")).status == FAILED

    asyncio.run(scenario())


def test_without_the_authority_no_node_counts(tmp_path: pathlib.Path) -> None:
    async def scenario() -> None:
        async with farm(tmp_path, wait_limit_s=0.1) as site:
            await site.add_node("127.0.0.2")
            site.authority.stop()
            for _ in range(100):
                if not site.roster.addresses:
                    break
                await asyncio.sleep(0.02)
            assert (await site.job(b"x")).status == FAILED
            assert any("authority.unreachable" in line for line in site.said)

    asyncio.run(scenario())


def test_a_certificate_that_is_renewed_between_jobs(tmp_path: pathlib.Path) -> None:
    async def scenario() -> None:
        async with farm(tmp_path, wait_limit_s=0.1, watch=False) as site:
            node = await site.add_node("127.0.0.2")
            assert (await site.job(b"x")).status == 0
            node.guest.renew(int(site.now_s()))
            await node.keeper.refresh()
            # The authority accepted the new one, and the dispatcher has not heard of that yet.
            site.authority.peers = [node.guest.listed(int(site.now_s()))]
            assert (await site.job(b"y")).status == 0
            assert len(node.compiled) == 2

    asyncio.run(scenario())


def test_a_certificate_that_nobody_has_accepted_yet(tmp_path: pathlib.Path) -> None:
    """The node is judged anew before its turn, instead of being taken for a liar."""

    async def scenario() -> None:
        async with farm(tmp_path, wait_limit_s=0.1, watch=False) as site:
            node = await site.add_node("127.0.0.2")
            assert (await site.job(b"x")).status == 0
            node.guest.renew(int(site.now_s()))
            await node.keeper.refresh()

            def judged() -> None:
                site.authority.peers = [node.guest.listed(int(site.now_s()))]

            site.authority.on_ask = judged
            assert (await site.job(b"y")).status == 0
            assert site.authority.asked.count("ask") == 1
            assert len(node.compiled) == 2

    asyncio.run(scenario())


def test_a_lost_node_is_judged_before_its_turn(tmp_path: pathlib.Path) -> None:
    async def scenario() -> None:
        async with farm(tmp_path) as site:
            asked = asyncio.Event()
            site.authority.on_ask = asked.set
            await site.add_node("127.0.0.2", backend=("127.0.0.2", 1))
            await site.add_node("127.0.0.3")
            assert (await site.job(b"x")).status == 0
            assert any("127.0.0.2 was lost" in line for line in site.said)
            await asyncio.wait_for(asked.wait(), 10)

    asyncio.run(scenario())


# --- clients --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "said",
    [
        encode_request(("gcc",), b"x").replace(b"DIST00000001", b"DIST00000003"),
        encode_request(("gcc",), b"x", bytes(32)),
        b"GET / HTTP/1.1\r\n\r\n",
        encode_request(("gcc",), b"x") + b"more",
    ],
    ids=["pump", "a nonce", "http", "more"],
)
def test_what_is_no_plain_request_ends_the_connection(tmp_path: pathlib.Path, said: bytes) -> None:
    async def scenario() -> None:
        async with farm(tmp_path) as site:
            node = await site.add_node("127.0.0.2")
            reader, writer = await asyncio.open_connection("127.0.0.1", site.port)
            writer.write(said)
            with pytest.raises(GoneError):
                await read_answer(reader, unlimited(), notarised=False)
            writer.close()
            assert node.compiled == []
            assert any("a client was refused" in line for line in site.said)

    asyncio.run(scenario())


def test_a_client_that_hangs_up_frees_its_slot(tmp_path: pathlib.Path) -> None:
    async def scenario() -> None:
        reached, go_on = threading.Event(), threading.Event()

        def slow(request: DistccRequest) -> DistccAnswer:
            reached.set()
            go_on.wait(10)
            return compile_by_hash(request)

        async with farm(tmp_path, slots=1) as site:
            await site.add_node("127.0.0.2", compile_job=slow)
            _, writer = await asyncio.open_connection("127.0.0.1", site.port)
            writer.write(encode_request(("gcc",), b"x"))
            await asyncio.to_thread(reached.wait, 10)
            writer.transport.abort()
            go_on.set()
            assert (await site.job(b"y")).status == 0

    asyncio.run(scenario())


def test_connections_are_bounded(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dispatch_module, "MAX_CONNECTIONS", 1)
    monkeypatch.setattr(node_module, "MAX_CONNECTIONS", 1)

    async def scenario() -> None:
        async with farm(tmp_path) as site:
            await site.add_node("127.0.0.2")
            _, held = await asyncio.open_connection("127.0.0.1", site.port)
            await asyncio.sleep(0.05)
            with pytest.raises((GoneError, OSError)):
                await site.job(b"x")
            held.close()
            await asyncio.sleep(0.05)
            assert (await site.job(b"x")).status == 0

    asyncio.run(scenario())
