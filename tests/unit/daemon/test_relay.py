# SPDX-License-Identifier: GPL-3.0-or-later
"""The relay: bytes pass unchanged, ends are passed on, an unreachable verifier is said."""

from __future__ import annotations

import os
import pathlib
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator

import pytest

from verifier_harness import ROOT

RELAY = ROOT / "module_utils" / "vouch" / "daemon" / "relay.py"
# As dom0 starts it, with another socket.
RUN = "import sys; sys.path.insert(0, sys.argv[1]); import relay; sys.exit(relay.main(sys.argv[2]))"


def start(path: pathlib.Path) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [sys.executable, "-I", "-S", "-E", "-c", RUN, str(RELAY.parent), str(path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )


@pytest.fixture
def listener(tmp_path: pathlib.Path) -> Iterator[socket.socket]:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as listener:
        listener.bind(str(tmp_path / "sock"))
        listener.listen()
        listener.settimeout(30)
        yield listener


def test_bytes_pass_both_ways_and_the_end_too(listener: socket.socket, tmp_path: pathlib.Path) -> None:
    there, back = os.urandom(3_000_000), os.urandom(5_000_000)
    process = start(tmp_path / "sock")
    connection, _ = listener.accept()
    arrived = bytearray()

    def service() -> None:
        while data := connection.recv(65536):
            arrived.extend(data)
        # The end of the client's input came through; the answer still has to reach it.
        connection.sendall(back)
        connection.close()

    thread = threading.Thread(target=service)
    thread.start()
    found, errors = process.communicate(there, timeout=60)
    thread.join()
    assert (process.returncode, errors) == (0, b"")
    assert bytes(arrived) == there
    assert found == back


def test_it_ends_when_the_service_hangs_up(listener: socket.socket, tmp_path: pathlib.Path) -> None:
    process = start(tmp_path / "sock")
    connection, _ = listener.accept()
    connection.sendall(b"last words")
    connection.close()
    assert process.stdout is not None
    assert process.stdout.read() == b"last words"
    assert process.wait(timeout=30) == 0
    process.communicate()


def test_it_ends_when_nobody_takes_the_answers(listener: socket.socket, tmp_path: pathlib.Path) -> None:
    process = start(tmp_path / "sock")
    connection, _ = listener.accept()
    assert process.stdout is not None
    process.stdout.close()
    connection.settimeout(30)
    try:
        for _ in range(100):
            connection.sendall(b"x" * 65536)
    except (BrokenPipeError, ConnectionResetError):
        pass
    assert process.wait(timeout=30) == 0
    connection.close()
    assert process.stdin is not None
    process.stdin.close()
    assert process.stderr is not None
    process.stderr.close()


def test_an_unreachable_verifier_is_said(tmp_path: pathlib.Path) -> None:
    process = start(tmp_path / "nobody")
    found, errors = process.communicate(b"", timeout=30)
    assert process.returncode == 69
    assert found == b""
    assert errors.startswith(b"vouch: the VM verifier is not reachable")


def test_it_imports_next_to_nothing() -> None:
    """It runs once per connection; each of these would cost more than the relay itself."""
    code = "import sys; sys.path.insert(0, sys.argv[1]); import relay; print(' '.join(sorted(sys.modules)))"
    done = subprocess.run(
        [sys.executable, "-I", "-S", "-E", "-c", code, str(RELAY.parent)], capture_output=True, text=True, check=True
    )
    loaded = set(done.stdout.split())
    assert not loaded & {"socket", "typing", "re", "enum", "json", "selectors", "subprocess", "threading", "logging"}
