# SPDX-License-Identifier: GPL-3.0-or-later
"""Standings: what one host or guest is worth until when, in the few words that steer plays.

A result is large and about one host with all its guests. A standing is small and about one subject, so that ten
thousand of them are read in a moment. Standings that are written together share one signature: the *seal* signs the
root of a Merkle tree (RFC 6962) over them, and each standing is kept with its path.

Source: docs/store.md, "What is signed".
"""

from __future__ import annotations

import hashlib
from typing import NamedTuple

from ..errors import ParseError
from ..parse.canonical import dump_canonical, load_canonical, load_json
from ..parse.fields import Fields
from .finding import Verdict
from .gueststate import GUEST_ID, MAX_NAME_CHARS
from .merkle import LEAF_PREFIX, MAX_LEAVES

STANDING_TYPE = "urn:vouch:standing:1"
SEAL_TYPE = "urn:vouch:seal:1"
SEAL_PAYLOAD_TYPE = "application/vnd.vouch.seal+json"

MAX_STANDING_BYTES = 8192
MAX_SEAL_BYTES = 4096
MAX_REASONS = 16
MAX_SUBJECT_CHARS = 128

PUSHED = "pushed"
"""Stage of a standing that rests on what a host told by itself. Only bad news is believed that way."""


class Standing(NamedTuple):
    """One subject.

    Attributes:
        host_id: Which host.
        name: The host's name in the inventory.
        guest: Id of the guest on that host; empty for the host itself.
        verdict: What was found.
        stage: Where the appraisal of the host stopped, or ``PUSHED``.
        reasons: Codes of the findings that made the verdict worse, at most ``MAX_REASONS``.
        image: Id of the host release or guest package, hexadecimal; empty when it is not known.
        issued_at_s: Unix seconds.
        expires_at_s: Unix seconds; from then on it counts for nothing.
        result: SHA-256 of the result it was taken from, hexadecimal; empty when there is none.
    """

    host_id: str
    name: str
    guest: str
    verdict: Verdict
    stage: str
    reasons: tuple[str, ...]
    image: str
    issued_at_s: int
    expires_at_s: int
    result: str

    def to_bytes(self) -> bytes:
        """Return the canonical JSON form, as it is sealed and stored."""
        return dump_canonical(
            {
                "type": STANDING_TYPE,
                "host_id": self.host_id,
                "name": self.name,
                "guest": self.guest,
                "verdict": self.verdict.value,
                "stage": self.stage,
                "reasons": list(self.reasons),
                "image": self.image,
                "issued_at": self.issued_at_s,
                "expires_at": self.expires_at_s,
                "result": self.result,
            }
        )

    @classmethod
    def from_bytes(cls, data: bytes) -> Standing:
        """Return the standing of its JSON form.

        Raises:
            ParseError: for an unknown, missing or malformed member.

        Trust: whoever wrote the store could have made it, until ``check.seal`` has shown who did.
        """
        # Not held to canonical form, which costs as much again: the seal is over the very bytes.
        fields = Fields(load_json(data, limit_bytes=MAX_STANDING_BYTES, max_depth=3), "standing")
        fields.literal("type", STANDING_TYPE)
        reasons = fields.array("reasons", maximum=MAX_REASONS)
        if not all(isinstance(item, str) and 0 < len(item) <= MAX_SUBJECT_CHARS for item in reasons):
            raise fields.fail("reasons", "holds something that is no code")
        standing = cls(
            host_id=fields.uuid("host_id"),
            name=fields.text("name", maximum_chars=MAX_SUBJECT_CHARS),
            guest=fields.text("guest", maximum_chars=MAX_NAME_CHARS, pattern=GUEST_ID, empty=True),
            verdict=Verdict(fields.choice("verdict", *(item.value for item in Verdict))),
            stage=fields.text("stage", maximum_chars=32),
            reasons=tuple(reasons),
            image=fields.text("image", maximum_chars=64, empty=True),
            issued_at_s=fields.integer("issued_at"),
            expires_at_s=fields.integer("expires_at"),
            result=fields.text("result", maximum_chars=64, empty=True),
        )
        fields.done()
        if standing.expires_at_s <= standing.issued_at_s:
            raise ParseError("standing.expires_at", 0, "is not after issued_at", code="parse.field.value")
        return standing


class Seal(NamedTuple):
    """What is signed for standings that were written together.

    Attributes:
        root: Merkle root over their leaves, in the order they were written.
        size: How many they are.
        sealed_at_s: Unix seconds.
    """

    root: bytes
    size: int
    sealed_at_s: int

    def to_bytes(self) -> bytes:
        """Return the canonical JSON form."""
        return dump_canonical(
            {"type": SEAL_TYPE, "root": self.root.hex(), "size": self.size, "sealed_at": self.sealed_at_s}
        )

    @classmethod
    def from_bytes(cls, data: bytes) -> Seal:
        """Return the seal of its JSON form; raises ``ParseError``."""
        fields = Fields(load_canonical(data, limit_bytes=MAX_SEAL_BYTES, max_depth=2), "seal")
        fields.literal("type", SEAL_TYPE)
        seal = cls(
            root=fields.hex("root", 32),
            size=fields.integer("size", minimum=1, maximum=MAX_LEAVES),
            sealed_at_s=fields.integer("sealed_at"),
        )
        fields.done()
        return seal


class SealedStanding(NamedTuple):
    """A standing with what proves who wrote it.

    Attributes:
        standing: Its canonical JSON, as sealed.
        seal: The signed seal (DSSE envelope).
        place: Its place among the seal's leaves.
        path: Its inclusion path, 32 bytes a node, in one piece.
    """

    standing: bytes
    seal: bytes
    place: int
    path: bytes


def standing_leaf(standing: bytes) -> bytes:
    """Return the leaf of a standing's JSON form: SHA256(0x00 || bytes), RFC 6962, 2.1."""
    return hashlib.sha256(LEAF_PREFIX + standing).digest()
