# SPDX-License-Identifier: GPL-3.0-or-later
"""Who a TPM is: its endorsement key by certificate, its attestation key by attributes, both by one challenge.

The three together prove that an attestation key sits in a TPM that a trusted vendor made:

 1. ``verify_ek_chain``: the certificate leads to a root we trust, and is one for endorsement keys
 2. ``check_ak_public``: the attestation key cannot leave its TPM and signs only what that TPM made
 3. ``make_challenge``: a secret that only the TPM with both keys can read; its return is the proof

Source: TCG EK Credential Profile v2.5; TPM 2.0 Library, Part 1, 24 (credential protection); RFC 5280, 6.
"""

from __future__ import annotations

import datetime
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa

from ..errors import ParseError, UsageError
from ..model.certificate import (
    OID_BASIC_CONSTRAINTS,
    OID_EXTENDED_KEY_USAGE,
    OID_KEY_USAGE,
    OID_SUBJECT_ALT_NAME,
    Certificate,
)
from ..model.digest import sha256
from ..model.ektemplate import ECC_P256, ECC_P384, RSA_2048, ek_template
from ..model.finding import Finding, Locator, Severity, deny
from ..model.key import AkPublic, PublicKey
from ..parse.tpm2 import (
    ALG_ECC,
    ALG_ECDSA,
    ALG_SHA256,
    DECRYPT,
    ECC_NIST_P256,
    FIXED_PARENT,
    FIXED_TPM,
    RESTRICTED,
    SENSITIVE_DATA_ORIGIN,
    SIGN,
    parse_public,
)

OID_EK_CERTIFICATE = "2.23.133.8.1"
"""tcg-kp-EKCertificate."""

OID_TPM_MANUFACTURER, OID_TPM_MODEL, OID_TPM_VERSION = "2.23.133.2.1", "2.23.133.2.2", "2.23.133.2.3"

MAX_CHAIN_CERTIFICATES = 8
MAX_POOL_CERTIFICATES = 256
"""Intermediates and roots a chain is looked for in."""

SECRET_BYTES = 32
"""Length of a challenge's secret: as long as the credential may be for SHA-256 names."""

_SHA1 = frozenset(("1.2.840.113549.1.1.5", "1.2.840.10045.4.1"))
_RSA_HASHES: dict[str, hashes.HashAlgorithm] = {
    "1.2.840.113549.1.1.5": hashes.SHA1(),  # noqa: S303 - vendors' authorities of 2009 to 2014; reported as a finding
    "1.2.840.113549.1.1.11": hashes.SHA256(),
    "1.2.840.113549.1.1.12": hashes.SHA384(),
    "1.2.840.113549.1.1.13": hashes.SHA512(),
}
_ECDSA_HASHES: dict[str, hashes.HashAlgorithm] = {
    "1.2.840.10045.4.1": hashes.SHA1(),  # noqa: S303 - as above
    "1.2.840.10045.4.3.2": hashes.SHA256(),
    "1.2.840.10045.4.3.3": hashes.SHA384(),
    "1.2.840.10045.4.3.4": hashes.SHA512(),
}
# Understood, or of no meaning for us: key identifiers, policies, revocation and issuer addresses, TPM attributes.
_KNOWN_EXTENSIONS = frozenset(
    (
        OID_BASIC_CONSTRAINTS,
        OID_KEY_USAGE,
        OID_EXTENDED_KEY_USAGE,
        OID_SUBJECT_ALT_NAME,
        "2.5.29.9",
        "2.5.29.14",
        "2.5.29.31",
        "2.5.29.32",
        "2.5.29.35",
        "1.3.6.1.5.5.7.1.1",
    )
)


@dataclass(frozen=True, slots=True, kw_only=True)
class VerifiedEk:
    """An endorsement key that a trusted vendor certified (made by ``verify_ek_chain`` only).

    Attributes:
        kind: Template the key was made from, see ``model.ektemplate``.
        public: TPMT_PUBLIC built from the certificate; what a challenge is made for.
        spki_sha256: Digest of the key's SubjectPublicKeyInfo: the name of this TPM, also after a new certificate.
        certificate_sha256: Digest of the certificate.
        chain: Digests of the certificates above it, the root last.
        manufacturer: TPM manufacturer as certified, ``id:`` and 8 hexadecimal digits.
        model: TPM model.
        version: TPM firmware version.
        findings: What is odd but no reason to refuse.
    """

    kind: str
    public: bytes
    spki_sha256: bytes
    certificate_sha256: bytes
    chain: tuple[bytes, ...]
    manufacturer: str
    model: str
    version: str
    findings: tuple[Finding, ...]


def verify_ek_chain(
    ek_cert_der: bytes, intermediates_der: Iterable[bytes], roots_der: Iterable[bytes], *, now: datetime.datetime
) -> VerifiedEk:
    """Return the endorsement key of a certificate.

    1. There is at least one root.
    2. The certificate can be read; so can the others, or they are left out.
    3. Signatures lead from it to a root; every certificate above it may sign certificates.
    4. Every certificate of that chain is valid ``now``.
    5. It is for an endorsement key: usage 2.23.133.8.1, no certificate authority, TPM named in its alternative name.
    6. Its key is of a kind we can challenge.

    Args:
        ek_cert_der: As read from the TPM: vendors' oddities are tolerated, see ``model.certificate``.
        intermediates_der: From the TPM, the vendor's site, anywhere: they are not trusted.
        roots_der: Trusted.
        now: Aware time the chain must be valid at.

    Raises:
        EvidenceError: ``ek.certificate.malformed``, ``ek.chain.untrusted``, ``ek.chain.expired``,
            ``ek.certificate.critical``, ``ek.certificate.ca``, ``ek.certificate.usage``, ``ek.certificate.tpm``,
            ``ek.key.unsupported``.
        UsageError: ``ek.roots.none``.

    Trust: everything but the roots is an attacker's. The host is not bound to the key yet; the challenge does that.
    """
    roots = _pool(roots_der)
    if not roots:
        raise UsageError("no root certificate is given: no TPM can be trusted", code="ek.roots.none")
    leaf = _certificate(ek_cert_der)
    chain = _chain(leaf, _pool(intermediates_der), roots, now)
    _check_validity((leaf, *chain), now)
    _check_leaf(leaf)
    kind, public = _ek_public(leaf)
    names = leaf.directory_name()
    return VerifiedEk(
        kind=kind,
        public=public,
        spki_sha256=sha256(leaf.spki),
        certificate_sha256=leaf.digest,
        chain=tuple(item.digest for item in chain),
        manufacturer=names.get(OID_TPM_MANUFACTURER, ""),
        model=names.get(OID_TPM_MODEL, ""),
        version=names.get(OID_TPM_VERSION, ""),
        findings=tuple(_oddities((leaf, *chain[:-1]))),
    )


def check_ak_public(public: bytes) -> AkPublic:
    """Return the attestation key when its attributes are those of one.

    restricted and sign, not decrypt: it signs digests the TPM made, nothing from outside. fixedTPM, fixedParent,
    sensitiveDataOrigin: it was made in its TPM and cannot leave. ECC P-256 with ECDSA and SHA-256.

    Args:
        public: TPMT_PUBLIC.

    Raises:
        EvidenceError: ``ak.malformed``, ``ak.attributes``, ``ak.scheme``, ``ak.key``.

    Trust: the structure is the host's; what it says is bound to a TPM by the challenge for its name.
    """
    try:
        area = parse_public(public)
    except ParseError as error:
        raise deny("ak.malformed", "ak", actual=error) from None
    needed = FIXED_TPM | FIXED_PARENT | SENSITIVE_DATA_ORIGIN | RESTRICTED | SIGN
    if area.attributes & (needed | DECRYPT) != needed:
        raise deny("ak.attributes", "ak", expected=f"{needed:#010x} without decrypt", actual=f"{area.attributes:#010x}")
    scheme = (area.type, area.name_alg, area.scheme, area.scheme_hash, area.curve)
    if scheme != (ALG_ECC, ALG_SHA256, ALG_ECDSA, ALG_SHA256, ECC_NIST_P256):
        raise deny(
            "ak.scheme", "ak", expected="P-256, ECDSA, SHA-256", actual=" ".join(f"{v or 0:#06x}" for v in scheme)
        )
    if not 0 < len(area.x) <= 32 or not 0 < len(area.y) <= 32:
        raise deny("ak.key", "ak", expected="a point of P-256", actual=area.x + area.y)
    key = PublicKey.p256(area.x.rjust(32, b"\0"), area.y.rjust(32, b"\0"))
    try:
        serialization.load_der_public_key(key.spki)
    except ValueError:
        raise deny("ak.key", "ak", expected="a point of P-256", actual=area.x + area.y) from None
    return AkPublic(public=public, name=ak_name(public), key=key)


def ak_name(public: bytes) -> bytes:
    """Return the TPM name of a public area with nameAlg SHA-256: algorithm and digest (Part 1, 16)."""
    return b"\x00\x0b" + sha256(public)


def make_challenge(ek_public: bytes, name: bytes, secret: bytes) -> tuple[bytes, bytes]:
    """Return a credential blob and an encrypted secret that only one TPM can turn back into ``secret``.

    No TPM is needed here (TPM2_MakeCredential in software). tpm2-pytss 2.3 cannot do it for ECC P-384 keys (it makes
    the AES-256 initial vector as long as the key); RSA-2048 works with every version.

    Args:
        ek_public: TPMT_PUBLIC of the endorsement key: ``VerifiedEk.public``, never what the host says it is.
        name: Name of the attestation key that must sit in the same TPM.
        secret: At most 32 bytes, fresh and random.

    Raises:
        UsageError: for a secret too long or empty, or a name that is none.
    """
    if not 0 < len(secret) <= SECRET_BYTES or len(name) != 34:
        raise UsageError("a challenge takes 1 to 32 secret bytes and a 34-byte name", code="challenge.input")
    from tpm2_pytss import TPM2B_NAME, TPM2B_PUBLIC, TPMT_PUBLIC
    from tpm2_pytss.utils import make_credential

    area, _ = TPMT_PUBLIC.unmarshal(ek_public)
    blob, encrypted = make_credential(TPM2B_PUBLIC(publicArea=area), secret, TPM2B_NAME(name=name))
    return bytes(blob), bytes(encrypted)


def _pool(certificates: Iterable[bytes]) -> list[Certificate]:
    """Return those of ``certificates`` that can be read; the others can be part of no chain."""
    pool = []
    for number, item in enumerate(certificates):
        if number >= MAX_POOL_CERTIFICATES:
            raise UsageError(f"more than {MAX_POOL_CERTIFICATES} certificates to look through", code="ek.pool")
        try:
            pool.append(Certificate.from_der(item))
        except ParseError:
            continue
    return pool


def _certificate(data: bytes) -> Certificate:
    try:
        certificate = Certificate.from_der(data)
        # Read now what is read later, so that no malformed extension surprises a later step.
        _ = (certificate.is_ca, certificate.extended_key_usages, certificate.directory_name())
    except ParseError as error:
        raise deny("ek.certificate.malformed", "ek", actual=error, where=_WHERE) from None
    return certificate


def _chain(
    leaf: Certificate, intermediates: Sequence[Certificate], roots: Sequence[Certificate], now: datetime.datetime
) -> tuple[Certificate, ...]:
    """Return the certificates above ``leaf``, the root last; one that is valid ``now`` if there is any."""
    pool = (*roots, *intermediates)
    trusted = {root.digest for root in roots}
    expired: tuple[Certificate, ...] | None = None
    # Paths still to be followed. Each step needs a signature that holds, so hostile certificates cannot multiply them
    # without the signing keys, and the number of steps is bounded all the same.
    pending: list[tuple[Certificate, ...]] = [(leaf,)]
    for _ in range(MAX_POOL_CERTIFICATES):
        if not pending:
            break
        path = pending.pop()
        if path[-1].digest in trusted:
            if all(item.not_before <= now <= item.not_after for item in path):
                return path[1:]
            expired = expired or path[1:]
            continue
        if len(path) < MAX_CHAIN_CERTIFICATES:
            pending.extend((*path, issuer) for issuer in reversed(pool) if _issued(issuer, path))
    if expired is not None:
        return expired
    raise deny(
        "ek.chain.untrusted",
        "ek",
        expected=f"a chain to one of {len(roots)} roots",
        actual=f"certificate {leaf.digest.hex()}",
        where=_WHERE,
        source="RFC 5280, 6.1",
    )


def _issued(issuer: Certificate, path: tuple[Certificate, ...]) -> bool:
    """Say whether ``issuer`` may have issued, and did sign, the last certificate of ``path``."""
    subject = path[-1]
    if issuer.subject != subject.issuer or any(issuer.der == item.der for item in path):
        return False
    try:
        if not issuer.is_ca or not issuer.may_sign_certificates or _unknown_critical(issuer):
            return False
        if issuer.path_length is not None and issuer.path_length < len(path) - 1:
            return False
        key = serialization.load_der_public_key(issuer.spki)
    except (ParseError, ValueError, UnsupportedAlgorithm):
        return False
    try:
        if isinstance(key, rsa.RSAPublicKey) and subject.signature_algorithm in _RSA_HASHES:
            key.verify(subject.signature, subject.tbs, padding.PKCS1v15(), _RSA_HASHES[subject.signature_algorithm])
        elif isinstance(key, ec.EllipticCurvePublicKey) and subject.signature_algorithm in _ECDSA_HASHES:
            key.verify(subject.signature, subject.tbs, ec.ECDSA(_ECDSA_HASHES[subject.signature_algorithm]))
        else:
            return False
    except (InvalidSignature, UnsupportedAlgorithm, ValueError):
        return False
    return True


def _check_validity(path: tuple[Certificate, ...], now: datetime.datetime) -> None:
    for place, item in enumerate(path):
        if not item.not_before <= now <= item.not_after:
            raise deny(
                "ek.chain.expired",
                "ek",
                expected=f"valid at {now.isoformat()}",
                actual=f"{item.not_before.isoformat()} to {item.not_after.isoformat()}",
                where=Locator(part="ek.chain", entry=place),
                source="RFC 5280, 4.1.2.5",
            )


def _check_leaf(leaf: Certificate) -> None:
    unknown = _unknown_critical(leaf)
    if unknown:
        raise deny("ek.certificate.critical", "ek", expected="known extensions", actual=unknown[0], where=_WHERE)
    if leaf.is_ca:
        raise deny("ek.certificate.ca", "ek", expected="the certificate of a key", actual="an authority", where=_WHERE)
    if OID_EK_CERTIFICATE not in leaf.extended_key_usages:
        found = ", ".join(leaf.extended_key_usages) or "none"
        raise deny("ek.certificate.usage", "ek", expected=OID_EK_CERTIFICATE, actual=found, where=_WHERE)
    if not leaf.directory_name().get(OID_TPM_MANUFACTURER):
        raise deny("ek.certificate.tpm", "ek", expected="a TPM manufacturer", actual="none", where=_WHERE)


def _ek_public(leaf: Certificate) -> tuple[str, bytes]:
    kind = {"rsa": RSA_2048, "P-256": ECC_P256, "P-384": ECC_P384}.get(str(leaf.key[0]))
    numbers = tuple(number for number in leaf.key[1:] if isinstance(number, bytes))
    if kind is None or (kind == RSA_2048 and len(numbers[0]) != 256):
        raise deny("ek.key.unsupported", "ek", expected="RSA-2048, P-256 or P-384", actual=leaf.key[0], where=_WHERE)
    return kind, ek_template(kind).public(*numbers)


def _unknown_critical(certificate: Certificate) -> list[str]:
    return [name for name, item in certificate.extensions.items() if item.critical and name not in _KNOWN_EXTENSIONS]


def _oddities(path: Sequence[Certificate]) -> Iterable[Finding]:
    for place, item in enumerate(path):
        if item.signature_algorithm in _SHA1:
            yield Finding(
                code="ek.chain.sha1",
                severity=Severity.NOTE,
                subject="ek",
                where=Locator(part="ek.chain", entry=place),
                expected="a signature with SHA-256 or longer",
                actual=item.signature_algorithm,
                source="NIST SP 800-131A",
            )


_WHERE = Locator(part="ek.certificate")
