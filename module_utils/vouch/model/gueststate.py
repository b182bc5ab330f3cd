# SPDX-License-Identifier: GPL-3.0-or-later
"""What the VM verifier states of one guest: which package it is, what it was found to be, and when.

The record travels in the host's statement, under the quote, and in the answer to ``guest.list``, where nothing covers
it. dom0 makes it, so it is a plain tuple: no import that costs time there.

A guest that broke a rule stays listed, as ``violated``, until an order ends it, also when nothing of it runs any more.

Source: docs/proof.md, "Guests".
"""

from __future__ import annotations

import re
from typing import Any, NamedTuple

from ..parse.fields import Fields

STARTING, RUNNING, PAUSED, VIOLATED = "starting", "running", "paused", "violated"
STATES = (STARTING, RUNNING, PAUSED, VIOLATED)

LOADED, BOOTING, UP = "loaded", "booting", "running"
PHASES = (LOADED, BOOTING, UP)
"""How far its kernel is: created and never run; before its policy is loaded; after that."""

PENDING, HOLDS, BROKEN = "pending", "holds", "violated"
VERDICTS = (PENDING, HOLDS, BROKEN)

MAX_GUESTS = 256
MAX_DOMAIN_ID = 0x7FEF
"""Xen, public/xen.h: DOMID_FIRST_RESERVED is 0x7FF0."""

MAX_COUNT = 2**53 - 1
MAX_CODES = 32
MAX_NAME_CHARS = 63
MAX_TOLD = 64
MAX_ADDRESS_CHARS = 45

GUEST_ID = re.compile(r"[a-z0-9][a-z0-9-]{0,62}\Z")
_NAME = re.compile(r"[a-z0-9][a-z0-9_.-]{0,62}\Z")
_ADDRESS = re.compile(r"[0-9a-f:]{2,45}\Z")
_CODE = re.compile(r"[a-z0-9]+(?:[.-][a-z0-9]+){0,5}\Z")


class GuestChannel(NamedTuple):
    """A guest's end of its channels to other guests, as its host certified it.

    Attributes:
        key: SHA-256 of the SubjectPublicKeyInfo of its channel key; empty when it has none.
        certificate: SHA-256 of its one current channel certificate, DER; empty when it has none.
        address: Its IPv6 address; empty when it has no card.
        told: Addresses of the peers that the host will tell when this guest ends, ascending.
    """

    key: bytes = b""
    certificate: bytes = b""
    address: str = ""
    told: tuple[str, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """Return the JSON form."""
        return {
            "key": self.key.hex(),
            "certificate": self.certificate.hex(),
            "address": self.address,
            "told": list(self.told),
        }

    @classmethod
    def read(cls, fields: Fields) -> GuestChannel:
        """Take the members of ``fields``; raises ``ParseError``."""
        told = fields.array("told", maximum=MAX_TOLD)
        if not all(isinstance(item, str) and _ADDRESS.match(item) for item in told) or told != sorted(set(told)):
            raise fields.fail("told", "is no list of addresses in order, each once")
        channel = cls(
            key=fields.hex("key", 32, empty=True),
            certificate=fields.hex("certificate", 32, empty=True),
            address=fields.text("address", maximum_chars=MAX_ADDRESS_CHARS, pattern=_ADDRESS, empty=True),
            told=tuple(told),
        )
        fields.done()
        return channel


NO_CHANNEL = GuestChannel()


class GuestRecord(NamedTuple):
    """One guest of one host.

    Attributes:
        id: Its name on this host, unique among those that run.
        name: Name of its package.
        variant: ``production`` or ``debug``.
        domain_id: Xen's number for it; 0 when no domain is left of it.
        kind: ``pv`` or ``pvh``.
        package: Id of its package: SHA-256 of the signed file.
        verity_root: Root hash of its root image.
        policy: SHA-256 of its SELinux policy.
        state: One of ``STATES``.
        phase: One of ``PHASES``.
        verdict: One of ``VERDICTS``: what the last round of checks said.
        checked_at_s: When that was, Unix seconds; 0 before the first.
        rounds: Rounds of checks since it was created or adopted.
        violations: Codes of what was broken, in order, none twice.
        ima_count: Entries of its measurement list, read from outside.
        ima_head: SHA-256 chain over them: H(H(...) || entry's digest), from 32 zero bytes.
        counter: Value of the host's monotonic counter at its launch.
        channel: Its end of channels to other guests.
    """

    id: str
    name: str
    variant: str
    domain_id: int
    kind: str
    package: bytes
    verity_root: bytes
    policy: bytes
    state: str
    phase: str
    verdict: str
    checked_at_s: int = 0
    rounds: int = 0
    violations: tuple[str, ...] = ()
    ima_count: int = 0
    ima_head: bytes = bytes(32)
    counter: int = 0
    channel: GuestChannel = NO_CHANNEL

    def to_json(self) -> dict[str, Any]:
        """Return the JSON form."""
        return {
            "id": self.id,
            "name": self.name,
            "variant": self.variant,
            "domain_id": self.domain_id,
            "kind": self.kind,
            "package": self.package.hex(),
            "verity_root": self.verity_root.hex(),
            "policy": self.policy.hex(),
            "state": self.state,
            "phase": self.phase,
            "verdict": self.verdict,
            "checked_at": self.checked_at_s,
            "rounds": self.rounds,
            "violations": list(self.violations),
            "ima": {"count": self.ima_count, "head": self.ima_head.hex()},
            "counter": self.counter,
            "channel": self.channel.to_json(),
        }

    @classmethod
    def from_json(cls, value: Any) -> GuestRecord:
        """Return the record of a JSON value.

        Raises:
            ParseError: for an unknown, missing or malformed member, and for members that contradict each other.

        Trust: it is the host's word; a quote that covers it makes it the word of the code that was measured.
        """
        fields = Fields(value, "guest")
        ima = fields.object("ima")
        record = cls(
            id=fields.text("id", maximum_chars=MAX_NAME_CHARS, pattern=GUEST_ID),
            name=fields.text("name", maximum_chars=MAX_NAME_CHARS, pattern=_NAME),
            variant=fields.choice("variant", "production", "debug"),
            domain_id=fields.integer("domain_id", maximum=MAX_DOMAIN_ID),
            kind=fields.choice("kind", "pv", "pvh"),
            package=fields.hex("package", 32),
            verity_root=fields.hex("verity_root", 32),
            policy=fields.hex("policy", 32),
            state=fields.choice("state", *STATES),
            phase=fields.choice("phase", *PHASES),
            verdict=fields.choice("verdict", *VERDICTS),
            checked_at_s=fields.integer("checked_at", maximum=MAX_COUNT),
            rounds=fields.integer("rounds", maximum=MAX_COUNT),
            violations=_codes(fields),
            ima_count=ima.integer("count", maximum=MAX_COUNT),
            ima_head=ima.hex("head", 32),
            counter=fields.integer("counter", maximum=MAX_COUNT),
            channel=GuestChannel.read(fields.object("channel")),
        )
        ima.done()
        fields.done()
        if len({record.state == VIOLATED, record.verdict == BROKEN, bool(record.violations)}) != 1:
            raise fields.fail("violations", "state, verdict and violations contradict each other")
        return record


def read_guests(fields: Fields, name: str) -> tuple[GuestRecord, ...]:
    """Return the records of member ``name``: ascending by id, none twice.

    Raises:
        ParseError: as ``GuestRecord.from_json``, or for another order.
    """
    records = tuple(GuestRecord.from_json(item) for item in fields.array(name, maximum=MAX_GUESTS))
    ids = [record.id for record in records]
    if ids != sorted(set(ids)):
        raise fields.fail(name, "is not in the order of the guests' ids, each once")
    return records


def _codes(fields: Fields) -> tuple[str, ...]:
    codes = fields.array("violations", maximum=MAX_CODES)
    if not all(isinstance(code, str) and len(code) <= 128 and _CODE.match(code) for code in codes):
        raise fields.fail("violations", "holds something that is no code")
    if codes != sorted(set(codes)):
        raise fields.fail("violations", "is not in order, each code once")
    return tuple(codes)
