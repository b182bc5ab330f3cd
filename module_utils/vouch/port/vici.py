# SPDX-License-Identifier: GPL-3.0-or-later
"""A client of charon, strongSwan's IKE daemon, over its Unix socket.

One connection, one command at a time. Whatever goes wrong on the stream closes it: the next command connects anew.

    packet    4 bytes of length, big-endian; one byte of type; for named types a name; a message

Source: strongSwan, src/libcharon/plugins/vici/README.md ("Transport protocol", "Packet layer").
"""

from __future__ import annotations

import socket
import time
from collections.abc import Mapping
from types import TracebackType
from typing import NamedTuple

from ..errors import ParseError, UnreachableError, shown
from ..parse.cursor import Cursor
from ..parse.vici import (
    MAX_MESSAGE_BYTES,
    Found,
    Given,
    encode_message,
    encode_name,
    parse_message,
    read_name,
    text_of,
)

SOCKET = "/run/charon.vici"
TIMEOUT_S = 10.0
"""For a whole command, its events included; charon answers within milliseconds unless it has to reach a peer."""

MAX_EVENTS = 4096
HEADER_BYTES = 4

CMD_REQUEST, CMD_RESPONSE, CMD_UNKNOWN, EVENT_REGISTER, EVENT_UNREGISTER, EVENT_CONFIRM, EVENT_UNKNOWN, EVENT = range(8)
_NAMED = frozenset({CMD_REQUEST, EVENT_REGISTER, EVENT_UNREGISTER, EVENT})


class Packet(NamedTuple):
    """One packet: its type, its name where the type has one, its message."""

    kind: int
    name: str
    message: dict[str, Found]


class Answer(NamedTuple):
    """What a command led to: the answer, and the events that came before it."""

    message: dict[str, Found]
    events: tuple[dict[str, Found], ...]


def read_packet(data: bytes) -> Packet:
    """Return the packet of one byte sequence.

    Raises:
        ParseError: for another type than those that charon sends, and as ``parse.vici.parse_message``.
    """
    cursor = Cursor(data, limit_bytes=MAX_MESSAGE_BYTES, what="vici")
    kind = cursor.u8("type")
    if kind > EVENT:
        raise cursor.fail("type", f"{kind} is not known")
    name = read_name(cursor) if kind in _NAMED else ""
    return Packet(kind, name, parse_message(cursor.take(cursor.remaining, "message")))


class Vici:
    """Commands to charon.

    Args:
        path: Its socket.
        timeout_s: How long one command may take.

    Raises:
        UnreachableError: by ``ask``: ``vici.connect``, ``vici.lost``, ``vici.timeout``, ``vici.answer`` for what is
            not the protocol, ``vici.unknown`` for a command that this charon does not have, ``vici.refused`` with
            charon's words.
    """

    def __init__(self, path: str = SOCKET, *, timeout_s: float = TIMEOUT_S) -> None:
        self._path, self._timeout_s = path, timeout_s
        self._socket: socket.socket | None = None

    def __enter__(self) -> Vici:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the connection."""
        if self._socket is not None:
            self._socket.close()
            self._socket = None

    def check(self) -> None:
        """Return when charon still holds this connection, or takes another; costs it nothing.

        Raises:
            UnreachableError: ``vici.lost``, ``vici.connect``.
        """
        stream = self._connected(time.monotonic() + self._timeout_s)
        try:
            stream.settimeout(0)
            # Between two commands charon sends nothing, so there is nothing to read but the end.
            if stream.recv(1, socket.MSG_PEEK):
                return
        except BlockingIOError:
            return
        except OSError as error:
            self.close()
            raise UnreachableError(f"the connection to charon broke: {error.strerror}", code="vici.lost") from None
        self.close()
        raise UnreachableError("charon closed the connection", code="vici.lost")

    def ask(
        self,
        command: str,
        message: Mapping[str, Given] | None = None,
        *,
        event: str = "",
        timeout_s: float | None = None,
    ) -> Answer:
        """Return the answer to one command, and the ``event`` messages that it streams.

        A command that charon says it could not do is an error, not an answer.
        """
        until_s = time.monotonic() + (self._timeout_s if timeout_s is None else timeout_s)
        request = bytes([CMD_REQUEST]) + encode_name(command) + encode_message(message or {})
        try:
            stream = self._connected(until_s)
            if event:
                self._subscribe(stream, EVENT_REGISTER, event, until_s)
            _send(stream, request, until_s)
            answer = self._answer(stream, command, until_s)
            if event:
                self._subscribe(stream, EVENT_UNREGISTER, event, until_s)
        except TimeoutError:
            self.close()
            raise UnreachableError(f"charon did not answer {command} in time", code="vici.timeout") from None
        except OSError as error:
            self.close()
            raise UnreachableError(f"the connection to charon broke: {error.strerror}", code="vici.lost") from None
        except ParseError as error:
            self.close()
            raise UnreachableError(f"charon does not speak VICI: {shown(error)}", code="vici.answer") from None
        except UnreachableError:
            self.close()
            raise
        if text_of(answer.message.get("success")) == "no":
            why = shown(text_of(answer.message.get("errmsg")) or "no reason given")
            raise UnreachableError(f"charon refused {command}: {why}", code="vici.refused")
        return answer

    def _connected(self, until_s: float) -> socket.socket:
        if self._socket is None:
            stream = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
            stream.settimeout(_left(until_s))
            try:
                stream.connect(self._path)
            except OSError as error:
                stream.close()
                raise UnreachableError(f"{self._path}: {error}", code="vici.connect") from None
            self._socket = stream
        return self._socket

    def _subscribe(self, stream: socket.socket, kind: int, event: str, until_s: float) -> None:
        _send(stream, bytes([kind]) + encode_name(event), until_s)
        while True:
            packet = read_packet(_receive(stream, until_s))
            if packet.kind == EVENT_CONFIRM:
                return
            if packet.kind != EVENT:
                raise UnreachableError(f"charon has no event {event}", code="vici.unknown")

    def _answer(self, stream: socket.socket, command: str, until_s: float) -> Answer:
        events: list[dict[str, Found]] = []
        while True:
            packet = read_packet(_receive(stream, until_s))
            if packet.kind == CMD_RESPONSE:
                return Answer(packet.message, tuple(events))
            if packet.kind == CMD_UNKNOWN:
                raise UnreachableError(f"charon has no command {command}: a plugin is missing", code="vici.unknown")
            if packet.kind != EVENT or len(events) >= MAX_EVENTS:
                raise UnreachableError(f"charon's answer to {command} is no answer", code="vici.answer")
            events.append(packet.message)


def _left(until_s: float) -> float:
    left = until_s - time.monotonic()
    if left <= 0:
        raise TimeoutError
    return left


def _send(stream: socket.socket, packet: bytes, until_s: float) -> None:
    stream.settimeout(_left(until_s))
    stream.sendall(len(packet).to_bytes(HEADER_BYTES, "big") + packet)


def _receive(stream: socket.socket, until_s: float) -> bytes:
    length = int.from_bytes(_exactly(stream, HEADER_BYTES, until_s), "big")
    if not 0 < length <= MAX_MESSAGE_BYTES:
        raise ParseError("vici.length", 0, f"{length} bytes, allowed are 1 to {MAX_MESSAGE_BYTES}")
    return _exactly(stream, length, until_s)


def _exactly(stream: socket.socket, count: int, until_s: float) -> bytes:
    parts = bytearray()
    while len(parts) < count:
        stream.settimeout(_left(until_s))
        part = stream.recv(count - len(parts))
        if not part:
            raise UnreachableError("charon closed the connection", code="vici.lost")
        parts += part
    return bytes(parts)
