# SPDX-License-Identifier: GPL-3.0-or-later
"""Key sets: written for others, read from others, and tokens that an independent library makes and reads."""

from __future__ import annotations

import base64
import functools
import hashlib
import importlib
import json
import os
from dataclasses import replace
from typing import Any

import pytest
from ansible.module_utils.vouch.appraise.ear import (
    check_one_form,
    ear_claims,
    read_unverified_ear,
    sign_ear,
    verify_ear,
)
from ansible.module_utils.vouch.appraise.jwks import join_key_sets, jwks, jwks_bytes, key_set
from ansible.module_utils.vouch.appraise.result import AttestationResult
from ansible.module_utils.vouch.errors import EvidenceError, UsageError
from ansible.module_utils.vouch.make.sign import generate_private_key, private_pem, public_pem
from ansible.module_utils.vouch.model.finding import Verdict
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

from sim.attester import SimAppraiser, SimHost

KEY, OTHER = (generate_private_key("ecdsa-p256-sha256") for _ in range(2))
PRIVATE, PUBLIC = private_pem(KEY), public_pem(KEY)
LONG_AGO_S, FAR_AHEAD_S = 1_500_000_000, 16_000_000_000
"""Times that no clock of a test comes near."""


def pyjwt() -> Any:
    """Return PyJWT: skip where it is absent, fail where CI says it must be there."""
    try:
        return importlib.import_module("jwt")
    except ImportError:
        reason = "PyJWT is not installed: the second implementation of tokens"
        if os.environ.get("CI") == "true":
            pytest.fail(reason)
        pytest.skip(reason)


@functools.cache
def good() -> AttestationResult:
    """Return the result of a good host."""
    return SimAppraiser(host=SimHost()).appraise().result


def result(expires_at_s: int = FAR_AHEAD_S) -> AttestationResult:
    """Return the same with other times."""
    return replace(good(), issued_at_s=LONG_AGO_S, expires_at_s=expires_at_s)


def token(expires_at_s: int = FAR_AHEAD_S, key: bytes = PRIVATE) -> str:
    """Return a signed result."""
    return sign_ear(ear_claims(result(expires_at_s), build="x"), key)


def refused(text: str, keys: Any) -> str:
    """Return the code with which a token is refused."""
    with pytest.raises(EvidenceError) as caught:
        verify_ear(text, keys)
    return caught.value.code


def kid_of(pem: bytes) -> str:
    """Return the RFC 7638 thumbprint of a key, worked out here by hand."""
    key = serialization.load_pem_public_key(pem)
    assert isinstance(key, ec.EllipticCurvePublicKey)
    point = key.public_numbers()
    x, y = (base64.urlsafe_b64encode(n.to_bytes(32, "big")).rstrip(b"=").decode() for n in (point.x, point.y))
    required = f'{{"crv":"P-256","kty":"EC","x":"{x}","y":"{y}"}}'
    return base64.urlsafe_b64encode(hashlib.sha256(required.encode()).digest()).rstrip(b"=").decode()


def test_a_set_names_each_key_once_by_its_thumbprint() -> None:
    keys = [PRIVATE, PUBLIC, public_pem(OTHER)]
    found = jwks(keys)
    assert [entry["kid"] for entry in found["keys"]] == sorted([kid_of(PUBLIC), kid_of(public_pem(OTHER))])
    assert {tuple(sorted(entry)) for entry in found["keys"]} == {("alg", "crv", "kid", "kty", "use", "x", "y")}
    assert jwks_bytes(keys) == jwks_bytes(keys[::-1])
    assert jwks_bytes(keys).endswith(b"\n")
    assert json.loads(jwks_bytes(keys)) == found


def test_the_header_names_the_key() -> None:
    header = json.loads(base64.urlsafe_b64decode(token().split(".")[0] + "=="))
    assert header == {"alg": "ES256", "kid": kid_of(PUBLIC), "typ": "JWT"}
    assert read_unverified_ear(token())[1] == kid_of(PUBLIC)


def test_a_set_chooses_by_kid() -> None:
    both = jwks([PUBLIC, public_pem(OTHER)])
    assert verify_ear(token(), both).submodules["host"].status is Verdict.AFFIRMING
    assert verify_ear(token(key=private_pem(OTHER)), key_set(both)).issued_at_s == LONG_AGO_S
    assert refused(token(), jwks([public_pem(OTHER)])) == "ear.kid.unknown"
    # One key, given as such, is the key it has to be, whatever the token calls it.
    assert refused(token(), public_pem(OTHER)) == "ear.signature.invalid"


def test_a_set_that_lies_about_a_name() -> None:
    (entry,) = jwks([public_pem(OTHER)])["keys"]
    assert refused(token(), {"keys": [{**entry, "kid": kid_of(PUBLIC)}]}) == "ear.signature.invalid"


def test_a_library_that_knows_nothing_of_us_reads_our_tokens() -> None:
    jwt = pyjwt()
    keys = jwt.PyJWKSet.from_dict(json.loads(jwks_bytes([PUBLIC, public_pem(OTHER)])))
    text = token()
    key = keys[jwt.get_unverified_header(text)["kid"]]
    claims = jwt.decode(text, key=key, algorithms=["ES256"])
    assert claims == json.loads(json.dumps(ear_claims(result(), build="x")))
    assert claims["submods"]["host"]["ear_status"] == "affirming"
    with pytest.raises(jwt.ExpiredSignatureError):
        jwt.decode(token(LONG_AGO_S + 60), key=key, algorithms=["ES256"])
    with pytest.raises(jwt.InvalidSignatureError):
        jwt.decode(text, key=keys[kid_of(public_pem(OTHER))], algorithms=["ES256"])


def test_we_read_the_tokens_of_a_library_that_knows_nothing_of_us() -> None:
    jwt = pyjwt()
    claims, keys = ear_claims(result(), build="x"), jwks([PUBLIC, public_pem(OTHER)])
    theirs = jwt.encode(claims, PRIVATE.decode(), algorithm="ES256", headers={"kid": kid_of(PUBLIC)})
    assert verify_ear(theirs, keys) == verify_ear(token(), keys)
    unnamed = jwt.encode(claims, PRIVATE.decode(), algorithm="ES256")
    assert refused(unnamed, keys) == "ear.kid.missing"
    assert verify_ear(unnamed, jwks([PUBLIC])).build == "x"
    assert verify_ear(unnamed, PUBLIC).build == "x"
    assert refused(jwt.encode(claims, "k" * 64, algorithm="HS256"), PUBLIC) == "ear.token.malformed"
    for kid in ("", "k" * 257):
        odd = jwt.encode(claims, PRIVATE.decode(), algorithm="ES256", headers={"kid": kid})
        assert refused(odd, keys) == "ear.token.malformed"


@pytest.mark.parametrize("place", [0, 1, 2])
def test_a_token_has_one_spelling(place: int) -> None:
    """Bits of a last character that mean nothing: the same bytes, another text."""
    alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
    build = 0
    while len(sign_ear(ear_claims(result(), build="x" * build), PRIVATE).split(".")[place]) % 4 == 0:
        build += 1
    parts = sign_ear(ear_claims(result(), build="x" * build), PRIVATE).split(".")
    last = alphabet.index(parts[place][-1])
    parts[place] = parts[place][:-1] + alphabet[last ^ 1]
    assert refused(".".join(parts), PUBLIC) == "ear.token.malformed"


def test_signatures_are_made_in_one_form() -> None:
    for build in map(str, range(24)):
        text = sign_ear(ear_claims(good(), build=build), PRIVATE)
        check_one_form(text.encode())
        assert verify_ear(text, PUBLIC).build == build


ENTRY = jwks([PUBLIC])["keys"][0]
SETS: dict[str, Any] = {
    "no keys": {"keys": []},
    "no list": {"keys": {}},
    "too many": {"keys": [ENTRY] * 65},
    "no object": {"keys": ["x"]},
    "a key twice": {"keys": [ENTRY, ENTRY]},
    "a private key": {"keys": [{**ENTRY, "d": "AA"}]},
    "a secret": {"keys": [ENTRY, {"kty": "oct", "k": "AA"}]},
    "only others": {"keys": [{"kty": "RSA", "n": "AA", "e": "AQAB"}, {**ENTRY, "crv": "P-384"}]},
    "for encryption": {"keys": [{**ENTRY, "use": "enc"}]},
    "another algorithm": {"keys": [{**ENTRY, "alg": "ES384"}]},
    "for signing alone": {"keys": [{**ENTRY, "key_ops": ["sign"]}]},
    "a kid that is no text": {"keys": [{**ENTRY, "kid": 1}]},
    "a kid too long": {"keys": [{**ENTRY, "kid": "k" * 257}]},
}


@pytest.mark.parametrize("fault", SETS)
def test_sets_that_are_none(fault: str) -> None:
    for value in (SETS[fault], json.dumps(SETS[fault]).encode()):
        with pytest.raises(UsageError) as caught:
            key_set(value)
        assert caught.value.code == "ear.jwks"


@pytest.mark.parametrize("y", ["AA", ENTRY["x"], 5, None], ids=["short", "other", "number", "none"])
def test_no_point(y: Any) -> None:
    with pytest.raises(UsageError) as caught:
        key_set({"keys": [{**ENTRY, "y": y}]})
    assert caught.value.code == "ear.key"


@pytest.mark.parametrize("data", [b"{", b'{"keys":[],"keys":[]}', b'{"keys":[1.5]}', b"{" + b" " * (256 << 10)])
def test_files_that_are_no_json(data: bytes) -> None:
    with pytest.raises(UsageError) as caught:
        key_set(data)
    assert caught.value.code == "ear.jwks"


def test_entries_of_other_kinds_are_passed_over() -> None:
    found = key_set({"keys": [{"kty": "OKP", "crv": "Ed25519", "x": "AA"}, {**ENTRY, "x5t": "AA"}], "more": 1})
    assert set(found.keys) == {kid_of(PUBLIC)}


def test_a_file_is_a_key_or_a_set() -> None:
    for data in (PUBLIC, PRIVATE, json.dumps(ENTRY).encode(), jwks_bytes([PUBLIC])):
        assert set(key_set(data).keys) == {kid_of(PUBLIC)}
    with pytest.raises(UsageError) as caught:
        key_set(public_pem(generate_private_key("ed25519")))
    assert caught.value.code == "ear.key"


def test_sets_are_joined() -> None:
    one, two = key_set(PUBLIC), key_set(public_pem(OTHER))
    assert len(join_key_sets([one, two, one]).keys) == 2
    false = key_set({"keys": [{**jwks([public_pem(OTHER)])["keys"][0], "kid": kid_of(PUBLIC)}]})
    for sets in ([], [one, false]):
        with pytest.raises(UsageError) as caught:
            join_key_sets(sets)
        assert caught.value.code == "ear.jwks"


def test_a_set_of_no_keys_is_not_written() -> None:
    with pytest.raises(UsageError) as caught:
        jwks([])
    assert caught.value.code == "ear.jwks"
