# SPDX-License-Identifier: GPL-3.0-or-later
"""Bundles by digest: shared parts once, nothing altered comes back, pruning takes only what nobody needs."""

from __future__ import annotations

import os
import pathlib
import time

import pytest
from ansible.module_utils.vouch.errors import UnreachableError, UsageError
from ansible.module_utils.vouch.make.bundle import write_bundle
from ansible.module_utils.vouch.store.bundles import YOUNG_S, BundleStore

ONE = {"context.json": b"{}", "evidence.json": b"one", "policy.json": b"shared", "result.json": b"r1"}
TWO = {**ONE, "evidence.json": b"two", "result.json": b"r2"}


def files(folder: pathlib.Path) -> list[pathlib.Path]:
    return sorted(path for path in folder.rglob("*") if path.is_file())


def test_what_is_put_is_read(tmp_path: pathlib.Path) -> None:
    store = BundleStore(tmp_path / "b")
    one, two = store.put(ONE), store.put(TWO)
    assert one != two
    assert store.read(one) == write_bundle(ONE)
    assert store.read(two) == write_bundle(TWO)
    assert len(files(tmp_path)) == 2 + 4 + 2, "two indexes, four parts of the first, two more of the second"
    assert store.put(ONE) == one
    assert len(files(tmp_path)) == 8
    assert all(path.stat().st_mode & 0o077 == 0 for path in files(tmp_path))


def test_pruning(tmp_path: pathlib.Path) -> None:
    store = BundleStore(tmp_path)
    one, two = store.put(ONE), store.put(TWO)
    assert store.prune({two}, now_s=time.time()) == 0, "young ones may belong to a writer at work"
    old = time.time() - 2 * YOUNG_S
    for path in files(tmp_path):
        os.utime(path, (old, old))
    assert store.prune({two, "ab" * 32}, now_s=time.time()) > 0
    assert store.read(two) == write_bundle(TWO)
    with pytest.raises(UnreachableError, match=r"bundle\.missing"):
        store.read(one)


@pytest.mark.parametrize("name", ["", "x", "../../etc/passwd", "AB" * 32, "ab" * 33])
def test_an_id_is_no_path(tmp_path: pathlib.Path, name: str) -> None:
    with pytest.raises(UsageError, match=r"bundle\.id"):
        BundleStore(tmp_path).read(name)


@pytest.mark.parametrize("name", ["", "other.json", "packages/../x", "packages/" + "ab" * 31 + ".json"])
def test_a_part_that_has_no_place(tmp_path: pathlib.Path, name: str) -> None:
    with pytest.raises(UsageError, match=r"bundle\.part"):
        BundleStore(tmp_path).put({name: b""})
    assert files(tmp_path) == []


def test_what_was_altered_does_not_come_back(tmp_path: pathlib.Path) -> None:
    store = BundleStore(tmp_path)
    one = store.put(ONE)
    for path in files(tmp_path):
        content = path.read_bytes()
        path.write_bytes(content + b" ")
        with pytest.raises(UnreachableError, match=r"bundle\.damaged"):
            store.read(one)
        path.write_bytes(content)
    no_index = store.put({"context.json": b"[]"})
    index = (tmp_path / no_index[:2] / no_index).read_bytes()
    part = store.put({"context.json": index})
    assert part
    for path in files(tmp_path):
        if path.read_bytes() == b"[]":
            with pytest.raises(UnreachableError, match=r"bundle\.damaged"):
                store.read(path.name)
