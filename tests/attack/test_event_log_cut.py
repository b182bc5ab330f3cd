# SPDX-License-Identifier: GPL-3.0-or-later
"""The VM verifier's own log is cut, changed, or holds what nobody knows how to judge."""

from __future__ import annotations

from dataclasses import replace

import pytest
from ansible.module_utils.vouch.appraise.result import AttestationResult
from ansible.module_utils.vouch.model.finding import Verdict

from sim.attester import SimAppraiser, SimHost

SECOND_START = {"event": "verifier.start", "version": "0.1.0", "time": 2, "reset_count": 4, "restart_count": 1}


def host_with_two_events() -> SimHost:
    """Return a host whose verifier was started twice."""
    host = SimHost()
    host.log_event({**SECOND_START, "reset_count": host.tpm.reset_count})
    return host


@pytest.mark.parametrize("keep", [0, 1])
def test_lines_are_taken_off_the_end(keep: int) -> None:
    host = host_with_two_events()
    evidence = host.evidence()
    lines = evidence.event_log.splitlines(keepends=True)
    cut = replace(evidence, event_log=b"".join(lines[:keep]))
    result = SimAppraiser(host=host).appraise(cut).result
    assert (result.stage, result.codes) == ("logs", ("eventlog14.replay.mismatch",))


CHANGES = {
    "first line gone": (lambda a, b: b, "eventlog14.record.order"),
    "lines exchanged": (lambda a, b: b + a, "eventlog14.record.order"),
    "content changed": (lambda a, b: a.replace(b"0.1.0", b"0.1.1") + b, "eventlog14.digest.mismatch"),
    "other register": (lambda a, b: a.replace(b'"pcr":14', b'"pcr":15') + b, "eventlog14.record.order"),
    "line not ended": (lambda a, b: a + b[:-1], "parse.truncated"),
    "not canonical": (lambda a, b: a.replace(b":", b": ", 1) + b, "parse.json.not-canonical"),
    "rubbish": (lambda a, b: b"\xff\n", "parse.json.encoding"),
}


@pytest.mark.parametrize("fault", sorted(CHANGES))
def test_lines_are_changed(fault: str) -> None:
    change, code = CHANGES[fault]
    host = host_with_two_events()
    evidence = host.evidence()
    first, second = evidence.event_log.splitlines(keepends=True)
    changed = replace(evidence, event_log=change(first, second))
    result = SimAppraiser(host=host).appraise(changed).result
    assert (result.stage, result.codes) == ("logs", (code,))


def test_both_logs_are_reported() -> None:
    host = SimHost()
    changed = replace(host.evidence(), event_log=b"", ima_log=b"")
    assert SimAppraiser(host=host).appraise(changed).result.codes == (
        "eventlog14.replay.mismatch",
        "ima.replay.mismatch",
    )


def test_a_statement_with_other_heads() -> None:
    host = SimHost()
    host.statement_changes = {"event_log_count": 2}
    assert SimAppraiser(host=host).appraise().result.codes == ("eventlog14.statement.mismatch",)


@pytest.mark.parametrize(
    ("event", "verdict", "codes"),
    [
        ({"event": "x"}, Verdict.CONTRAINDICATED, ("eventlog14.event.unknown", "eventlog14.findings.more")),
        (SECOND_START, Verdict.AFFIRMING, ()),
    ],
)
def test_thousands_of_events_make_a_result_that_can_be_read(
    event: dict[str, object], verdict: Verdict, codes: tuple[str, ...]
) -> None:
    host = SimHost()
    for _ in range(1100):
        host.log_event({**event, "reset_count": host.tpm.reset_count} if "version" in event else event)
    result = SimAppraiser(host=host).appraise().result
    assert (result.verdict, result.codes) == (verdict, codes)
    assert AttestationResult.from_bytes(result.to_bytes()) == result
    assert sum(finding.code.startswith("eventlog14.") for finding in result.findings) == 65


def test_a_denial_is_not_lost_behind_notes() -> None:
    host = SimHost()
    for _ in range(100):
        host.log_event({**SECOND_START, "reset_count": host.tpm.reset_count})
    host.log_event({"event": "x"})
    assert SimAppraiser(host=host).appraise().result.codes == ("eventlog14.event.unknown",)


def test_an_event_nobody_knows() -> None:
    host = SimHost()
    host.log_event({"event": "guest.teleport", "guest": "x"})
    result = SimAppraiser(host=host).appraise().result
    assert (result.stage, result.codes) == ("contents", ("eventlog14.event.unknown",))


def test_an_event_with_other_members() -> None:
    host = SimHost()
    host.log_event({"event": "verifier.start", "version": 1})
    assert SimAppraiser(host=host).appraise().result.codes == ("eventlog14.event.malformed",)


def test_a_log_that_does_not_begin_with_a_start() -> None:
    host = SimHost()
    host.event_log, host.events = b"", 0
    host.tpm.registers[14] = bytes(32)
    assert SimAppraiser(host=host).appraise().result.codes == ("eventlog14.start.missing",)


def test_a_second_start_is_noted() -> None:
    result = SimAppraiser(host=host_with_two_events()).appraise().result
    assert result.verdict is Verdict.AFFIRMING
    assert "eventlog14.restarted" in [finding.code for finding in result.findings]
