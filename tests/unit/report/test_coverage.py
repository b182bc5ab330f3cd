# SPDX-License-Identifier: GPL-3.0-or-later
"""Which part of the time a host had a result: no gap is painted over, no axis moves for a false clock."""

from __future__ import annotations

import dataclasses

import pytest
from ansible.module_utils.vouch.model.finding import Verdict
from ansible.module_utils.vouch.report.coverage import (
    MAX_HISTORY,
    SAMPLES,
    SPANS_S,
    Window,
    bars_of,
    lanes_of,
    lines_of,
    share_covered,
    window_of,
)
from ansible.module_utils.vouch.report.view import EventLine, FleetInput, HostInput, ResultLine
from hypothesis import given
from hypothesis import strategies as st

from sim.attester import NOW_S, TTL_S
from sim.fleet import GOOD, fleet, history, hosts

BAD = Verdict.CONTRAINDICATED
HOUR = Window(start_s=NOW_S - 3600, end_s=NOW_S, older=0)
KINDS = {host.name: host for host in hosts()}


def line(issued_s: int, expires_s: int, verdict: Verdict = GOOD) -> ResultLine:
    """Return a result with times before now."""
    return ResultLine(issued_at_s=NOW_S - issued_s, expires_at_s=NOW_S - expires_s, verdict=verdict)


def bare(*lines: ResultLine, **parts: object) -> HostInput:
    """Return a host that is known by its history alone."""
    return HostInput(name="x", host_id="x", state="none", history=lines, **parts)  # type: ignore[arg-type]


BARS = {
    "a gap stays a gap": ([line(3600, 2700), line(1800, 900)], [(0, 250, GOOD), (500, 250, GOOD)]),
    "what touches is one": ([line(3600, 1800), line(1800, 0)], [(0, 1000, GOOD)]),
    "the newer one counts": ([line(3600, 0), line(1800, 900, BAD)], [(0, 500, GOOD), (500, 250, BAD)]),
    "none covers nothing": ([line(3600, 0), line(1800, 0, Verdict.NONE)], [(0, 500, GOOD)]),
    "what is older is not drawn": ([line(9000, 7200)], []),
    "what began before is cut": ([line(9000, 1800)], [(0, 500, GOOD)]),
    "what lasts longer is cut": ([line(1800, -9000)], [(500, 500, GOOD)]),
    "the future is not drawn": ([line(-100, -900)], []),
    "a short one can be seen": ([line(1800, 1799)], [(500, 2, GOOD)]),
}


@pytest.mark.parametrize("what", BARS)
def test_bars(what: str) -> None:
    lines, expected = BARS[what]
    assert [(bar.start, bar.width, bar.verdict) for bar in bars_of(lines, HOUR)] == expected


@pytest.mark.parametrize(
    ("lines", "share"),
    [
        ([], 0),
        ([line(3600, 0)], 100),
        ([line(3600, 1800)], 50),
        ([line(3600, 0, BAD)], 0),
        ([line(3600, 0), line(900, 0, BAD)], 75),
        ([line(3600, 1)], 99),
    ],
)
def test_share(lines: list[ResultLine], share: int) -> None:
    assert share_covered(lines, HOUR) == share


@pytest.mark.parametrize(
    ("age_s", "length_s"),
    [(0, 3600), (3600, 3600), (3601, 6 * 3600), (80_000, 86400), (700_000, 30 * 86400), (9_000_000, 30 * 86400)],
)
def test_a_window_is_the_shortest_that_holds_all(age_s: int, length_s: int) -> None:
    window = window_of(FleetInput(title="x", generated_at_s=NOW_S, hosts=(bare(line(age_s, age_s - 300)),)))
    assert (window.length_s, window.end_s) == (length_s, NOW_S)
    assert window.length_s in SPANS_S
    assert window.older == (age_s > SPANS_S[-1])


def test_no_event_and_no_result_of_tomorrow_moves_the_window() -> None:
    events = tuple(EventLine(at_s=at_s, kind="x") for at_s in (-(2**62), 0, 2**62))
    hosts_ = (bare(line(-(2**61), -(2**62)), events=events),)
    assert window_of(FleetInput(title="x", generated_at_s=NOW_S, hosts=hosts_)).length_s == SPANS_S[0]


def test_the_last_result_is_in_the_history_once() -> None:
    host = KINDS["xen-01"]
    assert len(lines_of(host)) == len(host.history)
    assert len(lines_of(dataclasses.replace(host, history=()))) == 1


def test_a_history_is_bounded_and_the_newest_is_kept() -> None:
    lines = history((GOOD, MAX_HISTORY + 10))
    kept = lines_of(bare(*lines))
    assert kept == list(lines[10:])


def test_the_last_sample_is_what_the_fleet_says_now() -> None:
    made = fleet(*hosts())
    now = {lane.verdict: lane.counts[-1] for lane in lanes_of(made.hosts, window_of(made))}
    assert now == {Verdict.AFFIRMING: 4, Verdict.WARNING: 1, Verdict.CONTRAINDICATED: 2}


@given(
    st.lists(
        st.tuples(st.integers(-500, 9000), st.integers(1, 4000), st.sampled_from(list(Verdict))),
        max_size=12,
        unique=True,
    )
)
def test_lanes_agree_with_looking_at_each_moment(made: list[tuple[int, int, Verdict]]) -> None:
    lines = [line(start, start - length, verdict) for start, length, verdict in made]
    host = bare(*lines)
    ordered = lines_of(host)
    lanes = {lane.verdict: lane.counts for lane in lanes_of([host], HOUR)}
    for at in range(SAMPLES - 1):
        moment_s = HOUR.start_s + HOUR.length_s * (at + 1) // SAMPLES
        begun = [item for item in ordered if item.issued_at_s <= moment_s]
        # Of those that began, the last one in order is the one that may count.
        counting = begun[-1].verdict if begun and moment_s < begun[-1].expires_at_s else None
        assert {verdict for verdict, counts in lanes.items() if counts[at]} == {counting} - {None, Verdict.NONE}
    assert all(counts[-1] == 0 for counts in lanes.values())


def test_a_result_covers_its_own_time() -> None:
    assert share_covered([line(TTL_S, 0)], Window(start_s=NOW_S - TTL_S, end_s=NOW_S, older=0)) == 100
