# SPDX-License-Identifier: GPL-3.0-or-later
"""The tree against RFC 6962's own definition, and paths of every wrong shape."""

from __future__ import annotations

import hashlib

import pytest
from ansible.module_utils.vouch.errors import UsageError
from ansible.module_utils.vouch.model.merkle import MAX_LEAVES, inclusion_path, leaf, root, root_from_path

LEAVES = [bytes((i,)) * 32 for i in range(20)]


def reference(leaves: list[bytes]) -> bytes:
    """MTH of RFC 6962, 2.1, word by word (leaves are hashed already)."""
    if len(leaves) == 1:
        return leaves[0]
    k = 1
    while k * 2 < len(leaves):
        k *= 2
    return hashlib.sha256(b"\x01" + reference(leaves[:k]) + reference(leaves[k:])).digest()


@pytest.mark.parametrize("size", range(1, 20))
def test_root_and_paths(size: int) -> None:
    leaves = LEAVES[:size]
    assert root(leaves) == reference(leaves)
    for index in range(size):
        path = inclusion_path(leaves, index)
        assert root_from_path(leaves[index], index, size, path) == root(leaves)
        for bad in (path[:-1], (*path, bytes(32))):
            if bad != path:
                with pytest.raises(UsageError):
                    root_from_path(leaves[index], index, size, bad)


def test_the_leaf_is_what_the_document_says() -> None:
    assert leaf(b"\x01" * 32, b"\x02" * 32) == hashlib.sha256(b"\x00" + b"\x01" * 32 + b"\x02" * 32).digest()


@pytest.mark.parametrize(("nonce", "digest"), [(b"", bytes(32)), (bytes(32), b""), (bytes(33), bytes(31))])
def test_leaf_lengths(nonce: bytes, digest: bytes) -> None:
    with pytest.raises(UsageError):
        leaf(nonce, digest)


@pytest.mark.parametrize(
    ("index", "size", "path"),
    [(0, 0, ()), (1, 1, ()), (-1, 1, ()), (0, MAX_LEAVES + 1, ()), (0, 1, (bytes(32),)), (0, 2, (bytes(31),))],
)
def test_shapes_that_are_no_path(index: int, size: int, path: tuple[bytes, ...]) -> None:
    with pytest.raises(UsageError) as error:
        root_from_path(bytes(32), index, size, path)
    assert error.value.code == "merkle.path"


def test_no_tree() -> None:
    for leaves in ([], [b"short"]):
        with pytest.raises(UsageError):
            root(leaves)
    with pytest.raises(UsageError):
        inclusion_path(LEAVES, 20)
