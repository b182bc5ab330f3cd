# SPDX-License-Identifier: GPL-3.0-or-later
"""A tree is read as from inside it: its links lead nowhere else."""

from __future__ import annotations

import pathlib

import pytest
from ansible.module_utils.vouch.errors import UnreachableError
from ansible.module_utils.vouch.imaging.chroot import Tree

from sim.debiantree import KERNEL, LIBS, Tools, make_tree


@pytest.fixture
def tree(tmp_path: pathlib.Path) -> Tree:
    unpacked = Tree(tmp_path / "unpacked", runner=Tools(), epoch=1)
    unpacked.unpack(make_tree(tmp_path))
    return unpacked


def test_lists_and_packages(tree: Tree) -> None:
    assert tree.package_lists()["tool"] == ["/.", "/usr/bin/tool", "/usr/bin/unwanted"]
    assert tree.packages()["busybox-static"].version == "1.0"
    assert tree.libraries()["libneeded.so.1"] == f"{LIBS}/libneeded.so.1"


@pytest.mark.parametrize(
    ("target", "found"),
    [
        ("/usr/bin/busybox", b"busybox"),
        ("busybox", b"busybox"),
        ("../../usr/bin/busybox", b"busybox"),
        ("../../../../../../../usr/bin/busybox", b"busybox"),
        ("/etc/passwd", None),
        ("loop", None),
        ("none", None),
    ],
)
def test_links_stay_inside(tree: Tree, target: str, found: bytes | None) -> None:
    (tree.path / "usr/bin/loop").symlink_to("loop2")
    (tree.path / "usr/bin/loop2").symlink_to("loop")
    (tree.path / "usr/bin/link").symlink_to(target)
    assert tree.read("usr/bin/link") == found


def test_one_is_exactly_one(tree: Tree) -> None:
    assert tree.one("usr/lib/modules/*").name == KERNEL
    (tree.path / "usr/lib/modules/6.13").mkdir()
    for pattern in ("usr/lib/modules/*", "usr/lib/none/*"):
        with pytest.raises(UnreachableError) as caught:
            tree.one(pattern)
        assert caught.value.code == "image.tree"


def test_a_tree_without_packages_is_refused(tree: Tree) -> None:
    (tree.path / "var/lib/dpkg/status").write_text("")
    with pytest.raises(UnreachableError):
        tree.packages()
