# SPDX-License-Identifier: GPL-3.0-or-later
"""One good quote, and one for every step of the plan that fails just there; then quotes of other projects."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import pathlib
import struct
from collections.abc import Callable
from typing import Any

import pytest
from ansible.module_utils.vouch.check.identity import check_ak_public
from ansible.module_utils.vouch.check.quote import (
    VerifiedQuote,
    check_selection,
    check_values,
    verify_attest,
    verify_quote,
)
from ansible.module_utils.vouch.errors import EvidenceError, UsageError
from ansible.module_utils.vouch.model.digest import NAME_TO_TPM_ALG, PcrBank, PcrSelection, sha256
from ansible.module_utils.vouch.model.evidence import Evidence
from ansible.module_utils.vouch.model.key import AkPublic, PublicKey
from ansible.module_utils.vouch.model.merkle import inclusion_path, leaf, root
from ansible.module_utils.vouch.model.statement import HostStatement, TpmCounters
from ansible.module_utils.vouch.parse.tpm2 import parse_attest, parse_public, parse_signature
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature

from conftest import expected

SELECTION = PcrSelection.of("sha256", (*range(11), 14))
BANK = PcrBank("sha256", {i: bytes((i,)) * 32 for i in SELECTION.indices})
NONCE = bytes(range(32))
SSH_KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAI" + "A" * 43
PRIVATE = ec.derive_private_key(7, ec.SECP256R1())


def public_area() -> bytes:
    numbers = PRIVATE.public_key().public_numbers()
    point = b"".join(b"\x00\x20" + n.to_bytes(32, "big") for n in (numbers.x, numbers.y))
    return bytes.fromhex("0023 000b 00050472 0000 0010 0018 000b 0003 0010") + point


AK: AkPublic = check_ak_public(public_area())
STATEMENT = HostStatement(
    host_id="11111111-2222-3333-4444-555555555555",
    release_id=b"",
    ssh_host_key=SSH_KEY,
    time_s=1,
    tpm=TpmCounters(clock_ms=1000, reset_count=3, restart_count=0),
    event_log_count=1,
    event_log_head=BANK[14],
    ima_bytes=0,
)


@dataclasses.dataclass
class Quoter:
    """A TPM in software: change a field, take evidence."""

    magic: int = 0xFF544347
    type: int = 0x8018
    signer: bytes = b"\x00\x0b" + hashlib.sha256(bytes.fromhex("40000001") + AK.name).digest()
    clock: int = 2000
    reset: int = 3
    restart: int = 0
    safe: int = 1
    selection: bytes = b"\x00\x00\x00\x01\x00\x0b\x03\xff\x47\x00"
    bank: PcrBank = BANK
    statement: bytes = STATEMENT.to_bytes()
    others: int = 2
    tail: bytes = b""
    scheme: bytes = b"\x00\x18\x00\x0b"

    def evidence(self) -> Evidence:
        leaves = [leaf(bytes((i,)) * 32, sha256(b"")) for i in range(self.others)]
        leaves.append(leaf(NONCE, sha256(self.statement)))
        digest = sha256(b"".join(self.bank.values.values()))
        attest = (
            struct.pack(">IH", self.magic, self.type)
            + struct.pack(">H", len(self.signer))
            + self.signer
            + b"\x00\x20"
            + root(leaves)
            + struct.pack(">QIIBQ", self.clock, self.reset, self.restart, self.safe, 1)
            + self.selection
            + b"\x00\x20"
            + digest
            + self.tail
        )
        r, s = decode_dss_signature(PRIVATE.sign(attest, ec.ECDSA(hashes.SHA256())))
        return Evidence(
            nonce=NONCE,
            statement=self.statement,
            attest=attest,
            signature=self.scheme + b"".join(b"\x00\x20" + n.to_bytes(32, "big") for n in (r, s)),
            pcrs=self.bank,
            leaf_index=self.others,
            leaf_count=self.others + 1,
            path=inclusion_path(leaves, self.others),
            ima_offset=0,
            ima_log=b"",
            event_log=b"",
            roti=None,
        )


def verify(evidence: Evidence, last: TpmCounters | None = None, **change: Any) -> VerifiedQuote:
    arguments: dict[str, Any] = {"ak": AK, "nonce": NONCE, "selection": SELECTION, **change}
    return verify_quote(evidence=evidence, last=last, **arguments)


@pytest.mark.parametrize("others", range(6))
def test_a_good_quote_proves_registers_and_statement(others: int) -> None:
    verified = verify(Quoter(others=others).evidence())
    assert verified.bank == BANK
    assert verified.statement == STATEMENT
    assert verified.counters == TpmCounters(clock_ms=2000, reset_count=3, restart_count=0)
    assert verified.findings == ()


def evidence_with(**change: Any) -> Evidence:
    return dataclasses.replace(Quoter().evidence(), **change)


OTHER_BANK = PcrBank("sha256", {**BANK.values, 4: bytes(32)})
FEWER = PcrBank("sha256", {i: v for i, v in BANK.values.items() if i != 14})
MORE = PcrBank("sha256", {**BANK.values, 15: bytes(32)})
GOOD = Quoter().evidence()
LATE = dataclasses.replace(STATEMENT, tpm=TpmCounters(clock_ms=2001, reset_count=3, restart_count=0)).to_bytes()
FAULTS: dict[str, tuple[Evidence, str]] = {
    "1 signature of other bytes": (
        evidence_with(attest=GOOD.attest[:-1] + bytes((GOOD.attest[-1] ^ 1,))),
        "quote.signature.invalid",
    ),
    "1 signature cut": (evidence_with(signature=GOOD.signature[:-1]), "quote.signature.malformed"),
    "1 another scheme": (Quoter(scheme=b"\x00\x1c\x00\x0b").evidence(), "quote.signature.scheme"),
    "1 another hash": (Quoter(scheme=b"\x00\x18\x00\x04").evidence(), "quote.signature.scheme"),
    "2 not made by a TPM": (Quoter(magic=0xFF544346).evidence(), "quote.magic"),
    "3 another attestation": (Quoter(type=0x8017).evidence(), "quote.type"),
    "3 bytes behind the quote": (Quoter(tail=b"\0").evidence(), "quote.malformed"),
    "3 a clock no record can hold": (Quoter(clock=2**53).evidence(), "quote.malformed"),
    "3 safe is neither": (Quoter(safe=2).evidence(), "quote.malformed"),
    "4 another signer": (Quoter(signer=b"\x00\x0b" + bytes(32)).evidence(), "quote.signer"),
    "5 another nonce": (evidence_with(nonce=bytes(32)), "quote.nonce.mismatch"),
    "5 another statement": (evidence_with(statement=LATE), "quote.nonce.mismatch"),
    "5 another leaf": (evidence_with(leaf_index=0, path=GOOD.path * 2), "quote.nonce.mismatch"),
    "5 path too short": (evidence_with(path=()), "quote.nonce.path"),
    "5 path too long": (evidence_with(path=GOOD.path * 3), "quote.nonce.path"),
    "5 index outside": (evidence_with(leaf_index=3), "quote.nonce.path"),
    "6 fewer registers": (
        Quoter(selection=b"\x00\x00\x00\x01\x00\x0b\x03\xff\x07\x00").evidence(),
        "quote.selection.mismatch",
    ),
    "6 more registers": (
        Quoter(selection=b"\x00\x00\x00\x01\x00\x0b\x03\xff\xc7\x00").evidence(),
        "quote.selection.mismatch",
    ),
    "6 another bank": (
        Quoter(selection=b"\x00\x00\x00\x01\x00\x04\x03\xff\x47\x00").evidence(),
        "quote.selection.mismatch",
    ),
    "6 nothing": (Quoter(selection=b"\x00\x00\x00\x00").evidence(), "quote.selection.mismatch"),
    "7 another value": (evidence_with(pcrs=OTHER_BANK), "quote.pcrs.mismatch"),
    "7 a value missing": (evidence_with(pcrs=FEWER), "quote.pcrs.mismatch"),
    "7 a value not quoted": (evidence_with(pcrs=MORE), "quote.pcrs.mismatch"),
    "8 statement is no statement": (Quoter(statement=b"{}").evidence(), "quote.statement.malformed"),
    "8 statement made later": (Quoter(statement=LATE).evidence(), "quote.statement.clock"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_every_step_refuses(fault: str) -> None:
    evidence, code = FAULTS[fault]
    with pytest.raises(EvidenceError) as error:
        verify(evidence)
    assert error.value.code == code


def test_the_answer_to_another_question_is_refused() -> None:
    with pytest.raises(EvidenceError) as error:
        verify(GOOD, nonce=bytes(32))
    assert error.value.code == "quote.nonce.mismatch"
    # Even when the evidence claims our nonce.
    with pytest.raises(EvidenceError) as error:
        verify(evidence_with(nonce=bytes(32)), nonce=bytes(32))
    assert error.value.code == "quote.nonce.mismatch"
    with pytest.raises(EvidenceError) as error:
        verify(GOOD, selection=PcrSelection.of("sha256", (4,)))
    assert error.value.code == "quote.selection.mismatch"
    with pytest.raises(UsageError):
        verify(GOOD, nonce=b"short")


def seen(clock_ms: int = 2000, reset_count: int = 3, restart_count: int = 0) -> TpmCounters:
    return TpmCounters(clock_ms=clock_ms, reset_count=reset_count, restart_count=restart_count)


BACKWARDS = {
    "clock": (Quoter(), seen(clock_ms=2001)),
    "boots": (Quoter(), seen(reset_count=4)),
    "resumes": (Quoter(), seen(restart_count=1)),
    "boots across the counter's end": (Quoter(reset=2**32 - 1), seen(reset_count=0)),
}


@pytest.mark.parametrize("fault", BACKWARDS)
def test_time_does_not_move_backwards(fault: str) -> None:
    quoter, last = BACKWARDS[fault]
    with pytest.raises(EvidenceError) as error:
        verify(quoter.evidence(), last)
    assert error.value.code == "quote.clock.backwards"


@pytest.mark.parametrize("before", [seen(), seen(clock_ms=0)])
def test_time_may_stand_or_move_forward(before: TpmCounters) -> None:
    assert not verify(GOOD, before).rebooted


@pytest.mark.parametrize(("before", "after"), [(3, 4), (2**32 - 1, 0), (2**32 - 2, 1)])
def test_a_boot_is_noted_across_the_counters_end(before: int, after: int) -> None:
    verified = verify(Quoter(reset=after).evidence(), seen(reset_count=before))
    assert verified.rebooted
    assert [finding.code for finding in verified.findings] == ["quote.reset.changed"]


def test_a_clock_after_a_power_cut_is_noted() -> None:
    verified = verify(Quoter(safe=0, reset=4).evidence(), seen(clock_ms=2001))
    codes = [finding.code for finding in verified.findings]
    assert codes == ["quote.clock.unsafe", "quote.clock.repeated", "quote.reset.changed"]
    assert not verified.safe


def test_a_clock_that_a_power_cut_set_back_is_noted_though_it_is_said_to_be_safe() -> None:
    verified = verify(Quoter(reset=4).evidence(), seen(clock_ms=2001))
    assert [finding.code for finding in verified.findings] == ["quote.clock.repeated", "quote.reset.changed"]


def foreign_key(path: pathlib.Path) -> PublicKey | None:
    """Return the attestation key of a foreign case, whatever form it has."""
    data = path.read_bytes()
    if path.suffix == ".tpmt_public":
        area = parse_public(data)
        numbers = rsa.RSAPublicNumbers(area.rsa_exponent or 65537, int.from_bytes(area.rsa_modulus, "big"))
        der = numbers.public_key().public_bytes(
            serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
        )
    elif b"BEGIN CERTIFICATE" in data:
        der = (
            x509.load_pem_x509_certificate(data)
            .public_key()
            .public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)
        )
    elif path.suffix == ".pem":
        return PublicKey.from_pem(data)
    else:
        der = data
    return PublicKey.from_der(der)


def test_quotes_of_other_projects(shared_data: Callable[[str], pathlib.Path]) -> None:
    folder = shared_data("quote")
    cases = expected("quote")["cases"]
    assert len(cases) >= 14
    for case in cases:
        want, files = case["expect"], {k: folder / v for k, v in case["files"].items()}
        attest = files["attest"].read_bytes()
        parsed = parse_attest(attest)
        assert parsed.quote is not None
        assert parsed.extra_data.hex() == want["extra_data"]
        assert (parsed.extra_data.hex() == want.get("nonce")) == want.get("nonce_is_extra_data", False)
        assert parsed.qualified_signer.hex() == want["qualified_signer"]
        assert parsed.clock_info.clock_ms == want["clock"]
        assert parsed.clock_info.reset_count == want["reset_count"]
        assert parsed.clock_info.restart_count == want["restart_count"]
        assert parsed.clock_info.safe == bool(want["safe"])
        assert f"{parsed.firmware_version:016x}" == want["firmware_version"]
        assert parsed.quote.pcr_digest.hex() == want["pcr_digest"]
        (wanted,) = want["pcr_select"]
        assert parsed.quote.selections == ((NAME_TO_TPM_ALG[wanted["bank"]], tuple(wanted["pcrs"])),)
        check_selection(parsed.quote, PcrSelection(wanted["bank"], tuple(wanted["pcrs"])))
        signature = files["signature"].read_bytes()
        if files["signature"].suffix == ".raw":
            signature = b"\x00\x14\x00\x0b" + len(signature).to_bytes(2, "big") + signature
        assert parse_signature(signature).hash_alg == NAME_TO_TPM_ALG[want["signature"]["hash"]]
        if "ak" in files and want["signature"]["hash"] == "sha256":
            key = foreign_key(files["ak"])
            assert key is not None
            assert verify_attest(key, attest, signature).attest == parsed
            flipped = bytes((attest[0], attest[1], attest[2], attest[3], attest[4], attest[5] ^ 1)) + attest[6:]
            with pytest.raises(EvidenceError):
                verify_attest(key, flipped, signature)
        if want.get("pcr_digest_matches") and "pcrs" in files and want["signature"]["hash"] == "sha256":
            values = json.loads(files["pcrs"].read_text())
            values = values.get(wanted["bank"], values)
            bank = PcrBank(wanted["bank"], {i: bytes.fromhex(values[str(i)]) for i in wanted["pcrs"]})
            check_values(parsed.quote, PcrSelection(wanted["bank"], tuple(wanted["pcrs"])), bank)
