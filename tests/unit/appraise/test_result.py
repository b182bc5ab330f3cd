# SPDX-License-Identifier: GPL-3.0-or-later
"""Results: the verdict follows from the findings, the time is part of it, the form is stable."""

from __future__ import annotations

from dataclasses import replace

import pytest
from ansible.module_utils.vouch.appraise.result import DONE, AttestationResult, unreachable_result
from ansible.module_utils.vouch.errors import ParseError, UnreachableError, UsageError
from ansible.module_utils.vouch.model.finding import Finding, Locator, Severity, Verdict

from sim.attester import NOW_S, TTL_S, SimAppraiser, SimHost, SimRelease


def good() -> AttestationResult:
    """Return an affirming result."""
    return SimAppraiser(host=SimHost()).appraise().result


def refused() -> AttestationResult:
    """Return a contraindicated result with places in its findings."""
    host = SimHost()
    host.measure("/tmp/\N{SNOWMAN}", b"x")
    return SimAppraiser(host=host).appraise().result


def test_a_result_names_what_it_was_made_from() -> None:
    result = good()
    assert result.verdict is Verdict.AFFIRMING
    assert result.stage == DONE
    assert result.pcr4_expected == result.pcr4_found
    assert (result.issued_at_s, result.expires_at_s) == (NOW_S, NOW_S + TTL_S)
    assert result.release_name == "dom0-1"
    assert result.variant == "production"
    assert result.ima_entries == 6
    assert result.codes == ()


def test_it_expires_by_itself() -> None:
    result = good()
    assert not result.expired(NOW_S + TTL_S - 1)
    assert result.expired(NOW_S + TTL_S)


@pytest.mark.parametrize("make", [good, refused])
def test_it_survives_json(make: object) -> None:
    result = make()  # type: ignore[operator]
    assert AttestationResult.from_bytes(result.to_bytes()) == result


def test_same_input_same_bytes() -> None:
    host = SimHost()
    evidence = host.evidence()
    appraiser = SimAppraiser(host=host)
    assert appraiser.appraise(evidence).result.to_bytes() == appraiser.appraise(evidence).result.to_bytes()


def test_hostile_text_is_printable() -> None:
    (finding,) = [item for item in refused().findings if item.severity is Severity.DENY]
    assert finding.actual is not None
    assert finding.actual.isascii()
    assert finding.actual.isprintable()


def test_a_verdict_cannot_be_better_than_its_findings() -> None:
    with pytest.raises(UsageError):
        replace(refused(), verdict=Verdict.AFFIRMING)
    with pytest.raises(UsageError):
        AttestationResult.from_bytes(refused().to_bytes().replace(b'"contraindicated"', b'"affirming"'))


def test_an_appraisal_does_not_stop_early_without_a_reason() -> None:
    with pytest.raises(UsageError):
        replace(good(), stage="boot")


def test_an_unknown_member_is_refused() -> None:
    with pytest.raises(ParseError):
        AttestationResult.from_bytes(good().to_bytes()[:-1] + b',"x":1}')


def test_a_host_nobody_could_reach_is_neither_good_nor_bad() -> None:
    error = UnreachableError("no route", code="ssh.connect")
    result = unreachable_result(good().host_id, error, policy_digest=bytes(32), issued_at_s=5, ttl_s=60)
    assert result.verdict is Verdict.NONE
    assert result.codes == ()
    assert [finding.code for finding in result.findings] == ["ssh.connect"]
    assert AttestationResult.from_bytes(result.to_bytes()) == result


def test_a_warning_is_done() -> None:
    appraiser = SimAppraiser(host=SimHost(SimRelease(variant="debug")), policy_changes={"allow_debug": True})
    assert appraiser.appraise().result.verdict is Verdict.WARNING


def test_a_result_that_expires_before_it_is_issued() -> None:
    with pytest.raises(UsageError):
        replace(good(), expires_at_s=NOW_S)


def test_findings_keep_their_places() -> None:
    where = Locator(part="ima", offset_bytes=7, entry=3)
    finding = Finding(code="ima.violation", severity=Severity.DENY, subject="pcr:10", where=where)
    result = replace(good(), findings=(finding,), verdict=Verdict.CONTRAINDICATED)
    assert AttestationResult.from_bytes(result.to_bytes()).findings == (finding,)


@pytest.mark.parametrize("message", ["", "x" * 1024, "x" * 1025, "\u00e9" * 5000, "a\ud800b", "two\nlines"])
@pytest.mark.parametrize("code", ["ssh.connect", "", "c" * 200])
def test_whatever_stood_in_the_way_the_result_can_be_read(message: str, code: str) -> None:
    error = UnreachableError(message, code=code)
    result = unreachable_result(good().host_id, error, policy_digest=bytes(32), issued_at_s=5, ttl_s=60)
    assert AttestationResult.from_bytes(result.to_bytes()) == result
    (reason,) = result.findings
    assert reason.actual is not None
    again = UnreachableError(reason.actual, code=reason.code)
    assert unreachable_result(good().host_id, again, policy_digest=bytes(32), issued_at_s=5, ttl_s=60) == result
