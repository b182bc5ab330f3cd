# SPDX-License-Identifier: GPL-3.0-or-later
"""Rounds and answers with a TPM in memory: the quote that needs repeating, the log that disagrees, the odd disk."""

from __future__ import annotations

import hashlib
import json
import pathlib
from typing import Any

import pytest
from ansible.module_utils.vouch.daemon.eventlog import EventLog
from ansible.module_utils.vouch.daemon.evidence import EvidenceMaker, read_identity
from ansible.module_utils.vouch.daemon.exchange import EvidenceRequest
from ansible.module_utils.vouch.errors import UsageError, VouchError
from ansible.module_utils.vouch.model.evidence import Evidence
from ansible.module_utils.vouch.model.statement import HostStatement
from ansible.module_utils.vouch.port.ima import ImaLog
from ansible.module_utils.vouch.port.quotetpm import TpmClock

from verifier_harness import HOST_ID, RELEASE_ID, SSH_HOST_KEY, ima_entry

NONCE = bytes(range(32))
IDENTITY = {"host_id": HOST_ID, "release_id": RELEASE_ID, "version": 1}


class MemoryTpm:
    """Registers in memory. ``restless`` quotes are each followed by an extend of PCR 10, as IMA may do."""

    def __init__(self) -> None:
        self.pcrs = {i: bytes(32) for i in range(24)}
        self.restless = 0
        self.quoted: list[bytes] = []

    def read_pcrs(self, indices: tuple[int, ...]) -> dict[int, bytes]:
        return {i: self.pcrs[i] for i in indices}

    def extend(self, pcr: int, digest: bytes) -> None:
        self.pcrs[pcr] = hashlib.sha256(self.pcrs[pcr] + digest).digest()

    def quote(self, qualifying: bytes, indices: tuple[int, ...]) -> tuple[bytes, bytes]:
        self.quoted.append(qualifying)
        values = b"".join(self.pcrs[i] for i in indices)
        if self.restless:
            self.restless -= 1
            self.extend(10, bytes(32))
        return b"attest\0\x20" + hashlib.sha256(values).digest(), b"signature"

    def clock(self) -> TpmClock:
        return TpmClock(123456, 7, 1)


@pytest.fixture
def tpm() -> MemoryTpm:
    return MemoryTpm()


@pytest.fixture
def maker(tmp_path: pathlib.Path, tpm: MemoryTpm) -> EvidenceMaker:
    (tmp_path / "ima").write_bytes(b"".join(ima_entry(i) for i in range(3)))
    return EvidenceMaker(
        identity=read_identity(IDENTITY, f"{SSH_HOST_KEY} comment\n", None),
        tpm=tpm,
        event_log=EventLog(str(tmp_path), tpm),
        ima_log=ImaLog(str(tmp_path / "ima")),
        now_s=lambda: 1_750_000_000,
        version="0.1.0",
        report=lambda _: None,
    )


def answered(maker: EvidenceMaker, pcrs: tuple[int, ...] = (0, 10, 14), offset: int = 0) -> dict[str, Any]:
    maker.refresh()
    made = maker.make_round(pcrs, [NONCE])
    raw = maker.answer(made, 0, EvidenceRequest("1", NONCE, pcrs, offset))
    found: dict[str, Any] = json.loads(raw[4:])
    return found


def test_an_install_proof_that_cannot_be_written_costs_the_answer_only(tmp_path: pathlib.Path, tpm: MemoryTpm) -> None:
    """The data partition is not under dm-verity."""
    (tmp_path / "ima").write_bytes(ima_entry(0))
    roti: dict[str, Any] = {}
    for _ in range(31):
        roti = {"a": roti}
    maker = EvidenceMaker(
        identity=read_identity(IDENTITY, SSH_HOST_KEY, roti),
        tpm=tpm,
        event_log=EventLog(str(tmp_path), tpm),
        ima_log=ImaLog(str(tmp_path / "ima")),
        now_s=lambda: 0,
        version="0.1.0",
        report=lambda _: None,
    )
    found = answered(maker)
    assert (found["ok"], found["id"], found["error"]["code"]) == (False, "1", "json.depth")


def test_an_answer_is_evidence_as_the_model_reads_it(maker: EvidenceMaker, tmp_path: pathlib.Path) -> None:
    evidence = Evidence.from_json(answered(maker)["result"])
    statement = HostStatement.from_bytes(evidence.statement)
    assert evidence.nonce == NONCE
    assert evidence.ima_log == (tmp_path / "ima").read_bytes()
    assert statement.ssh_host_key == SSH_HOST_KEY
    assert statement.host_id == HOST_ID
    assert statement.release_id.hex() == RELEASE_ID
    assert statement.ima_bytes == len(evidence.ima_log)
    assert (statement.tpm.clock_ms, statement.tpm.reset_count, statement.tpm.restart_count) == (123456, 7, 1)
    assert statement.event_log_head == evidence.pcrs[14]
    assert statement.to_bytes() == evidence.statement


def test_the_start_is_recorded_once(maker: EvidenceMaker) -> None:
    answered(maker)
    evidence = Evidence.from_json(answered(maker)["result"])
    (line,) = evidence.event_log.splitlines()
    assert json.loads(line)["content"] == {
        "event": "verifier.start",
        "version": "0.1.0",
        "time": 1_750_000_000,
        "reset_count": 7,
        "restart_count": 1,
    }


def test_a_quote_is_repeated_until_the_values_are_its_own(maker: EvidenceMaker, tpm: MemoryTpm) -> None:
    maker.refresh()
    tpm.restless = 3
    evidence = Evidence.from_json(answered(maker)["result"])
    assert len(tpm.quoted) == 4
    assert evidence.attest.endswith(hashlib.sha256(b"".join(evidence.pcrs.values.values())).digest())


def test_it_gives_up_when_registers_never_rest(maker: EvidenceMaker, tpm: MemoryTpm) -> None:
    maker.refresh()
    tpm.restless = 100
    with pytest.raises(VouchError) as caught:
        maker.make_round((10,), [NONCE])
    assert caught.value.code == "tpm.busy"
    assert len(tpm.quoted) == 8


def test_no_evidence_beside_a_foreign_extend(maker: EvidenceMaker, tpm: MemoryTpm) -> None:
    maker.refresh()
    tpm.extend(14, bytes(32))
    with pytest.raises(VouchError) as caught:
        maker.make_round((14,), [NONCE])
    assert caught.value.code == "verifier.eventlog.inconsistent"


def test_offsets_are_entry_boundaries_within_the_list(maker: EvidenceMaker, tmp_path: pathlib.Path) -> None:
    maker.refresh()
    size = (tmp_path / "ima").stat().st_size
    for offset, good in ((0, True), (size, True), (size // 3, True), (1, False), (size + 1, False), (2**53 - 1, False)):
        problem = maker.refused_offset(EvidenceRequest("1", NONCE, (0,), offset))
        assert (problem == "") is good, offset


def test_a_list_that_vanishes_after_the_quote_is_an_error_answer(maker: EvidenceMaker, tmp_path: pathlib.Path) -> None:
    maker.refresh()
    made = maker.make_round((0,), [NONCE])
    (tmp_path / "ima").unlink()
    answer = json.loads(maker.answer(made, 0, EvidenceRequest("1", NONCE, (0,), 0))[4:])
    assert (answer["ok"], answer["error"]["code"]) == (False, "ima.unreadable")


BAD_IDENTITIES = {
    "no object": [],
    "member missing": {"host_id": HOST_ID, "version": 1},
    "member more": {**IDENTITY, "x": 1},
    "another version": {**IDENTITY, "version": 2},
    "host id a number": {**IDENTITY, "host_id": 1},
}


@pytest.mark.parametrize("fault", sorted(BAD_IDENTITIES))
def test_a_bad_identity_is_refused(fault: str) -> None:
    with pytest.raises(UsageError) as caught:
        read_identity(BAD_IDENTITIES[fault], SSH_HOST_KEY, None)
    assert caught.value.code == "verifier.identity"


def test_a_bad_key_or_proof_is_refused() -> None:
    for key, roti in (("", None), ("ssh-ed25519", None), (SSH_HOST_KEY, [])):
        with pytest.raises(UsageError):
            read_identity(IDENTITY, key, roti)
