# SPDX-License-Identifier: GPL-3.0-or-later
"""A host's word that a guest's channel is over, pushed to the guest's peers the moment it is.

Signed with the key that issued the channel's certificate, so whoever accepted the certificate can check it. Canonical
JSON::

    type         "urn:vouch:revocation:1"
    host_id      uuid of the host
    guest        id of the guest on it
    certificate  hex, SHA-256 of the certificate that counts no more
    reason       code: "guest.violation", "guest.stop", "guest.ended" or "channel.renewed"
    time         the host's clock, Unix seconds

It can only take away, never give: one that is lost is made good by the peer's next question, one that is replayed is
about a certificate that was over already.

Source: docs/proof.md, "Channel certificates and their end".
"""

from __future__ import annotations

from typing import NamedTuple

from ..parse.canonical import dump_canonical, load_canonical
from ..parse.fields import Fields
from .gueststate import GUEST_ID, MAX_NAME_CHARS

REVOCATION_TYPE = "urn:vouch:revocation:1"
MAX_REVOCATION_BYTES = 4096

VIOLATION, STOP, ENDED, RENEWED = "guest.violation", "guest.stop", "guest.ended", "channel.renewed"
REASONS = (VIOLATION, STOP, ENDED, RENEWED)


class Revocation(NamedTuple):
    """One notice.

    Attributes:
        host_id: UUID of the host that gives it.
        guest: Id of the guest.
        certificate: SHA-256 of the channel's certificate.
        reason: One of ``REASONS``.
        time_s: The host's clock, Unix seconds. For people.
    """

    host_id: str
    guest: str
    certificate: bytes
    reason: str
    time_s: int

    def to_bytes(self) -> bytes:
        """Return the canonical JSON that is signed."""
        return dump_canonical(
            {
                "type": REVOCATION_TYPE,
                "host_id": self.host_id,
                "guest": self.guest,
                "certificate": self.certificate.hex(),
                "reason": self.reason,
                "time": self.time_s,
            }
        )

    @classmethod
    def from_bytes(cls, data: bytes) -> Revocation:
        """Return the notice of canonical JSON.

        Raises:
            ParseError: for another spelling, an unknown, missing or malformed member.

        Trust: verify the signature first, under the key that issued the certificate.
        """
        fields = Fields(load_canonical(data, limit_bytes=MAX_REVOCATION_BYTES), "revocation")
        fields.literal("type", REVOCATION_TYPE)
        notice = cls(
            host_id=fields.uuid("host_id"),
            guest=fields.text("guest", maximum_chars=MAX_NAME_CHARS, pattern=GUEST_ID),
            certificate=fields.hex("certificate", 32),
            reason=fields.choice("reason", *REASONS),
            time_s=fields.integer("time"),
        )
        fields.done()
        return notice
