# SPDX-License-Identifier: GPL-3.0-or-later
"""Fetching what a guest made: one of its declared TCP services is read to its end, by the service's own loop.

Nothing is sent, and nothing that comes is looked at: bytes until the guest closes, bounded in number and time. The
socket is bound to dom0's end of the guest's card, so nobody else can be at the other end, whatever the routes say. One
fetch at a time for the host, from the request until its answer is on its way or its asker is gone; so what guests say
takes the memory of one answer, however many clients ask and take none.

Source: docs/proof.md, "The subsystem"; docs/guests.md, "Fetch what a guest made"; socket(7), SO_BINDTODEVICE.
"""

from __future__ import annotations

import contextlib
import os
import select
import socket
from collections.abc import Callable

from ..errors import UnreachableError, UsageError, VouchError
from ..model.gueststate import RUNNING, GuestRecord
from ..parse.canonical import load_json
from ..parse.fields import Fields, encode_base64
from ..parse.frame import MAX_FETCHED_BYTES
from .exchange import MAX_PORT
from .guests import Answer

CONNECT_LIMIT_S = 10.0
FETCH_LIMIT_S = 60.0
"""Altogether, from the request on."""

RECEIVE_BYTES = 64 * 1024

MAX_PACKAGE_BYTES, MAX_SERVICES = 4 << 20, 64
"""``model.package`` and ``model.grant`` say the same, but cost this service an import of ``dataclasses``."""

_OUT, _IN = select.EPOLLOUT, select.EPOLLIN


class Fetch:
    """The one that is under way; ``connection`` is None once it ended, while its answer waits to be taken."""

    __slots__ = ("answer", "began_s", "connected", "connection", "content", "port", "record", "wanted")

    def __init__(
        self, record: GuestRecord, port: int, began_s: float, answer: Answer, wanted: Callable[[], bool]
    ) -> None:
        self.record, self.port, self.began_s = record, port, began_s
        self.answer, self.wanted = answer, wanted
        self.connection: socket.socket | None = None
        self.connected = False
        self.content = bytearray()

    @property
    def place(self) -> str:
        """Guest and port, for a message."""
        return f"TCP port {self.port} of guest {self.record.id}"


class Fetcher:
    """Fetches from guests in the service's loop.

    Args:
        find: Returns what is known of a guest, None for nothing.
        read_package: Returns a signed package by its id; raises ``VouchError``.
        monotonic_s: Seconds that never go backwards.
        card_of: Returns dom0's end of a guest's card.

    Raises:
        VouchError: by ``begin``, ``guest.unknown``, ``fetch.busy``, ``fetch.state``, ``fetch.service``,
            ``fetch.unreachable``; told as answers are ``fetch.state``, ``fetch.unreachable``, ``fetch.time``,
            ``fetch.size``.

    Trust: what comes is a hostile guest's. It is counted, encoded, and handed on.
    """

    __slots__ = ("_card_of", "_epoll", "_find", "_monotonic_s", "_read_package", "_under_way")

    def __init__(
        self,
        find: Callable[[str], GuestRecord | None],
        read_package: Callable[[bytes], bytes],
        monotonic_s: Callable[[], float],
        card_of: Callable[[GuestRecord], str] = lambda record: f"vif{record.domain_id}.0",
    ) -> None:
        self._find, self._read_package, self._monotonic_s = find, read_package, monotonic_s
        self._card_of = card_of
        self._epoll: select.epoll | None = None
        self._under_way: Fetch | None = None

    def attach(self, epoll: select.epoll) -> None:
        """Wait for guests in that loop from now on."""
        self._epoll = epoll

    def begin(self, guest: str, port: int, answer: Answer, wanted: Callable[[], bool]) -> None:
        """Begin to read what a guest says there.

        Args:
            guest: Its id.
            port: TCP port of a service that its package declares.
            answer: Told once how it ended: ``content``, or a code.
            wanted: Says whether somebody still waits to be given the answer.
        """
        if self._epoll is None:
            raise UsageError("no loop to fetch in")
        before = self._under_way
        if before is not None and before.wanted():
            raise UnreachableError(f"another fetch is under way, from guest {before.record.id}", code="fetch.busy")
        self.close()
        record = self._running(guest)
        if not record.channel.address or port not in tcp_services(self._read_package(record.package)):
            raise UsageError(f"the package of guest {guest} declares no TCP service {port}", code="fetch.service")
        fetch = Fetch(record, port, self._monotonic_s(), answer, wanted)
        try:
            fetch.connection = connection = socket.socket(socket.AF_INET6, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
            connection.setblocking(False)
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, self._card_of(record).encode())
            with contextlib.suppress(BlockingIOError):
                connection.connect((record.channel.address, port))
        except OSError as error:
            _hang_up(fetch)
            raise _unreachable(fetch, error) from None
        self._epoll.register(connection.fileno(), _OUT)
        self._under_way = fetch

    def owns(self, fd: int) -> bool:
        """Say whether that descriptor is ours."""
        fetch = self._under_way
        return fetch is not None and fetch.connection is not None and fetch.connection.fileno() == fd

    def handle(self) -> None:
        """Go on with the connection, which is ready."""
        fetch = self._under_way
        if fetch is None or fetch.connection is None or self._epoll is None:
            return
        try:
            if not fetch.connected:
                self._connected(fetch, fetch.connection, self._epoll)
                return
            data = fetch.connection.recv(RECEIVE_BYTES)
        except BlockingIOError:
            return
        except OSError as error:
            self._fail(fetch, _unreachable(fetch, error))
            return
        if len(fetch.content) + len(data) > MAX_FETCHED_BYTES:
            problem = UnreachableError(f"{fetch.place} says more than {MAX_FETCHED_BYTES} bytes", code="fetch.size")
            self._fail(fetch, problem)
        elif data:
            fetch.content += data
        else:
            self._done(fetch)

    def tick(self) -> None:
        """Give up what takes too long, what nobody wants, and a guest that does not run; about once a second."""
        fetch = self._under_way
        if fetch is None:
            return
        if not fetch.wanted():
            self.close()
        elif fetch.connection is not None:
            try:
                self._require_time(fetch)
                self._require_same(fetch)
            except VouchError as problem:
                self._fail(fetch, problem)

    def close(self) -> None:
        """End what is under way, and tell nobody."""
        fetch, self._under_way = self._under_way, None
        if fetch is not None:
            _hang_up(fetch)

    def _connected(self, fetch: Fetch, connection: socket.socket, epoll: select.epoll) -> None:
        number = connection.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
        if number:
            raise OSError(number, os.strerror(number))
        fetch.connected = True
        epoll.modify(connection.fileno(), _IN)

    def _done(self, fetch: Fetch) -> None:
        """Answer with what came, if it is that guest's in good standing to the last byte."""
        try:
            self._require_same(fetch)
        except VouchError as problem:
            self._fail(fetch, problem)
            return
        _hang_up(fetch)
        content = encode_base64(bytes(fetch.content))
        fetch.content = bytearray()
        fetch.answer({"content": content}, "", "")

    def _fail(self, fetch: Fetch, problem: VouchError) -> None:
        self.close()
        fetch.answer(None, problem.code, problem.message)

    def _running(self, guest: str) -> GuestRecord:
        record = self._find(guest)
        if record is None:
            raise VouchError(f"there is no guest {guest}", code="guest.unknown")
        if record.state != RUNNING:
            raise UnreachableError(f"guest {guest} is {record.state}, not {RUNNING}", code="fetch.state")
        return record

    def _require_same(self, fetch: Fetch) -> None:
        """Return when the guest still runs, and was not started anew meanwhile."""
        began, now = fetch.record, self._find(fetch.record.id)
        if now is None or (now.state, now.domain_id, now.counter) != (RUNNING, began.domain_id, began.counter):
            raise UnreachableError(f"guest {began.id} did not run on until it was read", code="fetch.state")

    def _require_time(self, fetch: Fetch) -> None:
        passed_s = self._monotonic_s() - fetch.began_s
        if not fetch.connected and passed_s > CONNECT_LIMIT_S:
            raise UnreachableError(f"{fetch.place} does not answer", code="fetch.unreachable")
        if passed_s > FETCH_LIMIT_S:
            raise UnreachableError(f"{fetch.place} did not close within {FETCH_LIMIT_S:.0f} s", code="fetch.time")


def tcp_services(envelope: bytes) -> frozenset[int]:
    """Return the TCP ports that a signed package declares.

    Raises:
        ParseError: when it is no package.

    Trust: it is, by its digest, the package whose signature and content the keeper verified before the guest ran; so
        what is needed of it is read, and the rest left.
    """
    signed = Fields(load_json(envelope, limit_bytes=MAX_PACKAGE_BYTES), "package")
    payload = signed.blob("payload", limit_bytes=MAX_PACKAGE_BYTES)
    statement = Fields(load_json(payload, limit_bytes=MAX_PACKAGE_BYTES), "package")
    network = statement.object("predicate").object("network")
    services = [Fields(item, "package.service") for item in network.array("services", maximum=MAX_SERVICES)]
    found = [
        (item.choice("protocol", "tcp", "udp"), item.integer("port", minimum=1, maximum=MAX_PORT)) for item in services
    ]
    return frozenset(port for protocol, port in found if protocol == "tcp")


def _hang_up(fetch: Fetch) -> None:
    if fetch.connection is not None:
        # Closing takes the descriptor out of the epoll set.
        fetch.connection.close()
        fetch.connection = None


def _unreachable(fetch: Fetch, error: OSError) -> UnreachableError:
    return UnreachableError(f"{fetch.place}: {error.strerror}", code="fetch.unreachable")
