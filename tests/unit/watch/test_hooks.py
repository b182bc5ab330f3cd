# SPDX-License-Identifier: GPL-3.0-or-later
"""Hooks: what they are told, and how they may fail."""

from __future__ import annotations

import http.server
import json
import pathlib
import threading
from collections.abc import Iterator
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
        thread = threading.Thread(target=server.serve_forever)
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
