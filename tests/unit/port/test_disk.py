# SPDX-License-Identifier: GPL-3.0-or-later
"""Disks: what needs no block device. The rest runs on the lab."""

from __future__ import annotations

import hashlib
import pathlib

import pytest
from ansible.module_utils.vouch.errors import UnreachableError
from ansible.module_utils.vouch.port.disk import BlockDisk, digest_of, erase_head, stable_names, write_prefix


def test_a_missing_disk_names_those_that_are_there() -> None:
    with pytest.raises(UnreachableError) as caught:
        BlockDisk("/dev/disk/by-id/none-such")
    assert caught.value.code == "disk.missing"
    assert "measured_host_disk" in caught.value.hint


@pytest.mark.parametrize("path", ["/dev/null", "/etc/passwd"])
def test_other_things_are_no_disk(path: str) -> None:
    with pytest.raises(UnreachableError) as caught:
        BlockDisk(path)
    assert caught.value.code == "disk.not-a-disk"


def test_stable_names_leave_partitions_out(tmp_path: pathlib.Path) -> None:
    for name in ("virtio-a", "virtio-a-part1", "nvme-b"):
        (tmp_path / name).touch()
    assert stable_names(tmp_path) == [str(tmp_path / "nvme-b"), str(tmp_path / "virtio-a")]
    assert stable_names(tmp_path / "absent") == []


def test_digest_of_a_prefix(tmp_path: pathlib.Path) -> None:
    path = tmp_path / "p"
    path.write_bytes(b"abcdef")
    assert digest_of(path, 3) == hashlib.sha256(b"abc").digest()
    assert digest_of(path, 6, uncached=True) == hashlib.sha256(b"abcdef").digest()
    assert digest_of(path, 7) is None


def test_a_prefix_is_written_and_bounded(tmp_path: pathlib.Path) -> None:
    path = tmp_path / "p"
    path.write_bytes(b"x" * 10)
    assert write_prefix(path, [b"ab", b"cd"], limit_bytes=4) == 4
    assert path.read_bytes() == b"abcdxxxxxx"
    with pytest.raises(UnreachableError) as caught:
        write_prefix(path, [b"abc", b"de"], limit_bytes=4)
    assert caught.value.code == "disk.too-small"


def test_a_full_medium(tmp_path: pathlib.Path) -> None:
    with pytest.raises(UnreachableError) as caught:
        write_prefix(pathlib.Path("/dev/full"), [b"x"], limit_bytes=4)
    assert caught.value.code == "disk.write"


def test_erasing_the_head(tmp_path: pathlib.Path) -> None:
    path = tmp_path / "p"
    path.write_bytes(b"x" * ((1 << 20) + 1))
    erase_head(path)
    assert path.read_bytes() == bytes(1 << 20) + b"x"
