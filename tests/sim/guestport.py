# SPDX-License-Identifier: GPL-3.0-or-later
"""A stand-in for the VM verifier's guest port, TCP 4461: simulated hosts (``sim.channelhost``) behind real sockets.

It knows a guest by the interface that a connection comes in on, as the VM verifier does, and answers ``papers``,
``certify`` and ``evidence``. Frames, addresses and routing are real; quotes are by a software key.
"""

from __future__ import annotations

import contextlib
import json
import socket
import threading
import time
from typing import Any

from ansible.module_utils.vouch.authority.messages import encode_refusal, encode_result, read_question
from ansible.module_utils.vouch.parse.canonical import dump_canonical
from ansible.module_utils.vouch.parse.fields import Fields, encode_base64
from ansible.module_utils.vouch.parse.frame import FrameReader, encode_frame

from netns_harness import Namespace
from sim.channelhost import SimChannelHost

PORT = 4461
PEER_PORT = 4460
LIMIT_BYTES = 1 << 16


class SimGuestPort:
    """The port, in the namespace of the simulated dom0.

    Attributes:
        vifs: Interface name to host and guest behind it.
        silent: Whether nothing is answered any more.
        certified: How many certificates were issued.
    """

    def __init__(self, space: Namespace) -> None:
        self.vifs: dict[str, tuple[SimChannelHost, str]] = {}
        self.silent = False
        self.certified = 0
        self._space, self._lock = space, threading.Lock()
        self._listener = space.call(self._listen)
        self._thread = threading.Thread(target=lambda: space.call(self._accept), daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Stop listening."""
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._thread.join()

    def host_of(self, guest: str) -> SimChannelHost:
        """Return the host of a guest."""
        return next(host for host, name in self.vifs.values() if name == guest)

    def change(self, work: Any) -> Any:
        """Do something to the hosts while nobody is answered."""
        with self._lock:
            return work()

    def revoke(self, guest: str, **changes: Any) -> list[dict[str, Any]]:
        """Tell every peer that was promised it of that guest's end; return their answers."""
        host = self.host_of(guest)
        with self._lock:
            notice, signature = host.revocation(guest, **changes)
            told = list(host.guests[guest].told)
        return [self.tell(address, notice, signature) for address in told]

    def tell(self, address: str, notice: bytes, signature: bytes) -> dict[str, Any]:
        """Tell one peer; return its answer."""
        said = {
            "version": 1,
            "id": "revoke",
            "request": "revoke",
            "notice": encode_base64(notice),
            "signature": encode_base64(signature),
        }
        return self._space.call(lambda: _told(address, encode_frame(dump_canonical(said), limit_bytes=LIMIT_BYTES)))

    def _listen(self) -> socket.socket:
        listener = socket.socket(socket.AF_INET6, socket.SOCK_STREAM)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(("::", PORT))
        listener.listen()
        return listener

    def _accept(self) -> None:
        while True:
            try:
                connection, peer = self._listener.accept()
            except OSError:
                return
            # A thread is in the namespace of the one that starts it.
            threading.Thread(target=self._serve, args=(connection, peer), daemon=True).start()

    def _serve(self, connection: socket.socket, peer: Any) -> None:
        with connection, contextlib.suppress(OSError):
            found = self.vifs.get(socket.if_indextoname(peer[3])) if peer[3] else None
            if found is None or self.silent:
                return
            frames = FrameReader(limit_bytes=LIMIT_BYTES)
            while data := connection.recv(LIMIT_BYTES):
                frames.feed(data)
                while (body := frames.next_body()) is not None:
                    connection.sendall(self._answer(*found, body))

    def _answer(self, host: SimChannelHost, guest: str, body: bytes) -> bytes:
        question = read_question(body)
        fields = question.fields
        with self._lock:
            host.now_s = int(time.time())
            if question.kind == "papers":
                return encode_result(question.id, host.papers(guest))
            if question.kind == "certify":
                return encode_result(question.id, self._certify(host, guest, fields))
            if question.kind == "evidence":
                pcrs = fields.array("pcrs", maximum=24)
                evidence = host.evidence(
                    guest,
                    fields.hex("nonce", 32),
                    fields.text("notify", empty=True),
                    pcrs=pcrs,
                    offset=fields.integer("ima_offset"),
                )
                return encode_result(question.id, evidence.to_json())
            return encode_refusal(question.id, "request.unknown", question.kind)

    def _certify(self, host: SimChannelHost, guest: str, fields: Fields) -> dict[str, Any]:
        self.certified += 1
        certificate = host.certify(guest, fields.blob("key", limit_bytes=256))
        return {"certificate": encode_base64(certificate), "expires_at": host.now_s + 3600}


def _told(address: str, frame: bytes) -> dict[str, Any]:
    with socket.create_connection((address, PEER_PORT), timeout=5) as connection:
        connection.sendall(frame)
        frames = FrameReader(limit_bytes=LIMIT_BYTES)
        while (body := frames.next_body()) is None:
            frames.feed(connection.recv(LIMIT_BYTES))
    answer: dict[str, Any] = json.loads(body)
    return answer
