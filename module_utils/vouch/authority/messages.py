# SPDX-License-Identifier: GPL-3.0-or-later
"""Requests and answers that the port authority gives and takes: bytes in, values out, no I/O.

Frames and envelope are those of the ``vouch`` subsystem (docs/proof.md), whoever is at the other end: the host, another
guest's authority, or a program of this guest.

Source: docs/channels.md, "Messages".
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Mapping
from typing import Any, NamedTuple

from ..errors import ParseError, UnreachableError, UsageError, shown
from ..model.merkle import NONCE_BYTES
from ..parse.canonical import dump_canonical, load_canonical
from ..parse.fields import Fields
from ..parse.frame import MAX_REQUEST_BYTES, encode_frame

VERSION = 1
MAX_DEPTH = 4
MAX_ID_CHARS, MAX_CODE_CHARS, MAX_ADDRESS_CHARS = 64, 64, 45
MAX_ANSWER_BYTES = 64 * 1024 * 1024
PCR_COUNT = 24

_ID = re.compile(r"[A-Za-z0-9._:-]{1,64}")
_CODE = re.compile(r"[a-z0-9]+(?:[.-][a-z0-9]+){0,7}")

PAPERS = ("credential", "release", "manifest", "package", "certificate")
"""What is shown besides evidence, named by digest."""


class AnswerError(UnreachableError):
    """The other side refused; ``code`` is its code."""


class Question(NamedTuple):
    """One request: its id, what is asked, and its members."""

    id: str
    kind: str
    fields: Fields


class EvidenceQuestion(NamedTuple):
    """Prove what you are, for this nonce."""

    nonce: bytes
    pcrs: tuple[int, ...]
    ima_offset: int


def read_question(body: bytes) -> Question:
    """Return the request of one frame.

    Raises:
        ParseError: it cannot be understood; nothing that follows on the connection can.
    """
    fields = Fields(load_canonical(body, limit_bytes=MAX_REQUEST_BYTES, max_depth=MAX_DEPTH), "request")
    fields.literal("version", VERSION)
    ident = fields.text("id", maximum_chars=MAX_ID_CHARS, pattern=_ID)
    return Question(ident, fields.text("request", maximum_chars=MAX_ID_CHARS), fields)


def read_evidence_question(fields: Fields) -> EvidenceQuestion:
    """Take the members of ``peer.evidence``; raises ``ParseError``."""
    pcrs = fields.array("pcrs", maximum=PCR_COUNT)
    # bool is an int to Python, so the type is compared.
    if not pcrs or any(type(i) is not int or not 0 <= i < PCR_COUNT for i in pcrs) or pcrs != sorted(set(pcrs)):
        raise fields.fail("pcrs", f"expected ascending PCR numbers below {PCR_COUNT}, at least one")
    question = EvidenceQuestion(fields.hex("nonce", NONCE_BYTES), tuple(pcrs), fields.integer("ima_offset"))
    fields.done()
    return question


def read_address(fields: Fields, name: str) -> str:
    """Take an IPv6 address in its one spelling; raises ``ParseError``."""
    text = fields.text(name, maximum_chars=MAX_ADDRESS_CHARS)
    try:
        same = "%" not in text and str(ipaddress.IPv6Address(text)) == text
    except ValueError:
        same = False
    if not same:
        raise fields.fail(name, f"is no IPv6 address as RFC 5952 writes it: {shown(text)}")
    return text


def encode_question(ident: str, kind: str, members: Mapping[str, Any]) -> bytes:
    """Return the frame of a request."""
    body = dump_canonical({"version": VERSION, "id": ident, "request": kind, **members})
    return encode_frame(body, limit_bytes=MAX_REQUEST_BYTES)


def encode_result(ident: str, result: Mapping[str, Any]) -> bytes:
    """Return the frame of an answer; one that is too long becomes the error ``answer.too-large``."""
    body = dump_canonical({"version": VERSION, "id": ident, "ok": True, "result": dict(result)})
    try:
        return encode_frame(body, limit_bytes=MAX_ANSWER_BYTES)
    except UsageError:
        return encode_refusal(ident, "answer.too-large", "the answer is too long")


def encode_refusal(ident: str, code: str, message: str) -> bytes:
    """Return the frame of an error answer."""
    error = {"code": code, "message": shown(message)}
    body = dump_canonical({"version": VERSION, "id": ident, "ok": False, "error": error})
    return encode_frame(body, limit_bytes=MAX_ANSWER_BYTES)


def read_answer(body: bytes, ident: str, *, limit_bytes: int = MAX_ANSWER_BYTES) -> Fields:
    """Return the result in the answer to request ``ident``.

    Raises:
        AnswerError: the other side refused.
        UnreachableError: ``authority.answer`` for what is no answer.
    """
    try:
        fields = Fields(load_canonical(body, limit_bytes=limit_bytes), "answer")
        fields.literal("version", VERSION)
        fields.literal("id", ident)
        if fields.take("ok") is True:
            result = fields.object("result")
            fields.done()
            return result
        error = fields.object("error")
        code = error.text("code", maximum_chars=MAX_CODE_CHARS, pattern=_CODE)
        message = error.text("message", empty=True)
    except ParseError as wrong:
        raise UnreachableError(
            f"the other side does not speak our protocol: {wrong}", code="authority.answer"
        ) from None
    raise AnswerError(f"the other side refused: {shown(message)}", code=code)
