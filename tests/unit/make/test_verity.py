# SPDX-License-Identifier: GPL-3.0-or-later
"""The hash tree is the one the kernel checks."""

from __future__ import annotations

import hashlib
import pathlib
import shutil
import subprocess

import pytest
from ansible.module_utils.vouch.errors import UsageError
from ansible.module_utils.vouch.make.verity import content_salt, hash_tree, padded, verity_argument

BLOCK = 4096
SALT = bytes(range(32))


def test_one_block_needs_no_tree() -> None:
    data = b"a" * BLOCK
    tree = hash_tree(data, SALT)
    assert tree.tree == b""
    assert tree.verity.root_hash == hashlib.sha256(SALT + data).digest()
    assert tree.verity.data_blocks == 1


def test_two_blocks_share_one() -> None:
    data = b"a" * BLOCK + b"b" * BLOCK
    tree = hash_tree(data, SALT)
    leaves = hashlib.sha256(SALT + data[:BLOCK]).digest() + hashlib.sha256(SALT + data[BLOCK:]).digest()
    assert tree.tree == leaves.ljust(BLOCK, b"\0")
    assert tree.verity.root_hash == hashlib.sha256(SALT + tree.tree).digest()


@pytest.mark.parametrize(
    ("blocks", "tree_blocks"), [(1, 0), (2, 1), (128, 1), (129, 3), (128 * 128, 129), (128 * 128 + 1, 132)]
)
def test_levels(blocks: int, tree_blocks: int) -> None:
    assert len(hash_tree(bytes(blocks * BLOCK), b"").tree) == tree_blocks * BLOCK


def test_topmost_block_comes_first() -> None:
    tree = hash_tree(bytes(200 * BLOCK), SALT)
    assert hashlib.sha256(SALT + tree.tree[:BLOCK]).digest() == tree.verity.root_hash


def test_any_changed_byte_changes_the_root() -> None:
    data = bytes(300 * BLOCK)
    root = hash_tree(data, SALT).verity.root_hash
    for offset in (0, 128 * BLOCK, len(data) - 1):
        other = data[:offset] + b"\1" + data[offset + 1 :]
        assert hash_tree(other, SALT).verity.root_hash != root


@pytest.mark.parametrize("data", [b"", b"x", bytes(BLOCK + 1)])
def test_no_whole_blocks_are_refused(data: bytes) -> None:
    with pytest.raises(UsageError) as caught:
        hash_tree(data, SALT)
    assert caught.value.code == "verity.size"


def test_padding_and_salt_depend_on_content_alone() -> None:
    assert padded(b"") == b""
    assert len(padded(b"x")) == BLOCK
    assert padded(bytes(BLOCK)) == bytes(BLOCK)
    assert content_salt(b"x") == content_salt(b"x") != content_salt(b"y")


def test_kernel_argument() -> None:
    verity = hash_tree(bytes(3 * BLOCK), SALT).verity
    assert verity_argument(verity) == f"vouch.verity={verity.root_hash.hex()},{SALT.hex()},3"


@pytest.mark.parametrize("blocks", [1, 127, 129, 20000])
def test_same_as_veritysetup(blocks: int, tmp_path: pathlib.Path) -> None:
    if (program := shutil.which("veritysetup", path="/usr/sbin:/sbin:/usr/bin:/bin")) is None:
        pytest.skip("veritysetup (cryptsetup-bin) is not installed")
    data = b"".join(index.to_bytes(8, "big") * (BLOCK // 8) for index in range(blocks))
    ours = hash_tree(data, SALT)
    image, tree = tmp_path / "data", tmp_path / "tree"
    image.write_bytes(data)
    argv = [program, "format", "--no-superblock", "--salt", SALT.hex(), "--hash", "sha256", str(image), str(tree)]
    said = subprocess.run(argv, check=True, capture_output=True, text=True).stdout
    assert ours.verity.root_hash.hex() in said
    assert tree.read_bytes()[: len(ours.tree)] == ours.tree
