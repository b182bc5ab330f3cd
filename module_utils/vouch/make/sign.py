# SPDX-License-Identifier: GPL-3.0-or-later
"""Signing: DSSE envelopes with keys kept in PEM files.

Made with securesystemslib and checked by our own ``check.signature``: two implementations meet in every test.
"""

from __future__ import annotations

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from securesystemslib.dsse import Envelope as SigningEnvelope
from securesystemslib.signer import CryptoSigner, SSlibKey

from ..errors import UsageError
from ..model.key import ECDSA_P256, ED25519, PublicKey
from ..parse.canonical import dump_canonical

PrivateKey = ec.EllipticCurvePrivateKey | ed25519.Ed25519PrivateKey

_KEY_TYPES = {ECDSA_P256: ("ecdsa", "ecdsa-sha2-nistp256"), ED25519: ("ed25519", "ed25519")}


def generate_private_key(scheme: str = ED25519) -> PrivateKey:
    """Return a new signing key.

    Raises:
        UsageError: for a scheme we do not sign with.
    """
    if scheme == ED25519:
        return ed25519.Ed25519PrivateKey.generate()
    if scheme == ECDSA_P256:
        return ec.generate_private_key(ec.SECP256R1())
    raise UsageError(f"no signing with {scheme}", code="key.scheme")


def load_private_key(pem: bytes, password: bytes | None = None) -> PrivateKey:
    """Return the signing key of a PEM file.

    Raises:
        UsageError: for another kind of key, a damaged file or a wrong password.
    """
    try:
        key = serialization.load_pem_private_key(pem, password)
    except (ValueError, TypeError) as error:
        raise UsageError(f"the private key cannot be read: {type(error).__name__}", code="key.private") from None
    if isinstance(key, ed25519.Ed25519PrivateKey):
        return key
    if isinstance(key, ec.EllipticCurvePrivateKey) and isinstance(key.curve, ec.SECP256R1):
        return key
    raise UsageError("signing keys are Ed25519 or P-256", code="key.scheme")


def private_pem(key: PrivateKey) -> bytes:
    """Return ``key`` as an unencrypted PKCS#8 PEM block; keep it in a file only its owner reads."""
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )


def public_key(key: PrivateKey) -> PublicKey:
    """Return the public half."""
    return PublicKey.from_der(
        key.public_key().public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)
    )


def public_pem(key: PrivateKey) -> bytes:
    """Return the public half as a PEM block."""
    return key.public_key().public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)


def sign_envelope(payload_type: str, payload: bytes, private_key: PrivateKey) -> bytes:
    """Return a DSSE envelope over ``payload`` with one signature, as canonical JSON and a final newline.

    Args:
        payload_type: What the payload is; signed with it.
        payload: The bytes, kept as they are.
        private_key: Ed25519 (same input, same file) or P-256.
    """
    key = public_key(private_key)
    key_type, scheme = _KEY_TYPES[key.scheme]
    # securesystemslib wants the 32 raw bytes of an Ed25519 key in hex, and any other key as PEM.
    text = public_pem(private_key).decode("ascii")
    if isinstance(private_key, ed25519.Ed25519PrivateKey):
        text = private_key.public_key().public_bytes_raw().hex()
    named = SSlibKey(key.keyid, key_type, scheme, {"public": text})
    envelope = SigningEnvelope(payload, payload_type, {})
    envelope.sign(CryptoSigner(private_key, named))
    return dump_canonical(envelope.to_dict()) + b"\n"
