# SPDX-License-Identifier: GPL-3.0-or-later
"""Attestation results as EAR: claims, and the JWT (ES256) that carries them to other relying parties.

Written is the dialect of draft-ietf-rats-ear-03 (``ear_status``); read is also the one before it (``ear.status``,
profile ``tag:github.com,2023:veraison/ear``), which the first implementations speak.

Ours are the claims that begin with ``vouch_``. ``exp`` (RFC 7519, 4.1.4) makes the result expire for readers that know
nothing of us. The header names the key by its thumbprint; ``appraise.jwks`` tells others which keys there are.

Source: draft-ietf-rats-ear-03, 3; draft-ietf-rats-ar4si-09, 2.3; RFC 9711, 4; RFC 7515; RFC 7518, 3.4.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

from joserfc import jws
from joserfc.errors import JoseError

from ..errors import ParseError, UsageError
from ..model.finding import Verdict, deny
from ..parse.canonical import dump_canonical, load_json
from ..parse.fields import Fields
from .guestresult import GuestResult
from .jwks import (
    ALGORITHM,
    MAX_KID_CHARS,
    KeySet,
    decode_base64url,
    encode_base64url,
    import_key,
    key_name,
    key_set,
    smaller_form,
)
from .result import DONE, STAGES, UNREACHED, AttestationResult

PROFILE = "tag:ietf.org,2026:rats/ear#03"
OLD_PROFILE = "tag:github.com,2023:veraison/ear"
DEVELOPER = "https://vouch.invalid"
"""Who made the appraiser; ``.invalid`` (RFC 2606) because the project owns no domain."""

MAX_TOKEN_BYTES = 1 << 20
BUNDLE_CLAIM = "vouch_bundle_sha256"
"""Names the bundle that the result is kept in (``parse.bundle.parts_digest``)."""

HOST, GUEST = "host", "guest:"
"""Names of submodules: the host's, and what a guest's begins with."""

VECTOR = (
    "instance-identity",
    "configuration",
    "executables",
    "file-system",
    "hardware",
    "runtime-opaque",
    "storage-opaque",
    "sourced-data",
)
"""Members of the trustworthiness vector (AR4SI, 2.3.4)."""

AFFIRMED, UNSAFE, CONTRAINDICATED, UNRECOGNIZED, CRYPTO_FAILED = 2, 32, 96, 97, 99
"""AR4SI trustworthiness claims we make."""

_STAGE_CLAIMS: Mapping[str, tuple[str, int]] = MappingProxyType(
    {
        "evidence": ("instance-identity", CRYPTO_FAILED),
        "identity": ("instance-identity", UNRECOGNIZED),
        "quote": ("instance-identity", CRYPTO_FAILED),
        "counters": ("instance-identity", CONTRAINDICATED),
        "boot": ("configuration", CONTRAINDICATED),
        "logs": ("executables", CRYPTO_FAILED),
        "contents": ("executables", CONTRAINDICATED),
        "roti": ("file-system", CONTRAINDICATED),
        "channel": ("instance-identity", CONTRAINDICATED),
        "guests": ("runtime-opaque", CONTRAINDICATED),
    }
)
"""What a stage that failed says: its claim and the value of it."""

_PROVEN_BY: Mapping[str, str] = MappingProxyType(
    {
        "hardware": "quote",
        "configuration": "boot",
        "executables": "contents",
        "file-system": "roti",
        "instance-identity": "channel",
    }
)
"""Which stage has to be behind us before a claim is affirmed."""

_GUEST_CLAIMS: Mapping[str, str] = MappingProxyType(
    {
        "guest.log.violation": "executables",
        "guest.check": "executables",
        "guest.package": "file-system",
        "package": "configuration",
    }
)
"""How a code begins, to the claim about a guest that it decides; any other code decides who it is."""

_TOKEN = re.compile(rb"([A-Za-z0-9_-]+)\.([A-Za-z0-9_-]+)\.([A-Za-z0-9_-]{86})\Z")


@dataclass(frozen=True, slots=True, kw_only=True)
class EarSubmodule:
    """One appraised part."""

    status: Verdict
    vector: Mapping[str, int]
    policy_ids: tuple[str, ...]
    extensions: Mapping[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Ear:
    """The claims of one attestation result. Its signature was checked where ``verify_ear`` made it."""

    profile: str
    issued_at_s: int
    expires_at_s: int | None
    developer: str
    build: str
    submodules: Mapping[str, EarSubmodule]
    extensions: Mapping[str, Any]


def ear_claims(result: AttestationResult, *, build: str, bundle: bytes | None = None) -> dict[str, Any]:
    """Return the claims of ``result``.

    Args:
        result: What the appraisal found.
        build: Name and version of the appraiser.
        bundle: Digest of what the result was made from (``parse.bundle.parts_digest``); None leaves the claim out.
    """
    submodule: dict[str, Any] = {
        "ear_status": result.verdict.value,
        "ear_trustworthiness_vector": trust_vector(result),
        "ear_appraisal_policy_ids": [f"urn:vouch:policy:sha256:{result.policy_digest.hex()}"],
        "vouch_host_id": result.host_id,
        "vouch_stage": result.stage,
        "vouch_findings": [finding.as_dict() for finding in result.findings],
    }
    for name, value in (
        ("vouch_evidence_sha256", result.evidence_digest),
        ("vouch_ak_name", result.ak_name),
        ("vouch_release_id", result.release_id),
        ("vouch_pcr4_expected", result.pcr4_expected),
        ("vouch_pcr4_found", result.pcr4_found),
    ):
        if value is not None:
            submodule[name] = value.hex()
    claims: dict[str, Any] = {
        "eat_profile": PROFILE,
        "iat": result.issued_at_s,
        "exp": result.expires_at_s,
        "ear_verifier_id": {"developer": DEVELOPER, "build": build},
        "submods": {HOST: submodule, **{f"{GUEST}{guest.guest}": _guest_claims(guest) for guest in result.guests}},
    }
    if result.nonce:
        claims["eat_nonce"] = result.nonce.hex()
    if bundle is not None:
        claims[BUNDLE_CLAIM] = bundle.hex()
    return claims


def _guest_claims(guest: GuestResult) -> dict[str, Any]:
    """Return the submodule of one guest; its policy is that of the host's submodule."""
    submodule: dict[str, Any] = {
        "ear_status": guest.verdict.value,
        "ear_trustworthiness_vector": guest_vector(guest),
        "vouch_findings": [finding.as_dict() for finding in guest.findings],
    }
    if guest.record is not None:
        submodule["vouch_guest"] = guest.record.to_json()
    return submodule


def guest_vector(guest: GuestResult) -> dict[str, int]:
    """Return the AR4SI claims about one guest.

    Affirmed are its image (``file-system``), its policy (``configuration``) and what runs (``executables``). Of a guest
    with a reason against it, only the claims that the reason touches are made.
    """
    if guest.verdict is Verdict.NONE:
        return {}
    if guest.verdict is Verdict.CONTRAINDICATED:
        return {_guest_claim(code): CONTRAINDICATED for code in guest.codes}
    vector = dict.fromkeys(_GUEST_CLAIMS.values(), AFFIRMED)
    if guest.verdict is Verdict.WARNING:
        vector["configuration"] = UNSAFE
    return vector


def _guest_claim(code: str) -> str:
    return next((claim for start, claim in _GUEST_CLAIMS.items() if code.startswith(start)), "instance-identity")


def trust_vector(result: AttestationResult) -> dict[str, int]:
    """Return the AR4SI claims: affirmed where the proving stage is behind us, and what the failed stage says.

    A claim that no stage decided is left out, which reads as "no claim".
    """
    if result.stage == UNREACHED:
        return {}
    reached = len(STAGES) if result.stage == DONE else STAGES.index(result.stage)
    vector = {claim: AFFIRMED for claim, stage in _PROVEN_BY.items() if STAGES.index(stage) < reached}
    if result.verdict is Verdict.WARNING:
        vector["configuration"] = UNSAFE
    if result.verdict is Verdict.CONTRAINDICATED:
        claim, value = _STAGE_CLAIMS[result.stage] if result.stage != DONE else ("configuration", CONTRAINDICATED)
        vector[claim] = value
    return vector


def sign_ear(claims: Mapping[str, Any], private_key_pem: bytes) -> str:
    """Return the JWT of ``claims``.

    Args:
        claims: From ``ear_claims``.
        private_key_pem: P-256 key of the appraiser, PKCS#8 PEM without password.

    Raises:
        UsageError: ``ear.key`` for another kind of key.
    """
    key = import_key(private_key_pem)
    if not key.is_private:
        raise UsageError("signing needs the private key", code="ear.key")
    header = {"alg": ALGORITHM, "kid": key_name(key), "typ": "JWT"}
    token = jws.serialize_compact(header, dump_canonical(claims), key, algorithms=[ALGORITHM])
    signed, _, signature = token.rpartition(".")
    return f"{signed}.{encode_base64url(smaller_form(decode_base64url(signature.encode())))}"


def verify_ear(token: bytes | str, public_key: bytes | Mapping[str, Any] | KeySet) -> Ear:
    """Return the claims of a JWT that was signed by ``public_key``, or by one of a set of keys.

    Args:
        token: Compact serialisation.
        public_key: P-256 key, PEM or JWK: whatever the token's header names, this key it has to be. Or a JWKS (as JSON
            or as ``KeySet``): the header names one of its keys. The algorithm comes from the key, never from the token.

    Raises:
        EvidenceError: ``ear.token.malformed``, ``ear.algorithm.mismatch``, ``ear.kid.unknown``, ``ear.kid.missing``,
            ``ear.signature.invalid`` or ``ear.claims.malformed``.
        UsageError: ``ear.key`` for another kind of key, ``ear.jwks`` for a set of none.

    Trust: the token is anybody's; afterwards the claims are the key owner's. Expiry is the caller's to check.
    """
    keys = public_key if isinstance(public_key, KeySet) else key_set(public_key)
    one = not isinstance(public_key, KeySet) and not (isinstance(public_key, Mapping) and "keys" in public_key)
    raw, kid = _read_token(token)
    key = keys.choose(None if one else kid)
    try:
        verified = jws.deserialize_compact(raw, key, algorithms=[ALGORITHM])
    except (JoseError, ValueError) as error:
        raise deny("ear.signature.invalid", "ear", expected="a signature by the given key", actual=error) from None
    return _claims(verified.payload)


def read_unverified_ear(token: bytes | str) -> tuple[Ear, str | None]:
    """Return the claims of a JWT whoever made it, and the key it names: to compare and to show, never to believe.

    Raises:
        EvidenceError: as ``verify_ear``, but for keys and the signature.
    """
    raw, kid = _read_token(token)
    return _claims(decode_base64url(raw.split(b".")[1])), kid


def check_one_form(token: bytes) -> None:
    """Return when the signature of a well-formed token is in the form that ``sign_ear`` makes, of the two it has.

    Raises:
        EvidenceError: ``ear.token.malformed``.
    """
    signature = decode_base64url(token.rpartition(b".")[2])
    if smaller_form(signature) != signature:
        raise deny("ear.token.malformed", "ear", expected="the smaller form of the signature", actual=signature)


def _claims(payload: bytes) -> Ear:
    try:
        return parse_ear(load_json(payload, limit_bytes=MAX_TOKEN_BYTES))
    except ParseError as error:
        raise deny("ear.claims.malformed", "ear", expected=error.field, actual=error.problem) from None


def _read_token(token: bytes | str) -> tuple[bytes, str | None]:
    """Return the token with the key its header names; its three parts are each in their one spelling."""
    raw = token.encode("utf-8", "replace") if isinstance(token, str) else token
    match = _TOKEN.match(raw) if len(raw) <= MAX_TOKEN_BYTES else None
    if match is None:
        raise deny("ear.token.malformed", "ear", expected="three base64url parts", actual=raw[:60])
    for part in match.groups():
        # The last character of a part may have bits that mean nothing: two texts, one signature.
        if encode_base64url(decode_base64url(part)).encode() != part:
            raise deny("ear.token.malformed", "ear", expected="base64url in its one spelling", actual=part[-8:])
    return raw, _check_header(decode_base64url(match[1]))


def parse_ear(value: Any) -> Ear:
    """Return the claims of a JSON claims-set.

    Raises:
        ParseError: for a missing or malformed claim, an unknown profile, no submodule, or a status better than its
            own vector. Unknown claims are kept: the format is open to extensions.

    Trust: nothing is proven by reading claims; ``verify_ear`` checks who made them.
    """
    fields = Fields(value, "ear")
    profile = fields.text("eat_profile", maximum_chars=256)
    if profile not in (PROFILE, OLD_PROFILE):
        raise fields.fail("eat_profile", "is a profile we do not know")
    prefix, joint = ("ear_", "_") if profile == PROFILE else ("ear.", "-")
    verifier = fields.object(f"{prefix}verifier{joint}id")
    submodules = fields.object("submods").rest()
    if not submodules:
        raise fields.fail("submods", "is empty")
    ear = Ear(
        profile=profile,
        issued_at_s=fields.integer("iat"),
        expires_at_s=fields.integer("exp") if fields.has("exp") else None,
        developer=verifier.text("developer", maximum_chars=512),
        build=verifier.text("build", maximum_chars=512),
        submodules=MappingProxyType({name: _submodule(item, prefix, joint) for name, item in submodules.items()}),
        extensions=MappingProxyType(dict(fields.rest())),
    )
    verifier.done()
    return ear


def _submodule(value: Any, prefix: str, joint: str) -> EarSubmodule:
    fields = Fields(value, "ear.submods")
    vector_name = f"{prefix}trustworthiness{joint}vector"
    status = Verdict(fields.choice(f"{prefix}status", *(item.value for item in Verdict)))
    vector: dict[str, int] = {}
    if fields.has(vector_name):
        inner = fields.object(vector_name)
        vector = {name: inner.integer(name, minimum=-128, maximum=127) for name in VECTOR if inner.has(name)}
        inner.done()
    if any(_rank(_tier(item)) > _rank(status) for item in vector.values()):
        raise fields.fail(f"{prefix}status", f"{status.value} is better than its trustworthiness vector")
    return EarSubmodule(
        status=status,
        vector=MappingProxyType(vector),
        policy_ids=_policy_ids(fields, prefix, joint),
        extensions=MappingProxyType(dict(fields.rest())),
    )


def _policy_ids(fields: Fields, prefix: str, joint: str) -> tuple[str, ...]:
    if prefix == "ear_":
        name = f"{prefix}appraisal_policy_ids"
        found = fields.array(name, maximum=64) if fields.has(name) else []
    else:
        name = f"{prefix}appraisal{joint}policy{joint}id"
        found = [fields.take(name)] if fields.has(name) else []
    if not all(isinstance(item, str) for item in found):
        raise fields.fail(name, "is no text", "parse.field.type")
    return tuple(found)


def _tier(value: int) -> Verdict:
    """Return the tier of one trustworthiness claim (AR4SI, 2.3.2; negative values mirror the positive ones)."""
    size = value if value >= 0 else -value - 1
    if size < 2:
        return Verdict.NONE
    if size < 32:
        return Verdict.AFFIRMING
    return Verdict.WARNING if size < 96 else Verdict.CONTRAINDICATED


def _rank(verdict: Verdict) -> int:
    """Order tiers by how bad they are; "none" claims nothing and so excuses nothing."""
    return {Verdict.AFFIRMING: 0, Verdict.NONE: 0, Verdict.WARNING: 1, Verdict.CONTRAINDICATED: 2}[verdict]


def _check_header(raw: bytes) -> str | None:
    """Return the key that a header names, None when it names none."""
    try:
        header = load_json(raw, limit_bytes=4096)
    except ParseError as error:
        raise deny("ear.token.malformed", "ear", expected="a JSON header", actual=error.problem) from None
    if not isinstance(header, dict) or not set(header) <= {"alg", "typ", "kid"}:
        raise deny("ear.token.malformed", "ear", expected="a header of alg, typ and kid", actual=header)
    if header.get("alg") != ALGORITHM:
        raise deny("ear.algorithm.mismatch", "ear", expected=ALGORITHM, actual=header.get("alg"))
    kid = header.get("kid")
    if "kid" in header and (not isinstance(kid, str) or not 0 < len(kid) <= MAX_KID_CHARS):
        raise deny("ear.token.malformed", "ear", expected="a kid of short text", actual=kid)
    return kid
