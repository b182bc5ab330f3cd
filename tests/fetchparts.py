# SPDX-License-Identifier: GPL-3.0-or-later
"""A guest with a service that says what a test wants, and the VM verifier's server in front of it, on the loopback."""

from __future__ import annotations

import contextlib
import pathlib
import select
import socket
import struct
import threading
import time
from collections.abc import Callable
from typing import Any, cast

from ansible.module_utils.vouch.daemon.evidence import EvidenceMaker
from ansible.module_utils.vouch.daemon.fetch import Fetcher
from ansible.module_utils.vouch.daemon.guests import Guests
from ansible.module_utils.vouch.daemon.papers import HostPapers
from ansible.module_utils.vouch.daemon.server import Server
from ansible.module_utils.vouch.make.guestpackage import sign_guest_package
from ansible.module_utils.vouch.make.sign import generate_private_key
from ansible.module_utils.vouch.model.grant import Network, Service
from ansible.module_utils.vouch.model.gueststate import GuestRecord
from ansible.module_utils.vouch.model.package import package_id

from channelparts import RECORD
from guestparts import Guest
from serverparts import Maker, NoGuests
from verifier_harness import PlainClient

WAIT_S = 10.0
NO_LINGER = struct.pack("ii", 1, 0)
"""``close`` resets the connection (socket(7), SO_LINGER)."""

Talk = Callable[["GuestService", socket.socket], None]


class GuestService:
    """A guest's TCP service: one behaviour for every connection, ended by ``close``.

    Attributes:
        port: Where it listens.
        heard: What somebody sent to it.
        met: How many connections there were.
        gone: Set when the other side closed a connection that waits.
    """

    def __init__(self, talk: Talk, address: str = "::1", port: int = 0) -> None:
        self._talk = talk
        self.heard = b""
        self.met = 0
        self.gone = threading.Event()
        self.go = threading.Event()
        self._listener = socket.create_server((address, port), family=socket.AF_INET6)
        self.port: int = self._listener.getsockname()[1]
        threading.Thread(target=self._serve, daemon=True).start()

    def close(self) -> None:
        """Listen no more, and let whoever waits go on."""
        self.go.set()
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()

    def _serve(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            self.met += 1
            threading.Thread(target=self._answer, args=(connection,), daemon=True).start()

    def _answer(self, connection: socket.socket) -> None:
        with connection, contextlib.suppress(OSError):
            self._talk(self, connection)
            if select.select([connection], [], [], 0)[0]:
                self.heard += connection.recv(100)


def says(content: bytes) -> Talk:
    """Say that, and close."""
    return lambda service, connection: connection.sendall(content)


def endless(service: GuestService, connection: socket.socket) -> None:
    """Say something for ever."""
    while not service.go.is_set():
        connection.sendall(b"x" * 65536)


def silent(service: GuestService, connection: socket.socket) -> None:
    """Say a little, then nothing until ``go``; notice when the other side leaves."""
    connection.sendall(b"begin ")
    while not service.go.is_set():
        if select.select([connection], [], [], 0.02)[0]:
            service.heard += (data := connection.recv(100))
            if not data:
                service.gone.set()
                return
    connection.sendall(b"end")


def resets(service: GuestService, connection: socket.socket) -> None:
    """Say a little, and reset the connection."""
    connection.sendall(b"begin ")
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, NO_LINGER)


class FetchHost:
    """A server whose guest ``web`` is at ``::1``; its clock can be put forward.

    Attributes:
        records: What is known of the guests.
        skew_s: Seconds that the server's clock is ahead.
        path: The server's socket.
    """

    def __init__(self, folder: pathlib.Path, *services: tuple[str, int], card: str = "lo") -> None:
        declared = tuple(Service(protocol=kind, port=port, reason="it is read") for kind, port in services)
        self.envelope = sign_guest_package(Guest().package(network=Network(services=declared)), generate_private_key())
        self.record = RECORD._replace(package=package_id(self.envelope), channel=RECORD.channel._replace(address="::1"))
        self.records: dict[str, GuestRecord] = {"web": self.record}
        self.skew_s = 0.0
        self.path = folder / "verifier.sock"
        self.maker = Maker()
        listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        listener.bind(str(self.path))
        listener.listen()
        fetcher = Fetcher(lambda guest: self.records.get(guest), self._package, self._now_s, lambda record: card)
        self.server = Server(
            listener,
            cast("EvidenceMaker", self.maker),
            cast("Guests", NoGuests()),
            monotonic_s=self._now_s,
            papers=HostPapers(str(folder / "papers")),
            fetcher=fetcher,
        )
        self._thread = threading.Thread(target=self.server.serve, daemon=True)
        self._thread.start()

    def connect(self) -> PlainClient:
        """Return a connection to the socket."""
        return PlainClient(str(self.path))

    def ask(self, **members: Any) -> dict[str, Any]:
        """Ask on a connection of its own; return the answer."""
        with self.connect() as client:
            client.send(id="1", **members)
            return client.answer()

    def fetch(self, port: int, guest: str = "web") -> dict[str, Any]:
        """Return the answer to ``guest.fetch``."""
        return self.ask(request="guest.fetch", guest=guest, port=port)

    def refusal(self, port: int, guest: str = "web") -> str:
        """Return the code that a fetch is refused by."""
        code: str = self.fetch(port, guest)["error"]["code"]
        return code

    def close(self) -> None:
        """Drain the server, without waiting for guests."""
        self.server.drain()
        # Wakes it; what waits for a guest is given up.
        with contextlib.suppress(OSError):
            self.connect().close()
        self.skew_s += 1000
        self._thread.join(timeout=WAIT_S)
        assert not self._thread.is_alive()

    def _now_s(self) -> float:
        return time.monotonic() + self.skew_s

    def _package(self, digest: bytes) -> bytes:
        assert digest == package_id(self.envelope)
        return self.envelope
