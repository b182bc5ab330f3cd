# SPDX-License-Identifier: GPL-3.0-or-later
"""TPM 2.0 structures that leave a TPM: quotes, public areas, signatures. Everything is big-endian.

TPMS_ATTEST                             TPMT_PUBLIC
  4  magic                                2  type (RSA, ECC)
  2  type                                 2  nameAlg
  2+n qualifiedSigner (TPM2B_NAME)        4  objectAttributes
  2+n extraData (TPM2B_DATA)              2+n authPolicy
  8  clock, milliseconds                  .. parameters: symmetric, scheme, then
  4  resetCount                              RSA: 2 keyBits, 4 exponent
  4  restartCount                            ECC: 2 curveID, kdf
  1  safe (0 or 1)                        .. unique: RSA 2+n modulus; ECC 2+n x, 2+n y
  8  firmwareVersion
  .. attested; for a quote:             TPMT_SIGNATURE
     4  count of selections               2  sigAlg
        2 hash, 1 size, n bitmap          2  hash
     2+n pcrDigest                        2+n signature (RSA), or 2+n r, 2+n s (ECC)

Source: TPM 2.0 Library, Part 2, 10.12.8 and 10.12.12 (attest, quote), 12.2.4 (public), 11.3.4 (signature).
"""

from __future__ import annotations

from dataclasses import dataclass

from .cursor import Cursor

TPM_GENERATED = 0xFF544347
ST_ATTEST_QUOTE = 0x8018

ALG_RSA, ALG_ECC = 0x0001, 0x0023
ALG_NULL = 0x0010
ALG_SHA1, ALG_SHA256, ALG_SHA384, ALG_SHA512 = 0x0004, 0x000B, 0x000C, 0x000D
ALG_RSASSA, ALG_RSAES, ALG_RSAPSS, ALG_OAEP = 0x0014, 0x0015, 0x0016, 0x0017
ALG_ECDSA, ALG_ECDH, ALG_ECDAA, ALG_SM2, ALG_ECSCHNORR, ALG_ECMQV = 0x0018, 0x0019, 0x001A, 0x001B, 0x001C, 0x001D
ECC_NIST_P256, ECC_NIST_P384 = 0x0003, 0x0004

FIXED_TPM = 1 << 1
FIXED_PARENT = 1 << 4
SENSITIVE_DATA_ORIGIN = 1 << 5
USER_WITH_AUTH = 1 << 6
ADMIN_WITH_POLICY = 1 << 7
NO_DA = 1 << 10
RESTRICTED = 1 << 16
DECRYPT = 1 << 17
SIGN = 1 << 18

MAX_STRUCTURE_BYTES = 4096
"""No structure of this file comes near it."""

MAX_NAME_BYTES = 66
"""A name: algorithm and the longest digest (TPM 2.0 Part 2, 10.5.3)."""

MAX_EXTRA_DATA_BYTES = 66
"""TPM2B_DATA holds at most a TPMT_HA (10.4.3)."""

MAX_DIGEST_BYTES = 64
MAX_SELECTIONS = 16
MAX_SELECT_BYTES = 4
MAX_RSA_BYTES = 512
MAX_ECC_BYTES = 66

_ECC_HASH_SCHEMES = frozenset((ALG_ECDSA, ALG_ECDH, ALG_ECDAA, ALG_SM2, ALG_ECSCHNORR, ALG_ECMQV))
_RSA_HASH_SCHEMES = frozenset((ALG_RSASSA, ALG_RSAPSS, ALG_OAEP))
_ECC_SIGNATURES = frozenset((ALG_ECDSA, ALG_ECDAA, ALG_SM2, ALG_ECSCHNORR))
_BITS = tuple(tuple(bit for bit in range(8) if byte >> bit & 1) for byte in range(256))


@dataclass(frozen=True, slots=True, kw_only=True)
class ClockInfo:
    """TPMS_CLOCK_INFO."""

    clock_ms: int
    reset_count: int
    restart_count: int
    safe: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class QuoteInfo:
    """TPMS_QUOTE_INFO: ``selections`` is (TPM_ALG_ID, ascending register indices) per bank, as quoted."""

    selections: tuple[tuple[int, tuple[int, ...]], ...]
    pcr_digest: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Attest:
    """TPMS_ATTEST. ``quote`` is None when ``type`` is not ``ST_ATTEST_QUOTE``; the rest is not read then."""

    magic: int
    type: int
    qualified_signer: bytes
    extra_data: bytes
    clock_info: ClockInfo
    firmware_version: int
    quote: QuoteInfo | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Public:
    """TPMT_PUBLIC of an RSA or ECC key; numbers are TPM_ALG_ID and TPM_ECC_CURVE."""

    type: int
    name_alg: int
    attributes: int
    auth_policy: bytes
    symmetric: tuple[int, int, int] | None
    scheme: int
    scheme_hash: int | None
    rsa_bits: int = 0
    rsa_exponent: int = 0
    rsa_modulus: bytes = b""
    curve: int = 0
    x: bytes = b""
    y: bytes = b""


@dataclass(frozen=True, slots=True, kw_only=True)
class Signature:
    """TPMT_SIGNATURE: ``raw`` for RSA schemes, ``r`` and ``s`` (big-endian) for ECC schemes."""

    scheme: int
    hash_alg: int
    raw: bytes = b""
    r: bytes = b""
    s: bytes = b""


def parse_attest(data: bytes) -> Attest:
    """Return the fields of a TPMS_ATTEST.

    Raises:
        ParseError: when it is cut, a size is impossible, or bytes are left over.

    Trust: an attacker's until its signature was verified. Magic and type are returned, not judged.
    """
    cursor = Cursor(data, limit_bytes=MAX_STRUCTURE_BYTES, what="TPMS_ATTEST")
    magic = cursor.u32be("magic")
    kind = cursor.u16be("type")
    signer = _sized(cursor, "qualifiedSigner", MAX_NAME_BYTES)
    extra = _sized(cursor, "extraData", MAX_EXTRA_DATA_BYTES)
    clock_info = _clock_info(cursor)
    firmware = cursor.u64be("firmwareVersion")
    quote = None
    if kind == ST_ATTEST_QUOTE:
        selections = _pcr_selections(cursor)
        quote = QuoteInfo(selections=selections, pcr_digest=_sized(cursor, "pcrDigest", MAX_DIGEST_BYTES))
        cursor.done()
    return Attest(
        magic=magic,
        type=kind,
        qualified_signer=signer,
        extra_data=extra,
        clock_info=clock_info,
        firmware_version=firmware,
        quote=quote,
    )


def parse_public(data: bytes) -> Public:
    """Return the fields of a TPMT_PUBLIC.

    Raises:
        ParseError: for another type than RSA or ECC, an unknown scheme, a cut structure, bytes left over.

    Trust: an attacker's. A name computed over ``data`` means something only after credential activation.
    """
    cursor = Cursor(data, limit_bytes=MAX_STRUCTURE_BYTES, what="TPMT_PUBLIC")
    kind = cursor.u16be("type")
    if kind not in (ALG_RSA, ALG_ECC):
        raise cursor.fail("type", f"{kind:#06x} is neither RSA nor ECC", code="parse.tpm2.type")
    name_alg = cursor.u16be("nameAlg")
    attributes = cursor.u32be("objectAttributes")
    auth_policy = _sized(cursor, "authPolicy", MAX_DIGEST_BYTES)
    symmetric = _symmetric(cursor)
    scheme, scheme_hash = _scheme(cursor, kind)
    if kind == ALG_RSA:
        public = Public(
            type=kind,
            name_alg=name_alg,
            attributes=attributes,
            auth_policy=auth_policy,
            symmetric=symmetric,
            scheme=scheme,
            scheme_hash=scheme_hash,
            rsa_bits=cursor.u16be("keyBits"),
            rsa_exponent=cursor.u32be("exponent"),
            rsa_modulus=_sized(cursor, "unique", MAX_RSA_BYTES),
        )
    else:
        curve = cursor.u16be("curveID")
        if cursor.u16be("kdf") != ALG_NULL:
            cursor.u16be("kdf.hashAlg")
        public = Public(
            type=kind,
            name_alg=name_alg,
            attributes=attributes,
            auth_policy=auth_policy,
            symmetric=symmetric,
            scheme=scheme,
            scheme_hash=scheme_hash,
            curve=curve,
            x=_sized(cursor, "unique.x", MAX_ECC_BYTES),
            y=_sized(cursor, "unique.y", MAX_ECC_BYTES),
        )
    cursor.done()
    return public


def parse_signature(data: bytes) -> Signature:
    """Return the fields of a TPMT_SIGNATURE.

    Raises:
        ParseError: for another scheme than an RSA or ECC one, a cut structure, bytes left over.

    Trust: an attacker's. The scheme it names is compared with the enrolled key's, never believed.
    """
    cursor = Cursor(data, limit_bytes=MAX_STRUCTURE_BYTES, what="TPMT_SIGNATURE")
    scheme = cursor.u16be("sigAlg")
    if scheme in (ALG_RSASSA, ALG_RSAPSS):
        signature = Signature(scheme=scheme, hash_alg=cursor.u16be("hash"), raw=_sized(cursor, "sig", MAX_RSA_BYTES))
    elif scheme in _ECC_SIGNATURES:
        signature = Signature(
            scheme=scheme,
            hash_alg=cursor.u16be("hash"),
            r=_sized(cursor, "signatureR", MAX_ECC_BYTES),
            s=_sized(cursor, "signatureS", MAX_ECC_BYTES),
        )
    else:
        raise cursor.fail("sigAlg", f"{scheme:#06x} is no RSA or ECC scheme", code="parse.tpm2.scheme")
    cursor.done()
    return signature


def _sized(cursor: Cursor, field: str, limit_bytes: int) -> bytes:
    """Read a TPM2B: 2 bytes of size, then the bytes."""
    size = cursor.u16be(f"{field}.size")
    if size > limit_bytes:
        raise cursor.fail(field, f"{size} bytes, more than the {limit_bytes} allowed", code="parse.too-large")
    return cursor.take(size, field)


def _clock_info(cursor: Cursor) -> ClockInfo:
    clock_ms = cursor.u64be("clockInfo.clock")
    reset_count = cursor.u32be("clockInfo.resetCount")
    restart_count = cursor.u32be("clockInfo.restartCount")
    safe = cursor.u8("clockInfo.safe")
    if safe > 1:
        raise cursor.fail("clockInfo.safe", f"{safe} is neither YES nor NO")
    return ClockInfo(clock_ms=clock_ms, reset_count=reset_count, restart_count=restart_count, safe=safe == 1)


def _pcr_selections(cursor: Cursor) -> tuple[tuple[int, tuple[int, ...]], ...]:
    count = cursor.u32be("pcrSelect.count")
    if count > MAX_SELECTIONS:
        raise cursor.fail("pcrSelect.count", f"{count} selections, more than {MAX_SELECTIONS}", code="parse.too-large")
    selections = []
    for _ in range(count):
        algorithm = cursor.u16be("pcrSelect.hash")
        size = cursor.u8("pcrSelect.sizeofSelect")
        if size > MAX_SELECT_BYTES:
            raise cursor.fail("pcrSelect.sizeofSelect", f"{size} bytes, more than {MAX_SELECT_BYTES}")
        bitmap = cursor.take(size, "pcrSelect.pcrSelect")
        indices = tuple(8 * place + bit for place, byte in enumerate(bitmap) for bit in _BITS[byte])
        selections.append((algorithm, indices))
    return tuple(selections)


def _symmetric(cursor: Cursor) -> tuple[int, int, int] | None:
    """Read a TPMT_SYM_DEF_OBJECT: (algorithm, key bits, mode), or None for TPM_ALG_NULL."""
    algorithm = cursor.u16be("symmetric.algorithm")
    if algorithm == ALG_NULL:
        return None
    return algorithm, cursor.u16be("symmetric.keyBits"), cursor.u16be("symmetric.mode")


def _scheme(cursor: Cursor, kind: int) -> tuple[int, int | None]:
    scheme = cursor.u16be("scheme")
    if scheme == ALG_NULL or (kind == ALG_RSA and scheme == ALG_RSAES):
        return scheme, None
    if scheme not in (_RSA_HASH_SCHEMES if kind == ALG_RSA else _ECC_HASH_SCHEMES):
        raise cursor.fail("scheme", f"{scheme:#06x} is no scheme of this key type", code="parse.tpm2.scheme")
    scheme_hash = cursor.u16be("scheme.hashAlg")
    if scheme == ALG_ECDAA:
        cursor.u16be("scheme.count")
    return scheme, scheme_hash
