# SPDX-License-Identifier: GPL-3.0-or-later
"""Timelines: equal results are one line, an event parts them, and what is left out is counted."""

from __future__ import annotations

from ansible.module_utils.vouch.model.finding import Verdict
from ansible.module_utils.vouch.report.timeline import newest_events, timeline_of
from ansible.module_utils.vouch.report.view import EventLine, HostInput

from sim.attester import NOW_S
from sim.fleet import GOOD, fleet, history, hosts


def host(*verdicts: tuple[Verdict, int], events: tuple[EventLine, ...] = ()) -> HostInput:
    """Return a host with one result each 240 s up to now."""
    return HostInput(name="x", host_id="x", state="none", history=history(*verdicts), events=events)


def test_equal_results_are_one_line() -> None:
    made = timeline_of(host((GOOD, 90), (Verdict.CONTRAINDICATED, 1), (GOOD, 9)), 24)
    assert [(item.count, item.verdict.word if item.verdict else "") for item in made.lines] == [
        (9, "affirming"),
        (1, "contraindicated"),
        (90, "affirming"),
    ]
    assert made.lines[0].at_s == NOW_S
    assert made.lines[0].since_s == NOW_S - 8 * 240
    assert made.lines[1].reasons == ("ima.entry.unknown",)
    assert made.left_out == 0


def test_an_event_parts_results() -> None:
    event = EventLine(at_s=NOW_S - 500, kind="guest.launch")
    made = timeline_of(host((GOOD, 10), events=(event,)), 24)
    assert [(item.count, item.event) for item in made.lines] == [(3, None), (1, event), (7, None)]


def test_what_is_left_out_is_counted() -> None:
    events = tuple(EventLine(at_s=NOW_S - at, kind="x") for at in range(100))
    made = timeline_of(host((GOOD, 1), events=events), 24)
    assert (len(made.lines), made.left_out) == (24, 77)
    assert [item.at_s for item in made.lines] == sorted((item.at_s for item in made.lines), reverse=True)


def test_the_newest_events_of_all_hosts() -> None:
    made = fleet(*hosts())
    events, left_out = newest_events(made, 3)
    assert [item.event.kind for item in events] == ["guest.action", "guest.violation", "update.failed"]
    assert left_out == 4
    assert newest_events(fleet(*reversed(hosts())), 3) == (events, left_out)
