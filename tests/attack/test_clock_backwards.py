# SPDX-License-Identifier: GPL-3.0-or-later
"""The TPM's state goes back in time: a restored snapshot of a virtual TPM, an older quote."""

from __future__ import annotations

import pytest
from ansible.module_utils.vouch.model.finding import Verdict

from sim.attester import SimAppraiser, SimHost


@pytest.mark.parametrize("what", ["clock_ms", "reset_count", "restart_count"])
def test_a_counter_goes_back(what: str) -> None:
    host = SimHost()
    appraiser = SimAppraiser(host=host)
    host.tpm.clock_ms += 100_000
    appraiser.accept()
    setattr(host.tpm, what, getattr(host.tpm, what) - (50_000 if what == "clock_ms" else 1))
    result = appraiser.appraise().result
    assert (result.stage, result.codes) == ("counters", ("quote.clock.backwards",))


def test_a_statement_from_the_future_of_its_quote() -> None:
    host = SimHost()
    counters = host.tpm.counters
    host.statement_changes = {"tpm": type(counters)(clock_ms=10**9, reset_count=4, restart_count=1)}
    result = SimAppraiser(host=host).appraise().result
    assert (result.stage, result.codes) == ("counters", ("quote.statement.clock",))


def test_an_honest_reboot_is_noted_and_starts_a_new_list() -> None:
    host = SimHost()
    appraiser = SimAppraiser(host=host)
    first = appraiser.accept()
    host.boot()
    appraisal = appraiser.appraise()
    assert first.result.verdict is appraisal.result.verdict is Verdict.AFFIRMING
    assert "quote.reset.changed" in [finding.code for finding in appraisal.result.findings]


def test_a_power_cut_may_repeat_the_clock() -> None:
    host = SimHost()
    appraiser = SimAppraiser(host=host)
    host.tpm.clock_ms += 5000
    appraiser.accept()
    host.tpm.clock_ms -= 4000
    host.tpm.safe = False
    host.boot()
    assert appraiser.appraise().result.verdict is Verdict.AFFIRMING
