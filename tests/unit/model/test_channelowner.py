# SPDX-License-Identifier: GPL-3.0-or-later
"""Whose channel a certificate is: exactly one guest, by its one alternative name."""

from __future__ import annotations

import datetime

import pytest
from ansible.module_utils.vouch.errors import ParseError
from ansible.module_utils.vouch.model.channelowner import MAX_CERTIFICATE_BYTES, ChannelOwner
from ansible.module_utils.vouch.model.digest import sha256
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519

from sim.portauthority import HOST_ID, SimGuest

NOW_S = 1_800_000_000


def test_what_a_certificate_says() -> None:
    guest = SimGuest("node1", "fd00::2", now_s=NOW_S)
    owner = ChannelOwner.from_der(guest.certificate)
    assert (owner.host_id, owner.guest, owner.certificate) == (HOST_ID, "node1", sha256(guest.certificate))
    assert (owner.not_before_s, owner.not_after_s) == (NOW_S - 300, NOW_S + 3600)
    public = guest.key.public_key()
    spki = public.public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)
    assert owner.key.spki == spki


def certificate(key: ec.EllipticCurvePrivateKey | ed25519.Ed25519PrivateKey, names: list[x509.GeneralName]) -> bytes:
    """Return a certificate with other alternative names or another key."""
    at = datetime.datetime.fromtimestamp(NOW_S, datetime.UTC)
    common = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, f"node1.{HOST_ID}")])
    builder = x509.CertificateBuilder(common, common, key.public_key(), 1, at, at + datetime.timedelta(1))
    if names:
        builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=False)
    signed = builder.sign(ec.generate_private_key(ec.SECP256R1()), hashes.SHA256())
    return signed.public_bytes(serialization.Encoding.DER)


P256 = ec.generate_private_key(ec.SECP256R1())
NAME = x509.DNSName(f"node1.{HOST_ID}")
FAULTS = {
    "no name": certificate(P256, []),
    "two names": certificate(P256, [NAME, x509.DNSName(f"node2.{HOST_ID}")]),
    "an address": certificate(P256, [x509.RFC822Name(f"node1@{HOST_ID}")]),
    "Ed25519": certificate(ed25519.Ed25519PrivateKey.generate(), [NAME]),
    "P-384": certificate(ec.generate_private_key(ec.SECP384R1()), [NAME]),
    "trailing bytes": certificate(P256, [NAME]) + b"\0",
    "no certificate": b"0\x03\x02\x01\x01",
    "too long": bytes(MAX_CERTIFICATE_BYTES + 1),
    "empty": b"",
}


def test_the_form_of_the_faults_is_good_otherwise() -> None:
    assert ChannelOwner.from_der(certificate(P256, [NAME])).guest == "node1"


@pytest.mark.parametrize("fault", FAULTS)
def test_faults(fault: str) -> None:
    with pytest.raises(ParseError):
        ChannelOwner.from_der(FAULTS[fault])


@pytest.mark.parametrize(
    "name", ["node1", f"Node1.{HOST_ID}", f".{HOST_ID}", "node1.host", f"a.b.{HOST_ID}", f"node1.{HOST_ID}.org"]
)
def test_names_that_are_no_guest(name: str) -> None:
    with pytest.raises(ParseError):
        ChannelOwner.from_der(certificate(P256, [x509.DNSName(name)]))
