# SPDX-License-Identifier: GPL-3.0-or-later
"""DSSE envelopes: our refusals, and those of other projects."""

from __future__ import annotations

import json
import pathlib
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from ansible.module_utils.vouch.check.signature import verify_envelope
from ansible.module_utils.vouch.errors import EvidenceError, ParseError
from ansible.module_utils.vouch.model.key import PublicKey
from ansible.module_utils.vouch.parse.envelope import MAX_SIGNATURES, pae, parse_envelope
from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature

from conftest import expected

GOOD: dict[str, Any] = {"payload": "YQ==", "payloadType": "t", "signatures": [{"keyid": "k", "sig": "YQ=="}]}
REFUSED: dict[str, dict[str, Any]] = {
    "no payload": {k: v for k, v in GOOD.items() if k != "payload"},
    "no type": {k: v for k, v in GOOD.items() if k != "payloadType"},
    "empty type": {**GOOD, "payloadType": ""},
    "unknown member": {**GOOD, "extra": 1},
    "payload is no base64": {**GOOD, "payload": "!"},
    "no signature": {**GOOD, "signatures": []},
    "empty signature": {**GOOD, "signatures": [{"sig": ""}]},
    "signature without bytes": {**GOOD, "signatures": [{"keyid": "k"}]},
    "key id is a number": {**GOOD, "signatures": [{"keyid": 1, "sig": "YQ=="}]},
    "unknown member of a signature": {**GOOD, "signatures": [{"sig": "YQ==", "extra": 1}]},
    "too many signatures": {**GOOD, "signatures": [{"sig": "YQ=="}] * (MAX_SIGNATURES + 1)},
}


@pytest.mark.parametrize("fault", REFUSED)
def test_refused(fault: str) -> None:
    with pytest.raises(ParseError):
        parse_envelope(json.dumps(REFUSED[fault]).encode())


def test_key_id_is_only_a_hint() -> None:
    for signature in ({"sig": "YQ=="}, {"sig": "YQ==", "keyid": None}, {"sig": "YQ==", "keyid": ""}):
        parsed = parse_envelope(json.dumps({**GOOD, "signatures": [signature]}).encode())
        assert parsed.signatures[0].keyid == ""


def test_pae_counts_bytes_not_characters() -> None:
    assert pae("\u00e4", b"\x00") == b"DSSEv1 2 \xc3\xa4 1 \x00"


def holds(envelope: bytes, keys: list[PublicKey]) -> bool:
    try:
        verify_envelope(parse_envelope(envelope), keys)
    except (ParseError, EvidenceError):
        return False
    return True


def gcb_envelopes(data: bytes) -> Iterator[bytes]:
    """Yield the envelopes of a Google Cloud Build file, in standard base64 as DSSE wants it."""
    try:
        value = json.loads(data)
    except ValueError:
        return
    for item in value.get("provenance_summary", {}).get("provenance", []):
        if envelope := item.get("envelope"):
            text = json.dumps(envelope).replace("-", "+").replace("_", "/")
            # The replacement also hits type and key ids; those are put back, since the type is signed.
            back = json.loads(text)
            back["payloadType"] = envelope["payloadType"]
            yield json.dumps(back).encode()


def test_build_service_envelopes(shared_data: Callable[[str], pathlib.Path]) -> None:
    folder = shared_data("dsse")
    keys = [PublicKey.from_pem(path.read_bytes()) for path in sorted((folder / "gcb-keys").iterdir())]
    judged = 0
    for item in expected("dsse")["files"]:
        if not item["file"].startswith("gcb-g") and not item["file"].startswith("gcb-v"):
            continue
        found = [holds(envelope, keys) for envelope in gcb_envelopes((folder / item["file"]).read_bytes())]
        assert (item["file"], any(found)) == (item["file"], item["expect"]["strict_dsse"] == "accept")
        judged += 1
    assert judged >= 10


def test_protocol_example(shared_data: Callable[[str], pathlib.Path]) -> None:
    folder = shared_data("dsse")
    (item,) = [item for item in expected("dsse")["files"] if item["file"] == "dsse-protocol.json"]
    numbers = item["expect"]["key"]
    key = ec.EllipticCurvePublicNumbers(numbers["x"], numbers["y"], ec.SECP256R1()).public_key()
    der = key.public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)
    parsed = parse_envelope((folder / "dsse-protocol.json").read_bytes())
    assert pae(parsed.payload_type, parsed.payload).decode() == item["expect"]["pae"]
    raw = parsed.signatures[0].signature
    signature = encode_dss_signature(int.from_bytes(raw[:32], "big"), int.from_bytes(raw[32:], "big"))
    from ansible.module_utils.vouch.check.signature import verify_signature

    verify_signature(PublicKey.from_der(der), pae(parsed.payload_type, parsed.payload), signature)


def test_sigstore_envelopes(shared_data: Callable[[str], pathlib.Path]) -> None:
    folder = shared_data("dsse")
    judged = 0
    for item in expected("dsse")["files"]:
        want = item["expect"].get("dsse_signature_valid_with_certificate_in_bundle")
        if want is None:
            continue
        bundle = json.loads((folder / item["file"]).read_text())
        material = bundle["verificationMaterial"]
        certificate = material.get("certificate") or material["x509CertificateChain"]["certificates"][0]
        import base64

        der = (
            x509.load_der_x509_certificate(base64.b64decode(certificate["rawBytes"]))
            .public_key()
            .public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)
        )
        key = PublicKey.from_der(der)
        assert (item["file"], holds(json.dumps(bundle["dsseEnvelope"]).encode(), [key])) == (item["file"], want[0])
        judged += 1
    assert judged >= 5
