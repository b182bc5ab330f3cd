# SPDX-License-Identifier: GPL-3.0-or-later
"""Host orders: what an application authority asks of a host itself, once. Today: steps of an update.

A host order is a DSSE envelope of type ``PAYLOAD_TYPE`` over canonical JSON::

    type       "urn:vouch:host-order:1"
    action     "stage", "try" or "confirm"
    host_id    uuid of the host that is asked; no other obeys
    challenge  hex of 32 bytes, from the host's answer to ``guest.challenge``; good for one order of either kind
    release    hex, id of the release it is about
    store      URL of the image store                                        null but for "stage"
    confirm_s  seconds from power-on within which "confirm" has to come      null but for "try"

Source: docs/proof.md, "Host orders".
"""

from __future__ import annotations

from typing import NamedTuple

from ..errors import ParseError
from ..parse.canonical import dump_canonical, load_canonical
from ..parse.fields import Fields
from .order import CHALLENGE_BYTES, MAX_ORDER_BYTES, MAX_URL_CHARS, STORE_URL

PAYLOAD_TYPE = "application/vnd.vouch.host-order+json"
ORDER_TYPE = "urn:vouch:host-order:1"

STAGE, TRY, CONFIRM = "stage", "try", "confirm"
ACTIONS = (STAGE, TRY, CONFIRM)

MIN_CONFIRM_S, MAX_CONFIRM_S = 60, 24 * 60 * 60


class HostOrder(NamedTuple):
    """One order.

    Attributes:
        action: One of ``ACTIONS``.
        host_id: Host that is asked.
        challenge: What the host gave for this one order.
        release: Id of the release: SHA-256 of the signed file.
        store: Where the release and its files are, by digest; for ``stage`` alone.
        confirm_s: Seconds after power-on after which an unconfirmed release gives up; for ``try`` alone.
    """

    action: str
    host_id: str
    challenge: bytes
    release: bytes
    store: str | None = None
    confirm_s: int | None = None

    def to_bytes(self) -> bytes:
        """Return the canonical JSON that is signed."""
        return dump_canonical(
            {
                "type": ORDER_TYPE,
                "action": self.action,
                "host_id": self.host_id,
                "challenge": self.challenge.hex(),
                "release": self.release.hex(),
                "store": self.store,
                "confirm_s": self.confirm_s,
            }
        )

    @classmethod
    def from_bytes(cls, payload: bytes) -> HostOrder:
        """Return the order of a DSSE payload.

        Raises:
            ParseError: for another spelling, an unknown, missing or malformed member, and for a member that belongs to
                another action or is missing for this one.

        Trust: verify the envelope first; afterwards it is the authority's word, until its challenge was spent.
        """
        fields = Fields(load_canonical(payload, limit_bytes=MAX_ORDER_BYTES), "host-order")
        fields.literal("type", ORDER_TYPE)
        store = confirm_s = None
        action = fields.choice("action", *ACTIONS)
        if fields.given("store"):
            store = fields.text("store", maximum_chars=MAX_URL_CHARS, pattern=STORE_URL)
        if fields.given("confirm_s"):
            confirm_s = fields.integer("confirm_s", minimum=MIN_CONFIRM_S, maximum=MAX_CONFIRM_S)
        order = cls(
            action=action,
            host_id=fields.uuid("host_id"),
            challenge=fields.hex("challenge", CHALLENGE_BYTES),
            release=fields.hex("release", 32),
            store=store,
            confirm_s=confirm_s,
        )
        fields.done()
        for name, value, owner in (("store", store, STAGE), ("confirm_s", confirm_s, TRY)):
            if (value is None) == (action == owner):
                raise ParseError(
                    f"host-order.{name}", 0, f"belongs to {owner}, which needs it", code="parse.field.value"
                )
        return order
