# SPDX-License-Identifier: GPL-3.0-or-later
"""Rounds: who shares a quote, and that our quick tree is the model's."""

from __future__ import annotations

import hashlib
from typing import NamedTuple

import pytest
from ansible.module_utils.vouch.daemon.batch import Tree, Waiting
from ansible.module_utils.vouch.errors import UsageError
from ansible.module_utils.vouch.model import merkle

STATEMENT = hashlib.sha256(b"statement").digest()


class Ask(NamedTuple):
    name: str
    pcrs: tuple[int, ...]


def nonces(count: int) -> list[bytes]:
    return [hashlib.sha256(str(i).encode()).digest() for i in range(count)]


@pytest.mark.parametrize("size", [1, 2, 3, 4, 5, 7, 8, 9, 31, 33])
def test_root_and_paths_are_those_of_the_model(size: int) -> None:
    tree = Tree(nonces(size), STATEMENT)
    leaves = [merkle.leaf(nonce, STATEMENT) for nonce in nonces(size)]
    assert tree.size == size
    assert tree.root == merkle.root(leaves)
    for index in range(size):
        assert tuple(tree.path(index)) == merkle.inclusion_path(leaves, index)
        assert merkle.root_from_path(leaves[index], index, size, tree.path(index)) == tree.root


def test_an_empty_tree_is_refused() -> None:
    with pytest.raises(UsageError):
        Tree([], STATEMENT)


def test_a_round_is_the_oldest_and_all_with_its_registers() -> None:
    waiting: Waiting[Ask] = Waiting()
    for ask in (Ask("a", (0, 1)), Ask("b", (4,)), Ask("c", (0, 1)), Ask("d", (4,))):
        waiting.add(ask)
    assert [ask.name for ask in waiting.take_round()] == ["a", "c"]
    assert [ask.name for ask in waiting.take_round()] == ["b", "d"]
    assert waiting.take_round() == []


def test_waiting_is_bounded() -> None:
    waiting: Waiting[Ask] = Waiting(limit=2)
    waiting.add(Ask("a", (0,)))
    assert not waiting.full
    waiting.add(Ask("b", (0,)))
    assert waiting.full
    with pytest.raises(UsageError):
        waiting.add(Ask("c", (0,)))
