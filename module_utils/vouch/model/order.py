# SPDX-License-Identifier: GPL-3.0-or-later
"""Orders: what an application authority asks of one guest on one host, once.

An order is a DSSE envelope of type ``PAYLOAD_TYPE`` over canonical JSON::

    type            "urn:vouch:guest-order:1"
    action          "start", "stop", "pause" or "resume"
    host_id         uuid of the host that is asked; no other obeys
    guest           id of the guest on that host
    challenge       hex of 32 bytes, from the host's answer to ``guest.challenge``
    package         hex, id of the package to start           null but for "start"
    kind            "pv" or "pvh"; null leaves it to the host  null but for "start"
    mac             address of its network card, or null       null but for "start"
    store           URL of the image store                     null but for "start"
    shutdown_proof  null, or how the guest was last stopped: {"host_id":uuid,"counter":int,"state":hex}

The challenge is random, taken once, forgotten after a short time and at each restart: so an order works on one host,
once, and never later. dom0 reads orders, so this is a plain tuple without imports that cost time there.

Source: docs/proof.md, "Orders"; secure-systems-lab/dsse, protocol.md.
"""

from __future__ import annotations

import re
from typing import Any, NamedTuple

from ..errors import ParseError
from ..parse.canonical import dump_canonical, load_canonical
from ..parse.fields import Fields
from .gueststate import GUEST_ID, MAX_COUNT, MAX_NAME_CHARS

PAYLOAD_TYPE = "application/vnd.vouch.guest-order+json"
ORDER_TYPE = "urn:vouch:guest-order:1"

START, STOP, PAUSE, RESUME = "start", "stop", "pause", "resume"
ACTIONS = (START, STOP, PAUSE, RESUME)

CHALLENGE_BYTES = 32
MAX_ORDER_BYTES = 32 * 1024
"""A signed order as it travels."""

MAX_URL_CHARS = 1024

STORE_URL = re.compile(r"http://[A-Za-z0-9.-]{1,253}(?::[0-9]{1,5})?(?:/[A-Za-z0-9._~/+-]*)?\Z")
"""Plain HTTP: what is fetched is known by its digest, so the channel needs no secrecy and no server identity."""

_MAC = re.compile(r"[0-9a-f][02468ace](?::[0-9a-f]{2}){5}\Z")
"""The address of one card, not of a group: the lowest bit of the first byte is 0 (IEEE 802-2014, 8.2.2)."""


class ShutdownProof(NamedTuple):
    """How a guest was last stopped, as the appraised log of its host says.

    Attributes:
        host_id: Where.
        counter: That host's monotonic counter at the stop.
        state: SHA-256 of the statement about the guest's last state.
    """

    host_id: str
    counter: int
    state: bytes

    def to_json(self) -> dict[str, Any]:
        """Return the JSON form."""
        return {"host_id": self.host_id, "counter": self.counter, "state": self.state.hex()}

    @classmethod
    def read(cls, fields: Fields) -> ShutdownProof:
        """Take the members of ``fields``."""
        proof = cls(
            host_id=fields.uuid("host_id"),
            counter=fields.integer("counter", minimum=1, maximum=MAX_COUNT),
            state=fields.hex("state", 32),
        )
        fields.done()
        return proof


class GuestOrder(NamedTuple):
    """One order. Members that say what to start are None for every other action.

    Attributes:
        action: One of ``ACTIONS``.
        host_id: Host that is asked.
        guest: Id of the guest there.
        challenge: What the host gave for this one order.
        package: Id of the package: SHA-256 of the signed file.
        kind: ``pv`` or ``pvh``; None when the host may choose.
        mac: Of the network card, for packages that let the order name it.
        store: Where the package and its files are, by digest.
        shutdown_proof: How the guest was last stopped; the start is refused when it was not so.
    """

    action: str
    host_id: str
    guest: str
    challenge: bytes
    package: bytes | None = None
    kind: str | None = None
    mac: str | None = None
    store: str | None = None
    shutdown_proof: ShutdownProof | None = None

    def to_bytes(self) -> bytes:
        """Return the canonical JSON that is signed."""
        return dump_canonical(
            {
                "type": ORDER_TYPE,
                "action": self.action,
                "host_id": self.host_id,
                "guest": self.guest,
                "challenge": self.challenge.hex(),
                "package": None if self.package is None else self.package.hex(),
                "kind": self.kind,
                "mac": self.mac,
                "store": self.store,
                "shutdown_proof": None if self.shutdown_proof is None else self.shutdown_proof.to_json(),
            }
        )

    @classmethod
    def from_bytes(cls, payload: bytes) -> GuestOrder:
        """Return the order of a DSSE payload.

        Raises:
            ParseError: for another spelling, an unknown, missing or malformed member, a start without package or
                store, and another action with a member that only a start has.

        Trust: verify the envelope first; afterwards it is the authority's word, until its challenge was spent.
        """
        fields = Fields(load_canonical(payload, limit_bytes=MAX_ORDER_BYTES), "order")
        fields.literal("type", ORDER_TYPE)
        action = fields.choice("action", *ACTIONS)
        order = cls(
            action=action,
            host_id=fields.uuid("host_id"),
            guest=fields.text("guest", maximum_chars=MAX_NAME_CHARS, pattern=GUEST_ID),
            challenge=fields.hex("challenge", CHALLENGE_BYTES),
            package=_optional(fields, "package", lambda: fields.hex("package", 32)),
            kind=_optional(fields, "kind", lambda: fields.choice("kind", "pv", "pvh")),
            mac=_optional(fields, "mac", lambda: fields.text("mac", maximum_chars=17, pattern=_MAC)),
            store=_optional(
                fields, "store", lambda: fields.text("store", maximum_chars=MAX_URL_CHARS, pattern=STORE_URL)
            ),
            shutdown_proof=_optional(
                fields, "shutdown_proof", lambda: ShutdownProof.read(fields.object("shutdown_proof"))
            ),
        )
        fields.done()
        if action == START:
            if order.package is None or order.store is None:
                raise _wrong("package", "a start names the package and the store that has it")
        elif order != cls(action, order.host_id, order.guest, order.challenge):
            raise _wrong("action", f"says what to start, but asks to {action}")
        return order


def _optional(fields: Fields, name: str, read: Any) -> Any:
    """Return None for a member that is null, else what ``read`` makes of it."""
    return read() if fields.given(name) else None


def _wrong(member: str, problem: str) -> ParseError:
    return ParseError(f"order.{member}", 0, problem, code="parse.field.value")
