# SPDX-License-Identifier: GPL-3.0-or-later
"""Guests ask on their cards: known by where they come in, bounded, and told nothing that is not theirs.

Real sockets; which domain a connection comes from is said by the test in the place of the interface.
"""

from __future__ import annotations

import json
import pathlib
import socket
import threading
import time
from collections.abc import Iterator
from typing import Any, cast

import pytest
from ansible.module_utils.vouch.daemon.channels import HostChannels
from ansible.module_utils.vouch.daemon.evidence import EvidenceMaker
from ansible.module_utils.vouch.daemon.guestport import GuestPort, domain_of, listen
from ansible.module_utils.vouch.daemon.guests import Guests
from ansible.module_utils.vouch.daemon.papers import HostPapers
from ansible.module_utils.vouch.daemon.revoke import Revoker
from ansible.module_utils.vouch.daemon.server import MAX_GUEST_CONNECTIONS, Server
from ansible.module_utils.vouch.errors import UnreachableError
from ansible.module_utils.vouch.parse.fields import encode_base64
from ansible.module_utils.vouch.port.libcrypto import Libcrypto

from channelparts import HOST_ID, KEY, NOW_S, RECORD
from serverparts import Maker, NoGuests, no_fetcher


class Host:
    """A server whose guest port is on the loopback."""

    def __init__(self, folder: pathlib.Path) -> None:
        self.domain = 7
        self.told: list[str] = []
        self.authority = socket.socket(socket.AF_INET6, socket.SOCK_STREAM)
        self.authority.bind(("::1", 0))
        self.authority.listen()
        papers = HostPapers(str(folder / "papers"))
        revoker = Revoker(time.monotonic, self.told.append, port=self.authority.getsockname()[1])
        self.channels = HostChannels(
            host_id=HOST_ID,
            records=lambda: (RECORD,),
            papers=papers,
            read_package=lambda digest: b"package",
            make_key=Libcrypto().generate_key,
            now_s=lambda: NOW_S,
            send=revoker.send,
        )
        listener = listen(0)
        self.address = ("::1", listener.getsockname()[1])
        self.port = GuestPort(self.channels, revoker, listener, lambda peer: self.domain)
        door = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        door.bind(str(folder / "socket"))
        door.listen()
        self.ssh = str(folder / "socket")
        self.server = Server(
            door,
            cast("EvidenceMaker", Maker()),
            cast("Guests", NoGuests()),
            monotonic_s=time.monotonic,
            papers=papers,
            fetcher=no_fetcher(),
            port=self.port,
        )
        self.thread = threading.Thread(target=self.server.serve, daemon=True)
        self.thread.start()

    def connect(self) -> socket.socket:
        """Return a connection of the guest."""
        return socket.create_connection(self.address, timeout=10)

    def close(self) -> None:
        self.server.drain()
        self.thread.join(timeout=10)
        self.authority.close()
        assert not self.thread.is_alive()


@pytest.fixture
def host(tmp_path: pathlib.Path) -> Iterator[Host]:
    host = Host(tmp_path)
    yield host
    host.close()


def ask(connection: socket.socket, request: str, **members: Any) -> dict[str, Any]:
    """Ask, and return the answer."""
    body = json.dumps(
        {"version": 1, "id": "1", "request": request, **members}, sort_keys=True, separators=(",", ":")
    ).encode()
    connection.sendall(len(body).to_bytes(4, "big") + body)
    return read(connection)


def read(connection: socket.socket) -> dict[str, Any]:
    """Return the next frame."""
    stream = connection.makefile("rb")
    size = int.from_bytes(stream.read(4), "big")
    found = json.loads(stream.read(size))
    assert isinstance(found, dict)
    return found


def test_a_guest_asks_who_it_is_and_is_certified(host: Host) -> None:
    with host.connect() as guest:
        papers = ask(guest, "papers")["result"]
        assert (papers["guest"], papers["host_id"]) == ("web", HOST_ID)
        certified = ask(guest, "certify", key=encode_base64(KEY))
        assert certified["ok"]
        evidence = ask(guest, "evidence", nonce="00" * 32, pcrs=[0], ima_offset=0, notify="fd00::1")
        assert evidence["ok"]
        (stated,) = host.channels.stated()
        assert stated.channel.told == ("fd00::1",)
        assert ask(guest, "certify", key=encode_base64(b"x"))["error"]["code"] == "channel.key"


@pytest.mark.parametrize(
    "request_",
    [
        *("guest.list", "guest.order", "guest.challenge", "guest.fetch"),
        *("host.order", "host.status", "host.papers", "watch", "none"),
    ],
)
def test_a_guest_is_told_nothing_else(host: Host, request_: str) -> None:
    with host.connect() as guest:
        assert ask(guest, request_)["error"]["code"] == "request.unknown"


def test_the_controller_does_not_ask_as_a_guest(host: Host) -> None:
    with socket.socket(socket.AF_UNIX) as controller:
        controller.connect(host.ssh)
        for request in ("papers", "certify"):
            assert ask(controller, request)["error"]["code"] == "request.unknown"
        notify = ask(controller, "evidence", nonce="00" * 32, pcrs=[0], ima_offset=0, notify="")
        assert notify["error"]["code"] == "request.field"
        assert set(ask(controller, "host.papers.status")["result"]["papers"].values()) == {""}


@pytest.mark.parametrize("notify", [1, "x", "fd00::1 ", "::1%eth0", "f" * 60])
def test_whom_to_tell_is_an_address(host: Host, notify: Any) -> None:
    with host.connect() as guest:
        answer = ask(guest, "evidence", nonce="00" * 32, pcrs=[0], ima_offset=0, notify=notify)
    assert answer["error"]["code"] == "request.field"


def test_who_is_no_guest_is_not_answered(host: Host) -> None:
    for domain in (0, 8):
        host.domain = domain
        with host.connect() as stranger:
            stranger.settimeout(5)
            assert stranger.recv(1) == b""


def test_a_guest_has_few_connections(host: Host) -> None:
    guests = [host.connect() for _ in range(MAX_GUEST_CONNECTIONS)]
    for guest in guests:
        assert ask(guest, "hello")["ok"]
    with host.connect() as another:
        another.settimeout(5)
        assert another.recv(1) == b""
    guests.pop().close()
    until_s = time.monotonic() + 5
    while time.monotonic() < until_s:
        with host.connect() as another:
            another.settimeout(5)
            try:
                if ask(another, "hello")["ok"]:
                    break
            except (AssertionError, OSError, ValueError):
                time.sleep(0.05)
    else:
        pytest.fail("the place of a closed connection is not free")
    for guest in guests:
        guest.close()


def test_peers_are_told_at_once(host: Host) -> None:
    with host.connect() as guest:
        ask(guest, "certify", key=encode_base64(KEY))
        ask(guest, "evidence", nonce="00" * 32, pcrs=[0], ima_offset=0, notify="::1")
        host.channels.ended("web", "guest.violation")
    host.authority.settimeout(5)
    connection, _ = host.authority.accept()
    with connection:
        connection.settimeout(5)
        told = read(connection)
    assert (told["request"], set(told)) == ("revoke", {"version", "id", "request", "notice", "signature"})
    assert host.told == []


def test_a_peer_that_does_not_answer_is_given_up(host: Host) -> None:
    host.authority.close()
    with host.connect() as guest:
        ask(guest, "certify", key=encode_base64(KEY))
        ask(guest, "evidence", nonce="00" * 32, pcrs=[0], ima_offset=0, notify="::1")
        host.channels.ended("web", "guest.stop")
        until_s = time.monotonic() + 15
        while not host.told and time.monotonic() < until_s:
            assert ask(guest, "hello")["ok"], "nobody waits for it"
            time.sleep(0.1)
    assert host.told == ["::1 is not told of the end of a channel: it does not answer"]


def test_an_interface_says_which_domain() -> None:
    assert domain_of(("fe80::1", 1, 0, 0)) == 0
    assert domain_of(("::1", 1, 0, socket.if_nametoindex("lo"))) == 0
    assert domain_of(("fe80::1", 1, 0, 999_999)) == 0


def test_a_port_that_is_taken_is_said() -> None:
    with socket.socket(socket.AF_INET6) as taken:
        taken.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        taken.bind(("::", 0))
        taken.listen()
        with pytest.raises(UnreachableError) as caught:
            listen(taken.getsockname()[1])
    assert caught.value.code == "port.listen"
