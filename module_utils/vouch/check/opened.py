# SPDX-License-Identifier: GPL-3.0-or-later
"""Signed envelopes, whatever verifies their signatures: the rule which signature counts, written once.

The controller verifies with ``check.signature``, dom0 with ``port.libcrypto``: both hand in how one signature is held
against one key, and get what a DSSE envelope proves.

Source: secure-systems-lab/dsse, protocol.md, v1.0.2.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from ..errors import EvidenceError, ParseError, UsageError
from ..model.finding import deny
from ..model.key import PublicKey
from ..parse.envelope import Envelope, pae, parse_envelope

VerifySignature = Callable[[PublicKey, bytes, bytes], None]
"""Returns when the signature (third) over the message (second) is the key's, else raises ``EvidenceError``."""


@dataclass(frozen=True, slots=True, kw_only=True)
class VerifiedPayload:
    """A payload that an enrolled key signed (made by ``verify_with`` only)."""

    payload_type: str
    payload: bytes
    keyid: str


def verify_with(
    verify: VerifySignature, envelope: Envelope, keys: Sequence[PublicKey], *, subject: str = "envelope"
) -> VerifiedPayload:
    """Return the payload when one of ``keys`` signed it with its type.

    A key id inside the envelope is only a hint: every signature is held against every key.

    Raises:
        EvidenceError: ``envelope.signature.invalid`` when no signature is by one of the keys.
        UsageError: ``key.none`` for an empty set of keys.
    """
    if not keys:
        raise UsageError("no key is enrolled: nothing can be trusted", code="key.none", hint="enrol a release key")
    message = pae(envelope.payload_type, envelope.payload)
    for signature in envelope.signatures:
        for key in keys:
            try:
                verify(key, message, signature.signature)
            except EvidenceError:
                continue
            return VerifiedPayload(payload_type=envelope.payload_type, payload=envelope.payload, keyid=key.keyid)
    raise deny(
        "envelope.signature.invalid",
        subject,
        expected=f"a signature by one of {len(keys)} enrolled keys",
        actual=", ".join(item.keyid for item in envelope.signatures),
        source="DSSE v1.0.2, protocol.md",
    )


def open_with(verify: VerifySignature, data: bytes, keys: Sequence[PublicKey], subject: str) -> VerifiedPayload:
    """Return the payload of a signed file.

    Raises:
        EvidenceError: ``envelope.malformed``, and as ``verify_with``.
    """
    try:
        parsed = parse_envelope(data)
    except ParseError as error:
        raise deny("envelope.malformed", subject, actual=error) from None
    return verify_with(verify, parsed, keys, subject=subject)
