# SPDX-License-Identifier: GPL-3.0-or-later
"""Measurements are taken out of dom0's list, at its end or inside."""

from __future__ import annotations

from dataclasses import replace

import pytest
from ansible.module_utils.vouch.model.finding import Verdict
from ansible.module_utils.vouch.parse.imalog import parse_binary

from sim.attester import SimAppraiser, SimHost


def without(log: bytes, index: int) -> bytes:
    """Return ``log`` without one entry."""
    entry = parse_binary(log)[index]
    return log[: entry.offset_bytes] + log[entry.offset_bytes + entry.size_bytes :]


@pytest.mark.parametrize("index", range(6))
def test_an_entry_is_taken_out(index: int) -> None:
    host = SimHost()
    evidence = host.evidence()
    cut = replace(evidence, ima_log=without(evidence.ima_log, index))
    result = SimAppraiser(host=host).appraise(cut).result
    assert (result.stage, result.codes) == ("logs", ("ima.replay.mismatch",))


def test_nothing_is_left() -> None:
    host = SimHost()
    assert SimAppraiser(host=host).appraise(replace(host.evidence(), ima_log=b"")).result.codes == (
        "ima.replay.mismatch",
    )


def test_the_list_ends_inside_an_entry() -> None:
    host = SimHost()
    evidence = host.evidence()
    cut = replace(evidence, ima_log=evidence.ima_log[:-1])
    result = SimAppraiser(host=host).appraise(cut).result
    assert (result.stage, result.codes) == ("logs", ("parse.truncated",))


def test_what_was_measured_after_the_quote_is_noted_and_judged_next_time() -> None:
    host = SimHost()
    appraiser = SimAppraiser(host=host)
    evidence = host.evidence()
    before = len(evidence.ima_log)
    host.measure("/usr/bin/nc", b"not ours")
    later = replace(evidence, ima_log=host.ima_log)
    appraisal = appraiser.appraise(later)
    assert appraisal.result.verdict is Verdict.AFFIRMING
    assert "ima.tail.uncovered" in [finding.code for finding in appraisal.result.findings]
    assert appraisal.enrolment is not None
    assert appraisal.enrolment.ima is not None
    assert appraisal.enrolment.ima.offset_bytes == before
    appraiser.enrolment, host.ima_offset = appraisal.enrolment, before
    assert appraiser.appraise().result.codes == ("ima.entry.unknown",)


def test_a_measured_tail_that_was_stated_is_dropped() -> None:
    host = SimHost()
    host.measure("/usr/bin/nc", b"not ours", extended=False)
    evidence = host.evidence()
    cut = replace(evidence, ima_log=without(evidence.ima_log, 6))
    assert SimAppraiser(host=host).appraise(cut).result.codes == ("ima.log.short",)
