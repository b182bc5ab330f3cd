# SPDX-License-Identifier: GPL-3.0-or-later
"""Signatures through ctypes say the same as those through cryptography, whatever is altered."""

from __future__ import annotations

import pytest
from ansible.module_utils.vouch.check.opened import open_with
from ansible.module_utils.vouch.check.signature import verify_signature
from ansible.module_utils.vouch.errors import EvidenceError, UnreachableError, UsageError
from ansible.module_utils.vouch.make.sign import generate_private_key, public_key, sign_envelope
from ansible.module_utils.vouch.model.channelcert import require_p256
from ansible.module_utils.vouch.model.key import ECDSA_P256, ED25519, PublicKey
from ansible.module_utils.vouch.parse.envelope import pae, parse_envelope
from ansible.module_utils.vouch.port.libcrypto import Libcrypto
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import padding, rsa

SCHEMES = [ED25519, ECDSA_P256]


@pytest.fixture(scope="module")
def library() -> Libcrypto:
    return Libcrypto()


def answer_of(verify: object, *arguments: object) -> str:
    try:
        verify(*arguments)  # type: ignore[operator]
    except (EvidenceError, UsageError) as error:
        return error.code
    return "holds"


@pytest.mark.parametrize("scheme", SCHEMES)
def test_both_libraries_agree(library: Libcrypto, scheme: str) -> None:
    key, other = (generate_private_key(scheme) for _ in range(2))
    envelope = parse_envelope(sign_envelope("type", b"payload", key))
    message, signature = pae("type", b"payload"), envelope.signatures[0].signature
    cases = {
        "right": (public_key(key), message, signature),
        "another key": (public_key(other), message, signature),
        "another message": (public_key(key), message + b"x", signature),
        "empty message": (public_key(key), b"", signature),
        "empty signature": (public_key(key), message, b""),
        "cut": (public_key(key), message, signature[:-1]),
        "longer": (public_key(key), message, signature + b"\0"),
        "zeros": (public_key(key), message, bytes(len(signature))),
    }
    for at in range(len(signature)):
        flipped = bytearray(signature)
        flipped[at] ^= 1
        cases[f"bit of byte {at}"] = (public_key(key), message, bytes(flipped))
    answers = {name: answer_of(library.verify_signature, *case) for name, case in cases.items()}
    assert answers == {name: answer_of(verify_signature, *case) for name, case in cases.items()}
    assert answers.pop("right") == "holds"
    assert set(answers.values()) == {"signature.invalid"}


def test_foreign_rsa_keys_verify(library: Libcrypto) -> None:
    private = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    spki = private.public_key().public_bytes(
        serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    signature = private.sign(b"message", padding.PKCS1v15(), hashes.SHA256())
    library.verify_signature(PublicKey.from_der(spki), b"message", signature)
    with pytest.raises(EvidenceError):
        library.verify_signature(PublicKey.from_der(spki), b"massage", signature)


def test_a_point_off_the_curve_is_no_key(library: Libcrypto) -> None:
    key = PublicKey.p256(bytes(31) + b"\1", bytes(31) + b"\1")
    assert answer_of(library.verify_signature, key, b"", b"") == "key.unusable"


def test_envelopes_open_with_it(library: Libcrypto) -> None:
    key = generate_private_key()
    data = sign_envelope("type", b"payload", key)
    opened = open_with(library.verify_signature, data, [public_key(generate_private_key()), public_key(key)], "order")
    assert (opened.payload, opened.keyid) == (b"payload", public_key(key).keyid)
    with pytest.raises(EvidenceError) as caught:
        open_with(library.verify_signature, data[:-9], [public_key(key)], "order")
    assert caught.value.code == "envelope.malformed"
    with pytest.raises(EvidenceError) as caught:
        open_with(library.verify_signature, data, [public_key(generate_private_key())], "order")
    assert caught.value.code == "envelope.signature.invalid"
    with pytest.raises(UsageError):
        open_with(library.verify_signature, data, [], "order")


def test_a_host_without_it_says_so() -> None:
    with pytest.raises(UnreachableError) as caught:
        Libcrypto("libcrypto.so.0")
    assert caught.value.code == "libcrypto.absent"


def test_a_key_of_ours_signs_for_both_libraries(library: Libcrypto) -> None:
    key, other = library.generate_key(), library.generate_key()
    assert key.spki != other.spki
    require_p256(key.spki)
    public = PublicKey.from_der(key.spki)
    assert public.scheme == ECDSA_P256
    for message in (b"", b"x", bytes(100_000)):
        signature = key.sign(message)
        for verify in (library.verify_signature, verify_signature):
            assert answer_of(verify, public, message, signature) == "holds"
            assert answer_of(verify, public, message + b"y", signature) == "signature.invalid"
            assert answer_of(verify, PublicKey.from_der(other.spki), message, signature) == "signature.invalid"


def test_keys_are_given_back(library: Libcrypto) -> None:
    """A leak of one key a time would show as megabytes."""
    import resource

    before_kb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    for _ in range(3000):
        library.generate_key().sign(b"x")
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before_kb < 2048
