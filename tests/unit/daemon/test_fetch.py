# SPDX-License-Identifier: GPL-3.0-or-later
"""What guests made is read to its end, whatever they do, and the service answers everybody else meanwhile.

Real sockets; the guest is at ``::1``, behind the loopback in the place of its card.
"""

from __future__ import annotations

import base64
import contextlib
import os
import pathlib
import socket
import time
from collections.abc import Callable, Iterator

import pytest
from ansible.module_utils.vouch.daemon.fetch import CONNECT_LIMIT_S, FETCH_LIMIT_S, tcp_services
from ansible.module_utils.vouch.errors import ParseError
from ansible.module_utils.vouch.model.gueststate import NO_CHANNEL
from ansible.module_utils.vouch.parse.frame import MAX_FETCHED_BYTES

from fetchparts import FetchHost, GuestService, Talk, endless, resets, says, silent
from verifier_harness import PlainClient

LIMIT_S = 10.0
Make = Callable[[Talk], tuple[FetchHost, GuestService]]


@pytest.fixture
def make(tmp_path: pathlib.Path) -> Iterator[Make]:
    """Return what makes a host whose guest declares one service that behaves so."""
    with contextlib.ExitStack() as stack:

        def made(talk: Talk) -> tuple[FetchHost, GuestService]:
            service = GuestService(talk)
            host = FetchHost(tmp_path, ("tcp", service.port))
            stack.callback(host.close)
            stack.callback(service.close)
            return host, service

        yield made


def wait_until(condition: Callable[[], object]) -> None:
    until_s = time.monotonic() + LIMIT_S
    while not condition():
        assert time.monotonic() < until_s
        time.sleep(0.02)


def begin(host: FetchHost, service: GuestService) -> PlainClient:
    """Ask, and return when the guest was met and the host knows: what answers twice has looked in between."""
    client = host.connect()
    client.send(id="1", request="guest.fetch", guest="web", port=service.port)
    wait_until(lambda: service.met)
    for _ in range(2):
        assert host.ask(request="hello")["ok"]
    return client


@pytest.mark.parametrize(
    "content",
    [b"", b"x", bytes(range(256)) * 1000, b'{"error": "none"}\r\n\0', os.urandom(MAX_FETCHED_BYTES)],
    ids=["empty", "one", "any bytes", "text", "largest"],
)
def test_what_a_guest_says_comes_as_it_is(make: Make, content: bytes) -> None:
    host, service = make(says(content))
    answer = host.fetch(service.port)
    assert set(answer["result"]) == {"content"}
    assert base64.b64decode(answer["result"]["content"]) == content
    assert service.heard == b""
    assert base64.b64decode(host.fetch(service.port)["result"]["content"]) == content, "and once more"


def test_a_guest_that_says_too_much(make: Make) -> None:
    host, service = make(says(bytes(MAX_FETCHED_BYTES + 1)))
    assert host.refusal(service.port) == "fetch.size"


def test_a_guest_that_does_not_stop_stops_nobody(make: Make) -> None:
    host, service = make(endless)
    with begin(host, service) as client:
        assert host.ask(request="hello")["ok"]
        assert client.answer()["error"]["code"] == "fetch.size"


def test_a_guest_that_falls_silent_is_given_up(make: Make) -> None:
    host, service = make(silent)
    with begin(host, service) as client:
        host.skew_s += CONNECT_LIMIT_S + 5
        time.sleep(1.5)
        assert host.ask(request="hello")["ok"]
        assert not service.gone.is_set(), "it has more time once it was reached"
        host.skew_s += FETCH_LIMIT_S
        assert client.answer()["error"]["code"] == "fetch.time"
    assert service.gone.wait(LIMIT_S)
    assert service.heard == b"", "nothing was sent to it"


def test_a_guest_that_resets(make: Make) -> None:
    host, service = make(resets)
    assert host.refusal(service.port) == "fetch.unreachable"


def test_nobody_listens(make: Make) -> None:
    host, service = make(silent)
    service.close()
    assert host.refusal(service.port) == "fetch.unreachable"


def test_a_guest_that_does_not_take_connections(tmp_path: pathlib.Path) -> None:
    with contextlib.ExitStack() as stack:
        full = stack.enter_context(socket.socket(socket.AF_INET6, socket.SOCK_STREAM))
        full.bind(("::1", 0))
        full.listen(0)
        # The kernel answers nobody while its queue is full.
        stack.enter_context(socket.create_connection(full.getsockname()[:2], timeout=5))
        host = FetchHost(tmp_path, ("tcp", full.getsockname()[1]))
        stack.callback(host.close)
        with host.connect() as client:
            client.send(id="1", request="guest.fetch", guest="web", port=full.getsockname()[1])
            time.sleep(0.5)
            assert host.refusal(full.getsockname()[1]) == "fetch.busy"
            host.skew_s += CONNECT_LIMIT_S + 1
            assert client.answer()["error"]["code"] == "fetch.unreachable"


def test_the_way_is_the_guests_card(tmp_path: pathlib.Path) -> None:
    service = GuestService(says(b"from elsewhere"))
    host = FetchHost(tmp_path, ("tcp", service.port), card="vif7.0")
    try:
        assert host.refusal(service.port) == "fetch.unreachable"
        assert service.met == 0
    finally:
        host.close()
        service.close()


def test_what_cannot_be_fetched_from(make: Make) -> None:
    host, service = make(says(b"x"))
    assert host.refusal(service.port, "other") == "guest.unknown"
    assert host.refusal(service.port % 65535 + 1) == "fetch.service"
    host.records["web"] = host.record._replace(channel=NO_CHANNEL)
    assert host.refusal(service.port) == "fetch.service"
    violated = {"state": "violated", "verdict": "violated", "violations": ("guest.gone",)}
    for change in ({"state": "paused"}, {"state": "starting"}, violated):
        host.records["web"] = host.record._replace(**change)
        assert host.refusal(service.port) == "fetch.state"
    assert service.met == 0


def test_a_service_of_another_protocol(tmp_path: pathlib.Path) -> None:
    host = FetchHost(tmp_path, ("udp", 3632), ("tcp", 4000))
    try:
        assert host.refusal(3632) == "fetch.service"
        assert tcp_services(host.envelope) == {4000}
    finally:
        host.close()


@pytest.mark.parametrize("envelope", [b"", b"{}", b'{"payload":"e30="}', b'{"payload":"W10="}'])
def test_a_package_that_is_none(envelope: bytes) -> None:
    with pytest.raises(ParseError):
        tcp_services(envelope)


def test_one_at_a_time(make: Make) -> None:
    host, service = make(silent)
    with begin(host, service) as client:
        assert host.refusal(service.port) == "fetch.busy"
        client.send(id="2", request="guest.fetch", guest="web", port=service.port)
        service.go.set()
        assert base64.b64decode(client.answer()["result"]["content"]) == b"begin end"
        assert client.answer()["error"]["code"] == "fetch.busy"
        client.send(id="3", request="guest.fetch", guest="web", port=service.port)
        assert client.answer()["ok"]


def test_who_leaves_is_waited_for_no_longer(make: Make) -> None:
    host, service = make(silent)
    begin(host, service).close()
    assert service.gone.wait(LIMIT_S)
    service.go.set()
    assert host.fetch(service.port)["ok"]


def test_what_nobody_takes_is_held_once(make: Make) -> None:
    """One who reads nothing has the host hold one answer; the next fetch waits until it is taken or he is dropped."""
    host, service = make(says(b"x"))
    host.maker.answer_chars = 16 << 20
    with host.connect() as client:
        client.ask_evidence(bytes(32), ident="1")
        client.send(id="2", request="guest.fetch", guest="web", port=service.port)
        wait_until(lambda: service.met)
        time.sleep(0.3)
        assert host.refusal(service.port) == "fetch.busy"
        assert client.answer()["ok"]
        assert client.answer()["ok"]
        assert host.fetch(service.port)["ok"]
        client.ask_evidence(bytes(32), ident="3")
        client.send(id="4", request="guest.fetch", guest="web", port=service.port)
        wait_until(lambda: service.met == 3)
        host.skew_s += 1000
        wait_until(lambda: host.fetch(service.port)["ok"])


@pytest.mark.parametrize("how", ["gone", "violated", "started anew"])
def test_the_end_of_the_guest_is_the_end_of_the_fetch(make: Make, how: str) -> None:
    host, service = make(silent)
    with begin(host, service) as client:
        if how == "gone":
            del host.records["web"]
        elif how == "violated":
            host.records["web"] = host.record._replace(state="violated")
        else:
            host.records["web"] = host.record._replace(domain_id=8, counter=6)
        assert client.answer()["error"]["code"] == "fetch.state"
    assert service.gone.wait(LIMIT_S)


def test_what_a_violated_guest_said_last_is_not_handed_on(make: Make) -> None:
    host, service = make(silent)
    with begin(host, service) as client:
        time.sleep(0.1)
        host.records["web"] = host.record._replace(state="violated")
        service.go.set()
        assert client.answer()["error"]["code"] == "fetch.state"


def test_the_service_ends_without_waiting_for_a_guest(make: Make) -> None:
    host, service = make(silent)
    with begin(host, service) as client:
        host.server.drain()
        time.sleep(1.2)
        host.skew_s += 30
        assert client.closed()
    assert service.gone.wait(LIMIT_S)
