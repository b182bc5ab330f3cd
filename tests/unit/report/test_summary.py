# SPDX-License-Identifier: GPL-3.0-or-later
"""A fleet cut down: all are counted, few are spelt out, and the difference is said."""

from __future__ import annotations

import functools

from ansible.module_utils.vouch.model.finding import Severity
from ansible.module_utils.vouch.report.summary import Summary, summarise
from ansible.module_utils.vouch.report.view import FleetInput, Limits

from sim.fleet import NOW_S, TTL_S, fleet, hosts, large, small


@functools.cache
def thousand() -> FleetInput:
    """Return a thousand hosts."""
    return large(1000)


def counts(summary: Summary) -> dict[str, int]:
    """Return hosts by word."""
    return {item.standing.word: item.count for item in summary.counts}


def test_one_of_each() -> None:
    summary = summarise(small(), Limits())
    assert counts(summary) == {
        "contraindicated": 2,
        "failed": 1,
        "unreachable": 1,
        "expired": 1,
        "rebooted": 1,
        "none": 1,
        "updating": 1,
        "warning": 1,
        "affirming": 3,
    }
    assert (summary.proven, summary.tainted, summary.good_until_s) == (3, 1, NOW_S + TTL_S)
    assert {item.standing.word: item.count for item in summary.guests} == {
        "contraindicated": 2,
        "none": 1,
        "warning": 1,
        "affirming": 3,
    }
    assert summary.guests_unknown == 1
    assert summary.groups == ()


def test_reasons_say_what_to_do_and_where() -> None:
    reasons = {item.code: item for item in summarise(small(), Limits()).reasons}
    assert set(reasons) == {
        "boot.pcr4.unexpected",
        "guest.host.contraindicated",
        "guest.log.violation",
        "ima.entry.unknown",
        "release.debug",
    }
    unknown = reasons["ima.entry.unknown"]
    assert (unknown.hosts, unknown.guests, unknown.severity) == (1, 0, Severity.DENY)
    assert unknown.meaning
    assert unknown.cure
    assert [place.host.name for place in unknown.places] == ["xen-05"]
    violated = reasons["guest.log.violation"]
    assert (violated.hosts, violated.guests) == (0, 1)
    assert list(reasons)[-1] == "release.debug"


def test_a_large_fleet_is_grouped_and_nobody_is_lost() -> None:
    summary = summarise(thousand(), Limits(groups=3, drawn=5, names=2))
    assert sum(item.count for item in summary.counts) == 1000
    assert sum(group.count for group in summary.groups) + summary.groups_left_out == 1000
    assert len(summary.groups) == 3
    assert all(len(group.places) <= 2 for group in summary.groups)
    assert [place.anchor for place in summary.places[:7]] == [f"host-{number}" for number in range(1, 6)] + ["", ""]
    assert all(len(reason.places) <= 2 for reason in summary.reasons)


def test_a_reason_counts_each_host_once() -> None:
    reasons = {item.code: item for item in summarise(thousand(), Limits(names=2)).reasons}
    violated = reasons["guest.log.violation"]
    assert (violated.hosts, violated.guests, violated.concerned, len(violated.places)) == (0, 1, 1, 1)
    assert reasons["ima.entry.unknown"].concerned == reasons["ima.entry.unknown"].hosts == 1


def test_a_host_with_a_refused_guest_is_in_no_group_with_good_ones() -> None:
    groups = summarise(thousand(), Limits()).groups
    tainted = [group for group in groups if group.tainted and group.standing.word == "affirming"]
    assert [group.count for group in tainted] == [1]


def test_reasons_are_cut() -> None:
    summary = summarise(small(), Limits(reasons=2))
    assert (len(summary.reasons), summary.reasons_left_out) == (2, 3)


def test_the_order_of_the_input_does_not_matter() -> None:
    assert summarise(fleet(*reversed(hosts())), Limits()) == summarise(fleet(*hosts()), Limits())


def test_an_empty_fleet() -> None:
    summary = summarise(fleet(), Limits())
    assert (summary.places, summary.counts, summary.reasons, summary.good_until_s) == ((), (), (), None)
