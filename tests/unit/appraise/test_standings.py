# SPDX-License-Identifier: GPL-3.0-or-later
"""What a standing is worth at a moment: never more than its verdict, and nothing out of its time."""

from __future__ import annotations

import pytest
from ansible.module_utils.vouch.appraise.result import unreachable_result
from ansible.module_utils.vouch.appraise.standings import (
    CLOCK_SKEW_S,
    FUTURE,
    STATUSES,
    Worth,
    pushed_standing,
    standings_of,
    worth,
)
from ansible.module_utils.vouch.errors import UnreachableError
from ansible.module_utils.vouch.model.finding import Verdict
from ansible.module_utils.vouch.model.standing import PUSHED
from hypothesis import given
from hypothesis import strategies as st

from standingparts import NOW_S, host_id, standing


@pytest.mark.parametrize(
    ("verdict", "after_s", "status"),
    [
        (Verdict.AFFIRMING, 0, "affirming"),
        (Verdict.AFFIRMING, 599, "affirming"),
        (Verdict.AFFIRMING, 600, "expired"),
        (Verdict.AFFIRMING, 10**9, "expired"),
        (Verdict.AFFIRMING, -CLOCK_SKEW_S, "affirming"),
        (Verdict.AFFIRMING, -CLOCK_SKEW_S - 1, "none"),
        (Verdict.WARNING, 0, "warning"),
        (Verdict.WARNING, 600, "expired"),
        (Verdict.CONTRAINDICATED, 0, "contraindicated"),
        (Verdict.CONTRAINDICATED, 600, "expired"),
        (Verdict.NONE, 0, "none"),
        (Verdict.NONE, 600, "none"),
    ],
)
def test_by_time(verdict: Verdict, after_s: int, status: str) -> None:
    assert worth(standing(verdict=verdict), now_s=NOW_S + after_s).status == status


def test_never_appraised() -> None:
    assert worth(None, now_s=NOW_S) == Worth("none", ())
    assert worth(standing(), now_s=0) == Worth("none", (FUTURE,))


@given(st.sampled_from(list(Verdict)), st.integers(0, 2**40), st.integers(1, 10**6), st.integers(0, 2**40))
def test_affirming_means_affirmed_within_its_time(verdict: Verdict, issued: int, ttl: int, now: int) -> None:
    found = worth(standing(verdict=verdict, issued_at_s=issued, expires_at_s=issued + ttl), now_s=now)
    assert found.status in STATUSES
    if found.status == "affirming":
        assert verdict is Verdict.AFFIRMING
        assert issued - CLOCK_SKEW_S <= now < issued + ttl


def test_a_host_that_was_not_reached() -> None:
    error = UnreachableError("no route", code="ssh.unreachable")
    result = unreachable_result(host_id(1), error, policy_digest=bytes(32), issued_at_s=NOW_S, ttl_s=60)
    (found,) = standings_of(result, "h1")
    assert (found.verdict, found.reasons, found.image) == (Verdict.NONE, ("ssh.unreachable",), "")
    assert worth(found, now_s=NOW_S) == Worth("none", ("ssh.unreachable",))


def test_a_pushed_violation_only_makes_worse() -> None:
    found = pushed_standing(
        host_id=host_id(1), name="h1", guest="web", reasons=("guest.text",), now_s=NOW_S + 5, ttl_s=60
    )
    assert found.verdict is Verdict.CONTRAINDICATED
    assert (found.guest, found.stage, found.result) == ("web", PUSHED, "")
    assert worth(found, now_s=NOW_S + 5) == Worth("contraindicated", ("guest.text",))
