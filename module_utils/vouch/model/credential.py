# SPDX-License-Identifier: GPL-3.0-or-later
"""A host's credential: what lets a stranger judge its evidence, signed by who enrolled it.

The controller knows a host by its enrolment. A guest that is to talk to a guest of another host knows nothing of that
host; it believes one of the *enrolment authorities* that its own package names. The credential is a DSSE envelope of
type ``PAYLOAD_TYPE`` over canonical JSON::

    type        "urn:vouch:host-credential:1"
    enrolment   the host's enrolment, as ``model.enrolment`` writes it
    issued_at   Unix seconds
    expires_at  Unix seconds; from then on it says nothing

Source: docs/proof.md, "Credentials of hosts".
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from ..errors import ParseError
from ..parse.canonical import dump_canonical, load_canonical
from ..parse.fields import Fields
from .enrolment import MAX_ENROLMENT_BYTES, Enrolment

PAYLOAD_TYPE = "application/vnd.vouch.host-credential+json"
CREDENTIAL_TYPE = "urn:vouch:host-credential:1"

MAX_CREDENTIAL_BYTES = MAX_ENROLMENT_BYTES + 4096
MAX_LIFE_S = 366 * 24 * 60 * 60


@dataclass(frozen=True, slots=True, kw_only=True)
class HostCredential:
    """What an enrolment authority says of one host.

    Attributes:
        enrolment: Of the host, as it was when this was issued.
        issued_at_s: Unix seconds.
        expires_at_s: Unix seconds.
    """

    enrolment: Enrolment
    issued_at_s: int
    expires_at_s: int

    def valid_at(self, now_s: int, *, skew_s: int = 0) -> bool:
        """Say whether it counts now; the clock of who asks may be ``skew_s`` behind."""
        return self.issued_at_s - skew_s <= now_s < self.expires_at_s

    def to_json(self) -> dict[str, Any]:
        """Return the JSON form."""
        return {
            "type": CREDENTIAL_TYPE,
            "enrolment": self.enrolment.to_json(),
            "issued_at": self.issued_at_s,
            "expires_at": self.expires_at_s,
        }

    def to_bytes(self) -> bytes:
        """Return the canonical JSON that is signed."""
        return dump_canonical(self.to_json())

    @classmethod
    def from_bytes(cls, payload: bytes) -> HostCredential:
        """Return the credential of a DSSE payload.

        Raises:
            ParseError: for another spelling, an unknown, missing or malformed member, and for one that ends before it
                begins, or counts for longer than ``MAX_LIFE_S``.

        Trust: verify the envelope first; afterwards it is the enrolment authority's word.
        """
        fields = Fields(load_canonical(payload, limit_bytes=MAX_CREDENTIAL_BYTES), "host-credential")
        fields.literal("type", CREDENTIAL_TYPE)
        credential = cls(
            enrolment=Enrolment.from_json(fields.take("enrolment")),
            issued_at_s=fields.integer("issued_at"),
            expires_at_s=fields.integer("expires_at"),
        )
        fields.done()
        if not 0 < credential.expires_at_s - credential.issued_at_s <= MAX_LIFE_S:
            raise ParseError(
                "host-credential.expires_at",
                0,
                f"lies at most {MAX_LIFE_S} s after issued_at, and behind it",
                code="parse.field.value",
            )
        return credential
