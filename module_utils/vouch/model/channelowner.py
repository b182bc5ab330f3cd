# SPDX-License-Identifier: GPL-3.0-or-later
"""Whose channel a certificate is: the guest, its host, its key, its time.

A channel certificate names one guest, once, as ``GUEST.HOST_ID`` in its only alternative name.

Source: RFC 5280, 4.2.1.6; docs/provenance.md.
"""

from __future__ import annotations

from dataclasses import dataclass

from ..errors import ParseError, shown
from ..parse import der
from ..parse.fields import Fields
from .certificate import OID_SUBJECT_ALT_NAME, Certificate
from .gueststate import GUEST_ID
from .key import ECDSA_P256, PublicKey

MAX_CERTIFICATE_BYTES = 4096
_DNS_NAME = 0x82
"""GeneralName, dNSName [2] (IA5String)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ChannelOwner:
    """What a channel certificate says; its own signature is not verified here.

    Attributes:
        certificate: SHA-256 of it, DER.
        host_id: UUID of the host.
        guest: Id of the guest.
        key: The channel key, P-256.
        not_before_s: Unix seconds.
        not_after_s: Unix seconds.
    """

    certificate: bytes
    host_id: str
    guest: str
    key: PublicKey
    not_before_s: int
    not_after_s: int

    @classmethod
    def from_der(cls, data: bytes) -> ChannelOwner:
        """Return the owner that a certificate names.

        Raises:
            ParseError: for what is no certificate, has another key, or does not name exactly one guest.

        Trust: an attacker's, until the certificate was accepted with the evidence that states it.
        """
        if len(data) > MAX_CERTIFICATE_BYTES:
            raise ParseError("channel", 0, f"more than {MAX_CERTIFICATE_BYTES} bytes", code="parse.too-large")
        found = Certificate.from_der(data)
        if found.der != data:
            raise ParseError("channel", 0, "something surrounds the certificate", code="parse.trailing")
        key = PublicKey.from_der(found.spki)
        extension = found.extensions.get(OID_SUBJECT_ALT_NAME)
        names = () if extension is None else der.parse_der(extension.value).expect(der.SEQUENCE).children()
        if key.scheme != ECDSA_P256 or len(names) != 1 or names[0].tag != _DNS_NAME:
            raise ParseError("channel", 0, "is no certificate of a guest's channel", code="parse.field.value")
        name = names[0].content.decode("ascii", "replace")
        guest, _, host_id = name.partition(".")
        if GUEST_ID.fullmatch(guest) is None:
            raise ParseError("channel.name", 0, f"names no guest: {shown(name)}", code="parse.field.value")
        return cls(
            certificate=found.digest,
            host_id=Fields({"host_id": host_id}, "channel").uuid("host_id"),
            guest=guest,
            key=key,
            not_before_s=int(found.not_before.timestamp()),
            not_after_s=int(found.not_after.timestamp()),
        )
