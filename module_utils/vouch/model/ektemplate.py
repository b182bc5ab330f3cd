# SPDX-License-Identifier: GPL-3.0-or-later
"""Endorsement keys: the templates a TPM makes them from, and the public areas that follow from a certificate.

The public area of an EK is its template with the key filled in, so an appraiser builds it from the certificate alone
and needs to believe nothing the host says.

Source: TCG EK Credential Profile for TPM Family 2.0, v2.5, annex B (templates L-1, L-2, H-3) and 2.2.1.4 (NV indices).
"""

from __future__ import annotations

import struct
from dataclasses import dataclass

from ..errors import UsageError

RSA_2048, ECC_P256, ECC_P384 = "rsa2048", "ecc-p256", "ecc-p384"

EK_CHAIN_FIRST, EK_CHAIN_LAST = 0x01C00100, 0x01C001FF
"""NV indices that hold the vendor's intermediate certificates (2.2.1.5.2)."""

_ATTRIBUTES_LOW = 0x000300B2
"""fixedTPM, fixedParent, sensitiveDataOrigin, adminWithPolicy, restricted, decrypt."""

_ATTRIBUTES_HIGH = 0x000300F2
"""The same and userWithAuth."""

_POLICY_A_SHA256 = bytes.fromhex("837197674484b3f81a90cc8d46a5d724fd52d76e06520b64f2a1da1b331469aa")
"""PolicySecret(TPM_RH_ENDORSEMENT)."""

_POLICY_B_SHA384 = bytes.fromhex(
    "b26e7d28d11a50bc53d882bcf5fd3a1a074148bb35d3b4e4cb1c0ad9bde419cacb47ba09699646150f9fc000f3f80e12"
)
_AES128_CFB, _AES256_CFB = bytes.fromhex("000600800043"), bytes.fromhex("000601000043")
_NULL = b"\x00\x10"
RSA_EXPONENT = 65537
"""TPM2 writes it as 0 in the public area."""


@dataclass(frozen=True, slots=True, kw_only=True)
class EkTemplate:
    """One way to make an EK.

    Attributes:
        kind: ``RSA_2048``, ``ECC_P256`` or ``ECC_P384``.
        certificate_index: NV index of the certificate.
        persistent_handle: Where the key is kept when somebody made it persistent.
        uses_policy: Its use needs PolicySecret(endorsement); otherwise the empty password does.
        head: TPMT_PUBLIC up to ``unique``.
        template_unique: ``unique`` as the template has it.
        key_bytes: Length of the modulus or of one coordinate.
    """

    kind: str
    certificate_index: int
    persistent_handle: int
    uses_policy: bool
    head: bytes
    template_unique: bytes
    key_bytes: int

    @property
    def template(self) -> bytes:
        """TPMT_PUBLIC to create the key from."""
        return self.head + self.template_unique

    def public(self, *numbers: bytes) -> bytes:
        """Return the TPMT_PUBLIC of the key with this modulus, or these x and y.

        Raises:
            UsageError: for a number too long, or too many or few of them.
        """
        if len(numbers) != (1 if self.kind == RSA_2048 else 2) or any(len(n) > self.key_bytes for n in numbers):
            raise UsageError(f"these numbers are no {self.kind} key", code="ek.key")
        return self.head + b"".join(_sized(number.rjust(self.key_bytes, b"\0")) for number in numbers)


def _sized(value: bytes) -> bytes:
    return struct.pack(">H", len(value)) + value


def _head(kind: int, name_alg: int, attributes: int, policy: bytes, parameters: bytes) -> bytes:
    return struct.pack(">HHI", kind, name_alg, attributes) + _sized(policy) + parameters


EK_TEMPLATES: tuple[EkTemplate, ...] = (
    EkTemplate(
        kind=RSA_2048,
        certificate_index=0x01C00002,
        persistent_handle=0x81010001,
        uses_policy=True,
        head=_head(
            0x0001, 0x000B, _ATTRIBUTES_LOW, _POLICY_A_SHA256, _AES128_CFB + _NULL + struct.pack(">HI", 2048, 0)
        ),
        template_unique=_sized(bytes(256)),
        key_bytes=256,
    ),
    EkTemplate(
        kind=ECC_P256,
        certificate_index=0x01C0000A,
        persistent_handle=0x81010002,
        uses_policy=True,
        head=_head(
            0x0023, 0x000B, _ATTRIBUTES_LOW, _POLICY_A_SHA256, _AES128_CFB + _NULL + struct.pack(">H", 3) + _NULL
        ),
        template_unique=_sized(bytes(32)) + _sized(bytes(32)),
        key_bytes=32,
    ),
    EkTemplate(
        kind=ECC_P384,
        certificate_index=0x01C00016,
        persistent_handle=0x81010016,
        uses_policy=False,
        head=_head(
            0x0023, 0x000C, _ATTRIBUTES_HIGH, _POLICY_B_SHA384, _AES256_CFB + _NULL + struct.pack(">H", 4) + _NULL
        ),
        template_unique=_sized(b"") + _sized(b""),
        key_bytes=48,
    ),
)
"""In the order they are preferred."""


def ek_template(kind: str) -> EkTemplate:
    """Return the template named ``kind``.

    Raises:
        UsageError: for an unknown kind.
    """
    for template in EK_TEMPLATES:
        if template.kind == kind:
            return template
    raise UsageError(f"no EK template {kind!r}", code="ek.kind")
