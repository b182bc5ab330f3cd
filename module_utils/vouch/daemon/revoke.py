# SPDX-License-Identifier: GPL-3.0-or-later
"""Telling peers that a guest's channel is over: sockets that never make the service wait.

Each address gets a connection of its own to its port authority, one frame, and a few seconds. What does not arrive is
tried again twice; a peer that cannot be reached finds out by its next question.

Source: docs/channels.md, "Revocation".
"""

from __future__ import annotations

import select
import socket
from collections.abc import Callable
from typing import NamedTuple

from ..parse.canonical import dump_canonical
from ..parse.fields import encode_base64
from ..parse.frame import MAX_REQUEST_BYTES, encode_frame
from .channels import Notice

PORT = 4460
TRY_S = 1.0
TRIES = 3
MAX_UNDER_WAY = 512
"""Connections; those of a guest with all its peers, eight times."""


class Try(NamedTuple):
    """One address being told."""

    connection: socket.socket
    address: str
    frame: memoryview
    until_s: float
    tries: int


class Revoker:
    """Sends notices from the service's own loop.

    Args:
        monotonic_s: Seconds that never go backwards.
        say: Told of what did not arrive, one line each.
        port: TCP port of port authorities.
    """

    def __init__(self, monotonic_s: Callable[[], float], say: Callable[[str], None], *, port: int = PORT) -> None:
        self._monotonic_s, self._say, self._port = monotonic_s, say, port
        self._epoll: select.epoll | None = None
        self._tries: dict[int, Try] = {}

    def attach(self, epoll: select.epoll) -> None:
        """Wait for connections in that loop from now on."""
        self._epoll = epoll

    def send(self, notice: Notice) -> None:
        """Begin to tell everybody."""
        body = dump_canonical(
            {
                "version": 1,
                "id": "revoke",
                "request": "revoke",
                "notice": encode_base64(notice.statement),
                "signature": encode_base64(notice.signature),
            }
        )
        frame = encode_frame(body, limit_bytes=MAX_REQUEST_BYTES)
        for address in notice.addresses:
            self._begin(address, frame, 1)

    def owns(self, fd: int) -> bool:
        """Say whether that descriptor is ours."""
        return fd in self._tries

    def handle(self, fd: int, events: int) -> None:
        """Go on with a connection that is ready."""
        found = self._tries[fd]
        if events & (select.EPOLLERR | select.EPOLLHUP) and found.frame:
            # A guest that is just coming up refuses at once: it gets its time all the same.
            self._epoll_out(fd)
        elif events & select.EPOLLOUT and found.frame:
            try:
                sent = found.connection.send(found.frame)
            except BlockingIOError:
                return
            except OSError:
                self._epoll_out(fd)
                return
            self._tries[fd] = found._replace(frame=found.frame[sent:])
            if not self._tries[fd].frame and self._epoll is not None:
                # Its answer says that the notice was read, whatever it says.
                self._epoll.modify(fd, select.EPOLLIN)
        elif not found.frame:
            self._end(fd)

    def tick(self) -> None:
        """Give up what takes too long; about once a second."""
        now_s = self._monotonic_s()
        for fd in [fd for fd, found in self._tries.items() if now_s > found.until_s]:
            self._again(fd)

    def close(self) -> None:
        """End all of it."""
        for fd in list(self._tries):
            self._end(fd)

    def _epoll_out(self, fd: int) -> None:
        """Hear no more of a connection that failed, until it is tried again."""
        if self._epoll is not None:
            self._epoll.unregister(fd)

    def _begin(self, address: str, frame: bytes, tries: int) -> None:
        if self._epoll is None or len(self._tries) >= MAX_UNDER_WAY:
            self._say(f"{address} is not told of the end of a channel: {len(self._tries)} notices are under way")
            return
        connection = socket.socket(socket.AF_INET6, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
        connection.setblocking(False)
        try:
            connection.connect((address, self._port))
        except BlockingIOError:
            pass
        except OSError as error:
            self._say(f"{address} is not told of the end of a channel: {error.strerror}")
            connection.close()
            return
        until_s = self._monotonic_s() + TRY_S
        self._tries[connection.fileno()] = Try(connection, address, memoryview(frame), until_s, tries)
        self._epoll.register(connection.fileno(), select.EPOLLOUT)

    def _again(self, fd: int) -> None:
        found = self._tries[fd]
        self._end(fd)
        if found.tries < TRIES:
            self._begin(found.address, bytes(found.frame.obj), found.tries + 1)
        else:
            self._say(f"{found.address} is not told of the end of a channel: it does not answer")

    def _end(self, fd: int) -> None:
        # Closing takes the descriptor out of the epoll set.
        self._tries.pop(fd).connection.close()
