# SPDX-License-Identifier: GPL-3.0-or-later
"""One connection of the VM verifier's socket: requests in their order, what waits to be sent, when it is too long."""

from __future__ import annotations

import socket
from collections import deque
from collections.abc import Callable
from select import EPOLLIN

from .exchange import EvidenceRequest, Exchange, Request

MAX_PIPELINED = 64
"""Requests of one connection that wait for their answers; more stay in its socket."""

IDLE_LIMIT_S = 300.0
"""Silence between requests."""


class Slot:
    """One request's place in its connection's order; ``render`` is set when the answer can be made."""

    __slots__ = ("pcrs", "render", "request")

    def __init__(self, request: Request) -> None:
        self.request = request
        self.pcrs = request.pcrs if isinstance(request, EvidenceRequest) else ()
        self.render: Callable[[], bytes] | None = None


class Client:
    """One connection."""

    __slots__ = (
        *("deadline_s", "eof", "events", "exchange", "guest", "out", "out_bytes", "pushed", "slots", "socket"),
        *("watch", "watch_id"),
    )

    def __init__(self, connection: socket.socket, now_s: float, guest: str = "") -> None:
        self.socket = connection
        # Id of the guest whose card this came in by; "" for a client over SSH.
        self.guest = guest
        self.exchange = Exchange(guest=bool(guest))
        self.slots: deque[Slot] = deque()
        self.out = memoryview(b"")
        self.out_bytes = 0
        self.eof = False
        self.deadline_s = now_s + IDLE_LIMIT_S
        self.events = EPOLLIN
        # A client that watches asks nothing more: its events wait here.
        self.watch = 0
        self.watch_id = ""
        self.pushed: deque[bytes] = deque()

    @property
    def full(self) -> bool:
        """Whether as many requests wait as may: a guest that wants many proofs waits for each."""
        return len(self.slots) >= (1 if self.guest else MAX_PIPELINED)


def send(connection: socket.socket, data: memoryview | bytes) -> int:
    """Return how many bytes were taken, or -1 when nobody takes them any more."""
    try:
        return connection.send(data)
    except BlockingIOError:
        return 0
    except OSError:
        return -1
