# SPDX-License-Identifier: GPL-3.0-or-later
"""One pass over the allow rules of a policy: what each source symbol reads, writes, relabels and starts, summed up.

A rule speaks of symbols, types and attributes; sums by symbol are few, and a subject's are those of its attributes put
together. Sets of types are integers: bit n is the type of value n.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field

from ..model.flowmap import FLOW_MAP, SEVERITIES, UNKNOWN
from ..model.integrity import ALL_BOOLEANS
from ..parse.sepolicy import PolicyDb
from ..parse.serules import RuleTable

_START = "transition"
_NEVER = frozenset({"dyntransition", "noatsecure"})
"""Between processes, from untrusted to trusted: no entry allows them."""

Place = tuple[int, int, int]
"""Subject, object, class."""


def tables_of(policy: PolicyDb, boolean_mode: str) -> Iterator[RuleTable]:
    """Yield the rule tables that count in a boolean mode."""
    yield policy.rules
    every = boolean_mode == ALL_BOOLEANS
    for node in policy.conditionals:
        if every or node.state:
            yield node.when_true
        if every or not node.state:
            yield node.when_false


@dataclass(frozen=True, slots=True)
class ClassMasks:
    """The permission bits of one class by what they do; ``reads`` and ``writes`` by kind of flow."""

    reads: tuple[tuple[int, int], ...]
    writes: tuple[tuple[int, int], ...]
    start: int
    never: int
    relabel_from: int
    relabel_to: int
    entrypoint: int


def class_masks(name: str, permissions: Mapping[str, int]) -> ClassMasks:
    """Return the masks of class ``name``."""
    reads, writes = [0] * len(SEVERITIES), [0] * len(SEVERITIES)
    special: dict[str, int] = defaultdict(int)
    known = FLOW_MAP.get(name, {})
    for permission, bit in permissions.items():
        flow, mask = known.get(permission, UNKNOWN), 1 << bit
        if name == "process" and permission == _START:
            special["start"] |= mask
        if name == "process" and permission in _NEVER:
            special["never"] |= mask
        if permission in ("relabelfrom", "relabelto", "entrypoint"):
            special[permission] |= mask
        if flow.reads:
            reads[SEVERITIES.index(flow.kind)] |= mask
        if flow.writes:
            writes[SEVERITIES.index(flow.kind)] |= mask
    return ClassMasks(
        reads=tuple((kind, mask) for kind, mask in enumerate(reads) if mask),
        writes=tuple((kind, mask) for kind, mask in enumerate(writes) if mask),
        start=special["start"],
        never=special["never"],
        relabel_from=special["relabelfrom"],
        relabel_to=special["relabelto"],
        entrypoint=special["entrypoint"],
    )


def _sets() -> dict[int, dict[tuple[int, int], int]]:
    return defaultdict(lambda: defaultdict(int))


def _plain_sets() -> dict[int, dict[int, int]]:
    return defaultdict(lambda: defaultdict(int))


@dataclass(slots=True)
class Sums:
    """By source symbol, sets of targets: of trusted sources what they read, of untrusted ones what they do.

    ``read``, ``written`` and ``acted`` are by class and kind of flow; ``acted`` is what is written but for starting.
    ``at`` has the permissions that the policy gives at some places: those that read, and at a place where subject and
    object are one those with which untrusted subjects act on it.
    """

    masks: Mapping[int, ClassMasks]
    at: dict[Place, int]
    read: dict[int, dict[tuple[int, int], int]] = field(default_factory=_sets)
    written: dict[int, dict[tuple[int, int], int]] = field(default_factory=_sets)
    acted: dict[int, dict[tuple[int, int], int]] = field(default_factory=_sets)
    relabelled_from: dict[int, dict[int, int]] = field(default_factory=_plain_sets)
    relabelled_to: dict[int, dict[int, int]] = field(default_factory=_plain_sets)
    entrypoints: dict[int, int] = field(default_factory=lambda: defaultdict(int))
    started: dict[int, int] = field(default_factory=lambda: defaultdict(int))
    never: dict[int, int] = field(default_factory=lambda: defaultdict(int))


def sum_up(policy: PolicyDb, *, boolean_mode: str, high: int, low: int, places: Iterable[Place]) -> Sums:
    """Return the sums over every allow rule that counts.

    Args:
        policy: The policy.
        boolean_mode: ``all`` or ``current``.
        high: Trusted types.
        low: All others.
        places: Where filters stand.
    """
    masks = {item.value: class_masks(name, item.permissions) for name, item in policy.classes.items()}
    sums = Sums(masks=masks, at=dict.fromkeys(places, 0))
    members = policy.members
    at_class: dict[int, list[Place]] = defaultdict(list)
    for place in sums.at:
        at_class[place[2]].append(place)
    for table in tables_of(policy, boolean_mode):
        for _, (source, target, tclass, _, data) in table.allows():
            of, targets, sources = masks[tclass], members(target), members(source)
            if sources & high:
                for kind, mask in of.reads:
                    if data & mask:
                        sums.read[source][tclass, kind] |= targets
                if data & of.relabel_from:
                    sums.relabelled_from[source][tclass] |= targets
                if data & of.relabel_to:
                    sums.relabelled_to[source][tclass] |= targets
                if data & of.entrypoint:
                    sums.entrypoints[source] |= targets
            if sources & low:
                for kind, mask in of.writes:
                    if data & mask:
                        sums.written[source][tclass, kind] |= targets
                        if targets & high and data & mask & ~(of.start | of.never):
                            sums.acted[source][tclass, kind] |= targets & high
                if data & of.start:
                    sums.started[source] |= targets & high
                if data & of.never:
                    sums.never[source] |= targets & high
            for place in at_class.get(tclass, ()):
                if targets >> place[1] & 1:
                    sums.at[place] |= data & _at(of, place, sources, low)
    return sums


def _at(of: ClassMasks, place: Place, sources: int, low: int) -> int:
    """Return the permissions that count at ``place`` in a rule of ``sources``."""
    subject, item, _ = place
    wanted = sum(mask for _, mask in of.reads) if sources >> subject & 1 else 0
    if subject == item and sources & low:
        for _, mask in of.writes:
            wanted |= mask & ~(of.start | of.never)
    return wanted
