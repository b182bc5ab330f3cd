# SPDX-License-Identifier: GPL-3.0-or-later
"""That a guest accepted a peer: by which evidence and papers, and when. Enough to judge it again elsewhere.

Source: docs/provenance.md, "The bundle".
"""

from __future__ import annotations

import ipaddress
import itertools
from dataclasses import dataclass
from typing import Any

from ..parse.canonical import dump_canonical, load_canonical
from ..parse.fields import Fields
from .merkle import NONCE_BYTES

ACCEPTANCE_TYPE = "urn:vouch:acceptance:1"
MAX_ACCEPTANCE_BYTES = 8192
MAX_FORMER = 64
"""Former releases of one host that its guests show."""

PAPERS = ("evidence", "credential", "release", "manifest", "package")
"""What is named by digest, besides the certificate."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Acceptance:
    """One acceptance.

    Attributes:
        address: Of the peer, IPv6 in RFC 5952 text.
        asker: Address of the guest that accepted it.
        nonce: What it had the evidence made for.
        accepted_at_s: Unix seconds.
        expires_at_s: Unix seconds.
        certificate: SHA-256 of the channel certificate that was accepted.
        evidence: SHA-256 of the evidence, as the others.
        credential: The host's credential.
        release: The signed host release.
        manifest: Its file list.
        package: The signed guest package: its digest is the package's id.
        former: Releases that the host was installed with or ran before, signed: ascending, none twice.
    """

    address: str
    asker: str
    nonce: bytes
    accepted_at_s: int
    expires_at_s: int
    certificate: bytes
    evidence: bytes
    credential: bytes
    release: bytes
    manifest: bytes
    package: bytes
    former: tuple[bytes, ...] = ()

    @property
    def papers(self) -> tuple[bytes, ...]:
        """Digests of all papers, former releases among them."""
        return (*(getattr(self, name) for name in PAPERS), *self.former)

    def to_json(self) -> dict[str, Any]:
        """Return the JSON form."""
        return {
            "type": ACCEPTANCE_TYPE,
            "address": self.address,
            "asker": self.asker,
            "nonce": self.nonce.hex(),
            "accepted_at": self.accepted_at_s,
            "expires_at": self.expires_at_s,
            "certificate": self.certificate.hex(),
            **{name: getattr(self, name).hex() for name in PAPERS},
            "former": [digest.hex() for digest in self.former],
        }

    def to_bytes(self) -> bytes:
        """Return canonical JSON."""
        return dump_canonical(self.to_json())

    @classmethod
    def from_bytes(cls, data: bytes) -> Acceptance:
        """Return the acceptance of canonical JSON.

        Raises:
            ParseError: for another spelling, an unknown, missing or malformed member.

        Trust: nobody signs it; it only says what to judge again, and the judgement decides.
        """
        fields = Fields(load_canonical(data, limit_bytes=MAX_ACCEPTANCE_BYTES), "acceptance")
        fields.literal("type", ACCEPTANCE_TYPE)
        found = cls(
            address=_address(fields, "address"),
            asker=_address(fields, "asker"),
            nonce=fields.hex("nonce", NONCE_BYTES),
            accepted_at_s=fields.integer("accepted_at"),
            expires_at_s=fields.integer("expires_at"),
            certificate=fields.hex("certificate", 32),
            evidence=fields.hex("evidence", 32),
            credential=fields.hex("credential", 32),
            release=fields.hex("release", 32),
            manifest=fields.hex("manifest", 32),
            package=fields.hex("package", 32),
            former=_former(fields),
        )
        if found.expires_at_s < found.accepted_at_s:
            raise fields.fail("expires_at", "is before the acceptance")
        fields.done()
        return found


def _former(fields: Fields) -> tuple[bytes, ...]:
    items = fields.array("former", maximum=MAX_FORMER)
    found = tuple(fields.decode_hex("former", item, 32) for item in items)
    # Their order means nothing to the appraisal: so there is one.
    if any(left >= right for left, right in itertools.pairwise(found)):
        raise fields.fail("former", "is not ascending")
    return found


def _address(fields: Fields, name: str) -> str:
    text = fields.text(name, maximum_chars=45)
    try:
        if str(ipaddress.IPv6Address(text)) == text:
            return text
    except ValueError:
        pass
    raise fields.fail(name, "is no IPv6 address in its one spelling")
