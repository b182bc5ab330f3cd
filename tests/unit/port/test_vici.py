# SPDX-License-Identifier: GPL-3.0-or-later
"""The client of charon: against a real one, and against servers that break the protocol."""

from __future__ import annotations

import pathlib
import socket
import threading
from collections.abc import Iterator

import pytest
from ansible.module_utils.vouch.errors import ParseError, UnreachableError
from ansible.module_utils.vouch.parse.vici import text_of
from ansible.module_utils.vouch.port.vici import Vici, read_packet

from netns_harness import Charon, charon_in, namespace


@pytest.fixture(scope="module")
def charon(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Charon]:
    with namespace("vici") as space, charon_in(space, tmp_path_factory.mktemp("charon")) as daemon:
        yield daemon


def test_a_real_charon_answers(charon: Charon) -> None:
    with Vici(str(charon.socket)) as vici:
        answer = vici.ask("version")
        assert text_of(answer.message["version"]).startswith(("5.", "6."))
        assert answer.events == ()
        plugins = vici.ask("stats").message["plugins"]
        assert isinstance(plugins, list)
        assert b"vici" in plugins


def test_a_connection_is_loaded_listed_and_unloaded(charon: Charon) -> None:
    connection = {
        "version": "2",
        "local_addrs": ["::1"],
        "remote_addrs": ["fd00::1"],
        "local": {"auth": "pubkey", "id": "@a.example"},
        "remote": {"auth": "pubkey", "id": "@b.example"},
        "children": {"esp": {"mode": "transport"}},
    }
    with Vici(str(charon.socket)) as vici:
        vici.ask("load-conn", {"peer": connection})
        (event,) = vici.ask("list-conns", event="list-conn").events
        assert event["peer"]["remote_addrs"] == [b"fd00::1"]  # type: ignore[index, call-overload]
        vici.ask("unload-conn", {"name": "peer"})
        assert vici.ask("list-conns", event="list-conn").events == ()
        with pytest.raises(UnreachableError) as caught:
            vici.ask("unload-conn", {"name": "peer"})
        assert caught.value.code == "vici.refused"
        # What charon refuses leaves the connection as it is.
        assert vici.ask("version").message


def test_what_a_real_charon_does_not_have(charon: Charon) -> None:
    with Vici(str(charon.socket)) as vici:
        for command, event in (("make-coffee", ""), ("version", "no-such-event")):
            with pytest.raises(UnreachableError) as caught:
                vici.ask(command, event=event)
            assert caught.value.code == "vici.unknown"
        assert vici.ask("version").message
        vici.check()
        assert vici.ask("version").message


def test_no_charon(tmp_path: pathlib.Path) -> None:
    with pytest.raises(UnreachableError) as caught:
        Vici(str(tmp_path / "none")).ask("version")
    assert caught.value.code == "vici.connect"


@pytest.mark.parametrize(
    ("said", "code"),
    [
        (b"", "vici.lost"),
        (b"\x00\x00\x00\x05\x01", "vici.lost"),
        (b"\x00\x00\x00\x00", "vici.answer"),
        (b"\xff\xff\xff\xff", "vici.answer"),
        (b"\x00\x00\x00\x01\x09", "vici.answer"),
        (b"\x00\x00\x00\x02\x01\x07", "vici.answer"),
        (b"\x00\x00\x00\x01\x05", "vici.answer"),
        (b"\x00\x00\x00\x03\x07\x01a" * 5000, "vici.answer"),
        (b"\x00\x00\x00\x01\x02", "vici.unknown"),
    ],
)
def test_who_breaks_the_protocol_is_left(tmp_path: pathlib.Path, said: bytes, code: str) -> None:
    path = str(tmp_path / "charon.vici")
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(path)
        server.listen()

        def answer() -> None:
            connection, _ = server.accept()
            with connection:
                connection.recv(1000)
                try:
                    connection.sendall(said)
                except OSError:
                    return

        thread = threading.Thread(target=answer)
        thread.start()
        with pytest.raises(UnreachableError) as caught:
            Vici(path, timeout_s=5).ask("version")
        thread.join()
    assert caught.value.code == code


def test_who_is_silent_is_left_in_time(tmp_path: pathlib.Path) -> None:
    path = str(tmp_path / "charon.vici")
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(path)
        server.listen()
        with pytest.raises(UnreachableError) as caught:
            Vici(path, timeout_s=0.1).ask("version")
    assert caught.value.code == "vici.timeout"


def test_a_connection_that_is_held_breaks_with_charon(tmp_path: pathlib.Path) -> None:
    path = str(tmp_path / "charon.vici")
    with Vici(path) as vici:
        with socket.socket(socket.AF_UNIX) as server:
            server.bind(path)
            server.listen()
            vici.check()
            held, _ = server.accept()
            for _ in range(3):
                vici.check()
            server.setblocking(False)
            # The same connection, on which nothing is asked.
            with pytest.raises(BlockingIOError):
                server.accept()
            with held:
                held.setblocking(False)
                with pytest.raises(BlockingIOError):
                    held.recv(1)
        codes = []
        for _ in range(2):
            with pytest.raises(UnreachableError) as caught:
                vici.check()
            codes.append(caught.value.code)
    assert codes == ["vici.lost", "vici.connect"]


def test_a_packet_without_its_name() -> None:
    with pytest.raises(ParseError):
        read_packet(b"\x07")
