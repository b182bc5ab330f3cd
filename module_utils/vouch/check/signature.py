# SPDX-License-Identifier: GPL-3.0-or-later
"""One signature, one enrolled key; envelopes, releases and guest packages on top of it.

The scheme is the key's. A message that names another one is not asked.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import Any

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, padding, rsa

from ..errors import UsageError
from ..model.finding import deny
from ..model.key import ECDSA_P256, ED25519, RSASSA, PublicKey
from ..parse.envelope import Envelope
from .opened import VerifiedPayload, open_with, verify_with
from .packagerules import VerifiedPackage, read_verified
from .releases import VerifiedRelease, verify_release_with

__all__ = [
    "VerifiedPayload",
    "VerifiedRelease",
    "load_key",
    "verify_envelope",
    "verify_guest_package",
    "verify_release",
    "verify_signature",
]

LOADED_KEYS = 4096
"""Keys kept in loaded form: loading one costs more than a verification."""


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
    return verify_with(verify_signature, envelope, keys, subject=subject)


def verify_release(envelope: bytes, keys: Sequence[PublicKey]) -> VerifiedRelease:
    """Return the host release in a signed release file; raises as ``check.releases.verify_release_with``."""
    return verify_release_with(verify_signature, envelope, keys)


def verify_guest_package(envelope: bytes, keys: Sequence[PublicKey]) -> VerifiedPackage:
    """Return the guest package in a signed package file.

    1. The file is one DSSE envelope.
    2. An enrolled key signed payload and type.
    3. The type is in-toto's, the payload a guest package.

    What the package says, and its files, are judged by ``check.packagerules`` and ``check.blobs``.

    Raises:
        EvidenceError: ``envelope.malformed``, ``envelope.signature.invalid``, ``envelope.type``, ``package.malformed``.
        UsageError: ``key.none``.
    """
    verified = open_with(verify_signature, envelope, keys, "package")
    return read_verified(envelope, verified.payload_type, verified.payload, verified.keyid)
