# SPDX-License-Identifier: GPL-3.0-or-later
"""EAR: ours for others, others' for us."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest
from ansible.module_utils.vouch.appraise.ear import (
    PROFILE,
    ear_claims,
    parse_ear,
    sign_ear,
    trust_vector,
    verify_ear,
)
from ansible.module_utils.vouch.appraise.jwks import jwks
from ansible.module_utils.vouch.appraise.result import STAGES, AttestationResult
from ansible.module_utils.vouch.errors import EvidenceError, ParseError, UsageError
from ansible.module_utils.vouch.make.sign import generate_private_key, private_pem, public_pem
from ansible.module_utils.vouch.model.finding import Verdict
from ansible.module_utils.vouch.parse.canonical import load_json
from joserfc import jwk, jws

from conftest import DATA, expected, foreign
from sim.attester import NOW_S, SimAppraiser, SimHost, SimRelease

KEY = generate_private_key("ecdsa-p256-sha256")
PRIVATE, PUBLIC = private_pem(KEY), public_pem(KEY)


def result(**policy: Any) -> AttestationResult:
    """Return the result of a host with a debug release, or of a good one."""
    release = SimRelease(variant="debug") if policy else None
    return SimAppraiser(host=SimHost(release), policy_changes=policy).appraise().result


def foreign_files(verdict: str, suffix: str) -> list[Any]:
    """Return names of foreign results with that verdict."""
    if not (DATA / "ear" / "expected.json").is_file():
        return [pytest.param("", id="absent")]
    return [
        item["file"]
        for item in expected("ear")["files"]
        if item["expect"].get("verdict") == verdict and item["file"].endswith(suffix)
    ]


def test_a_result_goes_round() -> None:
    good = result()
    ear = verify_ear(sign_ear(ear_claims(good, build="vouch 0.1.0"), PRIVATE), PUBLIC)
    assert (ear.profile, ear.issued_at_s, ear.expires_at_s) == (PROFILE, NOW_S, good.expires_at_s)
    host = ear.submodules["host"]
    assert host.status is Verdict.AFFIRMING
    assert set(host.vector.values()) == {2}
    assert host.extensions["vouch_host_id"] == good.host_id
    assert ear.extensions["eat_nonce"] == good.nonce.hex()


def test_a_debug_image_warns() -> None:
    warning = result(allow_debug=True)
    ear = parse_ear(ear_claims(warning, build="x"))
    assert ear.submodules["host"].status is Verdict.WARNING
    assert ear.submodules["host"].vector["configuration"] == 32


def test_a_refusal_names_its_reasons() -> None:
    host = SimHost()
    host.measure("/tmp/implant", b"x")
    refused = SimAppraiser(host=host).appraise().result
    host_claims = parse_ear(ear_claims(refused, build="x")).submodules["host"]
    assert host_claims.status is Verdict.CONTRAINDICATED
    assert host_claims.vector == {"hardware": 2, "configuration": 2, "executables": 96}
    assert "ima.entry.unknown" in [item["code"] for item in host_claims.extensions["vouch_findings"]]


@pytest.mark.parametrize("stage", STAGES)
def test_no_stage_leaves_a_vector_better_than_the_verdict(stage: str) -> None:
    host = SimHost()
    host.measure("/tmp/implant", b"x")
    refused = replace(SimAppraiser(host=host).appraise().result, stage=stage)
    assert max(trust_vector(refused).values()) >= 96
    assert parse_ear(ear_claims(refused, build="x")).submodules["host"].status is Verdict.CONTRAINDICATED


@pytest.mark.parametrize("name", foreign_files("accept", ".json"))
def test_claims_of_other_implementations(name: str) -> None:
    data = (foreign("ear") / name).read_bytes()
    expect = next(item["expect"] for item in expected("ear")["files"] if item["file"] == name)
    ear = parse_ear(load_json(data, limit_bytes=1 << 20))
    assert ear.profile == expect["profile"]
    assert {part: item.status.value for part, item in ear.submodules.items()} == expect["status"]


@pytest.mark.parametrize("name", ["draft-ear-json-1.diag", "draft-ext-veraison-json-1.diag"])
def test_examples_of_the_draft(name: str) -> None:
    ear = parse_ear(load_json((foreign("ear") / name).read_bytes(), limit_bytes=1 << 20))
    assert ear.profile == PROFILE
    assert {item.status for item in ear.submodules.values()} == {Verdict.CONTRAINDICATED}


@pytest.mark.parametrize("name", foreign_files("accept", ".jwt"))
def test_tokens_of_other_implementations(name: str) -> None:
    folder = foreign("ear")
    key = json.loads((folder / "veraison-go.jwk").read_text())
    ear = verify_ear((folder / name).read_text(), key)
    assert ear.submodules["test"].status is Verdict.AFFIRMING


@pytest.mark.parametrize("name", foreign_files("accept", ".jwt"))
def test_tokens_of_other_implementations_by_a_key_set(name: str) -> None:
    """They name no key: one key in the set is the one, of several none is."""
    folder = foreign("ear")
    key = json.loads((folder / "veraison-go.jwk").read_text())
    token = (folder / name).read_text()
    assert verify_ear(token, {"keys": [key]}) == verify_ear(token, key)
    with pytest.raises(EvidenceError) as caught:
        verify_ear(token, {"keys": [key, *jwks([PUBLIC])["keys"]]})
    assert caught.value.code == "ear.kid.missing"


@pytest.mark.parametrize("name", foreign_files("reject", ".jwt"))
def test_false_tokens_of_other_implementations(name: str) -> None:
    folder = foreign("ear")
    key = json.loads((folder / "veraison-go.jwk").read_text())
    with pytest.raises(EvidenceError) as caught:
        verify_ear((folder / name).read_text(), key)
    assert caught.value.code.startswith("ear.")


def token(header: dict[str, Any], payload: bytes = b"{}") -> str:
    """Return a token with any header, signed by our key where the header allows it."""
    key = jwk.ECKey.import_key(PRIVATE)
    return jws.serialize_compact({"alg": "ES256", **header}, payload, key, algorithms=["ES256"])


def test_a_token_of_another_signer() -> None:
    signed = sign_ear(ear_claims(result(), build="x"), PRIVATE)
    with pytest.raises(EvidenceError) as caught:
        verify_ear(signed, public_pem(generate_private_key("ecdsa-p256-sha256")))
    assert caught.value.code == "ear.signature.invalid"


@pytest.mark.parametrize("at", [3, 60, -3])
def test_a_changed_character(at: int) -> None:
    signed = sign_ear(ear_claims(result(), build="x"), PRIVATE)
    changed = list(signed)
    changed[at] = "A" if changed[at] != "A" else "B"
    with pytest.raises(EvidenceError):
        verify_ear("".join(changed), PUBLIC)


@pytest.mark.parametrize("text", ["", "a.b.c", "\N{SNOWMAN}", "a" * (2 << 20), "." * 90])
def test_no_tokens(text: str) -> None:
    with pytest.raises(EvidenceError) as caught:
        verify_ear(text, PUBLIC)
    assert caught.value.code == "ear.token.malformed"


def test_a_header_that_brings_its_own_key() -> None:
    with pytest.raises(EvidenceError) as caught:
        verify_ear(token({"jwk": {"kty": "EC"}}), PUBLIC)
    assert caught.value.code == "ear.token.malformed"


CLAIMS: dict[str, Any] = {
    "eat_profile": PROFILE,
    "iat": 1,
    "ear_verifier_id": {"developer": "d", "build": "b"},
    "submods": {"host": {"ear_status": "affirming"}},
}
MALFORMED: dict[str, dict[str, Any]] = {
    "profile": {"eat_profile": "tag:example"},
    "no parts": {"submods": {}},
    "unknown status": {"submods": {"host": {"ear_status": "fine"}}},
    "time as text": {"iat": "1"},
    "no verifier": {"ear_verifier_id": {}},
    "verifier with more": {"ear_verifier_id": {"developer": "d", "build": "b", "x": "y"}},
    "unknown vector claim": {
        "submods": {"host": {"ear_status": "affirming", "ear_trustworthiness_vector": {"magic": 2}}}
    },
    "vector out of range": {
        "submods": {"host": {"ear_status": "affirming", "ear_trustworthiness_vector": {"hardware": 128}}}
    },
    "better than its vector": {
        "submods": {"host": {"ear_status": "affirming", "ear_trustworthiness_vector": {"hardware": 96}}}
    },
    "the other dialect's names": {"submods": {"host": {"ear.status": "affirming"}}},
    "policy ids": {"submods": {"host": {"ear_status": "affirming", "ear_appraisal_policy_ids": [1]}}},
}


def test_the_smallest_claims() -> None:
    assert parse_ear(CLAIMS).submodules["host"].status is Verdict.AFFIRMING


@pytest.mark.parametrize("fault", sorted(MALFORMED))
def test_malformed_claims(fault: str) -> None:
    with pytest.raises(ParseError):
        parse_ear({**CLAIMS, **MALFORMED[fault]})


def test_keys_are_p256() -> None:
    with pytest.raises(UsageError):
        sign_ear(CLAIMS, private_pem(generate_private_key("ed25519")))
    with pytest.raises(UsageError):
        sign_ear(CLAIMS, PUBLIC)
    with pytest.raises(UsageError):
        verify_ear("x", b"no key")
