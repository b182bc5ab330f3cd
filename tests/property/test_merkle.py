# SPDX-License-Identifier: GPL-3.0-or-later
"""Every asker's path leads to the root; nothing else does."""

from __future__ import annotations

from ansible.module_utils.vouch.model.merkle import inclusion_path, leaf, root, root_from_path
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from thorough import examples

NONCES = st.lists(st.binary(min_size=32, max_size=32), min_size=1, max_size=70, unique=True)
DIGEST = st.binary(min_size=32, max_size=32)


@given(NONCES, DIGEST, st.data())
@settings(max_examples=examples(100), deadline=None)
def test_each_asker_is_under_the_root(nonces: list[bytes], digest: bytes, data: st.DataObject) -> None:
    leaves = [leaf(nonce, digest) for nonce in nonces]
    index = data.draw(st.integers(0, len(nonces) - 1))
    path = inclusion_path(leaves, index)
    assert root_from_path(leaves[index], index, len(leaves), path) == root(leaves)


@given(NONCES, DIGEST, st.data())
@settings(max_examples=examples(100), deadline=None)
def test_nobody_else_is(nonces: list[bytes], digest: bytes, data: st.DataObject) -> None:
    leaves = [leaf(nonce, digest) for nonce in nonces]
    stranger = leaf(data.draw(st.binary(min_size=32, max_size=32)), digest)
    assume(stranger not in leaves)
    index = data.draw(st.integers(0, len(nonces) - 1))
    path = inclusion_path(leaves, index)
    assert root_from_path(stranger, index, len(leaves), path) != root(leaves)
    if path:
        place = data.draw(st.integers(0, len(path) - 1))
        flipped = bytes((path[place][0] ^ 1,)) + path[place][1:]
        bad = (*path[:place], flipped, *path[place + 1 :])
        assert root_from_path(leaves[index], index, len(leaves), bad) != root(leaves)
