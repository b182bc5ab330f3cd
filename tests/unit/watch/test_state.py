# SPDX-License-Identifier: GPL-3.0-or-later
"""States of watched hosts: told apart, and never fresh without accepted evidence that counts by both clocks."""

from __future__ import annotations

import pytest
from ansible.module_utils.vouch.model.finding import Verdict
from ansible.module_utils.vouch.watch.schedule import MAX_BACKOFF, Schedule
from ansible.module_utils.vouch.watch.state import COUNTS, HostState, after_result, after_time, start
from hypothesis import given
from hypothesis import strategies as st

NOW_S = 1_000_000
TTL_S = 100


def result(
    before: HostState, verdict: Verdict, *, rebooted: bool = False, window: int = 0, now: int = NOW_S, mono: float = 0.0
) -> HostState:
    return after_result(
        before,
        verdict,
        rebooted=rebooted,
        window_until_s=window,
        expires_at_s=now + TTL_S,
        now_s=now,
        mono_s=mono,
    )


@pytest.mark.parametrize(
    ("verdict", "rebooted", "window", "state"),
    [
        (Verdict.AFFIRMING, False, 0, "fresh"),
        (Verdict.WARNING, False, 0, "fresh"),
        (Verdict.AFFIRMING, True, 0, "rebooted"),
        (Verdict.AFFIRMING, True, NOW_S + 1, "fresh"),
        (Verdict.AFFIRMING, True, NOW_S, "rebooted"),
        (Verdict.CONTRAINDICATED, False, 0, "failed"),
        (Verdict.CONTRAINDICATED, True, NOW_S + 1, "failed"),
        (Verdict.NONE, False, 0, "unreachable"),
        (Verdict.NONE, False, NOW_S + 1, "updating"),
        (Verdict.NONE, False, NOW_S, "unreachable"),
    ],
)
def test_by_result(verdict: Verdict, rebooted: bool, window: int, state: str) -> None:
    found = result(start(now_s=0), verdict, rebooted=rebooted, window=window)
    assert (found.state, found.since_s) == (state, NOW_S)


def test_silence_takes_no_refusal_back() -> None:
    failed = result(start(now_s=0), Verdict.CONTRAINDICATED)
    for window in (0, NOW_S + 100):
        assert result(failed, Verdict.NONE, now=NOW_S + 50, window=window) == failed
    assert result(failed, Verdict.AFFIRMING, now=NOW_S + 60).state == "fresh"
    assert result(start(now_s=NOW_S, known="failed", since_s=7), Verdict.NONE) == HostState(state="failed", since_s=7)
    assert start(now_s=NOW_S, known="fresh", since_s=7) == start(now_s=NOW_S)


def test_the_time_of_a_state_is_when_it_began() -> None:
    first = result(start(now_s=0), Verdict.AFFIRMING)
    assert result(first, Verdict.AFFIRMING, now=NOW_S + 50).since_s == NOW_S


@pytest.mark.parametrize(
    ("now", "mono", "state"),
    [
        (NOW_S + TTL_S - 1, TTL_S - 1.0, "fresh"),
        (NOW_S + TTL_S, TTL_S - 1.0, "expired"),
        (NOW_S - 10**6, TTL_S + 0.0, "expired"),
        (NOW_S - 10**6, TTL_S - 1.0, "fresh"),
    ],
)
def test_expiry_by_either_clock(now: int, mono: float, state: str) -> None:
    assert after_time(result(start(now_s=0), Verdict.AFFIRMING), now_s=now, mono_s=mono).state == state


def test_what_is_not_fresh_does_not_expire() -> None:
    for verdict in (Verdict.NONE, Verdict.CONTRAINDICATED):
        found = result(start(now_s=0), verdict)
        assert after_time(found, now_s=NOW_S * 2, mono_s=1e9) == found


steps = st.lists(
    st.one_of(
        st.tuples(st.just("result"), st.sampled_from(list(Verdict)), st.booleans()),
        st.tuples(st.just("wait"), st.integers(0, 300), st.just(False)),
        st.tuples(st.just("jump"), st.integers(-(10**7), 10**7), st.just(False)),
    ),
    max_size=30,
)


@given(steps)
def test_nothing_counts_longer_than_its_time(taken: list[tuple[str, object, bool]]) -> None:
    now, mono, accepted = NOW_S * 100, 0.0, None
    state = start(now_s=now)
    for kind, value, rebooted in taken:
        if kind == "result":
            assert isinstance(value, Verdict)
            state = result(state, value, rebooted=rebooted, now=now, mono=mono)
            if value in (Verdict.AFFIRMING, Verdict.WARNING):
                accepted = mono
        else:
            assert isinstance(value, int)
            now += value
            mono += value if kind == "wait" else 0
            state = after_time(state, now_s=now, mono_s=mono)
        if state.state in COUNTS:
            assert accepted is not None
            assert mono - accepted < TTL_S


@given(st.floats(0, 1), st.integers(0, 50))
def test_a_schedule_never_lets_a_result_expire(chance: float, failures: int) -> None:
    schedule = Schedule(interval_s=60, jitter_s=10)
    assert 0 <= schedule.first_s(chance) <= 60
    waits = schedule.next_s(chance, failures=failures)
    assert waits <= 60 if failures <= 1 else waits <= 60 * MAX_BACKOFF
    assert waits >= 50
