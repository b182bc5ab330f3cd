# SPDX-License-Identifier: GPL-3.0-or-later
"""One signature, one enrolled key; envelopes and releases on top of it.

The scheme is the key's. A message that names another one is not asked.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, padding, rsa

from ..errors import EvidenceError, ParseError, UsageError
from ..model.finding import deny
from ..model.key import ECDSA_P256, ED25519, RSASSA, PublicKey
from ..model.release import IN_TOTO_PAYLOAD_TYPE, HostRelease, release_id
from ..parse.envelope import Envelope, pae, parse_envelope

LOADED_KEYS = 4096
"""Keys kept in loaded form: loading one costs more than a verification."""


@dataclass(frozen=True, slots=True, kw_only=True)
class VerifiedPayload:
    """A payload that an enrolled key signed (made by ``verify_envelope`` only)."""

    payload_type: str
    payload: bytes
    keyid: str


@dataclass(frozen=True, slots=True, kw_only=True)
class VerifiedRelease:
    """A host release that an enrolled release key signed (made by ``verify_release`` only).

    Attributes:
        release_id: SHA-256 of the signed file.
        release: What it says.
        keyid: The key that signed it.
    """

    release_id: bytes
    release: HostRelease
    keyid: str


def verify_signature(key: PublicKey, message: bytes, signature: bytes, *, subject: str = "signature") -> None:
    """Return when ``signature`` over ``message`` is ``key``'s.

    Args:
        key: An enrolled key.
        message: The signed bytes.
        signature: Ed25519: 64 bytes; ECDSA: DER SEQUENCE of r and s; RSA: as long as the modulus.
        subject: What a finding is about.

    Raises:
        EvidenceError: ``signature.invalid``.
        UsageError: when the key itself is not usable (a point off its curve): it should not have been enrolled.
    """
    loaded = load_key(key)
    try:
        if key.scheme == ED25519:
            loaded.verify(signature, message)
        elif key.scheme == ECDSA_P256:
            loaded.verify(signature, message, ec.ECDSA(hashes.SHA256()))
        else:
            loaded.verify(signature, message, padding.PKCS1v15(), hashes.SHA256())
    except InvalidSignature:
        raise deny("signature.invalid", subject, expected=f"a signature by {key.keyid}", actual=signature) from None


@functools.lru_cache(maxsize=LOADED_KEYS)
def load_key(key: PublicKey) -> Any:
    """Return the library's form of ``key``.

    Raises:
        UsageError: ``key.unusable``.
    """
    try:
        loaded = serialization.load_der_public_key(key.spki)
    except (ValueError, UnsupportedAlgorithm):
        raise UsageError(f"key {key.keyid} cannot be used", code="key.unusable") from None
    kinds = {ED25519: ed25519.Ed25519PublicKey, ECDSA_P256: ec.EllipticCurvePublicKey, RSASSA: rsa.RSAPublicKey}
    if not isinstance(loaded, kinds[key.scheme]):
        raise UsageError(f"key {key.keyid} is not of scheme {key.scheme}", code="key.unusable")
    return loaded


def verify_envelope(envelope: Envelope, keys: Sequence[PublicKey], *, subject: str = "envelope") -> VerifiedPayload:
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
                verify_signature(key, message, signature.signature)
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


def verify_release(envelope: bytes, keys: Sequence[PublicKey]) -> VerifiedRelease:
    """Return the host release in a signed release file.

    1. The file is one DSSE envelope.
    2. An enrolled release key signed payload and type.
    3. The type is in-toto's, the payload a host release.

    Raises:
        EvidenceError: ``envelope.malformed``, ``envelope.signature.invalid``, ``envelope.type``, ``release.malformed``.
        UsageError: ``key.none``.
    """
    try:
        parsed = parse_envelope(envelope)
    except ParseError as error:
        raise deny("envelope.malformed", "release", actual=error) from None
    verified = verify_envelope(parsed, keys, subject="release")
    if verified.payload_type != IN_TOTO_PAYLOAD_TYPE:
        raise deny("envelope.type", "release", expected=IN_TOTO_PAYLOAD_TYPE, actual=verified.payload_type)
    try:
        release = HostRelease.from_bytes(verified.payload)
    except ParseError as error:
        raise deny("release.malformed", "release", actual=error) from None
    return VerifiedRelease(release_id=release_id(envelope), release=release, keyid=verified.keyid)
