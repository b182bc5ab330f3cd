# SPDX-License-Identifier: GPL-3.0-or-later
"""The appraisal of a good host, and its order; each lie has its own file in tests/attack."""

from __future__ import annotations

from dataclasses import replace

import pytest
from ansible.module_utils.vouch.appraise.host import appraise_host
from ansible.module_utils.vouch.appraise.result import AttestationResult
from ansible.module_utils.vouch.errors import UsageError
from ansible.module_utils.vouch.model.finding import Severity, Verdict

from sim.attester import NONCE, NOW_S, TTL_S, SimAppraiser, SimHost, ssh_key


def test_a_good_host_is_affirmed_and_its_registers_get_pinned() -> None:
    host = SimHost()
    appraiser = SimAppraiser(host=host)
    first = appraiser.accept()
    assert first.result.verdict is Verdict.AFFIRMING
    assert {finding.severity for finding in first.result.findings} == {Severity.NOTE}
    assert first.enrolment is not None
    assert first.enrolment.unpinned == ()
    assert first.enrolment.accepted_at_s == NOW_S
    second = appraiser.accept()
    assert second.result.findings == ()


def test_the_first_stage_that_denies_is_the_last_one() -> None:
    """Everything is wrong at once; taking one wrong away shows the next."""
    host = SimHost()
    appraiser = SimAppraiser(host=host, channel_key=ssh_key(9))
    host.boot(b"\x01" * 32)
    host.roti = None
    host.measure("/tmp/implant", b"x")
    stages = []
    evidence = replace(host.evidence(), event_log=b"x", nonce=bytes(32))
    stages.append(appraiser.appraise(b"x").result.stage)
    known, appraiser.enrolment = appraiser.enrolment, None
    stages.append(appraiser.appraise(evidence).result.stage)
    appraiser.enrolment = known
    stages.append(appraiser.appraise(evidence).result.stage)
    evidence = replace(evidence, nonce=NONCE)
    stages.append(appraiser.appraise(evidence).result.stage)
    host.boot()
    host.measure("/tmp/implant", b"x")
    stages.append(appraiser.appraise(replace(host.evidence(), event_log=b"x")).result.stage)
    stages.append(appraiser.appraise().result.stage)
    host.boot()
    stages.append(appraiser.appraise().result.stage)
    host.install()
    host.boot()
    appraiser.enrolment = host.enrolment
    stages.append(appraiser.appraise().result.stage)
    appraiser.channel_key = host.ssh_host_key
    stages.append(appraiser.appraise().result.stage)
    assert stages == ["evidence", "identity", "quote", "boot", "logs", "contents", "roti", "channel", "done"]


def test_nothing_later_is_claimed_than_what_was_reached() -> None:
    result = SimAppraiser(host=SimHost()).appraise(b"x").result
    assert (result.ak_name, result.release_id, result.pcr4_found, result.ima_entries) == (None, None, None, None)


def test_an_enrolment_of_another_host_is_the_callers_fault() -> None:
    appraiser = SimAppraiser(host=SimHost())
    appraiser.enrolment = SimHost(seed=2).enrolment
    with pytest.raises(UsageError):
        appraiser.appraise()


def test_a_nonce_of_another_length_is_the_callers_fault() -> None:
    host = SimHost()
    appraiser = SimAppraiser(host=host)
    with pytest.raises(UsageError):
        appraise_host(
            host.evidence().to_bytes(),
            host_id=host.host_id,
            nonce=b"short",
            channel_key=host.ssh_host_key,
            enrolment=host.enrolment,
            references=appraiser.references,
            now_s=NOW_S,
        )


def appraised_after(waited_s: int) -> AttestationResult:
    """Return the result for good evidence that was asked for ``waited_s`` before it was judged."""
    host = SimHost()
    appraiser = SimAppraiser(host=host)
    return appraise_host(
        host.evidence().to_bytes(),
        host_id=host.host_id,
        nonce=NONCE,
        channel_key=host.ssh_host_key,
        enrolment=host.enrolment,
        references=appraiser.references,
        now_s=NOW_S + waited_s,
        asked_at_s=NOW_S,
    ).result


def test_a_result_counts_from_when_it_was_asked_for() -> None:
    result = appraised_after(TTL_S - 1)
    assert (result.verdict, result.issued_at_s) == (Verdict.AFFIRMING, NOW_S)
    assert result.expires_at_s == NOW_S + TTL_S


def test_evidence_that_was_put_aside_does_not_become_fresh() -> None:
    result = appraised_after(TTL_S)
    assert (result.stage, result.codes) == ("quote", ("quote.nonce.stale",))
    assert result.expires_at_s == NOW_S + 2 * TTL_S


def test_a_nonce_of_the_future_is_the_callers_fault() -> None:
    with pytest.raises(UsageError):
        appraised_after(-1)
