# SPDX-License-Identifier: GPL-3.0-or-later
"""The archive writer: same bytes for the same input, links and devices kept, read back by another program."""

from __future__ import annotations

import io
import os
import pathlib
import shutil
import stat
import subprocess
import tarfile

import pytest
from ansible.module_utils.vouch.errors import UsageError
from ansible.module_utils.vouch.make.cpio import (
    CpioEntry,
    character_device,
    directory,
    entries_from_tar,
    entries_from_tree,
    merge,
    regular,
    symlink,
    with_parents,
    write_newc,
)

ENTRIES = (
    directory("etc"),
    regular("etc/b", b"bb", 0o600),
    regular("etc/a", b"a"),
    symlink("link", "etc/a"),
    character_device("console", 5, 1),
)


def fields(header: bytes) -> list[int]:
    return [int(header[6 + 8 * n : 14 + 8 * n], 16) for n in range(13)]


def test_order_of_input_does_not_matter() -> None:
    assert write_newc(ENTRIES) == write_newc(reversed(ENTRIES))


def test_header_of_one_file() -> None:
    archive = write_newc([regular("f", b"hello", 0o640, mtime_s=7)])
    assert archive[:6] == b"070701"
    ino, mode, uid, gid, nlink, mtime, size, *rest = fields(archive)
    assert (ino, mode, uid, gid, nlink, mtime, size) == (1, stat.S_IFREG | 0o640, 0, 0, 1, 7, 5)
    assert rest == [0, 0, 0, 0, 2, 0]
    assert archive[110:112] == b"f\0"
    assert archive[112:117] == b"hello"
    assert archive[120 + 110 :].startswith(b"TRAILER!!!\0")
    assert len(archive) % 4 == 0


def test_device_numbers() -> None:
    assert fields(write_newc([character_device("console", 5, 1)]))[9:11] == [5, 1]


def test_hard_links_carry_data_once() -> None:
    both = [CpioEntry(path=name, mode=stat.S_IFREG | 0o644, data=b"x" * 1000, link="one") for name in "ab"]
    archive = write_newc(both)
    assert archive.count(b"x" * 1000) == 1
    first, second = fields(archive), fields(archive[112:])
    assert first[0] == second[0]
    assert (first[4], second[4]) == (2, 2)
    assert (first[6], second[6]) == (0, 1000)


@pytest.mark.parametrize(
    ("entries", "code"),
    [
        pytest.param([regular("a", b""), regular("a", b"")], "cpio.duplicate", id="path twice"),
        pytest.param(
            [
                CpioEntry(path="a", mode=stat.S_IFREG, data=b"1", link="l"),
                CpioEntry(path="b", mode=stat.S_IFREG, data=b"2", link="l"),
            ],
            "cpio.link",
            id="links with two contents",
        ),
        pytest.param(
            [
                CpioEntry(path="a", mode=stat.S_IFREG | 0o600, data=b"1", link="l"),
                CpioEntry(path="b", mode=stat.S_IFREG | 0o644, data=b"1", link="l"),
            ],
            "cpio.link",
            id="links with two modes",
        ),
        pytest.param([regular("a", b"", mtime_s=-1)], "cpio.range", id="time before 1970"),
    ],
)
def test_refused_archives(entries: list[CpioEntry], code: str) -> None:
    with pytest.raises(UsageError) as refused:
        write_newc(entries)
    assert refused.value.code == code


@pytest.mark.parametrize("path", ["", "/etc", "etc/", "a/../b", "..", "TRAILER!!!", "a\0b"])
def test_refused_paths(path: str) -> None:
    with pytest.raises(UsageError) as refused:
        regular(path, b"")
    assert refused.value.code == "cpio.path"


def test_tree_and_its_tar_give_the_same_archive(tmp_path: pathlib.Path) -> None:
    root = tmp_path / "root"
    (root / "usr/bin").mkdir(parents=True)
    (root / "usr/bin/tool").write_bytes(b"#!/bin/sh\n")
    (root / "usr/bin/tool").chmod(0o755)
    os.link(root / "usr/bin/tool", root / "usr/bin/twin")
    (root / "bin").symlink_to("usr/bin")
    os.mkfifo(root / "pipe", 0o600)
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        archive.add(root, ".")
    buffer.seek(0)
    with tarfile.open(fileobj=buffer) as archive:
        from_tar = write_newc(entries_from_tar(archive, mtime_s=5))
    assert from_tar == write_newc(entries_from_tree(root, mtime_s=5))


def test_skip_leaves_out_a_folder_and_all_below(tmp_path: pathlib.Path) -> None:
    (tmp_path / "doc/deep").mkdir(parents=True)
    (tmp_path / "doc/deep/file").write_text("x")
    (tmp_path / "kept").write_text("y")
    assert [e.path for e in entries_from_tree(tmp_path, skip=lambda path: path == "doc")] == ["kept"]


def test_hard_link_to_a_skipped_name_keeps_its_content(tmp_path: pathlib.Path) -> None:
    (tmp_path / "a").write_text("text")
    os.link(tmp_path / "a", tmp_path / "b")
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        archive.add(tmp_path, ".")
    buffer.seek(0)
    with tarfile.open(fileobj=buffer) as archive:
        kept = list(entries_from_tar(archive, skip=lambda path: path == "a"))
    assert [(e.path, e.data) for e in kept] == [("b", b"text")]


def test_with_parents_adds_each_folder_once() -> None:
    entries = with_parents([regular("a/b/c", b""), regular("a/d", b"")])
    assert sorted(e.path for e in entries) == ["a", "a/b", "a/b/c", "a/d"]


def test_later_layer_wins() -> None:
    assert [e.data for e in merge([regular("f", b"old")], [regular("f", b"new")])] == [b"new"]


@pytest.mark.skipif(shutil.which("cpio") is None, reason="the program cpio is not installed")
def test_another_program_reads_it(tmp_path: pathlib.Path) -> None:
    twins = [CpioEntry(path=f"etc/{name}", mode=stat.S_IFREG | 0o644, data=b"same", link="t") for name in "xy"]
    archive = write_newc([e for e in (*ENTRIES, *twins) if not stat.S_ISCHR(e.mode)])
    done = subprocess.run(["cpio", "-i", "--quiet"], input=archive, cwd=tmp_path, capture_output=True, check=True)
    assert done.stderr == b""
    assert (tmp_path / "link").read_bytes() == b"a"
    assert (tmp_path / "etc/b").stat().st_mode & 0o7777 == 0o600
    assert (tmp_path / "etc/x").stat().st_ino == (tmp_path / "etc/y").stat().st_ino
    assert (tmp_path / "etc/x").read_bytes() == b"same"
