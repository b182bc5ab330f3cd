# SPDX-License-Identifier: GPL-3.0-or-later
"""Maximum flow: its value is that of the cheapest cut found by trying all."""

from __future__ import annotations

import itertools

import pytest
from ansible.module_utils.vouch.errors import UsageError
from ansible.module_utils.vouch.explain.maxflow import UNCUTTABLE, Network, minimum_cut
from hypothesis import given
from hypothesis import strategies as st

NODES = 6
EDGES = st.lists(
    st.tuples(st.integers(0, NODES - 1), st.integers(0, NODES - 1), st.integers(0, 9)).filter(lambda e: e[0] != e[1]),
    max_size=16,
)


def cheapest(edges: list[tuple[int, int, int]]) -> int:
    """Return the value of the cheapest of all cuts between node 0 and the last."""
    inner = range(1, NODES - 1)
    sides = ({0, *chosen} for size in range(NODES - 1) for chosen in itertools.combinations(inner, size))
    return min(sum(room for tail, head, room in edges if tail in near and head not in near) for near in sides)


@given(EDGES)
def test_no_cut_is_cheaper(edges: list[tuple[int, int, int]]) -> None:
    value, cut = minimum_cut(NODES, edges, 0, NODES - 1)
    assert value == cheapest(edges) == sum(edges[at][2] for at in cut)
    left = [edge for at, edge in enumerate(edges) if at not in cut]
    assert minimum_cut(NODES, left, 0, NODES - 1) == (0, [])


def test_a_long_way_needs_no_deep_stack() -> None:
    length = 20_000
    edges = [(at, at + 1, 3) for at in range(length)]
    edges[length // 2] = (length // 2, length // 2 + 1, 1)
    assert minimum_cut(length + 1, edges, 0, length) == (1, [length // 2])


def test_what_may_not_be_cut_is_not() -> None:
    assert minimum_cut(3, [(0, 1, UNCUTTABLE), (1, 2, 5)], 0, 2) == (5, [1])
    with pytest.raises(UsageError) as caught:
        minimum_cut(2, [(0, 1, UNCUTTABLE)], 0, 1)
    assert caught.value.code == "maxflow.uncuttable"


def test_misuse() -> None:
    with pytest.raises(UsageError):
        Network(2).add(0, 1, -1)
    with pytest.raises(UsageError):
        Network(2).flow(1, 1)
