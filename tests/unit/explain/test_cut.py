# SPDX-License-Identifier: GPL-3.0-or-later
"""The cheapest changes: as cheap as the cheapest found by trying all, and enough to clear everything."""

from __future__ import annotations

import itertools

import pytest
from ansible.module_utils.vouch.explain.cut import (
    ENTRY,
    FILTER,
    REMOVE,
    SPLIT,
    SPLIT_WEIGHT,
    TRUST,
    TRUST_WEIGHT,
    Cure,
    Spot,
    find_cures,
)
from ansible.module_utils.vouch.explain.story import SEVERITIES
from hypothesis import given
from hypothesis import strategies as st

NAMES = {value: f"t{value}_t" for value in range(1, 40)}
WRITERS = range(1, 5)
READERS = range(20, 24)


def mask(*values: int) -> int:
    """Return the bit set of ``values``."""
    return sum(1 << value for value in set(values))


def spot(writers: int, readers: int, *, severity: str = "data", kind: str = "C1", name: str = "o_t") -> Spot:
    """Return conflicts over one object."""
    return Spot(kind=kind, severity=severity, object=name, class_name="file", writers=writers, readers=readers)


def cleared(spots: list[Spot], cures: tuple[Cure, ...]) -> bool:
    """Say whether every conflict of ``spots`` is met by one of ``cures``."""
    trusted = {cure.subject for cure in cures if cure.kind == TRUST}
    gone = {cure.object for cure in cures if cure.kind in (SPLIT, REMOVE)}
    filters = {(cure.subject, cure.object) for cure in cures if cure.kind in (FILTER, ENTRY)}
    for item in spots:
        writers = {NAMES[value] for value in WRITERS if item.writers >> value & 1}
        readers = {NAMES[value] for value in NAMES if item.readers >> value & 1}
        if item.object in gone or (writers and writers <= trusted):
            continue
        if any((reader, item.object) not in filters for reader in readers):
            return False
    return True


MASKS = st.sets(st.sampled_from(list(WRITERS)), max_size=4).map(lambda values: mask(*values))
READ_MASKS = st.sets(st.sampled_from(list(READERS)), min_size=1).map(lambda values: mask(*values))


@given(
    st.lists(st.tuples(MASKS, READ_MASKS), max_size=7),
    st.dictionaries(st.sampled_from(list(WRITERS)), st.integers(0, 9)),
)
def test_nothing_is_cheaper(found: list[tuple[int, int]], low_reads: dict[int, int]) -> None:
    spots = [spot(writers, readers, name=f"o{at}_t") for at, (writers, readers) in enumerate(found)]
    cures = find_cures(spots, NAMES, low_reads)
    assert cleared(spots, cures)
    costs = []
    for size in range(len(WRITERS) + 1):
        for trusted in itertools.combinations(WRITERS, size):
            cost = sum(TRUST_WEIGHT + low_reads.get(writer, 0) for writer in trusted)
            for item in spots:
                if not item.writers or item.writers & ~mask(*trusted):
                    each = 3 * item.readers.bit_count()
                    cost += min(each, SPLIT_WEIGHT) if item.writers else each
            costs.append(cost)
    assert sum(cure.weight for cure in cures) == min(costs)


@given(st.lists(st.tuples(MASKS, READ_MASKS, st.sampled_from(list(SEVERITIES))), max_size=9))
def test_every_severity_is_cleared(found: list[tuple[int, int, str]]) -> None:
    spots = [spot(w, r, severity=severity, name=f"o{at}_t") for at, (w, r, severity) in enumerate(found)]
    assert cleared(spots, find_cures(spots, NAMES))


def test_one_writer_of_many_objects_is_trusted() -> None:
    spots = [spot(mask(1), mask(20, 21), name=f"o{at}_t") for at in range(9)]
    (cure,) = find_cures(spots, NAMES)
    assert (cure.kind, cure.subject, cure.conflicts) == (TRUST, "t1_t", 18)
    assert "t1_t" in cure.sentence()


def test_what_is_worse_is_solved_first_and_helps_the_rest() -> None:
    spots = [spot(mask(1), mask(20), severity="code", name=f"o{at}_t") for at in range(9)]
    spots.append(spot(mask(1), mask(21), severity="name", name="n_t"))
    assert [cure.kind for cure in find_cures(spots, NAMES)] == [TRUST]


@pytest.mark.parametrize(
    ("kind", "severity", "writers", "cure"),
    [
        ("C1", "net", 0, FILTER),
        ("C1", "data", mask(1), FILTER),
        ("C1", "code", mask(1), SPLIT),
        ("C2", "ipc", mask(1), REMOVE),
        ("C3", "kernel", mask(1), REMOVE),
        ("C4", "data", mask(1), FILTER),
        ("C5", "data", mask(1), ENTRY),
    ],
)
def test_each_kind_has_its_cure(kind: str, severity: str, writers: int, cure: str) -> None:
    (found,) = find_cures([spot(writers, mask(20), kind=kind, severity=severity)], NAMES)
    assert found.kind == cure
    assert found.to_json()["sentence"]


def test_nothing_to_clear() -> None:
    assert find_cures([], NAMES) == ()
