# SPDX-License-Identifier: GPL-3.0-or-later
"""Channel certificates: a host's word that a key belongs to one of its guests, for an hour.

The VM verifier issues them with a key of its own, the *channel authority*, which is made at each start of the service
and stands in the host's statement. So a certificate is worth what the evidence is that covers its issuer.

Layout (DER)::

    tbs        version 3, serial, ecdsa-with-SHA256, issuer CN "vouch host" HOST_ID, validity, subject CN GUEST.HOST_ID,
               SubjectPublicKeyInfo, extensions
    extensions basicConstraints (critical, no authority), keyUsage (critical, digitalSignature), extKeyUsage serverAuth
               clientAuth ipsecIKE, subjectAltName dNSName GUEST.HOST_ID

This module writes only what it needs of DER; ``model.certificate`` reads. dom0 uses it, so it imports little.

Source: RFC 5280, 4.1 and 4.2; RFC 4945, 5.1 (IKE); RFC 5758, 3.2.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable
from typing import NamedTuple

from ..errors import UsageError

SKEW_S = 300
"""A certificate begins so long before it was made: the clock of a peer may be behind."""

LIFE_S = 60 * 60

SERIAL_BYTES = 16

P256_PREFIX = bytes.fromhex("3059301306072a8648ce3d020106082a8648ce3d03010703420004")
"""SubjectPublicKeyInfo of a P-256 key up to its coordinates (RFC 5480, 2): the one kind that is certified."""

P256_SPKI_BYTES = len(P256_PREFIX) + 64

_ECDSA_SHA256 = "1.2.840.10045.4.3.2"
_COMMON_NAME = "2.5.4.3"
_BASIC_CONSTRAINTS, _KEY_USAGE, _EXT_KEY_USAGE, _ALT_NAME = "2.5.29.19", "2.5.29.15", "2.5.29.37", "2.5.29.17"
_PURPOSES = ("1.3.6.1.5.5.7.3.1", "1.3.6.1.5.5.7.3.2", "1.3.6.1.5.5.7.3.17")
_DIGITAL_SIGNATURE = b"\x07\x80"
"""A BIT STRING's content: seven unused bits, then bit 0 (RFC 5280, 4.2.1.3)."""

_LAST_UTC_TIME_S = 2524607999
"""31 December 2049; later times are written as GeneralizedTime (RFC 5280, 4.1.2.5)."""


class Channel(NamedTuple):
    """What a certificate says.

    Attributes:
        host_id: UUID of the host that issues it.
        guest: Id of the guest on it.
        spki: SubjectPublicKeyInfo of the guest's key, P-256.
        not_before_s, not_after_s: Unix seconds.
    """

    host_id: str
    guest: str
    spki: bytes
    not_before_s: int
    not_after_s: int

    @property
    def name(self) -> str:
        """Subject and alternative name: what IKE identifies the guest by."""
        return channel_name(self.host_id, self.guest)


def channel_name(host_id: str, guest: str) -> str:
    """Return ``GUEST.HOST_ID``; neither has a dot in it."""
    return f"{guest}.{host_id}"


def issuer_name(host_id: str) -> str:
    """Return the common name of the host's channel authority."""
    return f"vouch host {host_id}"


def require_p256(spki: bytes) -> None:
    """Return when ``spki`` has the form of a P-256 key. Whether it is a point of the curve shows when it is used.

    Raises:
        UsageError: ``channel.key``.
    """
    if len(spki) != P256_SPKI_BYTES or not spki.startswith(P256_PREFIX):
        raise UsageError("a channel key is an uncompressed P-256 key (SubjectPublicKeyInfo)", code="channel.key")


def certificate(channel: Channel, *, serial: bytes, sign: Callable[[bytes], bytes]) -> bytes:
    """Return the certificate, DER.

    Args:
        channel: What it says.
        serial: Random bytes, at most ``SERIAL_BYTES``.
        sign: Returns the channel authority's ECDSA signature with SHA-256 of the bytes it is given, DER.

    Raises:
        UsageError: ``channel.key``.
    """
    require_p256(channel.spki)
    algorithm = _sequence(_oid(_ECDSA_SHA256))
    tbs = _sequence(
        _element(0xA0, _integer(2)),
        _integer(int.from_bytes(serial[:SERIAL_BYTES], "big") or 1),
        algorithm,
        _name(issuer_name(channel.host_id)),
        _sequence(_time(channel.not_before_s), _time(channel.not_after_s)),
        _name(channel.name),
        channel.spki,
        _element(0xA3, _sequence(*_extensions(channel.name))),
    )
    return _sequence(tbs, algorithm, _bit_string(b"\0" + sign(tbs)))


def sha256_of(data: bytes) -> bytes:
    """Return the digest that a statement names a certificate, or a key, by."""
    return hashlib.sha256(data).digest()


def _extensions(name: str) -> list[bytes]:
    critical = _element(0x01, b"\xff")
    purposes = _sequence(*(_oid(item) for item in _PURPOSES))
    return [
        _sequence(_oid(_BASIC_CONSTRAINTS), critical, _octets(_sequence())),
        _sequence(_oid(_KEY_USAGE), critical, _octets(_bit_string(_DIGITAL_SIGNATURE))),
        _sequence(_oid(_EXT_KEY_USAGE), _octets(purposes)),
        _sequence(_oid(_ALT_NAME), _octets(_sequence(_element(0x82, name.encode("ascii"))))),
    ]


def _element(tag: int, content: bytes) -> bytes:
    size = len(content)
    if size < 0x80:
        return bytes([tag, size]) + content
    length = size.to_bytes((size.bit_length() + 7) // 8, "big")
    return bytes([tag, 0x80 | len(length)]) + length + content


def _sequence(*parts: bytes) -> bytes:
    return _element(0x30, b"".join(parts))


def _octets(content: bytes) -> bytes:
    return _element(0x04, content)


def _bit_string(content: bytes) -> bytes:
    return _element(0x03, content)


def _integer(value: int) -> bytes:
    return _element(0x02, value.to_bytes(value.bit_length() // 8 + 1, "big"))


def _oid(text: str) -> bytes:
    first, second, *others = (int(number) for number in text.split("."))
    encoded = bytearray([first * 40 + second])
    for number in others:
        groups = [number & 0x7F]
        while number := number >> 7:
            groups.append(number & 0x7F | 0x80)
        encoded += bytes(reversed(groups))
    return _element(0x06, bytes(encoded))


def _name(common_name: str) -> bytes:
    attribute = _sequence(_oid(_COMMON_NAME), _element(0x0C, common_name.encode()))
    return _sequence(_element(0x31, attribute))


def _time(seconds: int) -> bytes:
    moment = time.gmtime(seconds)
    if seconds > _LAST_UTC_TIME_S:
        return _element(0x18, time.strftime("%Y%m%d%H%M%SZ", moment).encode())
    return _element(0x17, time.strftime("%y%m%d%H%M%SZ", moment).encode())
