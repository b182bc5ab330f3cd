# SPDX-License-Identifier: GPL-3.0-or-later
"""Requests and answers of one connection as a pure state machine: bytes in, events out, no I/O.

Hostile input ends in one of two ways. A frame that cannot be understood (length, JSON, envelope) gives one
``Refusal`` with ``fatal``, after which nothing of that connection is read any more. A well-formed request
with a bad value gives an ordinary ``Refusal``; the connection goes on.

Source: docs/proof.md, "The subsystem".
"""

from __future__ import annotations

import re
from typing import Any, NamedTuple

from ..errors import ParseError, UsageError, VouchError
from ..model.gueststate import GUEST_ID, MAX_NAME_CHARS
from ..model.merkle import NONCE_BYTES
from ..model.order import MAX_ORDER_BYTES
from ..parse.canonical import dump_canonical, load_canonical
from ..parse.fields import Fields
from ..parse.frame import MAX_REQUEST_BYTES, MAX_RESPONSE_BYTES, FrameReader, encode_frame
from .papers import LIMITS, PART_BYTES

PROTOCOL_VERSION = 1
REQUESTS = (
    *("hello", "evidence", "guest.challenge", "guest.fetch", "guest.list", "guest.order"),
    *("host.order", "host.papers", "host.papers.status", "host.status", "watch"),
)

GUEST_REQUESTS = ("hello", "certify", "evidence", "papers")
"""What a guest may ask of its own host, on its card."""

MAX_ID_CHARS = 64
MAX_DEPTH = 4
PCR_COUNT = 24
"""PCRs of a PC Client TPM; ``model.digest`` says the same, but costs this service an import of ``dataclasses``."""

MAX_KEY_BYTES, MAX_ADDRESS_CHARS = 1024, 45
MAX_PORT = 65535

_ID = re.compile(r"[A-Za-z0-9._:-]{1,64}")
_ADDRESS = re.compile(r"[0-9a-f:]{2,45}\Z")


class HelloRequest(NamedTuple):
    """Who are you?"""

    id: str


class EvidenceRequest(NamedTuple):
    """Prove what you are, for this nonce. ``pcrs`` ascend without repeats and are never empty.

    ``notify`` is asked by a guest alone: the address of the peer that is to be told of its end; "" for none.
    """

    id: str
    nonce: bytes
    pcrs: tuple[int, ...]
    ima_offset: int
    notify: str = ""


class ChallengeRequest(NamedTuple):
    """Give me 32 bytes that one order may carry."""

    id: str


class ListRequest(NamedTuple):
    """Which guests are there, and how are they?"""

    id: str


class FetchRequest(NamedTuple):
    """Read what that guest says on a TCP port to its end, and give it to me; answered when it closed."""

    id: str
    guest: str
    port: int


class OrderRequest(NamedTuple):
    """Obey this signed order; answered when it is done. ``order`` is the envelope, nothing in it is verified."""

    id: str
    order: bytes


class HostOrderRequest(NamedTuple):
    """Obey this signed order about the host itself; as ``OrderRequest``."""

    id: str
    order: bytes


class StatusRequest(NamedTuple):
    """Which release runs, and which one waits?"""

    id: str


class PaperRequest(NamedTuple):
    """Keep this part of a paper for strangers."""

    id: str
    paper: str
    digest: bytes
    size: int
    offset: int
    data: bytes


class PapersStatusRequest(NamedTuple):
    """Which papers for strangers are there?"""

    id: str


class OwnPapersRequest(NamedTuple):
    """A guest asks: who am I, and what of you do I show to others?"""

    id: str


class CertifyRequest(NamedTuple):
    """A guest asks: certify this key of mine. ``key`` is a SubjectPublicKeyInfo."""

    id: str
    key: bytes


class WatchRequest(NamedTuple):
    """Tell me each event from now on; nothing else may follow on this connection."""

    id: str


class Refusal(NamedTuple):
    """A request that is answered with an error. ``id`` is empty where it could not be read."""

    id: str
    code: str
    message: str
    fatal: bool


HostRequest = (
    ChallengeRequest | FetchRequest | ListRequest | OrderRequest | HostOrderRequest | StatusRequest | WatchRequest
)
"""Requests that ask for no proof, and that the main process does not answer out of itself."""

PapersRequest = PaperRequest | PapersStatusRequest
GuestRequest = OwnPapersRequest | CertifyRequest

Request = HelloRequest | EvidenceRequest | HostRequest | PapersRequest | GuestRequest | Refusal

_PLAIN: dict[
    str, type[HelloRequest | ChallengeRequest | ListRequest | StatusRequest | PapersStatusRequest | WatchRequest]
] = {
    "hello": HelloRequest,
    "host.papers.status": PapersStatusRequest,
    "guest.challenge": ChallengeRequest,
    "guest.list": ListRequest,
    "host.status": StatusRequest,
    "watch": WatchRequest,
}
"""Requests without members of their own."""


class Exchange:
    """The reading half of one connection.

    Args:
        guest: Whether a guest is at the other end, which may ask for other things than the controller.

    >>> exchange = Exchange()
    >>> exchange.receive(encode_frame(b'{"id":"1","request":"hello","version":1}', limit_bytes=99))
    >>> exchange.next_request()
    HelloRequest(id='1')
    """

    __slots__ = ("_guest", "_reader", "closed")

    def __init__(self, *, guest: bool = False) -> None:
        self._guest = guest
        self._reader = FrameReader(limit_bytes=MAX_REQUEST_BYTES)
        self.closed = False
        """True after a fatal refusal or ``end``: nothing is read any more."""

    @property
    def partial(self) -> bool:
        """Whether a request has begun to arrive and is not complete."""
        return not self.closed and self._reader.partial

    def receive(self, data: bytes) -> None:
        """Take bytes as they came; those after a fatal refusal are dropped."""
        if not self.closed:
            self._reader.feed(data)

    def next_request(self) -> Request | None:
        """Return the next request or refusal, or None when more bytes are needed."""
        if self.closed:
            return None
        try:
            body = self._reader.next_body()
        except ParseError as error:
            return self._fatal("request.oversized", str(error))
        if body is None:
            return None
        try:
            fields = Fields(load_canonical(body, limit_bytes=MAX_REQUEST_BYTES, max_depth=MAX_DEPTH), "request")
            fields.literal("version", PROTOCOL_VERSION)
            ident = fields.text("id", maximum_chars=MAX_ID_CHARS, pattern=_ID)
            kind = fields.text("request", maximum_chars=MAX_ID_CHARS)
        except VouchError as error:
            return self._fatal("request.malformed", str(error))
        return _read(kind, ident, fields, guest=self._guest)

    def _fatal(self, code: str, message: str) -> Refusal:
        self.closed = True
        self._reader = FrameReader(limit_bytes=MAX_REQUEST_BYTES)
        return Refusal("", code, message, True)


def _read(kind: str, ident: str, fields: Fields, *, guest: bool) -> Request:
    """Return the request of a well-formed envelope."""
    known = GUEST_REQUESTS if guest else REQUESTS
    if kind not in known:
        return Refusal(ident, "request.unknown", f"known requests are {', '.join(known)}", False)
    try:
        plain = _PLAIN.get(kind)
        if plain is not None:
            request: Request = plain(ident)
        elif kind == "evidence":
            request = EvidenceRequest(
                ident,
                fields.hex("nonce", NONCE_BYTES),
                _pcrs(fields),
                fields.integer("ima_offset"),
                fields.text("notify", maximum_chars=MAX_ADDRESS_CHARS, pattern=_ADDRESS, empty=True) if guest else "",
            )
        elif kind == "guest.fetch":
            request = FetchRequest(
                ident,
                fields.text("guest", maximum_chars=MAX_NAME_CHARS, pattern=GUEST_ID),
                fields.integer("port", minimum=1, maximum=MAX_PORT),
            )
        elif kind == "papers":
            request = OwnPapersRequest(ident)
        elif kind == "certify":
            request = CertifyRequest(ident, fields.blob("key", limit_bytes=MAX_KEY_BYTES))
        elif kind == "host.papers":
            request = PaperRequest(
                ident,
                fields.choice("paper", *LIMITS),
                fields.hex("sha256", 32),
                fields.integer("size"),
                fields.integer("offset"),
                fields.blob("data", limit_bytes=PART_BYTES),
            )
        else:
            of = OrderRequest if kind == "guest.order" else HostOrderRequest
            request = of(ident, fields.blob("order", limit_bytes=MAX_ORDER_BYTES))
        fields.done()
    except ParseError as error:
        return Refusal(ident, "request.field", str(error), False)
    return request


def _pcrs(fields: Fields) -> tuple[int, ...]:
    found = fields.array("pcrs", maximum=PCR_COUNT)
    # bool is an int to Python, so the type is compared, not tested by isinstance.
    if not found or any(type(i) is not int or not 0 <= i < PCR_COUNT for i in found) or found != sorted(set(found)):
        raise fields.fail("pcrs", f"expected ascending PCR numbers below {PCR_COUNT}, at least one")
    return tuple(found)


def encode_answer(ident: str, result: dict[str, Any]) -> bytes:
    """Return the frame of a successful answer; one too long becomes the error ``answer.too-large``."""
    body = dump_canonical({"version": PROTOCOL_VERSION, "id": ident, "ok": True, "result": result})
    try:
        return encode_frame(body, limit_bytes=MAX_RESPONSE_BYTES)
    except UsageError:
        return encode_error(ident, "answer.too-large", f"the answer is {len(body)} bytes; ask from a later ima_offset")


def encode_error(ident: str, code: str, message: str) -> bytes:
    """Return the frame of an error answer."""
    body = dump_canonical(
        {"version": PROTOCOL_VERSION, "id": ident, "ok": False, "error": {"code": code, "message": message}}
    )
    return encode_frame(body, limit_bytes=MAX_RESPONSE_BYTES)
