# SPDX-License-Identifier: GPL-3.0-or-later
"""The server's limits of time and memory, with a clock of our own and evidence without a TPM."""

from __future__ import annotations

import contextlib
import pathlib
import socket
from collections.abc import Callable, Iterator
from typing import cast

import pytest
from ansible.module_utils.vouch.daemon import server as server_module
from ansible.module_utils.vouch.daemon.client import MAX_PIPELINED
from ansible.module_utils.vouch.daemon.evidence import EvidenceMaker
from ansible.module_utils.vouch.daemon.guests import Guests
from ansible.module_utils.vouch.daemon.papers import HostPapers
from ansible.module_utils.vouch.daemon.server import Server
from ansible.module_utils.vouch.parse.canonical import dump_canonical
from ansible.module_utils.vouch.parse.frame import MAX_REQUEST_BYTES, encode_frame

from serverparts import Maker, NoGuests, no_fetcher
from verifier_harness import PlainClient


class Bench:
    """A server that is turned by hand."""

    def __init__(self, path: pathlib.Path) -> None:
        self.path = str(path)
        self.now_s = 1000.0
        self.maker, self.guests = Maker(), NoGuests()
        listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        listener.bind(self.path)
        listener.listen(300)
        self.server = Server(
            listener,
            cast("EvidenceMaker", self.maker),
            cast("Guests", self.guests),
            monotonic_s=lambda: self.now_s,
            papers=HostPapers(str(path.parent / "papers")),
            fetcher=no_fetcher(),
        )

    def turn(self, times: int = 4) -> None:
        for _ in range(times):
            # Nothing to wait for in these tests: what a client did has happened.
            self.server._turn()

    def pass_s(self, seconds: float) -> None:
        self.now_s += seconds
        self.turn(2)

    @property
    def clients(self) -> int:
        return len(self.server._clients)


@pytest.fixture
def bench(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Bench]:
    bench = Bench(tmp_path / "sock")
    poll: Callable[[float], bool] = bench.server._poll
    monkeypatch.setattr(bench.server, "_poll", lambda _: poll(0.0))
    yield bench
    bench.server.drain()
    bench.server.serve()


def ask_at_once(client: PlainClient, count: int) -> None:
    """Send numbered requests in one piece: a socket nobody reads takes few pieces, but a large one."""
    asked = {"version": 1, "request": "evidence", "nonce": "00" * 32, "pcrs": [0], "ima_offset": 0}
    bodies = [dump_canonical({**asked, "id": str(number)}) for number in range(count)]
    client.socket.sendall(b"".join(encode_frame(body, limit_bytes=MAX_REQUEST_BYTES) for body in bodies))


@pytest.fixture
def client(bench: Bench) -> Iterator[PlainClient]:
    with PlainClient(bench.path) as client:
        yield client


def test_silence_ends_a_connection(bench: Bench, client: PlainClient) -> None:
    client.send(id="1", request="hello")
    bench.turn()
    assert client.answer()["ok"]
    bench.pass_s(server_module.IDLE_LIMIT_S - 1)
    assert bench.clients == 1
    bench.pass_s(2)
    assert bench.clients == 0
    assert client.closed()


def test_a_request_that_begins_before_an_answer_has_no_longer_time(bench: Bench, client: PlainClient) -> None:
    hello = encode_frame(dump_canonical({"version": 1, "id": "1", "request": "hello"}), limit_bytes=MAX_REQUEST_BYTES)
    client.socket.sendall(hello + b"\0\0\1\0{")
    bench.turn()
    assert client.answer()["ok"]
    bench.pass_s(server_module.STALL_LIMIT_S - 1)
    assert bench.clients == 1
    bench.pass_s(2)
    assert bench.clients == 0


def test_a_request_that_never_ends_does_and_trickling_does_not_help(bench: Bench, client: PlainClient) -> None:
    client.socket.sendall(b"\0\0\1\0")
    bench.turn()
    for _ in range(3):
        client.socket.sendall(b"{")
        bench.pass_s(server_module.STALL_LIMIT_S / 3)
    assert bench.clients == 1
    client.socket.sendall(b"{")
    bench.pass_s(1)
    assert bench.clients == 0


def test_an_answer_that_nobody_takes_ends_the_connection(bench: Bench, client: PlainClient) -> None:
    bench.maker.answer_chars = 5_000_000
    client.ask_evidence(bytes(32))
    bench.turn()
    allowed_s = server_module.STALL_LIMIT_S + 5_000_000 / server_module.MIN_RATE_BYTES_S
    bench.pass_s(allowed_s - 1)
    assert bench.clients == 1
    bench.pass_s(3)
    assert bench.clients == 0
    assert bench.server._rendered_bytes == 0


def test_few_answers_are_rendered_at_once_and_everyone_gets_one(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server_module, "MAX_RENDERED_BYTES", 2_000_000)
    bench.maker.answer_chars = 1_500_000
    with contextlib.ExitStack() as stack:
        clients = [stack.enter_context(PlainClient(bench.path)) for _ in range(6)]
        for client in clients:
            client.ask_evidence(bytes(32))
        bench.turn()
        assert bench.maker.rendered == 2, "the third would be above the limit"
        for client in clients:
            client.socket.setblocking(False)
        received = [0] * len(clients)
        for _ in range(2000):
            bench.turn(1)
            for number, client in enumerate(clients):
                with contextlib.suppress(BlockingIOError):
                    received[number] += len(client.socket.recv(1 << 20))
            assert bench.server._rendered_bytes < 2 * 2_000_000
            if all(count > 1_500_000 for count in received):
                break
        assert all(count > 1_500_000 for count in received)
    assert bench.maker.rendered == 6


def test_one_connection_queues_few_requests_and_all_are_answered(bench: Bench, client: PlainClient) -> None:
    ask_at_once(client, 100)
    bench.turn(1)
    assert bench.server.proofs <= MAX_PIPELINED
    bench.turn(10)
    assert [client.answer()["id"] for _ in range(100)] == [str(number) for number in range(100)]


def test_a_round_never_exceeds_its_limit(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bench.server._waiting, "_limit", 10)
    with contextlib.ExitStack() as stack:
        clients = [stack.enter_context(PlainClient(bench.path)) for _ in range(8)]
        for client in clients:
            for number in range(5):
                client.ask_evidence(bytes(32), ident=str(number))
        bench.turn(12)
        sizes = [client.answer()["result"]["size"] for client in clients for _ in range(5)]
    assert max(sizes) <= 10
    assert bench.server.proofs == 40


def test_a_failed_round_answers_everyone_with_its_code(bench: Bench, client: PlainClient) -> None:
    bench.maker.broken = True
    client.ask_evidence(bytes(32), ident="1")
    client.send(id="2", request="hello")
    bench.turn()
    assert client.answer()["error"]["code"] == "tpm.lockout"
    assert client.answer()["ok"]
    bench.maker.broken = False
    client.ask_evidence(bytes(32), ident="3")
    bench.turn()
    assert client.answer()["ok"], "a TPM that recovers is used again"


def test_the_end_of_input_still_gets_its_answers(bench: Bench, client: PlainClient) -> None:
    ask_at_once(client, 100)
    client.socket.shutdown(socket.SHUT_WR)
    bench.turn(10)
    assert [client.answer()["id"] for _ in range(100)] == [str(number) for number in range(100)]
    assert client.closed()
    assert bench.clients == 0
