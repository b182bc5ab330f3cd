# SPDX-License-Identifier: GPL-3.0-or-later
"""Where the boxes and arrows of a chain stand: geometry alone, in pixels; ``templates/chain.svg.j2`` writes it.

The picture is as wide as a phone's screen at its natural size, so that its letters are the same everywhere. What leads
on stands in the spine on the right; what has to hold beside it (channel, firmware, installation) stands on the left.

::

                    EK certificate
                    Attestation key
    SSH channel ->  Quote
    Firmware    ->  PCR 4, xen.efi
    Installation -> Host release
    VM verifier's log      IMA list
      guest, guest, ...
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from ..errors import shown
from .chain import GuestLink, Link, Status

WIDTH = 328
BOX = 42
GUEST = 26
GAP = 16
SIDE = 122
SPINE = 140
HALF = 156
MARGIN = 1
RAIL = 13

CHAR = 6.7
"""Width of a character of the small letters; a guess on the wide side."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Box:
    """One box: its place, its two lines, and the class that colours it."""

    x: int
    y: int
    width: int
    height: int
    title: str
    text: str
    kind: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Arrow:
    """One arrow: a path, its tip, and whether what it leads to is proven."""

    path: str
    tip: str
    firm: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Drawing:
    """The picture of one chain."""

    height: int
    boxes: tuple[Box, ...]
    arrows: tuple[Arrow, ...]
    note: str
    note_y: int


_FIRM = (Status.PROVEN, Status.WARNED)
_ROWS = (("", "ek"), ("", "ak"), ("channel", "quote"), ("firmware", "pcr4"), ("roti", "release"))


def draw(links: Sequence[Link], guests: Sequence[GuestLink], *, shown_guests: int) -> Drawing:
    """Return the picture of ``links`` with the first ``shown_guests`` of ``guests`` below."""
    by_key = {link.key: link for link in links}
    boxes: list[Box] = []
    arrows: list[Arrow] = []
    y = MARGIN
    for number, (left, right) in enumerate(_ROWS):
        boxes.append(_box(by_key[right], SPINE, y, WIDTH - SPINE - MARGIN))
        if number:
            arrows.append(_down(SPINE + (WIDTH - SPINE) // 2, y - GAP, y, firm=by_key[right].status in _FIRM))
        if left:
            boxes.append(_box(by_key[left], MARGIN, y, SIDE - MARGIN))
            arrows.append(_across(SIDE, SPINE, y + BOX // 2, firm=by_key[left].status in _FIRM))
        y += BOX + GAP
    x_ima = WIDTH - HALF
    for key, x in (("log", MARGIN), ("ima", x_ima)):
        boxes.append(_box(by_key[key], x, y, HALF - MARGIN))
    arrows.append(_down(x_ima + HALF // 2, y - GAP, y, firm=by_key["ima"].status in _FIRM))
    # The log hangs on the quote as the list does; the elbow leaves the spine where the list's arrow does.
    arrows.append(_elbow(x_ima + HALF // 2 - 40, y, HALF // 2, firm=by_key["log"].status in _FIRM))
    y += BOX
    first = y
    drawn = guests[:shown_guests]
    for item in drawn:
        y += 8
        boxes.append(_guest(item, y))
        y += GUEST
    if drawn:
        arrows.append(_rail(first, [first + 8 + GUEST // 2 + at * (GUEST + 8) for at in range(len(drawn))]))
    rest = len(guests) - len(drawn)
    note = f"and {rest:,} more below" if rest else "" if guests else "no guests"
    note_y = y + 18
    return Drawing(height=y + (26 if note else 2), boxes=tuple(boxes), arrows=tuple(arrows), note=note, note_y=note_y)


def _box(link: Link, x: int, y: int, width: int) -> Box:
    text = link.word if not link.fact or width <= SIDE else f"{link.word} · {link.fact}"
    return Box(
        x=x,
        y=y,
        width=width,
        height=BOX,
        title=link.title,
        text=_cut(text, width - 18),
        kind=kind_of(link.status),
    )


def _guest(link: GuestLink, y: int) -> Box:
    record = link.guest.record
    what = "" if record is None else f" · {record.name}"
    width = WIDTH - 2 * RAIL - MARGIN
    text = f"{link.guest.guest}{what} · {link.word}"
    return Box(
        x=2 * RAIL, y=y, width=width, height=GUEST, title="", text=_cut(text, width - 34), kind=kind_of(link.status)
    )


def kind_of(status: Status) -> str:
    """Return the class of a status; the style sheet and the signs go by it."""
    return status.name.lower()


def _cut(text: str, width: int) -> str:
    # Boxes are measured by characters of one width, so nothing but ASCII may stand in them; the dot is our own.
    plain = " · ".join(shown(part) for part in text.replace("…", "").split(" · "))
    most = int(width / CHAR)
    return plain if len(plain) <= most else f"{plain[: most - 1]}…"


def _down(x: int, y1: int, y2: int, *, firm: bool) -> Arrow:
    return Arrow(path=f"M{x} {y1}V{y2 - 6}", tip=f"M{x} {y2 - 1}l-4 -7h8z", firm=firm)


def _across(x1: int, x2: int, y: int, *, firm: bool) -> Arrow:
    return Arrow(path=f"M{x1} {y}H{x2 - 6}", tip=f"M{x2 - 1} {y}l-7 -4v8z", firm=firm)


def _elbow(x1: int, y: int, x2: int, *, firm: bool) -> Arrow:
    return Arrow(path=f"M{x1} {y - GAP}V{y - GAP // 2 - 1}H{x2}V{y - 6}", tip=f"M{x2} {y - 1}l-4 -7h8z", firm=firm)


def _rail(y: int, stops: Sequence[int]) -> Arrow:
    path = f"M{RAIL} {y}V{stops[-1]}" + "".join(f"M{RAIL} {stop}H{2 * RAIL}" for stop in stops)
    return Arrow(path=path, tip="", firm=True)
