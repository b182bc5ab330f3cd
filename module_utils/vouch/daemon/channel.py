# SPDX-License-Identifier: GPL-3.0-or-later
"""Messages between the processes of the VM verifier: canonical JSON objects in frames over a socket pair.

A process believes the other one no more than it has to: whatever is no message costs the sender its channel, and what
that means is the receiver's to decide. Nothing here waits but ``receive``.

    offset  size  field
    0       4     length of the body, big-endian, 1 .. MAX_MESSAGE_BYTES
    4       n     body: one canonical JSON object
"""

from __future__ import annotations

import select
import socket
from collections.abc import Mapping
from typing import Any

from ..errors import ParseError, VouchError
from ..parse.canonical import dump_canonical, load_canonical
from ..parse.frame import FrameReader, encode_frame

MAX_MESSAGE_BYTES = 256 * 1024
MAX_WAITING_BYTES = 4 * 1024 * 1024
"""Messages that the other side has not taken; a process that takes none is lost."""

MAX_DEPTH = 8
RECEIVE_BYTES = 64 * 1024
LOST = "channel.lost"


class Channel:
    """One end of a socket pair.

    Raises:
        VouchError: ``channel.lost``: the other side is gone, sent something that is no message, or takes nothing.
    """

    __slots__ = ("_out", "_reader", "_socket")

    def __init__(self, end: socket.socket) -> None:
        end.setblocking(False)
        self._socket = end
        self._reader = FrameReader(limit_bytes=MAX_MESSAGE_BYTES)
        self._out = bytearray()

    def fileno(self) -> int:
        """Return the descriptor to wait for."""
        return self._socket.fileno()

    @property
    def sending(self) -> bool:
        """Whether something waits until the other side takes it."""
        return bool(self._out)

    def close(self) -> None:
        """End it."""
        self._socket.close()

    def send(self, message: Mapping[str, Any]) -> None:
        """Queue a message and send what can be sent."""
        self._out += encode_frame(dump_canonical(message), limit_bytes=MAX_MESSAGE_BYTES)
        if len(self._out) > MAX_WAITING_BYTES:
            raise _lost("the other side takes no messages")
        self.flush()

    def flush(self) -> None:
        """Send what can be sent."""
        while self._out:
            try:
                sent = self._socket.send(self._out)
            except BlockingIOError:
                return
            except OSError as error:
                raise _lost(error.strerror or "closed") from None
            del self._out[:sent]

    def pull(self) -> list[dict[str, Any]]:
        """Return the whole messages that are there, after one look at the socket."""
        try:
            data = self._socket.recv(RECEIVE_BYTES)
        except BlockingIOError:
            return []
        except OSError as error:
            raise _lost(error.strerror or "closed") from None
        if not data:
            raise _lost("closed")
        self._reader.feed(data)
        messages = []
        while (message := self._next()) is not None:
            messages.append(message)
        return messages

    def receive(self, timeout_s: float | None = None) -> list[dict[str, Any]]:
        """Wait until something can be read or sent, at most ``timeout_s``; return the messages that came."""
        poller = select.poll()
        poller.register(self._socket, select.POLLIN | (select.POLLOUT if self._out else 0))
        for _, events in poller.poll(None if timeout_s is None else max(0.0, timeout_s) * 1000):
            if events & select.POLLOUT:
                self.flush()
            if events & ~select.POLLOUT:
                return self.pull()
        return []

    def _next(self) -> dict[str, Any] | None:
        try:
            body = self._reader.next_body()
            if body is None:
                return None
            message = load_canonical(body, limit_bytes=MAX_MESSAGE_BYTES, max_depth=MAX_DEPTH)
        except ParseError as error:
            raise _lost(str(error)) from None
        if not isinstance(message, dict):
            raise _lost("sent something that is no object")
        return message


def pair() -> tuple[socket.socket, socket.socket]:
    """Return two connected ends that no program we start inherits."""
    return socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)


def _lost(why: str) -> VouchError:
    return VouchError(f"a process of the VM verifier is lost: {why}", code=LOST)
