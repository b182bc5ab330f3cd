# SPDX-License-Identifier: GPL-3.0-or-later
"""Signed with securesystemslib, checked by ours; and the release and manifest that are signed."""

from __future__ import annotations

import pytest
from ansible.module_utils.vouch.check.signature import verify_envelope, verify_release, verify_signature
from ansible.module_utils.vouch.errors import EvidenceError, ParseError, UsageError
from ansible.module_utils.vouch.make.sign import (
    generate_private_key,
    load_private_key,
    private_pem,
    public_key,
    public_pem,
    sign_envelope,
)
from ansible.module_utils.vouch.make.statements import manifest_blob, sign_host_release
from ansible.module_utils.vouch.model.digest import sha256
from ansible.module_utils.vouch.model.image import Package, Verity
from ansible.module_utils.vouch.model.key import ECDSA_P256, ED25519, RSASSA, PublicKey
from ansible.module_utils.vouch.model.release import HostRelease
from ansible.module_utils.vouch.parse.envelope import parse_envelope
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa

RELEASE = HostRelease(
    subjects={"xen.efi": b"\x01" * 32, "root.img": b"\x02" * 32},
    name="vouch-host-1.0",
    variant="production",
    authenticode_sha256=b"\x03" * 32,
    pcr4=b"\x04" * 32,
    verity=Verity(root_hash=b"\x05" * 32, salt=b"\x06" * 32, data_blocks=7),
    manifest_sha256=b"\x08" * 32,
    manifest_files=9,
    ssh_user="vouch",
    packages=(Package(name="bash", version="5.2-3"),),
    xen="4.20",
    kernel="6.12",
    source_date_epoch=1_700_000_000,
)


@pytest.mark.parametrize("scheme", [ED25519, ECDSA_P256])
def test_signed_is_verified(scheme: str) -> None:
    private = load_private_key(private_pem(generate_private_key(scheme)))
    key = PublicKey.from_pem(public_pem(private))
    assert key == public_key(private)
    assert key.scheme == scheme
    envelope = parse_envelope(sign_envelope("text/plain", b"payload", private))
    other = public_key(generate_private_key(scheme))
    assert envelope.signatures[0].keyid == key.keyid
    verified = verify_envelope(envelope, [other, key])
    assert (verified.payload, verified.payload_type, verified.keyid) == (b"payload", "text/plain", key.keyid)
    with pytest.raises(EvidenceError) as error:
        verify_envelope(envelope, [other])
    assert error.value.code == "envelope.signature.invalid"
    with pytest.raises(UsageError) as usage:
        verify_envelope(envelope, [])
    assert usage.value.code == "key.none"


def test_the_type_is_signed_too() -> None:
    private = generate_private_key()
    signed = sign_envelope("text/plain", b"payload", private).replace(b"text/plain", b"text/other")
    with pytest.raises(EvidenceError):
        verify_envelope(parse_envelope(signed), [public_key(private)])


def test_ed25519_gives_the_same_file_twice() -> None:
    private = generate_private_key()
    assert sign_host_release(RELEASE, private) == sign_host_release(RELEASE, private)


def test_release_round_trip() -> None:
    private = generate_private_key(ECDSA_P256)
    signed = sign_host_release(RELEASE, private)
    verified = verify_release(signed, [public_key(private)])
    assert verified.release == RELEASE
    assert verified.release_id == sha256(signed)


def test_release_refusals() -> None:
    private = generate_private_key()
    keys = [public_key(private)]
    for data, code in (
        (b"{}", "envelope.malformed"),
        (sign_host_release(RELEASE, generate_private_key()), "envelope.signature.invalid"),
        (sign_envelope("application/json", RELEASE.to_bytes(), private), "envelope.type"),
        (sign_envelope("application/vnd.in-toto+json", b"{}", private), "release.malformed"),
    ):
        with pytest.raises(EvidenceError) as error:
            verify_release(data, keys)
        assert error.value.code == code


def test_keys_we_do_not_sign_with() -> None:
    rsa_key = rsa.generate_private_key(65537, 2048)
    for key in (rsa_key, ec.generate_private_key(ec.SECP384R1())):
        pem = key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
        with pytest.raises(UsageError):
            load_private_key(pem)
    for pem in (b"", b"-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n"):
        with pytest.raises(UsageError):
            load_private_key(pem)
    with pytest.raises(UsageError):
        generate_private_key(RSASSA)
    public = rsa_key.public_key().public_bytes(
        serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    assert PublicKey.from_der(public).scheme == RSASSA


def test_unusable_keys_are_refused() -> None:
    off_curve = PublicKey.p256(b"\x01" * 32, b"\x01" * 32)
    with pytest.raises(UsageError) as error:
        verify_signature(off_curve, b"", b"")
    assert error.value.code == "key.unusable"
    for data in (b"", b"\x30\x00", bytes(91), public_key(generate_private_key()).spki + b"\0"):
        with pytest.raises(ParseError):
            PublicKey.from_der(data)
    with pytest.raises(ParseError):
        PublicKey.from_pem(public_pem(generate_private_key()) * 2)


def test_manifest_is_sorted_and_strict() -> None:
    blob = manifest_blob([("/b", b"\x01" * 32), ("/a", b"\x02" * 32), ("/a", b"\x01" * 32), ("/b", b"\x01" * 32)])
    assert blob == b"%b  /a\n%b  /a\n%b  /b\n" % (b"01" * 32, b"02" * 32, b"01" * 32)
    for files in ({}, {"relative": bytes(32)}, {"/a\nb": bytes(32)}, {"/a": b""}):
        with pytest.raises(UsageError):
            manifest_blob(files)
