# SPDX-License-Identifier: GPL-3.0-or-later
"""EK certificates of real vendors, and attestation keys with every attribute wrong once."""

from __future__ import annotations

import datetime
import pathlib
from collections.abc import Callable
from typing import Any

import pytest
from ansible.module_utils.vouch.check.identity import check_ak_public, make_challenge, verify_ek_chain
from ansible.module_utils.vouch.errors import EvidenceError, UsageError

from conftest import expected

Data = Callable[[str], pathlib.Path]
NOW = datetime.datetime(2023, 6, 1, tzinfo=datetime.UTC)
"""When every certificate of the collection that is accepted was valid."""

AK_HEAD = "0023 000b {attributes} 0000 0010 {scheme} {hash} {curve} 0010"
P256_X = "6b17d1f2e12c4247f8bce6e563a440f277037d812deb33a0f4a13945d898c296"
P256_Y = "4fe342e2fe1a7f9b8ee7eb4a7c0f9e162bce33576b315ececbb6406837bf51f5"


def ak(
    attributes: str = "00050472",
    scheme: str = "0018",
    hash_alg: str = "000b",
    curve: str = "0003",
    x: str = P256_X,
    y: str = P256_Y,
) -> bytes:
    head = bytes.fromhex(AK_HEAD.format(attributes=attributes, scheme=scheme, hash=hash_alg, curve=curve))
    return head + b"".join(len(v).to_bytes(2, "big") + v for v in (bytes.fromhex(x), bytes.fromhex(y)))


def certificates(kind: str) -> list[dict[str, Any]]:
    return [item for item in expected(kind)["files"] if not item["file"].startswith("ca/")]


def judge(folder: pathlib.Path, item: dict[str, Any], now: datetime.datetime) -> str:
    """Return ``accept`` or the code of the refusal, with every authority but the chain's root as intermediate."""
    chain = item["expect"].get("chain") or []
    authorities = {path.name: path.read_bytes() for path in (folder / "ca").iterdir()}
    root = pathlib.Path(chain[-1]).name if chain else "GS_TPM_RT.der"
    try:
        ek = verify_ek_chain((folder / item["file"]).read_bytes(), authorities.values(), [authorities[root]], now=now)
    except EvidenceError as error:
        return error.code
    assert len(ek.chain) == len(chain)
    assert ek.certificate_sha256.hex() == item["expect"]["sha256_of_certificate"]
    assert ek.manufacturer == item["expect"]["tpm_manufacturer"]
    assert ek.model == item["expect"]["tpm_model"]
    return "accept"


CODES = {
    "google-pca_tpm_ecc_enc.der": "ek.certificate.usage",
    "not-ek-hirs-identity.der": "ek.chain.untrusted",
    "not-ek-intel-platform.der": "ek.certificate.malformed",
    "nuvoton-root-2110.der": "ek.chain.untrusted",
    "swtpm-rsa.der": "ek.chain.untrusted",
}


def test_vendors_certificates(shared_data: Data) -> None:
    folder = shared_data("ekcert")
    now = {"swtpm-rsa.der": datetime.datetime(2026, 6, 1, tzinfo=datetime.UTC)}
    for item in certificates("ekcert"):
        name = item["file"]
        # Two certificates of the collection were valid only until 2024; the vendor did not renew them.
        when = datetime.datetime(2020, 1, 1, tzinfo=datetime.UTC) if name.startswith("st-") else now.get(name, NOW)
        assert (name, judge(folder, item, when)) == (name, CODES.get(name, "accept"))
        assert (item["expect"].get("verdict", "reject") == "accept") == (name not in CODES)


def test_expired_and_not_yet_valid_have_their_code(shared_data: Data) -> None:
    folder = shared_data("ekcert")
    (item,) = [item for item in certificates("ekcert") if item["file"] == "infineon-ca029.der"]
    for year in (2016, 2037):
        assert judge(folder, item, datetime.datetime(year, 1, 1, tzinfo=datetime.UTC)) == "ek.chain.expired"


def test_one_flipped_bit_of_a_certificate_is_never_accepted(shared_data: Data, tmp_path: pathlib.Path) -> None:
    folder = shared_data("ekcert")
    data = (folder / "infineon-ca029.der").read_bytes()
    roots = [(folder / "ca" / "INF_RSA_010RT.der").read_bytes()]
    others = [path.read_bytes() for path in (folder / "ca").glob("Infineon*")]
    good = verify_ek_chain(data, others, roots, now=NOW)
    for at in range(0, len(data), 37):
        flipped = data[:at] + bytes((data[at] ^ 0x01,)) + data[at + 1 :]
        with pytest.raises(EvidenceError):
            verify_ek_chain(flipped, others, roots, now=NOW)
    assert good.kind == "rsa2048"


def test_no_root_is_our_own_mistake(shared_data: Data) -> None:
    data = (shared_data("ekcert") / "infineon-ca029.der").read_bytes()
    for roots in ([], [b"nothing that can be read"]):
        with pytest.raises(UsageError) as error:
            verify_ek_chain(data, [], roots, now=NOW)
        assert error.value.code == "ek.roots.none"


def test_old_hashes_are_noted(shared_data: Data) -> None:
    folder = shared_data("ekcert")
    authorities = [path.read_bytes() for path in (folder / "ca").iterdir()]
    root = (folder / "ca" / "GS_TPM_RT.der").read_bytes()
    now = datetime.datetime(2020, 1, 1, tzinfo=datetime.UTC)
    ek = verify_ek_chain((folder / "st-oaep-1.der").read_bytes(), authorities, [root], now=now)
    assert {finding.code for finding in ek.findings} == {"ek.chain.sha1"}


def test_an_ak_is_named_and_kept_as_it_is() -> None:
    checked = check_ak_public(ak())
    assert checked.public == ak()
    assert checked.name[:2] == b"\x00\x0b"
    assert len(checked.name) == 34
    assert checked.key.scheme == "ecdsa-p256-sha256"


BAD_AKS = {
    "not restricted": (ak(attributes="00040472"), "ak.attributes"),
    "not signing": (ak(attributes="00010472"), "ak.attributes"),
    "decrypting too": (ak(attributes="00070472"), "ak.attributes"),
    "may leave its tpm": (ak(attributes="00050470"), "ak.attributes"),
    "may leave its parent": (ak(attributes="00050462"), "ak.attributes"),
    "made outside": (ak(attributes="00050452"), "ak.attributes"),
    "another scheme": (ak(scheme="001c"), "ak.scheme"),
    "another hash": (ak(hash_alg="0004"), "ak.scheme"),
    "another curve": (ak(curve="0004"), "ak.scheme"),
    "a point off the curve": (ak(y=P256_X), "ak.key"),
    "no point": (ak(x="", y=""), "ak.key"),
    "cut": (ak()[:-1], "ak.malformed"),
    "longer": (ak() + b"\0", "ak.malformed"),
    "empty": (b"", "ak.malformed"),
}


@pytest.mark.parametrize("fault", BAD_AKS)
def test_bad_attestation_keys(fault: str) -> None:
    public, code = BAD_AKS[fault]
    with pytest.raises(EvidenceError) as error:
        check_ak_public(public)
    assert error.value.code == code


@pytest.mark.parametrize(("name", "secret"), [(b"short", b"s"), (bytes(34), b""), (bytes(34), b"s" * 33)])
def test_challenge_input(name: bytes, secret: bytes) -> None:
    with pytest.raises(UsageError):
        make_challenge(b"", name, secret)
