# SPDX-License-Identifier: GPL-3.0-or-later
"""The image store gives out its files and nothing else; its process is found again."""

from __future__ import annotations

import http.client
import pathlib
import socket
import threading
from collections.abc import Iterator

import pytest
from ansible.module_utils.vouch.errors import UnreachableError, UsageError
from ansible.module_utils.vouch.lab.httpstore import StoreServer, resolve
from ansible.module_utils.vouch.lab.storecontrol import StoreProcess, StoreSpec

BLOB = bytes(range(256)) * 1000


@pytest.fixture
def folder(tmp_path: pathlib.Path) -> pathlib.Path:
    store = tmp_path / "store"
    (store / "sha256").mkdir(parents=True)
    (store / "sha256/aa").write_bytes(BLOB)
    (store / "empty").touch()
    (tmp_path / "secret").write_text("secret")
    (store / "way-out").symlink_to(tmp_path / "secret")
    (store / "loop").symlink_to(store / "loop")
    return store


@pytest.fixture
def port(folder: pathlib.Path) -> Iterator[int]:
    with StoreServer(folder, 0) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.05,))
        thread.start()
        yield server.server_address[1]
        server.shutdown()
        thread.join(10)


def ask(port: int, method: str, target: str) -> tuple[int, bytes, http.client.HTTPResponse]:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    try:
        connection.request(method, target)
        answer = connection.getresponse()
        return answer.status, answer.read(), answer
    finally:
        connection.close()


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def test_file(port: int) -> None:
    assert ask(port, "GET", "/sha256/aa")[:2] == (200, BLOB)
    assert ask(port, "GET", "/empty")[:2] == (200, b"")


def test_head_tells_the_size_only(port: int) -> None:
    status, body, answer = ask(port, "HEAD", "/sha256/aa")
    assert (status, body, answer.getheader("Content-Length")) == (200, b"", str(len(BLOB)))


@pytest.mark.parametrize(
    "target", ["/", "/sha256", "/none", "/way-out", "/loop", "/../secret", "/%2e%2e/secret", "/%00", "/sha256/aa/x"]
)
def test_everything_else_is_missing(port: int, target: str) -> None:
    assert ask(port, "GET", target)[0] == 404


def test_nothing_is_taken_in(port: int) -> None:
    assert ask(port, "PUT", "/new")[0] == 501


def test_two_files_over_one_connection(port: int) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    for _ in range(2):
        connection.request("GET", "/sha256/aa")
        assert connection.getresponse().read() == BLOB
    connection.close()


def test_targets_that_are_no_paths(folder: pathlib.Path) -> None:
    for target in ("http://[", "//", "*", "/" + "a" * 5000, "\0"):
        assert resolve(folder.resolve(), target) is None


def test_process_life(tmp_path: pathlib.Path, folder: pathlib.Path) -> None:
    lab = tmp_path / "lab"
    store = StoreProcess(lab)
    spec = StoreSpec(folder=str(folder), port=free_port())
    try:
        assert store.start(spec)
        assert not store.start(spec)
        assert ask(spec.port, "GET", "/sha256/aa")[:2] == (200, BLOB)
        assert StoreProcess(lab).pid() == store.pid()
        other = StoreSpec(folder=str(tmp_path / "other"), port=spec.port)
        assert store.start(other)
        assert ask(spec.port, "GET", "/sha256/aa")[0] == 404
    finally:
        assert store.remove()
    assert store.pid() is None
    assert not (lab / "store").exists()
    assert not store.remove()


def test_port_that_is_taken(tmp_path: pathlib.Path, folder: pathlib.Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        spec = StoreSpec(folder=str(folder), port=taken.getsockname()[1])
        store = StoreProcess(tmp_path / "lab")
        with pytest.raises(UnreachableError) as failed:
            store.start(spec)
    assert failed.value.code == "lab.start"
    assert "in use" in str(failed.value)
    assert store.pid() is None


def test_refused_settings() -> None:
    with pytest.raises(UsageError):
        StoreSpec(folder="relative", port=1)
    with pytest.raises(UsageError):
        StoreSpec(folder="/x", port=0)
