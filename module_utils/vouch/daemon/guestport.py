# SPDX-License-Identifier: GPL-3.0-or-later
"""Where guests ask their host: a TCP port on dom0's end of each card, and nowhere else.

A guest is known by the card that its connection comes in by, which is the interface of its link-local address; nothing
that it says of itself is looked at. The firewall lets nobody else reach the port, and whoever does is not answered.

Source: docs/channels.md, "The guest's way to its host"; RFC 4007, 11 (scope of an address).
"""

from __future__ import annotations

import re
import select
import socket
from collections.abc import Callable, Iterator

from ..errors import UnreachableError, VouchError
from .channels import HostChannels
from .exchange import EvidenceRequest, encode_error
from .revoke import Revoker

PORT = 4461
BACKLOG = 64
_CARD = re.compile(r"vif(\d{1,5})\.0\Z")

Identify = Callable[[tuple[str, int, int, int]], int]
"""From the address of a peer (``socket.getpeername``) to the number of its domain, 0 for none."""


def domain_of(peer: tuple[str, int, int, int]) -> int:
    """Return the domain that a link-local peer is, by the interface it is on."""
    try:
        card = _CARD.match(socket.if_indextoname(peer[3])) if peer[3] else None
    except OSError:
        return 0
    return int(card[1]) if card is not None else 0


class GuestPort:
    """The listener, and what tells peers.

    Args:
        channels: Of the guests.
        revoker: Tells peers.
        listener: Bound and listening; see ``listen``.
        identify: Says which domain a peer is.
    """

    __slots__ = ("_epoll", "_identify", "_listener", "_revoker", "channels")

    def __init__(
        self,
        channels: HostChannels,
        revoker: Revoker,
        listener: socket.socket,
        identify: Identify = domain_of,
    ) -> None:
        self.channels, self._revoker = channels, revoker
        self._listener, self._identify = listener, identify
        self._epoll: select.epoll | None = None

    def attach(self, epoll: select.epoll) -> None:
        """Wait in that loop from now on."""
        self._epoll = epoll
        self._listener.setblocking(False)
        epoll.register(self._listener.fileno(), select.EPOLLIN)
        self._revoker.attach(epoll)

    def owns(self, fd: int) -> bool:
        """Say whether that descriptor is ours."""
        return self.is_listener(fd) or self._revoker.owns(fd)

    def is_listener(self, fd: int) -> bool:
        """Say whether guests knock there."""
        return fd == self._listener.fileno()

    def accept(self) -> Iterator[tuple[socket.socket, str]]:
        """Yield each new connection and the id of its guest; others are closed."""
        while True:
            try:
                connection, peer = self._listener.accept()
            except OSError:
                return
            connection.setblocking(False)
            domain_id = self._identify(peer)
            record = self.channels.guest_of(domain_id) if domain_id else None
            if record is None:
                connection.close()
            else:
                yield connection, record.id

    def refused(self, guest: str, request: EvidenceRequest) -> Callable[[], bytes] | None:
        """Note whom a guest wants told of its end; return the answer where that cannot be."""
        try:
            if request.notify:
                self.channels.tell(guest, request.notify)
        except VouchError as problem:
            code, message = problem.code, problem.message
            return lambda: encode_error(request.id, code, message)
        return None

    def handle(self, fd: int, events: int) -> None:
        """Go on with a connection to a peer."""
        if self._revoker.owns(fd):
            self._revoker.handle(fd, events)

    def tick(self) -> None:
        """Do what is due; about once a second."""
        self._revoker.tick()

    def stop_listening(self) -> None:
        """Let nobody in any more."""
        if self._epoll is not None:
            self._epoll.unregister(self._listener.fileno())

    def close(self) -> None:
        """End all of it."""
        self._revoker.close()
        self._listener.close()


def listen(port: int) -> socket.socket:
    """Return a listening socket on every interface; the firewall says which of them it can be reached by.

    Raises:
        UnreachableError: ``port.listen``.
    """
    listener = socket.socket(socket.AF_INET6, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        listener.bind(("::", port))
        listener.listen(BACKLOG)
    except OSError as error:
        listener.close()
        raise UnreachableError(f"TCP port {port}: {error.strerror}", code="port.listen") from None
    return listener
