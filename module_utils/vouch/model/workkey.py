# SPDX-License-Identifier: GPL-3.0-or-later
"""Work keys: what a guest signs statements about its work with, and what its channel key says of them.

The channel key belongs to the port authority and opens channels; it signs one thing more: that a key made in the same
guest, in memory and for this life of it, speaks for the guest's work.

Source: docs/provenance.md, "Work keys".
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from ..parse.canonical import dump_canonical, load_canonical
from ..parse.fields import Fields, encode_base64
from .gueststate import GUEST_ID, MAX_NAME_CHARS
from .key import ECDSA_P256, PublicKey

WORK_KEY_TYPE = "urn:vouch:work-key:1"
WORK_KEY_PAYLOAD_TYPE = "application/vnd.vouch.work-key+json"
MAX_WORK_KEY_BYTES = 4096
MAX_SPKI_BYTES = 512


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkKey:
    """What a channel key says of a work key.

    Attributes:
        host_id: UUID of the host.
        guest: Id of the guest on it.
        key: The work key, P-256.
        channel_certificate: SHA-256 of the channel certificate (DER) whose key signs this.
        issued_at_s: When, Unix seconds.
    """

    host_id: str
    guest: str
    key: PublicKey
    channel_certificate: bytes
    issued_at_s: int

    def to_json(self) -> dict[str, Any]:
        """Return the JSON form."""
        return {
            "type": WORK_KEY_TYPE,
            "host_id": self.host_id,
            "guest": self.guest,
            "spki": encode_base64(self.key.spki),
            "channel_certificate": self.channel_certificate.hex(),
            "issued_at": self.issued_at_s,
        }

    def to_bytes(self) -> bytes:
        """Return the canonical JSON that is signed."""
        return dump_canonical(self.to_json())

    @classmethod
    def from_bytes(cls, payload: bytes) -> WorkKey:
        """Return the endorsement of a DSSE payload.

        Raises:
            ParseError: for another spelling, an unknown, missing or malformed member, a key that is not P-256.

        Trust: verify the envelope first (``check.provenance.verify_work_key``).
        """
        fields = Fields(load_canonical(payload, limit_bytes=MAX_WORK_KEY_BYTES), "work-key")
        fields.literal("type", WORK_KEY_TYPE)
        host_id = fields.uuid("host_id")
        guest = fields.text("guest", maximum_chars=MAX_NAME_CHARS, pattern=GUEST_ID)
        key = PublicKey.from_der(fields.blob("spki", limit_bytes=MAX_SPKI_BYTES))
        if key.scheme != ECDSA_P256:
            raise fields.fail("spki", "is no P-256 key")
        found = cls(
            host_id=host_id,
            guest=guest,
            key=key,
            channel_certificate=fields.hex("channel_certificate", 32),
            issued_at_s=fields.integer("issued_at"),
        )
        fields.done()
        return found
