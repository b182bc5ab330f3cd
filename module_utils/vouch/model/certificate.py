# SPDX-License-Identifier: GPL-3.0-or-later
"""X.509 certificates of TPM vendors, read with the tolerance they need.

The signature of a certificate is over bytes, so a certificate that strict parsers refuse (a SET in the wrong order,
the key algorithm id-RSAES-OAEP) is still a sound one. Names are compared byte by byte.

Source: RFC 5280, 4.1 and 4.2; TCG EK Credential Profile v2.5, 3.2.
"""

from __future__ import annotations

import datetime
import re
from collections.abc import Mapping
from dataclasses import dataclass

from ..errors import ParseError
from ..parse import der
from ..parse.der import Element, parse_der
from .digest import sha256

OID_BASIC_CONSTRAINTS = "2.5.29.19"
OID_KEY_USAGE = "2.5.29.15"
OID_EXTENDED_KEY_USAGE = "2.5.29.37"
OID_SUBJECT_ALT_NAME = "2.5.29.17"

OID_RSA, OID_RSAES_OAEP = "1.2.840.113549.1.1.1", "1.2.840.113549.1.1.7"
OID_EC = "1.2.840.10045.2.1"
CURVES: Mapping[str, tuple[str, int]] = {"1.2.840.10045.3.1.7": ("P-256", 32), "1.3.132.0.34": ("P-384", 48)}

KEY_CERT_SIGN = 0x04
"""Bit 5 of the first byte of KeyUsage."""

_STORED_CERT_TAG = b"\x10\x01"
_STORED_CERT_HEADER_BYTES = 7
"""TCG_PCCLIENT_STORED_CERT before a certificate read from TPM 1.2 NV memory (PC Client 1.21, 7.4.4)."""

_RSA_ALGORITHM = bytes.fromhex("300d06092a864886f70d0101010500")
_TIME = re.compile(r"(\d{2}|\d{4})(\d{2})(\d{2})(\d{2})(\d{2})(\d{2})Z\Z", re.ASCII)


@dataclass(frozen=True, slots=True)
class Extension:
    """One extension: whether a reader that does not know it must refuse, and its DER value."""

    critical: bool
    value: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Certificate:
    """The parts of one certificate; nothing in it is verified.

    Attributes:
        der: The certificate alone, without header or filling.
        tbs: What is signed.
        signature_algorithm: OID.
        signature: Bytes of the signature.
        issuer: DER name.
        subject: DER name.
        not_before: Start of validity.
        not_after: End of validity.
        spki: SubjectPublicKeyInfo; an OAEP-only RSA key is written as a plain one.
        key: ``("rsa", modulus)`` or ``("P-256", x, y)`` or ``("P-384", x, y)``; ``("other",)`` else.
        extensions: OID to extension.
    """

    der: bytes
    tbs: bytes
    signature_algorithm: str
    signature: bytes
    issuer: bytes
    subject: bytes
    not_before: datetime.datetime
    not_after: datetime.datetime
    spki: bytes
    key: tuple[str | bytes, ...]
    extensions: Mapping[str, Extension]

    @property
    def digest(self) -> bytes:
        """SHA-256 of the certificate."""
        return sha256(self.der)

    @property
    def is_ca(self) -> bool:
        """Whether basicConstraints says it may issue certificates."""
        extension = self.extensions.get(OID_BASIC_CONSTRAINTS)
        if extension is None:
            return False
        parts = parse_der(extension.value).expect(der.SEQUENCE).children()
        return bool(parts) and parts[0].tag == der.BOOLEAN and parts[0].content != b"\x00"

    @property
    def path_length(self) -> int | None:
        """How many certificate authorities may stand below; None when not limited."""
        extension = self.extensions.get(OID_BASIC_CONSTRAINTS)
        parts = () if extension is None else parse_der(extension.value).expect(der.SEQUENCE).children()
        return parts[1].unsigned() if len(parts) > 1 else None

    @property
    def may_sign_certificates(self) -> bool:
        """Whether keyUsage, when there is one, holds keyCertSign."""
        extension = self.extensions.get(OID_KEY_USAGE)
        if extension is None:
            return True
        bits = parse_der(extension.value).expect(der.BIT_STRING).content
        return len(bits) > 1 and bool(bits[1] & KEY_CERT_SIGN)

    @property
    def extended_key_usages(self) -> tuple[str, ...]:
        """OIDs of extendedKeyUsage."""
        extension = self.extensions.get(OID_EXTENDED_KEY_USAGE)
        if extension is None:
            return ()
        return tuple(item.oid() for item in parse_der(extension.value).expect(der.SEQUENCE).children())

    def directory_name(self) -> Mapping[str, str]:
        """Return the attributes of the directory name in subjectAltName: OID to text."""
        extension = self.extensions.get(OID_SUBJECT_ALT_NAME)
        found: dict[str, str] = {}
        if extension is None:
            return found
        for name in parse_der(extension.value).expect(der.SEQUENCE).children():
            if name.tag != 0xA4:  # GeneralName, directoryName [4]
                continue
            for relative in name.child(0, der.SEQUENCE).children():
                for attribute in relative.expect(der.SET).children():
                    parts = attribute.expect(der.SEQUENCE).children()
                    if len(parts) == 2:
                        found.setdefault(parts[0].oid(), parts[1].text())
        return found

    @classmethod
    def from_der(cls, data: bytes) -> Certificate:
        """Return the certificate in ``data``.

        Args:
            data: A certificate, possibly with the header of TPM 1.2 NV memory before it, or 0x00 or 0xff behind it
                to the end of its NV index.

        Raises:
            ParseError: for anything else, attribute certificates and X.509 versions before 3 among it.

        Trust: an attacker's.
        """
        if data.startswith(_STORED_CERT_TAG):
            data = data[_STORED_CERT_HEADER_BYTES:]
        outer = parse_der(data, allow_trailing=True).expect(der.SEQUENCE)
        filling = data[outer.end :]
        if filling.strip(b"\0") and filling.strip(b"\xff"):
            raise ParseError("certificate", outer.end, "is followed by other bytes", code="parse.trailing")
        parts = outer.children()
        if len(parts) != 3:
            raise outer.fail("is no certificate")
        tbs, algorithm, signature = parts
        fields = tbs.expect(der.SEQUENCE).children()
        # [0] EXPLICIT version, 2 for v3: its absence also marks an attribute certificate.
        if len(fields) < 8 or fields[0].tag != 0xA0 or fields[0].child(0, der.INTEGER).unsigned() != 2:
            raise tbs.fail("is no X.509 v3 certificate")
        if fields[2].encoded != algorithm.encoded:
            raise tbs.fail("names another signature algorithm than the certificate")
        validity = fields[4].expect(der.SEQUENCE).children()
        if len(validity) != 2:
            raise fields[4].fail("is no validity")
        spki, key = _key(fields[6])
        return cls(
            der=outer.encoded,
            tbs=tbs.encoded,
            signature_algorithm=algorithm.child(0, der.OID).oid(),
            signature=signature.bits(),
            issuer=fields[3].expect(der.SEQUENCE).encoded,
            subject=fields[5].expect(der.SEQUENCE).encoded,
            not_before=_time(validity[0]),
            not_after=_time(validity[1]),
            spki=spki,
            key=key,
            extensions=_extensions(fields[7:]),
        )


def _key(spki: Element) -> tuple[bytes, tuple[str | bytes, ...]]:
    algorithm = spki.expect(der.SEQUENCE).child(0, der.SEQUENCE)
    name = algorithm.child(0, der.OID).oid()
    bits = spki.child(1, der.BIT_STRING)
    if name in (OID_RSA, OID_RSAES_OAEP):
        modulus = parse_der(bits.bits()).expect(der.SEQUENCE).child(0, der.INTEGER).unsigned()
        body = _RSA_ALGORITHM + bits.encoded
        plain = b"\x30\x82" + len(body).to_bytes(2, "big") + body if len(body) > 255 else spki.encoded
        return plain, ("rsa", modulus.to_bytes((modulus.bit_length() + 7) // 8, "big"))
    if name == OID_EC and len(algorithm.children()) == 2 and algorithm.children()[1].tag == der.OID:
        curve, size = CURVES.get(algorithm.children()[1].oid(), ("", 0))
        point = bits.bits()
        if curve and len(point) == 1 + 2 * size and point[0] == 4:
            return spki.encoded, (curve, point[1 : 1 + size], point[1 + size :])
    return spki.encoded, ("other",)


def _extensions(fields: tuple[Element, ...]) -> dict[str, Extension]:
    found: dict[str, Extension] = {}
    for field in fields:
        if field.tag != 0xA3:  # issuerUniqueID [1] and subjectUniqueID [2] mean nothing to us
            continue
        for item in field.child(0, der.SEQUENCE).children():
            parts = item.expect(der.SEQUENCE).children()
            if len(parts) not in (2, 3) or (len(parts) == 3 and parts[1].tag != der.BOOLEAN):
                raise item.fail("is no extension")
            name = parts[0].oid()
            if name in found:
                raise item.fail("stands twice")
            critical = len(parts) == 3 and parts[1].content != b"\x00"
            found[name] = Extension(critical, parts[-1].expect(der.OCTET_STRING).content)
    return found


def _time(element: Element) -> datetime.datetime:
    match = _TIME.fullmatch(element.content.decode("ascii", "replace"))
    long = element.tag == der.GENERALIZED_TIME
    if match is None or element.tag not in (der.UTC_TIME, der.GENERALIZED_TIME) or len(match[1]) != (4 if long else 2):
        raise element.fail("is no time")
    year, month, day, hour, minute, second = (int(group) for group in match.groups())
    if not long:
        year += 1900 if year >= 50 else 2000
    try:
        return datetime.datetime(year, month, day, hour, minute, second, tzinfo=datetime.UTC)
    except ValueError:
        raise element.fail("is no time") from None
