# SPDX-License-Identifier: GPL-3.0-or-later
"""A fleet as one HTML page that needs nothing else: no script, no request, light or dark as its reader has it.

Three things keep what hosts and guests say from acting on the page:

1. Each value goes through ``words.inert`` on its way into a template, whether the template asks for it or not: no
   control, no bidirectional mark, no endless text. What is neither text nor a whole number is refused.
2. Everything is escaped; templates are files of this package, and no input is ever one. No address, identifier, class
   or attribute name comes from input.
3. The page forbids itself, by its own content policy, to run or load anything; its one style sheet is allowed by its
   digest, so not even a style could be added.

Same input, same bytes. The templates lie beside this file, so it works from a tree, not from inside an Ansible module.

Source: WHATWG HTML; W3C Content Security Policy 3, 3.3 (meta element) and 6.7.3 (hashes); WAI-ARIA 1.2; W3C SVG 2.
"""

from __future__ import annotations

import base64
import functools
import hashlib
import pathlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import jinja2
from markupsafe import Markup

from ..errors import UsageError
from ..explain.palette import MONO, ROOT, SANS
from ..model.finding import Severity
from .chain import LINKS, GuestLink, Link, Status, chain_of, guest_links, told
from .coverage import LANES, SAMPLES, Bar, Lane, Window, bars_of, lanes_of, lines_of, share_covered, window_of
from .drawing import WIDTH, Drawing, draw, kind_of
from .flows import TONES, flows_of
from .standing import STANDINGS, VERDICTS
from .summary import Count, Place, summarise
from .timeline import Timeline, newest_events, timeline_of
from .view import FleetInput, Limits
from .words import brief, fingerprint, inert, machine_moment, many, moment, span

TEMPLATES = pathlib.Path(__file__).parent / "templates"

MAX_TITLE_CHARS = 120
OPEN_HOSTS = 3
"""So many hosts are unfolded to begin with: the worst ones, or all of a small fleet."""


@dataclass(frozen=True, slots=True, kw_only=True)
class HostPart:
    """One host, made ready to be told.

    Attributes:
        place: The host and its word.
        links: Its chain.
        guests: Its guests, the worst first; all of them.
        sentence: The chain in one sentence.
        drawing: The chain as a picture.
        timeline: Its newest results and events.
        bars: Its results over the window, as ``coverage.bars_of`` has them.
        covered: Per cent of the window with an affirming result.
        marks: Events inside the window, in thousandths of it.
        unfolded: Whether it is open to begin with.
    """

    place: Place
    links: tuple[Link, ...]
    guests: tuple[GuestLink, ...]
    sentence: str
    drawing: Drawing
    timeline: Timeline
    bars: tuple[Bar, ...]
    covered: int
    marks: tuple[int, ...]
    unfolded: bool


def page(fleet: FleetInput, limits: Limits | None = None) -> str:
    """Return the page of ``fleet``.

    Args:
        fleet: What to tell; every text in it may be hostile.
        limits: How much of each kind to spell out.
    """
    limits = limits or Limits()
    summary = summarise(fleet, limits)
    window = window_of(fleet)
    events, events_left_out = newest_events(fleet, limits.events)
    packages, packages_left_out = flows_of(fleet, summary.places, limits)
    style = _style()
    return (
        _environment()
        .get_template("page.html.j2")
        .render(
            title=inert(fleet.title, MAX_TITLE_CHARS),
            now=fleet.generated_at_s,
            policy=content_policy(style),
            style=Markup(style),  # noqa: S704 - a file of this package
            summary=summary,
            listed=[_row(place, fleet) for place in summary.places[: limits.listed]],
            parts=[_part(place, fleet, window, limits, at) for at, place in enumerate(summary.places[: limits.drawn])],
            window=window,
            lanes=[_lane(lane, len(fleet.hosts)) for lane in lanes_of(fleet.hosts, window)],
            events=events,
            events_left_out=events_left_out,
            anchors={place.host.host_id: place.anchor for place in summary.places},
            packages=packages,
            packages_left_out=packages_left_out,
            limits=limits,
        )
    )


def content_policy(style: str) -> str:
    """Return the content policy of a page whose one style sheet is ``style``."""
    digest = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
    return f"default-src 'none'; style-src 'sha256-{digest}'; base-uri 'none'; form-action 'none'"


def _style() -> str:
    own = (TEMPLATES / "page.css").read_text(encoding="utf-8")
    return ROOT + own.replace("SANS", SANS).replace("MONO", MONO)


def _row(place: Place, fleet: FleetInput) -> dict[str, Any]:
    """Return what the table says of a host."""
    links = chain_of(place.host, fleet.releases, current=place.current)
    guests = guest_links(place.host, current=place.current)
    bad = sum(link.status is Status.FAILED for link in guests)
    return {"place": place, "links": links, "guests": guests, "bad": bad, "sentence": told(links, guests)}


def _part(place: Place, fleet: FleetInput, window: Window, limits: Limits, at: int) -> HostPart:
    host = place.host
    links = chain_of(host, fleet.releases, current=place.current)
    guests = guest_links(host, current=place.current)
    lines = lines_of(host)
    marks = {
        (event.at_s - window.start_s) * 1000 // window.length_s
        for event in host.events
        if window.start_s <= event.at_s <= window.end_s
    }
    return HostPart(
        place=place,
        links=links,
        guests=guests,
        sentence=told(links, guests),
        drawing=draw(links, guests, shown_guests=min(limits.guests, 6)),
        timeline=timeline_of(host, limits.lines),
        bars=bars_of(lines, window),
        covered=share_covered(lines, window),
        marks=tuple(sorted(marks)),
        unfolded=at < OPEN_HOSTS and (len(fleet.hosts) <= OPEN_HOSTS or not place.good),
    )


LANE_HEIGHT = 24
LONG_WORD = 24
"""From so many letters on a word is no word but a digest or a path, and set as one."""


def _lane(lane: Lane, hosts: int) -> dict[str, Any]:
    """Return one row of the fleet's coverage: its path in a field of ``SAMPLES`` by ``LANE_HEIGHT``."""
    tall = LANE_HEIGHT * 10
    points = [f"M0 {LANE_HEIGHT}"]
    for at, count in enumerate(lane.counts):
        # In tenths, and never less than one pixel: one host of ten thousand still is a line to see.
        y = min(tall - 10, tall * (hosts - count) // hosts) if count else tall
        points.append(f"V{y // 10}.{y % 10}H{at + 1}")
    points.append(f"V{LANE_HEIGHT}z")
    return {
        "standing": VERDICTS[lane.verdict],
        "path": Markup("".join(points)),  # noqa: S704 - whole numbers alone
        "now": lane.counts[-1],
        "least": min(lane.counts),
        "most": max(lane.counts),
        "counts": lane.counts,
    }


def _shares(counts: Sequence[Count]) -> list[dict[str, Any]]:
    """Return the segments of a bar of 1,000, none so small that it cannot be seen."""
    total = sum(item.count for item in counts)
    least = 6
    widths = [max(least, item.count * 1000 // total) for item in counts]
    if widths:
        # The longest one gives what the small ones were given.
        widths[widths.index(max(widths))] += 1000 - sum(widths)
    segments, x = [], 0
    for item, width in zip(counts, widths, strict=True):
        segments.append({"standing": item.standing, "x": x, "width": max(width - 2, 1)})
        x += width
    return segments


@functools.cache
def _environment() -> jinja2.Environment:
    """Return the one environment: a page takes less time than its templates take to be compiled."""
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(TEMPLATES),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        finalize=_finalize,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters.update(
        brief=brief,
        fingerprint=fingerprint,
        inert=inert,
        kind=kind_of,
        many=many,
        machine=machine_moment,
        moment=moment,
        n=lambda value: f"{value:,}",
        shares=_shares,
        span=span,
        word=lambda verdict: VERDICTS[verdict],
        words=lambda text: [(word, len(word) >= LONG_WORD) for word in text.split(" ")],
    )
    environment.globals.update(
        CHAIN_WIDTH=WIDTH,
        CLAIMS=TONES,
        LANES=[VERDICTS[verdict] for verdict in LANES],
        LANE_HEIGHT=LANE_HEIGHT,
        LINK_TITLES=tuple(title for title, _ in LINKS.values()),
        NOTE=Severity.NOTE,
        SAMPLES=SAMPLES,
        STANDINGS=tuple(STANDINGS.values()),
    )
    return environment


def _finalize(value: object) -> object:
    """Return what a template may write: markup of its own, text that was made inert, whole numbers.

    Raises:
        UsageError: ``report.value`` for anything else: no template writes objects by accident.
    """
    if isinstance(value, Markup | jinja2.Undefined):
        return value
    if isinstance(value, str):
        return inert(value)
    if isinstance(value, int) and not isinstance(value, bool):
        return str(value)
    raise UsageError(f"a template writes a {type(value).__name__}", code="report.value")
