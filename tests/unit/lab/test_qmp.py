# SPDX-License-Identifier: GPL-3.0-or-later
"""The control socket's client against a scripted server."""

from __future__ import annotations

import json
import pathlib
import socket
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from ansible.module_utils.vouch.lab.qmp import QmpClient, QmpError

GREETING: dict[str, Any] = {"QMP": {"version": {}, "capabilities": []}}
Script = Callable[[str, dict[str, Any]], list[dict[str, Any]] | None]


@pytest.fixture
def serve(tmp_path: pathlib.Path) -> Iterator[Callable[..., pathlib.Path]]:
    """Return a function that serves one connection by a script: command -> messages, or None to hang up."""
    path = tmp_path / "qmp.sock"
    server = socket.socket(socket.AF_UNIX)
    threads = []

    def start(script: Script, greeting: bytes = json.dumps(GREETING).encode() + b"\n") -> pathlib.Path:
        server.bind(str(path))
        server.listen()

        def run() -> None:
            try:
                connection, _ = server.accept()
            except OSError:
                return
            with connection, connection.makefile("rwb") as stream:
                stream.write(greeting)
                stream.flush()
                for line in stream:
                    request = json.loads(line)
                    answers = script(request["execute"], request.get("arguments", {}))
                    if answers is None:
                        return
                    stream.write(b"".join(json.dumps(answer).encode() + b"\n" for answer in answers))
                    stream.flush()

        thread = threading.Thread(target=run)
        thread.start()
        threads.append(thread)
        return path

    yield start
    server.close()
    for thread in threads:
        thread.join(10)


def plain(command: str, arguments: dict[str, Any]) -> list[dict[str, Any]]:
    return [{"return": {"did": command, "with": arguments}}]


def test_request_and_answer(serve: Callable[..., pathlib.Path]) -> None:
    with QmpClient(serve(plain)) as qmp:
        assert qmp.execute("blockdev-del", node_name="medium") == {
            "did": "blockdev-del",
            "with": {"node-name": "medium"},
        }


def test_events_between(serve: Callable[..., pathlib.Path]) -> None:
    def script(command: str, arguments: dict[str, Any]) -> list[dict[str, Any]]:
        return [{"event": "RESET"}, {"return": {}}, {"event": "DEVICE_DELETED", "data": {"device": command}}]

    with QmpClient(serve(script)) as qmp:
        qmp.request("device_del")
        event = qmp.wait_event("DEVICE_DELETED", timeout_s=5)
        assert event is not None
        assert qmp.wait_event("RESET", timeout_s=5) is not None


def test_refusal_names_the_class(serve: Callable[..., pathlib.Path]) -> None:
    def script(command: str, arguments: dict[str, Any]) -> list[dict[str, Any]]:
        if command == "qmp_capabilities":
            return [{"return": {}}]
        return [{"error": {"class": "CommandNotFound", "desc": "no such command"}}]

    with QmpClient(serve(script)) as qmp, pytest.raises(QmpError, match="no such command") as failed:
        qmp.request("fly")
    assert failed.value.kind == "CommandNotFound"


def test_silence_ends(serve: Callable[..., pathlib.Path]) -> None:
    def script(command: str, arguments: dict[str, Any]) -> list[dict[str, Any]]:
        return [{"return": {}}] if command == "qmp_capabilities" else []

    with QmpClient(serve(script), timeout_s=0.2) as qmp:
        with pytest.raises(QmpError):
            qmp.request("stop")
        assert qmp.wait_event("STOP", timeout_s=0.1) is None


def test_hang_up(serve: Callable[..., pathlib.Path]) -> None:
    def script(command: str, arguments: dict[str, Any]) -> list[dict[str, Any]] | None:
        return [{"return": {}}] if command == "qmp_capabilities" else None

    with QmpClient(serve(script)) as qmp, pytest.raises(QmpError, match="closed"):
        qmp.request("quit")


@pytest.mark.parametrize("greeting", [b"hello\n", b"[]\n", b'{"VNC": 1}\n'], ids=["text", "list", "other"])
def test_something_else_listens(serve: Callable[..., pathlib.Path], greeting: bytes) -> None:
    path = serve(plain, greeting)
    with pytest.raises(QmpError), QmpClient(path, timeout_s=5):
        pass


def test_nobody_listens(tmp_path: pathlib.Path) -> None:
    with pytest.raises(QmpError), QmpClient(tmp_path / "none"):
        pass
