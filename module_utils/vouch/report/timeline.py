# SPDX-License-Identifier: GPL-3.0-or-later
"""Results and events as lines to read, the newest first, bounded; results that say the same are told as one.

A host that is asked every minute has a thousand results a day, and all of them say the same on a good day.
"""

from __future__ import annotations

import heapq
from collections.abc import Sequence
from dataclasses import dataclass

from .coverage import lines_of
from .standing import VERDICTS, Standing
from .view import EventLine, FleetInput, HostInput, ResultLine


@dataclass(frozen=True, slots=True, kw_only=True)
class Told:
    """One line of a timeline: a run of equal results, or an event.

    Attributes:
        at_s: When it happened; of a run, its last result.
        since_s: Of a run, its first result; else ``at_s``.
        count: Results in the run; 1 for an event.
        verdict: What the results said; None for an event.
        reasons: Why.
        event: The event; None for results.
    """

    at_s: int
    since_s: int
    count: int = 1
    verdict: Standing | None = None
    reasons: tuple[str, ...] = ()
    event: EventLine | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Timeline:
    """Lines of one host, newest first, and how many older ones there are."""

    lines: tuple[Told, ...]
    left_out: int


@dataclass(frozen=True, slots=True, kw_only=True)
class FleetEvent:
    """One event with the host it happened on."""

    host: HostInput
    event: EventLine


def timeline_of(host: HostInput, most: int) -> Timeline:
    """Return the newest ``most`` lines of ``host``."""
    results = lines_of(host)
    moments: list[tuple[int, int, ResultLine | EventLine]] = [(line.issued_at_s, 0, line) for line in results]
    moments += [(event.at_s, 1, event) for event in host.events]
    moments.sort(key=lambda item: item[:2])
    told: list[Told] = []
    run: list[ResultLine] = []
    for _, _, item in moments:
        if isinstance(item, EventLine):
            _end_run(run, told)
            told.append(Told(at_s=item.at_s, since_s=item.at_s, event=item))
            continue
        if run and (run[-1].verdict, run[-1].reasons) != (item.verdict, item.reasons):
            _end_run(run, told)
        run.append(item)
    _end_run(run, told)
    told.reverse()
    return Timeline(lines=tuple(told[:most]), left_out=max(0, len(told) - most))


def newest_events(fleet: FleetInput, most: int) -> tuple[tuple[FleetEvent, ...], int]:
    """Return the newest ``most`` events of all hosts, newest first, and how many are left out."""
    everything = [FleetEvent(host=host, event=event) for host in fleet.hosts for event in host.events]
    return tuple(heapq.nlargest(most, everything, key=_place)), max(0, len(everything) - most)


def _place(item: FleetEvent) -> tuple[int, str, str, str, str, str]:
    event = item.event
    return event.at_s, item.host.host_id, event.kind, event.subject, event.code, event.detail


def _end_run(run: list[ResultLine], told: list[Told]) -> None:
    if run:
        told.append(_told(run))
        run.clear()


def _told(run: Sequence[ResultLine]) -> Told:
    return Told(
        at_s=run[-1].issued_at_s,
        since_s=run[0].issued_at_s,
        count=len(run),
        verdict=VERDICTS[run[-1].verdict],
        reasons=run[-1].reasons,
    )
