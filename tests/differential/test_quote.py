# SPDX-License-Identifier: GPL-3.0-or-later
"""Our judgement of a quote against that of ``tpm2_checkquote``: good ones, and every kind of change."""

from __future__ import annotations

import pathlib
import shutil
import subprocess

import pytest
from ansible.module_utils.vouch.check.identity import check_ak_public
from ansible.module_utils.vouch.check.quote import check_selection, check_values, verify_attest
from ansible.module_utils.vouch.errors import EvidenceError
from ansible.module_utils.vouch.model.digest import PcrBank, PcrSelection
from ansible.module_utils.vouch.model.key import AkPublic
from ansible.module_utils.vouch.port.tpm import Tpm
from cryptography.hazmat.primitives import serialization

from swtpm_fixture import SoftwareTpm

pytestmark = pytest.mark.swtpm

SELECTION = PcrSelection.of("sha256", (0, 4, 10, 14))
NONCE = b"\x5a" * 32


def theirs(folder: pathlib.Path, ak: AkPublic, attest: bytes, signature: bytes, bank: PcrBank, nonce: bytes) -> bool:
    key = serialization.load_der_public_key(ak.key.spki)
    (folder / "ak.pem").write_bytes(
        key.public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
    )
    (folder / "attest").write_bytes(attest)
    (folder / "signature").write_bytes(signature)
    # Register values in the "values" form: the digests one after the other.
    (folder / "pcrs").write_bytes(bank.composite(SELECTION))
    done = subprocess.run(
        [
            "tpm2_checkquote",
            *("-u", str(folder / "ak.pem"), "-m", str(folder / "attest"), "-s", str(folder / "signature")),
            *("-f", str(folder / "pcrs"), "-l", str(SELECTION), "-g", "sha256", "-q", nonce.hex()),
        ],
        capture_output=True,
        timeout=60,
        check=False,
    )
    return done.returncode == 0


def ours(ak: AkPublic, attest: bytes, signature: bytes, bank: PcrBank, nonce: bytes) -> bool:
    try:
        verified = verify_attest(ak.key, attest, signature)
        check_selection(verified.quote, SELECTION)
        check_values(verified.quote, SELECTION, bank)
    except EvidenceError:
        return False
    return verified.attest.extra_data == nonce


def flipped(data: bytes, place: int) -> bytes:
    return data[:place] + bytes((data[place] ^ 0x10,)) + data[place + 1 :]


def test_we_agree_with_tpm2_tools(software_tpm: SoftwareTpm, tmp_path: pathlib.Path) -> None:
    if shutil.which("tpm2_checkquote") is None:
        pytest.skip("tpm2_checkquote is not installed")
    with Tpm(software_tpm.tcti) as tpm:
        ak, other = check_ak_public(tpm.create_ak()), check_ak_public(tpm.create_ak())
        ak, other = other, ak
        tpm.extend(14, b"\x01" * 32)
        attest, signature, bank = tpm.quote_registers(NONCE, SELECTION)
    cases = {
        "good": (ak, attest, signature, bank, NONCE),
        "another key": (other, attest, signature, bank, NONCE),
        "another nonce": (ak, attest, signature, bank, flipped(NONCE, 3)),
        "another value": (ak, attest, signature, bank.extended(14, bytes(32)), NONCE),
    }
    for place in range(0, len(attest), 23):
        cases[f"attest byte {place}"] = (ak, flipped(attest, place), signature, bank, NONCE)
    for place in range(8, len(signature), 23):
        cases[f"signature byte {place}"] = (ak, attest, flipped(signature, place), bank, NONCE)
    for name, case in cases.items():
        assert (name, ours(*case)) == (name, theirs(tmp_path, *case))
        assert ours(*case) == (name == "good")
