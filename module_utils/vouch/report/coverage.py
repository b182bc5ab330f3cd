# SPDX-License-Identifier: GPL-3.0-or-later
"""Which part of the time hosts had a result that counted: windows, bars of one host, counts of a fleet.

A result says something from the moment it was issued until it expires or a newer one takes its place. All times here
are the controller's; what hosts claim about time moves no axis.
"""

from __future__ import annotations

import bisect
import heapq
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from ..model.finding import Verdict
from .standing import is_current
from .view import FleetInput, HostInput, ResultLine

SPANS_S = (3600, 6 * 3600, 86400, 7 * 86400, 30 * 86400)
"""How long a window may be: the shortest one that holds all results, and never longer than the last."""

SAMPLES = 60
MAX_HISTORY = 4096
"""Results of one host that are looked at, the newest ones."""

LANES = (Verdict.AFFIRMING, Verdict.WARNING, Verdict.CONTRAINDICATED)
"""What is drawn. ``none`` is a result without an answer: it covers nothing."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Window:
    """The time that is drawn.

    Attributes:
        start_s: Its beginning, Unix seconds.
        end_s: Its end: when the page was made.
        older: Results that ended before it and are not drawn.
    """

    start_s: int
    end_s: int
    older: int

    @property
    def length_s(self) -> int:
        """How long it is."""
        return self.end_s - self.start_s


@dataclass(frozen=True, slots=True, kw_only=True)
class Bar:
    """One result of one host: where it begins and ends, in thousandths of the window."""

    start: int
    width: int
    verdict: Verdict


@dataclass(frozen=True, slots=True, kw_only=True)
class Lane:
    """How many hosts had a result with ``verdict`` that counted, at ``SAMPLES`` moments; the last one is now."""

    verdict: Verdict
    counts: tuple[int, ...]


def lines_of(host: HostInput) -> list[ResultLine]:
    """Return the results of ``host``, oldest first, its last one among them once."""
    lines = dict.fromkeys(host.history)
    if host.result is not None:
        last = host.result
        newest = ResultLine(
            issued_at_s=last.issued_at_s, expires_at_s=last.expires_at_s, verdict=last.verdict, reasons=last.codes
        )
        if not any(same_result(line, newest) for line in lines):
            lines[newest] = None
    return heapq.nlargest(MAX_HISTORY, lines, key=_age)[::-1]


def same_result(one: ResultLine, other: ResultLine) -> bool:
    """Say whether two lines tell of one result: two of one host in one second with one verdict are taken for one."""
    return (one.issued_at_s, one.expires_at_s, one.verdict) == (other.issued_at_s, other.expires_at_s, other.verdict)


def window_of(fleet: FleetInput) -> Window:
    """Return the window that holds the results of ``fleet``, or the newest of them."""
    end_s = fleet.generated_at_s
    spans: list[tuple[int, int]] = [
        (line.issued_at_s, line.expires_at_s)
        for host in fleet.hosts
        for line in lines_of(host)
        if line.issued_at_s <= end_s
    ]
    first_s = min((issued for issued, _ in spans), default=end_s)
    length_s = next((length for length in SPANS_S if length >= end_s - first_s), SPANS_S[-1])
    start_s = end_s - length_s
    return Window(start_s=start_s, end_s=end_s, older=sum(expires <= start_s for _, expires in spans))


def bars_of(lines: Sequence[ResultLine], window: Window) -> tuple[Bar, ...]:
    """Return what of ``lines`` (oldest first) lies in ``window``; what touches and says the same is one bar."""
    bars: list[tuple[int, int, Verdict]] = []
    for begin_s, end_s, verdict in _pieces(lines):
        start, end = (_thousandths(moment_s, window) for moment_s in (begin_s, end_s))
        if verdict not in LANES or end_s <= window.start_s or begin_s >= window.end_s:
            continue
        if bars and bars[-1][2] is verdict and start <= bars[-1][1]:
            bars[-1] = (bars[-1][0], max(end, bars[-1][1]), verdict)
        else:
            bars.append((start, end, verdict))
    return tuple(Bar(start=start, width=max(end - start, 2), verdict=verdict) for start, end, verdict in bars)


def share_covered(lines: Sequence[ResultLine], window: Window) -> int:
    """Return how many per cent of ``window`` had an affirming result, rounded down."""
    covered = sum(
        max(0, min(end_s, window.end_s) - max(begin_s, window.start_s))
        for begin_s, end_s, verdict in _pieces(lines)
        if verdict is Verdict.AFFIRMING
    )
    return covered * 100 // window.length_s


def lanes_of(hosts: Iterable[HostInput], window: Window) -> tuple[Lane, ...]:
    """Return how many hosts had which result, over ``window``."""
    moments = [window.start_s + window.length_s * (at + 1) // SAMPLES for at in range(SAMPLES)]
    changes = {verdict: [0] * (SAMPLES + 1) for verdict in LANES}
    for host in hosts:
        # What does not count now ended before now; since when, nobody knows.
        last_s = None if is_current(host, window.end_s) else window.end_s
        for begin_s, expires_s, verdict in _pieces(lines_of(host)):
            end_s = expires_s if last_s is None else min(expires_s, last_s)
            if verdict in changes and begin_s < end_s:
                changes[verdict][bisect.bisect_left(moments, begin_s)] += 1
                changes[verdict][bisect.bisect_left(moments, end_s)] -= 1
    lanes = []
    for verdict in LANES:
        count, counts = 0, []
        for change in changes[verdict][:SAMPLES]:
            count += change
            counts.append(count)
        lanes.append(Lane(verdict=verdict, counts=tuple(counts)))
    return tuple(lanes)


def _pieces(lines: Sequence[ResultLine]) -> Iterable[tuple[int, int, Verdict]]:
    """Yield from when to when each of ``lines`` (oldest first) counted; the newer one takes the older one's place."""
    for at, line in enumerate(lines):
        end_s = line.expires_at_s
        if at + 1 < len(lines):
            end_s = min(end_s, lines[at + 1].issued_at_s)
        if line.issued_at_s < end_s:
            yield line.issued_at_s, end_s, line.verdict


def _thousandths(moment_s: int, window: Window) -> int:
    inside_s = min(max(moment_s, window.start_s), window.end_s) - window.start_s
    return inside_s * 1000 // window.length_s


def _age(line: ResultLine) -> tuple[int, int, str, tuple[str, ...]]:
    return line.issued_at_s, line.expires_at_s, line.verdict.value, line.reasons
