# SPDX-License-Identifier: GPL-3.0-or-later
"""Lies with real evidence: what the hosts gave is changed on its way, and appraised as if it had just arrived."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from outcomes import outcome

from vouch.appraise.host import References, appraise_host
from vouch.appraise.policy import AppraisalPolicy
from vouch.appraise.result import AttestationResult
from vouch.model.enrolment import Enrolment
from vouch.model.evidence import Evidence
from vouch.model.finding import Verdict
from vouch.parse.canonical import load_json
from vouch.parse.imalog import parse_binary

LIMIT = 1 << 20


class Appraiser:
    """The appraisal of one kept bundle, with one thing exchanged."""

    def __init__(self, name: str) -> None:
        self.parts = outcome(name).bundle()
        self.evidence = Evidence.from_bytes(self.parts["evidence.json"])
        self.enrolment = Enrolment.from_bytes(self.parts["enrolment.json"])
        self.context = load_json(self.parts["context.json"], limit_bytes=LIMIT)

    def appraise(self, evidence: Evidence | None = None, **changes: Any) -> AttestationResult:
        """Return the result; without changes it is the one that was kept."""
        policy = AppraisalPolicy.from_bytes(self.parts["policy.json"])
        asked: dict[str, Any] = {
            "host_id": self.context["host_id"],
            "nonce": bytes.fromhex(self.context["nonce"]),
            "channel_key": self.context["channel_key"],
            "enrolment": self.enrolment,
            "references": References(policy, [(self.parts["release.json"], self.parts["manifest"])]),
            "now_s": self.context["now"],
            "asked_at_s": self.context["asked_at"],
            **changes,
        }
        data = self.parts["evidence.json"] if evidence is None else evidence.to_bytes()
        return appraise_host(data, **asked).result


@pytest.fixture(scope="module")
def appraiser() -> Appraiser:
    """The untouched production host."""
    return Appraiser("untouched-mh1")


def refused(result: AttestationResult, *codes: str) -> bool:
    """Say whether the result is a refusal for exactly these reasons."""
    return result.verdict is Verdict.CONTRAINDICATED and result.codes == codes


def test_unchanged_it_is_affirmed_again_to_the_byte(appraiser: Appraiser) -> None:
    result = appraiser.appraise()
    assert result.verdict is Verdict.AFFIRMING
    assert result.to_bytes() == appraiser.parts["result.json"]
    assert appraiser.appraise(appraiser.evidence).to_bytes() == appraiser.parts["result.json"]


def test_replayed_under_a_new_nonce(appraiser: Appraiser) -> None:
    nonce = bytes(32)
    assert refused(appraiser.appraise(nonce=nonce), "quote.nonce.mismatch")
    assert refused(appraiser.appraise(replace(appraiser.evidence, nonce=nonce), nonce=nonce), "quote.nonce.mismatch")


def test_replayed_under_its_own_nonce_after_newer_evidence(appraiser: Appraiser) -> None:
    """A controller never uses a nonce twice; if one did, the TPM's clock would still tell."""
    last = appraiser.enrolment.counters
    later = replace(appraiser.enrolment, counters=replace(last, reset_count=last.reset_count + 10))
    assert refused(appraiser.appraise(enrolment=later), "quote.clock.backwards")


def test_of_another_machine(appraiser: Appraiser) -> None:
    other = Appraiser("untouched-mh2")
    nonce = bytes.fromhex(other.context["nonce"])
    assert refused(appraiser.appraise(other.evidence, nonce=nonce), "quote.signature.invalid")


def test_of_a_machine_nobody_enrolled(appraiser: Appraiser) -> None:
    assert refused(appraiser.appraise(enrolment=None), "ak.unknown")


def test_through_a_relay(appraiser: Appraiser) -> None:
    other = Appraiser("untouched-mh2")
    assert refused(appraiser.appraise(channel_key=other.context["channel_key"]), "channel.key.mismatch")


def entries(log: bytes) -> list[bytes]:
    """Return the entries of a measurement list."""
    return [log[e.offset_bytes : e.offset_bytes + e.size_bytes] for e in parse_binary(log)]


@pytest.mark.parametrize("cut", [slice(0, -1), slice(1, None), slice(0, 0)], ids=["last", "first", "all"])
def test_list_cut(appraiser: Appraiser, cut: slice) -> None:
    kept = b"".join(covered(appraiser)[cut])
    assert refused(appraiser.appraise(replace(appraiser.evidence, ima_log=kept)), "ima.replay.mismatch")


@pytest.mark.parametrize("index", [0, 1, 100, -1])
def test_entry_altered(appraiser: Appraiser, index: int) -> None:
    spans = covered(appraiser)
    changed = bytearray(spans[index])
    changed[-1] ^= 1
    # The last byte of an ima-ng entry is the NUL behind the path; of the byte before nobody says it must be a letter.
    changed[-1], changed[-2] = 0, changed[-2] ^ 1
    spans[index] = bytes(changed)
    lying = replace(appraiser.evidence, ima_log=b"".join(spans))
    assert refused(appraiser.appraise(lying), "ima.replay.mismatch")


def covered(appraiser: Appraiser) -> list[bytes]:
    """Return the entries that the quote covers: one that was measured after it may be missing without a lie."""
    count = appraiser.appraise().ima_entries
    assert count is not None
    assert count > 100
    return entries(appraiser.evidence.ima_log)[:count]
