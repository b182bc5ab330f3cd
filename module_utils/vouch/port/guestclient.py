# SPDX-License-Identifier: GPL-3.0-or-later
"""What a controller asks a host about its guests, over a connection that ``port.ssh`` made.

Everything but an order is only the host's word: what a guest is worth is for an appraisal to say.

Source: docs/proof.md, "Orders".
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from ..errors import ParseError, UnreachableError, shown
from ..model.gueststate import MAX_GUESTS, MAX_NAME_CHARS, GuestRecord
from ..model.order import CHALLENGE_BYTES
from ..parse.fields import Fields, encode_base64
from ..parse.frame import MAX_FETCHED_BYTES
from .ssh import SshVerifier

MAX_HISTORY = 256
MAX_LIFE_S = 24 * 60 * 60


@dataclass(frozen=True, slots=True, kw_only=True)
class ListedGuest:
    """A guest as its host lists it, and the last events that are told of it, oldest first."""

    record: GuestRecord
    history: tuple[dict[str, Any], ...]


class GuestClient:
    """The requests about guests.

    Args:
        verifier: An open connection.

    Raises:
        UnreachableError: what ``SshVerifier`` raises, ``ssh.answer`` for an answer that is not the protocol's, and
            the host's own codes where it refuses.
    """

    def __init__(self, verifier: SshVerifier) -> None:
        self._verifier = verifier

    def guests(self) -> tuple[ListedGuest, ...]:
        """Return every guest, ascending by id."""
        fields = self._fields({"request": "guest.list"}, "guests")
        try:
            found = tuple(_listed(item) for item in fields.array("guests", maximum=MAX_GUESTS))
            fields.done()
        except ParseError as error:
            raise _no_answer(error) from None
        return found

    def challenge(self) -> bytes:
        """Return 32 bytes that one order may carry, soon."""
        fields = self._fields({"request": "guest.challenge"}, "challenge")
        try:
            challenge = fields.hex("challenge", CHALLENGE_BYTES)
            fields.integer("expires_in_s", minimum=1, maximum=MAX_LIFE_S)
            fields.done()
        except ParseError as error:
            raise _no_answer(error) from None
        return challenge

    def order(self, envelope: bytes) -> dict[str, Any]:
        """Return what the host did about a signed order; returns when it is done."""
        fields = self._fields({"request": "guest.order", "order": encode_base64(envelope)}, "order")
        try:
            fields.text("guest", maximum_chars=MAX_NAME_CHARS)
        except ParseError as error:
            raise _no_answer(error) from None
        return {name: value for name, value in fields.rest().items() if name.isidentifier()}

    def fetch(self, guest: str, port: int) -> bytes:
        """Return what a guest said on a TCP service of its package until it closed, at most ``MAX_FETCHED_BYTES``.

        Trust: the guest's word, brought by its host; neither says that it is right.
        """
        fields = self._fields({"request": "guest.fetch", "guest": guest, "port": port}, "fetch")
        try:
            content = fields.blob("content", limit_bytes=MAX_FETCHED_BYTES, empty=True)
            fields.done()
        except ParseError as error:
            raise _no_answer(error) from None
        return content

    def watch(self, *, idle_s: float) -> Iterator[dict[str, Any] | None]:
        """Yield each event as the host tells it, and None whenever nothing came for ``idle_s`` seconds."""
        ident = self._verifier.send({"request": "watch"})
        while True:
            event = self._verifier.next_answer(ident, idle_s)
            if event is not None and not isinstance(event, dict):
                raise UnreachableError("the host tells something that is no event", code="ssh.answer")
            yield event

    def _fields(self, request: dict[str, Any], what: str) -> Fields:
        try:
            return Fields(self._verifier.ask(request), what)
        except ParseError as error:
            raise _no_answer(error) from None


def _listed(value: Any) -> ListedGuest:
    if not isinstance(value, dict):
        raise ParseError("guests", 0, "holds something that is no guest", code="parse.field.type")
    members = dict(value)
    history = members.pop("history", [])
    if not isinstance(history, list) or len(history) > MAX_HISTORY or not all(isinstance(e, dict) for e in history):
        raise ParseError("guests.history", 0, "is no list of events", code="parse.field.type")
    return ListedGuest(record=GuestRecord.from_json(members), history=tuple(history))


def _no_answer(error: ParseError) -> UnreachableError:
    return UnreachableError(f"the host does not speak our protocol: {shown(error)}", code="ssh.answer")
