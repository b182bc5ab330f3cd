# SPDX-License-Identifier: GPL-3.0-or-later
"""A channel certificate against the key that is said to have issued it.

There is one way to write what a channel certificate says (``model.channelcert``). So it is not searched for names and
purposes that would do: it is written again, and has to be the same byte for byte.
"""

from __future__ import annotations

from ..errors import EvidenceError, ParseError, UsageError
from ..model.certificate import Certificate
from ..model.channelcert import SERIAL_BYTES, Channel, certificate
from ..model.finding import deny
from ..model.key import ECDSA_P256, PublicKey
from ..parse import der
from .signature import verify_signature

MAX_CERTIFICATE_BYTES = 4096
SUBJECT = "channel"


def verify_channel_certificate(data: bytes, *, authority: bytes, host_id: str, guest: str, now_s: int) -> Channel:
    """Return what the certificate says.

    1. It is an X.509 certificate, and no byte besides.
    2. The channel authority signed it.
    3. It is the one form of what it says, and names this guest of this host.
    4. It counts now. It begins ``SKEW_S`` before it is made: so far our clock may be behind.

    Args:
        data: DER.
        authority: SubjectPublicKeyInfo of the channel authority that the host states.
        host_id: UUID of the host.
        guest: Id of the guest.
        now_s: Unix seconds.

    Raises:
        EvidenceError: ``peer.certificate.malformed``, ``peer.certificate.signature``, ``peer.certificate.name``,
            ``peer.certificate.time``.

    Trust: ``data`` is the peer's; ``authority``, ``host_id`` and ``guest`` are proven.
    """
    try:
        if len(data) > MAX_CERTIFICATE_BYTES:
            raise ParseError("certificate", 0, f"is longer than {MAX_CERTIFICATE_BYTES} bytes")
        found = Certificate.from_der(data)
        key = PublicKey.from_der(authority)
        serial = der.parse_der(found.tbs).expect(der.SEQUENCE).child(1, der.INTEGER).unsigned()
        if found.der != data or key.scheme != ECDSA_P256 or serial.bit_length() > 8 * SERIAL_BYTES:
            raise ParseError("certificate", 0, "is surrounded by other bytes, or of another kind")
    except ParseError as error:
        raise deny("peer.certificate.malformed", SUBJECT, expected="a channel certificate", actual=error) from None
    try:
        verify_signature(key, found.tbs, found.signature, subject=SUBJECT)
    except (EvidenceError, UsageError):
        expected = f"a signature by {key.keyid}"
        raise deny("peer.certificate.signature", SUBJECT, expected=expected, actual=found.digest) from None
    said = Channel(
        host_id=host_id,
        guest=guest,
        spki=found.spki,
        not_before_s=int(found.not_before.timestamp()),
        not_after_s=int(found.not_after.timestamp()),
    )
    if _written_again(said, serial, found.signature) != data:
        raise deny("peer.certificate.name", SUBJECT, expected=f"a certificate of {said.name}", actual=found.subject)
    if not said.not_before_s <= now_s < said.not_after_s:
        expected = f"{now_s} within its time"
        raise deny(
            "peer.certificate.time", SUBJECT, expected=expected, actual=f"{said.not_before_s} to {said.not_after_s}"
        )
    return said


def _written_again(said: Channel, serial: int, signature: bytes) -> bytes:
    try:
        return certificate(said, serial=serial.to_bytes(SERIAL_BYTES, "big"), sign=lambda _: signature)
    except UsageError:
        # Its key is none that is certified.
        return b""
