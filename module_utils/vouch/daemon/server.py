# SPDX-License-Identifier: GPL-3.0-or-later
"""The VM verifier's socket: connections, rounds, drain.

One thread. While the TPM quotes, the kernel keeps what arrives in the sockets' buffers; afterwards all of it is read
and shares the next quote. There is nothing to lock, and a slow TPM makes larger rounds instead of longer queues.

Everything a client can make us hold is bounded: connections, requests per connection, bytes of a request, answers
rendered but not taken, time. A client beyond a bound loses its own connection and nothing else.
"""

from __future__ import annotations

import os
import select
import socket
from collections.abc import Callable, Mapping
from typing import Any

from ..errors import VouchError
from .answers import Answers, refusal, rendered
from .batch import Waiting
from .client import IDLE_LIMIT_S, Client, Slot, send
from .evidence import EvidenceMaker, Round
from .exchange import EvidenceRequest, WatchRequest, encode_answer, encode_error
from .fetch import Fetcher
from .guestport import GuestPort
from .guests import Answer, Guests, Push
from .papers import HostPapers

MAX_CONNECTIONS = 256
MAX_GUEST_CONNECTIONS = 4
"""Of one guest."""

MAX_RENDERED_BYTES = 64 * 1024 * 1024
"""Answers in memory that their clients have not taken; one more is made only below this."""

MAX_GATHER_PASSES = 64
"""Looks at the sockets before a round begins although more keeps coming."""

MAX_PUSHED = 1024
"""Events that a watching client has not taken; one that takes none is dropped."""

STALL_LIMIT_S = 30.0
"""Time to send one request, or to take one answer (and more for a long one)."""

MIN_RATE_BYTES_S = 64 * 1024
"""A long answer has to be taken at least this fast."""

DRAIN_LIMIT_S = 20.0
RECEIVE_BYTES = 64 * 1024

_IN, _OUT, _GONE = select.EPOLLIN, select.EPOLLOUT, select.EPOLLHUP | select.EPOLLERR


class Server:
    """Serves ``listener`` until ``drain`` is called.

    Args:
        listener: A listening Unix socket, made by the caller.
        maker: Makes the evidence.
        guests: The host's guests.
        monotonic_s: Seconds that never go backwards.
        papers: What the host shows to strangers.
        fetcher: Reads what guests made.
        port: Where guests ask, and are told by; None on a host that starts none.
        wakeup_fd: Becomes readable when ``drain`` was called from a signal handler.
    """

    def __init__(
        self,
        listener: socket.socket,
        maker: EvidenceMaker,
        guests: Guests,
        *,
        monotonic_s: Callable[[], float],
        papers: HostPapers,
        fetcher: Fetcher,
        port: GuestPort | None = None,
        wakeup_fd: int = -1,
    ) -> None:
        self._listener = listener
        self._port = port
        self._fetcher = fetcher
        self._answers = Answers(maker, guests, papers, port, fetcher)
        self._maker = maker
        self._guests = guests
        self._keeper = (-1, 0)
        self._monotonic_s = monotonic_s
        self._wakeup_fd = wakeup_fd
        self._clients: dict[int, Client] = {}
        self._waiting: Waiting[Slot] = Waiting()
        # Clients whose next answer waits for room in MAX_RENDERED_BYTES, oldest first.
        self._held_back: dict[int, Client] = {}
        self._answered: list[Client] = []
        self._rendered_bytes = 0
        self._draining = False
        self._expired_at_s = 0.0
        self.rounds = 0
        self.proofs = 0
        self._epoll = select.epoll()
        listener.setblocking(False)
        self._epoll.register(listener.fileno(), _IN)
        fetcher.attach(self._epoll)
        if port is not None:
            port.attach(self._epoll)
        if wakeup_fd >= 0:
            self._epoll.register(wakeup_fd, _IN)

    def drain(self) -> None:
        """Ask ``serve`` to answer what it has and return. Safe in a signal handler."""
        self._draining = True

    def serve(self) -> None:
        """Return after ``drain``, when every request already here was answered or ``DRAIN_LIMIT_S`` are over."""
        try:
            while not self._draining:
                self._turn()
            self._stop_reading()
            until_s = self._monotonic_s() + DRAIN_LIMIT_S
            while self._clients and self._monotonic_s() < until_s:
                self._turn()
        finally:
            for client in list(self._clients.values()):
                self._drop(client)
            self._fetcher.close()
            self._guests.close()
            if self._port is not None:
                self._port.close()
            self._epoll.close()
            self._listener.close()

    def _turn(self) -> None:
        """Wait for something to happen; gather what is at the door; make at most one round."""
        self._await_keeper()
        passes = 0
        while self._poll(0.0 if len(self._waiting) else 1.0) and len(self._waiting):
            passes += 1
            if self._waiting.full or passes >= MAX_GATHER_PASSES:
                break
        if len(self._waiting):
            self._make_round()
        self._expire()

    def _poll(self, timeout_s: float) -> bool:
        """Handle what is ready; return whether anything arrived."""
        arrived = False
        for fd, events in self._epoll.poll(timeout_s):
            client = self._clients.get(fd)
            if client is not None:
                if events & _IN:
                    arrived = True
                    self._receive(client)
                elif events & _GONE:
                    self._drop(client)
                    continue
                self._advance(client)
            elif fd == self._keeper[0]:
                self._guests.pump()
                self._await_keeper()
            elif fd == self._wakeup_fd:
                os.read(fd, 4096)
            elif fd == self._listener.fileno() and not self._draining:
                arrived = True
                self._accept()
            elif self._fetcher.owns(fd):
                self._fetcher.handle()
            elif self._port is not None and self._port.owns(fd):
                arrived = True
                self._at_the_port(self._port, fd, events)
        while self._answered:
            client = self._answered.pop()
            if self._clients.get(client.socket.fileno()) is client:
                self._advance(client)
        while self._held_back and self._rendered_bytes < MAX_RENDERED_BYTES:
            self._advance(self._held_back.pop(next(iter(self._held_back))))
        return arrived

    def _await_keeper(self) -> None:
        """Listen to the keeper that there is now; a closed one has left the epoll set by itself."""
        wanted = (self._guests.fd, _IN | (_OUT if self._guests.sending else 0))
        if wanted == self._keeper:
            return
        if wanted[0] >= 0:
            change = self._epoll.modify if wanted[0] == self._keeper[0] else self._epoll.register
            try:
                change(*wanted)
            except FileExistsError:
                self._epoll.modify(*wanted)
            except FileNotFoundError:
                self._epoll.register(*wanted)
        self._keeper = wanted

    def _accept(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                # Nobody left at the door, or a client that went away again.
                return
            connection.setblocking(False)
            if len(self._clients) >= MAX_CONNECTIONS:
                send(connection, encode_error("", "verifier.busy", f"{MAX_CONNECTIONS} connections are open"))
                connection.close()
                continue
            fd = connection.fileno()
            self._clients[fd] = Client(connection, self._monotonic_s())
            self._epoll.register(fd, _IN)

    def _at_the_port(self, port: GuestPort, fd: int, events: int) -> None:
        """Let guests in, or go on with what tells them something."""
        if self._draining or not port.is_listener(fd):
            port.handle(fd, events)
            return
        for connection, guest in port.accept():
            own = sum(client.guest == guest for client in self._clients.values())
            if own >= MAX_GUEST_CONNECTIONS or len(self._clients) >= MAX_CONNECTIONS:
                connection.close()
                continue
            self._clients[connection.fileno()] = Client(connection, self._monotonic_s(), guest)
            self._epoll.register(connection.fileno(), _IN)

    def _stop_reading(self) -> None:
        """Begin the drain: what has arrived counts, what comes later does not."""
        self._epoll.unregister(self._listener.fileno())
        if self._port is not None:
            self._port.stop_listening()
        for client in list(self._clients.values()):
            self._receive(client)
            client.eof = True
            self._advance(client)

    def _receive(self, client: Client) -> None:
        """Read once."""
        if client.eof:
            return
        try:
            data = client.socket.recv(RECEIVE_BYTES)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if not data:
            client.eof = True
        elif not client.exchange.partial and not client.slots:
            # The first bytes of a request start its time; further ones do not prolong it.
            client.deadline_s = self._monotonic_s() + STALL_LIMIT_S
        client.exchange.receive(data)

    def _advance(self, client: Client) -> None:
        """Queue what was read, send what can be sent, and say what to wait for next."""
        fd = client.socket.fileno()
        progress = True
        while progress:
            progress = self._queue(client)
            if client.out:
                sent = send(client.socket, client.out)
                if sent < 0:
                    self._drop(client)
                    return
                client.out = client.out[sent:]
                if client.out:
                    break
                self._rendered_bytes -= client.out_bytes
                client.out_bytes = 0
                # A request that has begun meanwhile has its own, shorter time.
                limit_s = STALL_LIMIT_S if client.exchange.partial else IDLE_LIMIT_S
                client.deadline_s = self._monotonic_s() + limit_s
            if not client.out and not client.slots and client.pushed:
                client.out = memoryview(client.pushed.popleft())
                client.deadline_s = self._monotonic_s() + STALL_LIMIT_S
                progress = True
                continue
            render = client.slots[0].render if client.slots else None
            if render is not None:
                if self._rendered_bytes >= MAX_RENDERED_BYTES:
                    self._held_back[fd] = client
                    break
                client.slots.popleft()
                client.out = memoryview(render())
                client.out_bytes = len(client.out)
                self._rendered_bytes += client.out_bytes
                client.deadline_s = self._monotonic_s() + STALL_LIMIT_S + client.out_bytes / MIN_RATE_BYTES_S
                progress = True
        ended = client.eof or client.exchange.closed
        if client.watch and not client.eof:
            ended = False
        if ended and not client.slots and not client.out:
            self._drop(client)
            return
        reading = not ended and not client.full and not self._waiting.full and not client.watch
        events = (_IN if reading else 0) | (_OUT if client.out else 0)
        if events != client.events:
            client.events = events
            self._epoll.modify(fd, events)

    def _queue(self, client: Client) -> bool:
        """Give every whole request its slot; return whether there was one."""
        found = False
        while not client.full and not self._waiting.full and not client.watch:
            request = client.exchange.next_request()
            if request is None:
                break
            found = True
            slot = Slot(request)
            client.slots.append(slot)
            if isinstance(request, EvidenceRequest):
                if client.guest and self._port is not None:
                    # What a guest wants told is stated by the very quote that it asks for.
                    slot.render = self._port.refused(client.guest, request)
                if slot.render is None:
                    self._waiting.add(slot)
            elif isinstance(request, WatchRequest):
                self._watch(client, request)
            else:
                later, wanted = self._later(client, slot), self._wanted(client, slot)
                slot.render = self._answers.render(request, client.guest, later, wanted)
        return found

    def _watch(self, client: Client, request: WatchRequest) -> None:
        """Tell a client each event from now on; it asks nothing more."""
        client.slots.pop()
        client.watch_id = request.id
        client.watch = self._guests.watch(self._pusher(client))

    def _later(self, client: Client, slot: Slot) -> Callable[[], Answer]:
        def answer(result: Mapping[str, Any] | None, code: str, message: str) -> None:
            ident = slot.request.id
            slot.render = refusal(ident, code, message) if result is None else rendered(ident, result)
            # Not sent here: the keeper may be lost in the middle of this client's turn.
            self._answered.append(client)

        return lambda: answer

    def _wanted(self, client: Client, slot: Slot) -> Callable[[], bool]:
        """Return what says whether that answer is still to be made for a client that is there."""
        return lambda: self._clients.get(client.socket.fileno()) is client and slot in client.slots

    def _pusher(self, client: Client) -> Push:
        def push(event: Mapping[str, Any]) -> None:
            client.pushed.append(encode_answer(client.watch_id, dict(event)))
            if client.watch and self._clients.get(client.socket.fileno()) is client:
                if len(client.pushed) > MAX_PUSHED:
                    self._drop(client)
                else:
                    self._advance(client)

        return push

    def _make_round(self) -> None:
        """Answer the oldest waiting request and all that share its quote."""
        slots = self._waiting.take_round()
        asked = [(slot, slot.request) for slot in slots if isinstance(slot.request, EvidenceRequest)]
        try:
            self._maker.refresh()
            served = []
            for slot, request in asked:
                problem = self._maker.refused_offset(request)
                if problem:
                    slot.render = refusal(request.id, "request.ima-offset", problem)
                else:
                    served.append((slot, request))
            if served:
                made = self._maker.make_round(slots[0].pcrs, [request.nonce for _, request in served])
                for index, (slot, request) in enumerate(served):
                    slot.render = _evidence(self._maker, made, index, request)
                self.rounds += 1
                self.proofs += len(served)
        except VouchError as error:
            for slot, request in asked:
                slot.render = slot.render or refusal(request.id, error.code, error.message)
        for client in list(self._clients.values()):
            self._advance(client)

    def _expire(self) -> None:
        """Drop who stayed silent, or does not take its answer; look once a second."""
        now_s = self._monotonic_s()
        if now_s - self._expired_at_s < 1.0:
            return
        self._expired_at_s = now_s
        self._guests.tick()
        self._fetcher.tick()
        if self._port is not None:
            self._port.tick()
        for client in list(self._clients.values()):
            # A request that waits for us has all the time in the world.
            if now_s > client.deadline_s and (client.out or not (client.slots or client.watch)):
                self._drop(client)

    def _drop(self, client: Client) -> None:
        fd = client.socket.fileno()
        self._rendered_bytes -= client.out_bytes
        self._held_back.pop(fd, None)
        self._guests.unwatch(client.watch)
        del self._clients[fd]
        # Closing takes the descriptor out of the epoll set.
        client.socket.close()


def _evidence(maker: EvidenceMaker, made: Round, index: int, request: EvidenceRequest) -> Callable[[], bytes]:
    return lambda: maker.answer(made, index, request)
