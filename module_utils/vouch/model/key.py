# SPDX-License-Identifier: GPL-3.0-or-later
"""Public keys: the scheme belongs to the key, never to the message.

A key is named by the SHA-256 of its SubjectPublicKeyInfo, the one form every tool can produce.

Source: RFC 5280, 4.1.2.7; RFC 5480, 2; RFC 8410, 4; TPM 2.0 Part 1, 16 (names).
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass

from ..errors import ParseError
from ..parse import der
from ..parse.fields import decode_base64

ECDSA_P256 = "ecdsa-p256-sha256"
ED25519 = "ed25519"
RSASSA = "rsassa-sha256"
"""RSASSA-PKCS1-v1_5 with SHA-256: for foreign keys, verified but never made."""

UNSUPPORTED = "parse.key.unsupported"

MAX_PEM_BYTES = 16 * 1024
MIN_RSA_BITS = 2048
MAX_RSA_BITS = 4096

_P256_PREFIX = bytes.fromhex("3059301306072a8648ce3d020106082a8648ce3d030107034200")
_ED25519_PREFIX = bytes.fromhex("302a300506032b6570032100")
_PEM = re.compile(rb"\s*-----BEGIN PUBLIC KEY-----([A-Za-z0-9+/=\r\n]+)-----END PUBLIC KEY-----\s*\Z")
_SSH_ED25519 = re.compile(r"ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAI[A-Za-z0-9+/]{43}\Z")


@dataclass(frozen=True, slots=True)
class PublicKey:
    """A public key and the one scheme it is used with.

    Attributes:
        scheme: ``ECDSA_P256``, ``ED25519`` or ``RSASSA``.
        spki: SubjectPublicKeyInfo, DER.
    """

    scheme: str
    spki: bytes

    @classmethod
    def from_der(cls, spki: bytes) -> PublicKey:
        """Return the key of a DER SubjectPublicKeyInfo.

        Raises:
            ParseError: ``parse.key.unsupported`` for a key of another kind, curve or size.
        """
        if spki.startswith(_P256_PREFIX) and len(spki) == len(_P256_PREFIX) + 65 and spki[len(_P256_PREFIX)] == 4:
            return cls(ECDSA_P256, spki)
        if spki.startswith(_ED25519_PREFIX) and len(spki) == len(_ED25519_PREFIX) + 32:
            return cls(ED25519, spki)
        bits = _rsa_bits(spki)
        if MIN_RSA_BITS <= bits <= MAX_RSA_BITS:
            return cls(RSASSA, spki)
        raise ParseError("key", 0, "is neither Ed25519, P-256 nor RSA of 2048 to 4096 bits", code=UNSUPPORTED)

    @classmethod
    def from_pem(cls, pem: bytes | str) -> PublicKey:
        """Return the key of one PEM block ``PUBLIC KEY``.

        Raises:
            ParseError: as ``from_der``, or when the text is no such block.
        """
        data = pem.encode("utf-8", "replace") if isinstance(pem, str) else pem
        match = _PEM.fullmatch(data) if len(data) <= MAX_PEM_BYTES else None
        spki = decode_base64(b"".join(match[1].split()).decode()) if match else None
        if spki is None:
            raise ParseError("key", 0, "is not one PEM block PUBLIC KEY", code="parse.key.pem")
        return cls.from_der(spki)

    @classmethod
    def p256(cls, x: bytes, y: bytes) -> PublicKey:
        """Return the P-256 key of the point with these 32-byte coordinates."""
        if len(x) != 32 or len(y) != 32:
            raise ParseError("key", 0, "P-256 coordinates are 32 bytes long", code="parse.key.point")
        return cls(ECDSA_P256, _P256_PREFIX + b"\x04" + x + y)

    @property
    def keyid(self) -> str:
        """SHA-256 of the SubjectPublicKeyInfo, hex."""
        return hashlib.sha256(self.spki).hexdigest()

    def __str__(self) -> str:
        return f"{self.scheme}:{self.keyid}"


@dataclass(frozen=True, slots=True, kw_only=True)
class AkPublic:
    """An attestation key whose attributes were checked (made by ``check.identity.check_ak_public`` only).

    Attributes:
        public: TPMT_PUBLIC as the TPM gave it.
        name: nameAlg || SHA-256 of ``public``; what credential activation binds to.
        key: The point, with the scheme the key is restricted to.
    """

    public: bytes
    name: bytes
    key: PublicKey


def check_ssh_host_key(text: str) -> str:
    """Return ``text`` when it is one Ed25519 SSH public key: type, blank, base64; no comment.

    Raises:
        ParseError: ``parse.key.ssh``.
    """
    if _SSH_ED25519.fullmatch(text) is None or decode_base64(text.split(" ")[1]) is None:
        raise ParseError("ssh_host_key", 0, "is no Ed25519 SSH public key without comment", code="parse.key.ssh")
    return text


def _rsa_bits(spki: bytes) -> int:
    """Return the modulus length of an RSA key, 0 for any other key."""
    try:
        outer = der.parse_der(spki).expect(der.SEQUENCE)
        algorithm = outer.child(0, der.SEQUENCE)
        if algorithm.child(0, der.OID).oid() != "1.2.840.113549.1.1.1":
            return 0
        key = der.parse_der(outer.child(1, der.BIT_STRING).bits()).expect(der.SEQUENCE)
        modulus, exponent = key.child(0, der.INTEGER).unsigned(), key.child(1, der.INTEGER).unsigned()
    except ParseError:
        return 0
    return modulus.bit_length() if modulus & 1 and exponent >= 3 and exponent & 1 else 0
