# SPDX-License-Identifier: GPL-3.0-or-later
"""One root over many askers, and the path that proves one of them inside.

The tree is RFC 6962's: interior nodes are SHA256(0x01 || left || right), an odd tree splits at the largest power of
two below its size, nothing is duplicated. A leaf binds one nonce to one statement.

Source: RFC 6962, 2.1 and 2.1.1; RFC 9162, 2.1.3.2 (verification).
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

from ..errors import UsageError

HASH_BYTES = 32
NONCE_BYTES = 32
"""Length of an asker's nonce."""

MAX_LEAVES = 65536
"""Askers that one quote may serve."""

MAX_PATH_NODES = 16
"""Nodes of an inclusion path in a tree of ``MAX_LEAVES``."""

LEAF_PREFIX = b"\x00"
NODE_PREFIX = b"\x01"


def leaf(nonce: bytes, statement_digest: bytes) -> bytes:
    """Return SHA256(0x00 || nonce || statement digest).

    Both parts have a fixed length, so no other pair of nonce and statement gives the same input.

    Raises:
        UsageError: when a part is not 32 bytes long.
    """
    if len(nonce) != NONCE_BYTES or len(statement_digest) != HASH_BYTES:
        raise UsageError("a leaf takes a 32-byte nonce and a 32-byte statement digest", code="merkle.length")
    return hashlib.sha256(LEAF_PREFIX + nonce + statement_digest).digest()


def node(left: bytes, right: bytes) -> bytes:
    """Return SHA256(0x01 || left || right), the parent of two nodes."""
    return hashlib.sha256(NODE_PREFIX + left + right).digest()


def root(leaves: Sequence[bytes]) -> bytes:
    """Return the Merkle tree hash of ``leaves`` (already hashed by ``leaf``).

    Raises:
        UsageError: for no leaf, too many, or a leaf that is not 32 bytes long.
    """
    return levels(leaves)[-1][0]


def inclusion_path(leaves: Sequence[bytes], index: int) -> tuple[bytes, ...]:
    """Return the siblings of leaf ``index`` from the leaf upwards.

    Raises:
        UsageError: as ``root``, and for an index outside the tree.
    """
    return path_in(levels(leaves), index)


def levels(leaves: Sequence[bytes]) -> list[list[bytes]]:
    """Return every level of the tree, ``leaves`` first, the root last: for many paths out of one tree.

    Raises:
        UsageError: as ``root``.
    """
    _check_leaves(leaves)
    found = [list(leaves)]
    # Pairing neighbours and carrying an odd last node up is the same tree as RFC 6962's split.
    while len(found[-1]) > 1:
        found.append(_parents(found[-1]))
    return found


def path_in(tree: Sequence[Sequence[bytes]], index: int) -> tuple[bytes, ...]:
    """Return what ``inclusion_path`` does, of the ``levels`` of a tree."""
    if not 0 <= index < len(tree[0]):
        raise UsageError(f"leaf {index} is not in a tree of {len(tree[0])}", code="merkle.index")
    path: list[bytes] = []
    for level in tree[:-1]:
        sibling = index ^ 1
        if sibling < len(level):
            path.append(level[sibling])
        index >>= 1
    return tuple(path)


def root_from_path(leaf_hash: bytes, index: int, size: int, path: Sequence[bytes]) -> bytes:
    """Return the root that ``path`` leads to; the caller compares it with the signed one.

    Strict: a path too short, too long, or of an index outside the tree is no path.

    Args:
        leaf_hash: The asker's own leaf, computed from its own nonce.
        index: Place of the leaf, as the attester says.
        size: Number of leaves, as the attester says.
        path: Sibling hashes from the leaf upwards.

    Raises:
        UsageError: code ``merkle.path`` when the shape does not fit; nothing is proven then.

    Trust: index, size and path are the attester's. Only a root equal to the signed one proves inclusion.
    """
    if not 1 <= size <= MAX_LEAVES or not 0 <= index < size:
        raise UsageError(f"leaf {index} is not in a tree of {size}", code="merkle.path")
    if len(leaf_hash) != HASH_BYTES or any(len(item) != HASH_BYTES for item in path):
        raise UsageError("every node of a path is 32 bytes long", code="merkle.path")
    hashed = leaf_hash
    place, last = index, size - 1
    remaining = list(path)
    while last:
        if place & 1 or place < last:
            if not remaining:
                raise UsageError("the path ends below the root", code="merkle.path")
            sibling = remaining.pop(0)
            hashed = node(sibling, hashed) if place & 1 else node(hashed, sibling)
        place >>= 1
        last >>= 1
    if remaining:
        raise UsageError("the path goes on above the root", code="merkle.path")
    return hashed


def _parents(level: list[bytes]) -> list[bytes]:
    parents = [node(level[i], level[i + 1]) for i in range(0, len(level) - 1, 2)]
    if len(level) % 2:
        parents.append(level[-1])
    return parents


def _check_leaves(leaves: Sequence[bytes]) -> None:
    if not 1 <= len(leaves) <= MAX_LEAVES:
        raise UsageError(f"a tree has 1 to {MAX_LEAVES} leaves, not {len(leaves)}", code="merkle.size")
    if any(len(item) != HASH_BYTES for item in leaves):
        raise UsageError("every leaf is 32 bytes long", code="merkle.length")
