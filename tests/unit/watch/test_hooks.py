# SPDX-License-Identifier: GPL-3.0-or-later
"""Hooks: what they are told, and how they may fail."""

from __future__ import annotations

import contextlib
import dataclasses
import http.server
import itertools
import json
import pathlib
import socket
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from ansible.module_utils.vouch.errors import UnreachableError
from ansible.module_utils.vouch.watch.config import COMMAND, WEBHOOK, Hook
from ansible.module_utils.vouch.watch.hooks import call

EVENT = {"name": "h1", "kind": "state", "after": "failed", "reasons": ["boot.pcr4.unexpected"]}


class Receiver(http.server.ThreadingHTTPServer):
    """A webhook that answers with ``status`` and keeps what it got."""

    status = 200
    got: list[Any]


class Handler(http.server.BaseHTTPRequestHandler):
    server: Receiver

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.server.got.append(json.loads(body))
        self.send_response(self.server.status)
        if self.server.status == 302:
            self.send_header("Location", "/elsewhere")
        self.end_headers()

    def log_message(self, *_: Any) -> None:
        pass


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with Receiver(("127.0.0.1", 0), Handler) as server:
        server.got = []
        thread = threading.Thread(target=server.serve_forever, args=(0.05,))
        thread.start()
        yield server
        server.shutdown()
        thread.join()


def webhook(port: int, path: str = "/hook?token=secret") -> Hook:
    return Hook(kind=WEBHOOK, url=f"http://127.0.0.1:{port}{path}", argv=(), timeout_s=5)


def command(*argv: str, timeout_s: int = 5) -> Hook:
    return Hook(kind=COMMAND, url="", argv=argv, timeout_s=timeout_s)


def test_a_webhook_gets_the_event(receiver: Receiver) -> None:
    call(webhook(receiver.server_port), EVENT)
    assert receiver.got == [EVENT]


@pytest.mark.parametrize("status", [302, 404, 500])
def test_a_webhook_that_refuses(receiver: Receiver, status: int) -> None:
    receiver.status = status
    with pytest.raises(UnreachableError) as caught:
        call(webhook(receiver.server_port), EVENT)
    assert caught.value.code == "hook.webhook"
    assert str(status) in caught.value.message
    assert "secret" not in caught.value.message
    assert len(receiver.got) == 1, "nobody is followed elsewhere"


def test_a_webhook_that_is_not_there() -> None:
    with pytest.raises(UnreachableError) as caught:
        call(webhook(1), EVENT)
    assert caught.value.code == "hook.webhook"
    assert "secret" not in str(caught.value)


@pytest.fixture
def dripping() -> Iterator[Callable[[bytes], int]]:
    """Start a server that sends something byte by byte, slowly and for ever; gives its port."""
    ended = threading.Event()
    servers: list[socket.socket] = []
    threads: list[threading.Thread] = []

    def serve(server: socket.socket, text: bytes) -> None:
        with contextlib.suppress(OSError):
            peer, _ = server.accept()
            with peer:
                for at in itertools.count():
                    peer.sendall(text[at % len(text) :][:1])
                    if ended.wait(0.1):
                        return

    def start(text: bytes) -> int:
        server = socket.create_server(("127.0.0.1", 0))
        servers.append(server)
        threads.append(threading.Thread(target=serve, args=(server, text)))
        threads[-1].start()
        return int(server.getsockname()[1])

    yield start
    ended.set()
    for thread in threads:
        thread.join()
    for server in servers:
        server.close()


@pytest.mark.parametrize("text", [b"H", b"X-Header: y\r\n"])
@pytest.mark.parametrize("scheme", ["http", "https"])
def test_a_webhook_that_drips_is_given_up(dripping: Callable[[bytes], int], text: bytes, scheme: str) -> None:
    hook = dataclasses.replace(webhook(1), url=f"{scheme}://127.0.0.1:{dripping(text)}/", timeout_s=1)
    began_s = time.monotonic()
    with pytest.raises(UnreachableError) as caught:
        call(hook, EVENT)
    assert caught.value.code == "hook.webhook"
    assert time.monotonic() - began_s < 5


def test_a_webhook_that_drips_its_headers_after_a_good_word_is_given_up(dripping: Callable[[bytes], int]) -> None:
    text = b"HTTP/1.1 200 OK\r\n" + b"X-Header: y\r\n" * 1000
    with pytest.raises(UnreachableError, match="took over 3 s"):
        call(dataclasses.replace(webhook(dripping(text)), timeout_s=3), EVENT)


@pytest.mark.parametrize("answer", [b"nonsense\r\n\r\n", b"HTTP/1.1 abc\r\n\r\n", b"", b"\0" * 70_000])
def test_a_webhook_that_answers_nonsense(answer: bytes) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:

        def serve() -> None:
            peer, _ = server.accept()
            with peer, contextlib.suppress(OSError):
                peer.recv(65536)
                peer.sendall(answer)

        thread = threading.Thread(target=serve)
        thread.start()
        with pytest.raises(UnreachableError) as caught:
            call(webhook(server.getsockname()[1]), EVENT)
        thread.join()
    assert caught.value.code == "hook.webhook"
    assert len(caught.value.message) < 300


@pytest.mark.parametrize("url", ["http://:80/", "http://127.0.0.1:99999/", "http://127.0.0.1:x/", "http://[x/"])
def test_a_url_that_leads_nowhere(url: str) -> None:
    with pytest.raises(UnreachableError) as caught:
        call(dataclasses.replace(webhook(1), url=url), EVENT)
    assert caught.value.code == "hook.webhook"


def test_the_addresses_of_a_webhook_share_its_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """None of them takes the connection: the queue of each is full."""
    with contextlib.ExitStack() as stack:
        hosts = [f"127.0.0.{number}" for number in range(2, 6)]
        port = 0
        for host in hosts:
            full = stack.enter_context(socket.create_server((host, port), backlog=0))
            port = full.getsockname()[1]
            for _ in range(2):
                waiting = stack.enter_context(socket.socket())
                waiting.setblocking(False)
                waiting.connect_ex((host, port))
        found = [item for host in hosts for item in socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)]
        known = socket.getaddrinfo
        monkeypatch.setattr(
            socket, "getaddrinfo", lambda name, *rest, **named: found if name == "many" else known(name, *rest, **named)
        )
        began_s = time.monotonic()
        with pytest.raises(UnreachableError, match="over 1 s"):
            call(Hook(kind=WEBHOOK, url=f"http://many:{port}/", argv=(), timeout_s=1), EVENT)
        assert time.monotonic() - began_s < 2


def test_a_command_that_leaves_something_behind_holds_nobody_up() -> None:
    began_s = time.monotonic()
    call(command("/bin/sh", "-c", "sleep 20 >&2 & exit 0", timeout_s=10), EVENT)
    assert time.monotonic() - began_s < 5


def test_what_a_command_says_is_shortened_and_made_printable() -> None:
    noisy = "head -c 3000000 /dev/zero | tr '\\0' '\\033' >&2; exit 3"
    with pytest.raises(UnreachableError) as caught:
        call(command("/bin/sh", "-c", noisy), EVENT)
    assert len(caught.value.message) < 300
    assert caught.value.message.isprintable()


def test_a_command_gets_the_event_and_nothing_of_our_surroundings(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("VOUCH_SECRET", "x")
    target = tmp_path / "out"
    call(command("/bin/sh", "-c", f"cat > {target}; env > {target}.env"), EVENT)
    assert json.loads(target.read_text()) == EVENT
    assert "VOUCH_SECRET" not in (tmp_path / "out.env").read_text()


@pytest.mark.parametrize(
    ("hook", "word"),
    [
        (command("/bin/sh", "-c", "echo 'no \x1b[31mway' >&2; exit 3"), "ended with 3"),
        (command("/nowhere"), "No such file"),
        (command("/bin/sleep", "60", timeout_s=1), "over 1 s"),
    ],
)
def test_a_command_that_fails(hook: Hook, word: str) -> None:
    with pytest.raises(UnreachableError) as caught:
        call(hook, EVENT)
    assert caught.value.code == "hook.command"
    assert word in caught.value.message
    assert "\x1b" not in caught.value.message
