# SPDX-License-Identifier: GPL-3.0-or-later
"""The smallest set of changes that would clear all conflicts, by weight: a minimum cut.

Each conflict is a path *untrusted writer -> object -> trusted reader*. It goes away when the writer becomes trusted,
when the object is split in two types, or when the reader declares a filter there. With a weight on each of these
changes, the cheapest set that meets every path is a minimum cut between "untrusted" and "trusted":

    source --trust the writer--> writer --(cannot be cut)--> object --split it, or filter each reader--> sink

All readers of one object hang on it alone, so their filters and the split join into one edge. Objects that the same
subjects write join into one node, and so do subjects that write the same objects: some thousand nodes stand for half a
million conflicts.

The severities are solved one after the other, the worst first, each with the changes of the worse ones already made:
code that runs as trusted is never left for the price of many names.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

from .maxflow import UNCUTTABLE, minimum_cut
from .story import SEVERITIES

FILTER, SPLIT, TRUST, ENTRY, REMOVE = "filter", "split", "trust", "entry", "remove"

FILTER_WEIGHT: Mapping[str, int] = MappingProxyType(
    {"code": 12, "kernel": 12, "data": 3, "ipc": 2, "name": 2, "net": 2}
)
"""A filter, for each reader: a reviewer has to believe that this program copes. With code hardly any program does."""

SPLIT_WEIGHT = 5
"""Two types for what was one object: file contexts and rules change, no trust does."""

TRUST_WEIGHT = 20
"""A subject becomes trusted: all its programs are reviewed as such. What it reads then needs filters on top."""

ENTRY_WEIGHT = 3
"""An entry: arguments, environment and open files of one program are reviewed."""

REMOVE_WEIGHT = 4
"""Rules are taken away; something may stop working."""

WEIGHTS_TEXT = (
    f"a filter {FILTER_WEIGHT['net']} to {FILTER_WEIGHT['code']} by severity, "
    f"an entry {ENTRY_WEIGHT}, taking rules away {REMOVE_WEIGHT}, splitting a type {SPLIT_WEIGHT}, "
    f"trusting a subject {TRUST_WEIGHT} and 1 for each untrusted object that it reads"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Spot:
    """All conflicts of one kind and severity over one object.

    Attributes:
        kind: ``C1`` to ``C5``.
        severity: One of ``SEVERITIES``.
        object: Type of the object.
        class_name: Its class.
        writers: Bit set of untrusted subjects; 0 where the object counts as written by anybody.
        readers: Bit set of trusted subjects; of C3, of what is acted on.
        becomes: C4: the type that the object is given.
    """

    kind: str
    severity: str
    object: str
    class_name: str
    writers: int
    readers: int
    becomes: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Cure:
    """One change.

    Attributes:
        kind: ``filter``, ``split``, ``trust``, ``entry`` or ``remove``.
        subject: Who gets it: the reader of a filter, the writer that becomes trusted; else empty.
        object: Type of the object; empty where the subject is all.
        class_name: Its class.
        weight: What it costs.
        severity: The worst severity it clears.
        conflicts: Conflicts of that severity that it clears, alone or with others.
        becomes: The type that a filter lets the object be given.
    """

    kind: str
    subject: str
    object: str
    class_name: str
    weight: int
    severity: str
    conflicts: int
    becomes: str = ""

    def sentence(self) -> str:
        """Return the change as an instruction."""
        where = f"{self.object}:{self.class_name}"
        return {
            FILTER: f"declare a filter for {self.subject} on {where}"
            + (f" with relabel_to: {self.becomes}" if self.becomes else ""),
            SPLIT: f"split {where}: one type for what trusted subjects read, one for what others write",
            TRUST: f"trust {self.subject}: name it in tcb or applications",
            ENTRY: f"declare an entry into {self.subject}",
            REMOVE: f"take the rules away that let untrusted subjects act on {where}",
        }[self.kind]

    def to_json(self) -> dict[str, Any]:
        """Return the JSON form."""
        return {
            "kind": self.kind,
            "subject": self.subject,
            "object": self.object,
            "class": self.class_name,
            "weight": self.weight,
            "severity": self.severity,
            "conflicts": self.conflicts,
            **({"becomes": self.becomes} if self.becomes else {}),
            "sentence": self.sentence(),
        }


def find_cures(
    spots: Iterable[Spot], names: Mapping[int, str], low_reads: Mapping[int, int] = MappingProxyType({})
) -> tuple[Cure, ...]:
    """Return the cheapest set of changes that meets every conflict, the worst severity first.

    Args:
        spots: All conflicts.
        names: Type value to name.
        low_reads: Untrusted subject to the number of low objects it reads: what trusting it adds to its weight.

    Returns:
        The changes. Trusting a subject can open conflicts that were none before, over what it reads: its weight says
        how many, and only another check shows them.
    """
    by_severity: dict[str, list[Spot]] = defaultdict(list)
    for spot in spots:
        by_severity[spot.severity].append(spot)
    trusted = 0
    cures: list[Cure] = []
    for severity in SEVERITIES:
        left = [spot for spot in by_severity[severity] if not spot.writers or spot.writers & ~trusted]
        found, more = _solve(left, trusted, names, low_reads)
        trusted |= more
        cures += sorted(found, key=lambda cure: (-cure.conflicts, cure.weight, cure.sentence()))
    return tuple(cures)


def bits(value: int) -> Iterator[int]:
    """Yield the places of the bits of ``value``, from the lowest."""
    while value:
        lowest = value & -value
        yield lowest.bit_length() - 1
        value ^= lowest


def _solve(
    spots: list[Spot], trusted: int, names: Mapping[int, str], low_reads: Mapping[int, int]
) -> tuple[list[Cure], int]:
    """Return the changes for one severity, and the bit set of the subjects they trust."""
    joined: dict[int, list[tuple[Spot, int]]] = defaultdict(list)
    cures: list[Cure] = []
    for spot in spots:
        local = _local_cures(spot, names)
        weight = sum(cure.weight for cure in local)
        if spot.writers:
            joined[spot.writers & ~trusted].append((spot, weight))
        else:
            cures += local
    objects = list(joined)
    alike = _alike_writers(objects)
    edges = [(0, 2 + at, sum(_trust_weight(w, low_reads) for w in group)) for at, (_, group) in enumerate(alike)]
    first_object = 2 + len(alike)
    for at, (touched, _) in enumerate(alike):
        edges += [(2 + at, first_object + place, UNCUTTABLE) for place in touched]
    local_edges = len(edges)
    edges += [(first_object + at, 1, sum(weight for _, weight in joined[mask])) for at, mask in enumerate(objects)]
    _, cut = minimum_cut(first_object + len(objects), edges, 0, 1)
    more = 0
    for place in cut:
        if place < len(alike):
            touched, group = alike[place]
            met = sum(spot.readers.bit_count() for at in touched for spot, _ in joined[objects[at]])
            for writer in group:
                more |= 1 << writer
                cures.append(_trust(writer, spots[0].severity, names, low_reads, met))
        else:
            for spot, _ in joined[objects[place - local_edges]]:
                cures += _local_cures(spot, names)
    return cures, more


def _alike_writers(objects: list[int]) -> list[tuple[tuple[int, ...], list[int]]]:
    """Return groups of writers with the places of the objects that all of a group write."""
    touched: dict[int, list[int]] = defaultdict(list)
    for at, mask in enumerate(objects):
        for writer in bits(mask):
            touched[writer].append(at)
    groups: dict[tuple[int, ...], list[int]] = defaultdict(list)
    for writer, places in touched.items():
        groups[tuple(places)].append(writer)
    return list(groups.items())


def _local_cures(spot: Spot, names: Mapping[int, str]) -> list[Cure]:
    """Return the cheapest changes that clear ``spot`` whoever writes."""

    def cure(kind: str, weight: int, subject: str = "", conflicts: int = 1) -> Cure:
        return Cure(
            kind=kind,
            subject=subject,
            object=spot.object,
            class_name=spot.class_name,
            weight=weight,
            severity=spot.severity,
            conflicts=conflicts,
            becomes=spot.becomes,
        )

    count = spot.readers.bit_count()
    if spot.kind == "C5":
        return [cure(ENTRY, ENTRY_WEIGHT, names[reader]) for reader in bits(spot.readers)]
    if spot.kind in ("C2", "C3"):
        return [cure(REMOVE, REMOVE_WEIGHT, conflicts=max(count, 1))]
    each = FILTER_WEIGHT[spot.severity]
    # What anybody may have written by definition stays so under every name.
    if spot.writers and each * count > SPLIT_WEIGHT:
        return [cure(SPLIT, SPLIT_WEIGHT, conflicts=count)]
    return [cure(FILTER, each, names[reader]) for reader in bits(spot.readers)]


def _trust_weight(writer: int, low_reads: Mapping[int, int]) -> int:
    return TRUST_WEIGHT + low_reads.get(writer, 0)


def _trust(writer: int, severity: str, names: Mapping[int, str], low_reads: Mapping[int, int], met: int) -> Cure:
    return Cure(
        kind=TRUST,
        subject=names[writer],
        object="",
        class_name="",
        weight=_trust_weight(writer, low_reads),
        severity=severity,
        conflicts=met,
    )
