# SPDX-License-Identifier: GPL-3.0-or-later
"""A fleet cut down to what fits a page: counts, reasons, the worst hosts one by one, the rest in groups that are alike.

Everything is counted; only so much is spelt out (``view.Limits``). Each part that is cut says how much it left out.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from ..appraise.result import AttestationResult
from ..model.codes import CODES
from ..model.finding import Severity
from .standing import STANDINGS, VERDICTS, Standing, is_current, order_of, runs_refused, standing_of
from .view import FleetInput, HostInput, Limits

MAX_CODES_OF_A_GROUP = 6


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """One host and where on the page it stands.

    Attributes:
        host: The host.
        standing: Its word.
        current: Whether its last result counts now.
        tainted: Whether a guest of it is refused now.
        anchor: Name of its place on the page; empty when it is not told one by one.
    """

    host: HostInput
    standing: Standing
    current: bool
    tainted: bool
    anchor: str

    @property
    def good(self) -> bool:
        """Whether there is nothing to look at."""
        return self.standing is STANDINGS["affirming"] and not self.tainted


@dataclass(frozen=True, slots=True, kw_only=True)
class Count:
    """How many hosts, or guests, have one word."""

    standing: Standing
    count: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Reason:
    """One code, and whom it concerns by their last results.

    Attributes:
        code: The code.
        severity: The worst it was found with.
        meaning: What it says; empty for a code this version does not know.
        cure: What to do about it.
        hosts: Hosts it was found on.
        guests: Guests it was found on.
        concerned: Hosts it was found on, or on a guest of.
        places: The first of those.
    """

    code: str
    severity: Severity
    meaning: str
    cure: str
    hosts: int
    guests: int
    concerned: int
    places: tuple[Place, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Group:
    """Hosts that are alike: one word, one release, one set of reasons, guests that are refused or not."""

    standing: Standing
    release: str
    variant: str
    codes: tuple[str, ...]
    tainted: bool
    places: tuple[Place, ...]
    count: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Summary:
    """The fleet, cut down.

    Attributes:
        places: All hosts, the worst first.
        counts: Hosts by word, only words that occur.
        guests: Guests by word, those of hosts whose result does not count now as ``guests_unknown``.
        guests_unknown: Guests that nobody can speak of now.
        reasons: Reasons, the most frequent denials first.
        reasons_left_out: How many there are besides.
        groups: Hosts that are alike; empty for a fleet that is listed whole.
        groups_left_out: Hosts in no group that is shown.
        proven: Hosts that are affirming.
        tainted: Hosts, not contraindicated themselves, with a guest that is refused now.
        good_until_s: When the first of the affirming results stops to count; None without any.
    """

    places: tuple[Place, ...]
    counts: tuple[Count, ...]
    guests: tuple[Count, ...]
    guests_unknown: int
    reasons: tuple[Reason, ...]
    reasons_left_out: int
    groups: tuple[Group, ...]
    groups_left_out: int
    proven: int
    tainted: int
    good_until_s: int | None


def summarise(fleet: FleetInput, limits: Limits) -> Summary:
    """Return ``fleet`` cut down to ``limits``."""
    now_s = fleet.generated_at_s
    ordered = sorted(fleet.hosts, key=lambda host: order_of(host, now_s))
    places = tuple(
        Place(
            host=host,
            standing=standing_of(host, now_s),
            current=is_current(host, now_s),
            tainted=runs_refused(host, now_s),
            anchor=f"host-{number}" if number <= limits.drawn else "",
        )
        for number, host in enumerate(ordered, 1)
    )
    guests, unknown = _guests(places)
    reasons = _reasons(places, limits)
    groups = _groups(places, limits) if len(places) > limits.listed else []
    affirming = [place.host.result for place in places if place.standing is STANDINGS["affirming"]]
    return Summary(
        places=places,
        counts=_counts(place.standing for place in places),
        guests=guests,
        guests_unknown=unknown,
        reasons=tuple(reasons[: limits.reasons]),
        reasons_left_out=max(0, len(reasons) - limits.reasons),
        groups=tuple(groups[: limits.groups]),
        groups_left_out=sum(group.count for group in groups[limits.groups :]),
        proven=len(affirming),
        tainted=sum(place.tainted and place.standing is not STANDINGS["contraindicated"] for place in places),
        good_until_s=min((result.expires_at_s for result in affirming if result is not None), default=None),
    )


def _counts(standings: Iterable[Standing]) -> tuple[Count, ...]:
    found = Counter(item.word for item in standings)
    return tuple(Count(standing=item, count=found[word]) for word, item in STANDINGS.items() if found[word])


def _guests(places: Sequence[Place]) -> tuple[tuple[Count, ...], int]:
    known: list[Standing] = []
    unknown = 0
    for place in places:
        guests = () if place.host.result is None else place.host.result.guests
        if place.current:
            known += [VERDICTS[guest.verdict] for guest in guests]
        else:
            unknown += len(guests)
    return _counts(known), unknown


def _reasons(places: Sequence[Place], limits: Limits) -> list[Reason]:
    hosts: Counter[str] = Counter()
    guests: Counter[str] = Counter()
    concerned: Counter[str] = Counter()
    worst: dict[str, Severity] = {}
    where: dict[str, list[Place]] = {}
    for place in places:
        here: set[str] = set()
        for on_guest, code, severity in _found(place.host.result):
            if on_guest:
                guests[code] += 1
            elif code not in here:
                hosts[code] += 1
            if code not in here:
                concerned[code] += 1
                if len(where.setdefault(code, [])) < limits.names:
                    where[code].append(place)
            here.add(code)
            if worst.get(code) is not Severity.DENY:
                worst[code] = severity
    reasons = [
        Reason(
            code=code,
            severity=severity,
            meaning=CODES[code].meaning if code in CODES else "",
            cure=CODES[code].cure if code in CODES else "",
            hosts=hosts[code],
            guests=guests[code],
            concerned=concerned[code],
            places=tuple(where[code]),
        )
        for code, severity in worst.items()
    ]
    return sorted(
        reasons, key=lambda item: (item.severity is not Severity.DENY, -(item.hosts + item.guests), item.code)
    )


def _found(result: AttestationResult | None) -> Iterable[tuple[bool, str, Severity]]:
    """Yield whether on a guest, code and severity of what made verdicts worse, each once per host or guest."""
    if result is None:
        return
    parts = [(False, result.findings), *((True, guest.findings) for guest in result.guests)]
    for on_guest, findings in parts:
        seen = {(item.code, item.severity): None for item in findings if item.severity is not Severity.NOTE}
        for code, severity in seen:
            yield on_guest, code, severity


def _groups(places: Sequence[Place], limits: Limits) -> list[Group]:
    alike: dict[tuple[str, str, str, tuple[str, ...], bool], list[Place]] = {}
    for place in places:
        result = place.host.result
        release = "" if result is None or result.release_name is None else result.release_name
        variant = "" if result is None or result.variant is None else result.variant
        codes = () if result is None else result.codes[:MAX_CODES_OF_A_GROUP]
        alike.setdefault((place.standing.word, release, variant, codes, place.tainted), []).append(place)
    groups = [
        Group(
            standing=STANDINGS[word],
            release=release,
            variant=variant,
            codes=codes,
            tainted=tainted,
            places=tuple(members[: limits.names]),
            count=len(members),
        )
        for (word, release, variant, codes, tainted), members in alike.items()
    ]
    return sorted(
        groups,
        key=lambda item: (item.standing.rank, not item.tainted, -item.count, item.release, item.variant, item.codes),
    )
