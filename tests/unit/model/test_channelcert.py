# SPDX-License-Identifier: GPL-3.0-or-later
"""Channel certificates, read by another library and by our own reader."""

from __future__ import annotations

import datetime

import pytest
from ansible.module_utils.vouch.errors import UsageError
from ansible.module_utils.vouch.make.sign import generate_private_key, public_key
from ansible.module_utils.vouch.model.certificate import Certificate
from ansible.module_utils.vouch.model.channelcert import LIFE_S, SKEW_S, Channel, certificate, require_p256
from ansible.module_utils.vouch.model.key import ECDSA_P256, ED25519
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID
from hypothesis import given
from hypothesis import strategies as st

HOST_ID = "3d9a6f5e-0c0e-5c53-9d0e-0c1d5f5c8a11"
NOW_S = 1_790_000_000
AUTHORITY = generate_private_key(ECDSA_P256)
KEY = public_key(generate_private_key(ECDSA_P256))
LIMIT = datetime.datetime(9999, 12, 31, tzinfo=datetime.UTC)


def sign(message: bytes) -> bytes:
    assert isinstance(AUTHORITY, ec.EllipticCurvePrivateKey)
    return AUTHORITY.sign(message, ec.ECDSA(hashes.SHA256()))


def made(guest: str = "web", at_s: int = NOW_S, serial: bytes = b"\xff" * 16, host_id: str = HOST_ID) -> bytes:
    channel = Channel(host_id, guest, KEY.spki, at_s - SKEW_S, at_s + LIFE_S)
    return certificate(channel, serial=serial, sign=sign)


def test_another_library_reads_what_was_said() -> None:
    found = x509.load_der_x509_certificate(made())
    name = f"web.{HOST_ID}"
    assert found.version is x509.Version.v3
    assert found.subject.get_attributes_for_oid(NameOID.COMMON_NAME)[0].value == name
    assert found.issuer.get_attributes_for_oid(NameOID.COMMON_NAME)[0].value == f"vouch host {HOST_ID}"
    assert found.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo) == KEY.spki
    assert found.not_valid_before_utc.timestamp() == NOW_S - SKEW_S
    assert found.not_valid_after_utc.timestamp() == NOW_S + LIFE_S
    assert found.serial_number == int.from_bytes(b"\xff" * 16, "big")
    constraints = found.extensions.get_extension_for_class(x509.BasicConstraints)
    assert (constraints.critical, constraints.value) == (True, x509.BasicConstraints(ca=False, path_length=None))
    usage = found.extensions.get_extension_for_class(x509.KeyUsage)
    assert (usage.critical, usage.value.digital_signature, usage.value.key_cert_sign) == (True, True, False)
    purposes = found.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
    assert list(purposes) == [
        ExtendedKeyUsageOID.SERVER_AUTH,
        ExtendedKeyUsageOID.CLIENT_AUTH,
        ExtendedKeyUsageOID.IPSEC_IKE,
    ]
    names = found.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert names.get_values_for_type(x509.DNSName) == [name]
    authority = AUTHORITY.public_key()
    assert isinstance(authority, ec.EllipticCurvePublicKey)
    authority.verify(found.signature, found.tbs_certificate_bytes, ec.ECDSA(hashes.SHA256()))


def test_our_own_reader_takes_it() -> None:
    found = Certificate.from_der(made())
    assert (found.spki, found.is_ca, len(found.extended_key_usages)) == (KEY.spki, False, 3)


@given(
    guest=st.from_regex(r"[a-z0-9][a-z0-9-]{0,62}", fullmatch=True),
    at_s=st.integers(0, int(LIMIT.timestamp()) - LIFE_S),
    serial=st.binary(max_size=20),
)
def test_whatever_is_said_can_be_read(guest: str, at_s: int, serial: bytes) -> None:
    found = x509.load_der_x509_certificate(made(guest, max(at_s, SKEW_S), serial))
    assert found.not_valid_after_utc.timestamp() == max(at_s, SKEW_S) + LIFE_S
    assert found.serial_number > 0
    names = found.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert names.get_values_for_type(x509.DNSName) == [f"{guest}.{HOST_ID}"]


OTHERS = {
    "none": b"",
    "ed25519": public_key(generate_private_key(ED25519)).spki,
    "cut": KEY.spki[:-1],
    "longer": KEY.spki + b"\0",
    "compressed": KEY.spki.replace(b"\x00\x04", b"\x00\x02", 1),
    "noise": bytes(91),
}


@pytest.mark.parametrize("kind", OTHERS)
def test_other_keys_are_not_certified(kind: str) -> None:
    spki = OTHERS[kind]
    with pytest.raises(UsageError) as caught:
        require_p256(spki)
    assert caught.value.code == "channel.key"
    with pytest.raises(UsageError):
        certificate(Channel(HOST_ID, "web", spki, 0, 1), serial=b"\1", sign=sign)
