# SPDX-License-Identifier: GPL-3.0-or-later
"""FAT32 images, read back by our own small reader and by dosfstools and mtools where they are installed."""

from __future__ import annotations

import pathlib
import shutil
import struct
import subprocess

import pytest
from ansible.module_utils.vouch.errors import UsageError
from ansible.module_utils.vouch.make.fat import CLUSTER_BYTES, RESERVED_SECTORS, SECTOR_BYTES, fat32_image

FILES = {
    "EFI/BOOT/BOOTX64.EFI": bytes(range(256)) * 40,
    "EFI/BOOT/EXACT.BIN": b"e" * CLUSTER_BYTES,
    "EFI/VOUCH/A.EFI": b"a",
    "EMPTY": b"",
}


def read_back(image: bytes) -> dict[str, bytes]:
    """Return every file of a FAT32 image by following directories and chains."""
    (fat_sectors,) = struct.unpack_from("<I", image, 36)
    (root,) = struct.unpack_from("<I", image, 44)
    table_at = RESERVED_SECTORS * SECTOR_BYTES
    data_at = table_at + 2 * fat_sectors * SECTOR_BYTES

    def chain(cluster: int) -> bytes:
        parts = []
        while cluster < 0x0FFFFFF8:
            start = data_at + (cluster - 2) * CLUSTER_BYTES
            parts.append(image[start : start + CLUSTER_BYTES])
            (cluster,) = struct.unpack_from("<I", image, table_at + 4 * cluster)
        return b"".join(parts)

    def walk(cluster: int, prefix: str) -> dict[str, bytes]:
        found: dict[str, bytes] = {}
        content = chain(cluster)
        for position in range(0, len(content), 32):
            entry = content[position : position + 32]
            if entry[0] == 0:
                break
            if entry[11] == 0x08 or entry.startswith(b"."):
                continue
            name = entry[:8].decode().strip() + ("." + entry[8:11].decode().strip()).rstrip(".")
            first = struct.unpack_from("<H", entry, 20)[0] << 16 | struct.unpack_from("<H", entry, 26)[0]
            (size,) = struct.unpack_from("<I", entry, 28)
            if entry[11] & 0x10:
                found |= walk(first, f"{prefix}{name}/")
            else:
                found[prefix + name] = chain(first)[:size] if size else b""
        return found

    return walk(root, "")


@pytest.fixture(scope="module")
def image() -> bytes:
    return fat32_image(FILES, volume_id=0x12345678, time_s=1_750_000_000)


def test_files_come_back(image: bytes) -> None:
    assert read_back(image) == FILES


def test_same_input_same_bytes(image: bytes) -> None:
    assert image == fat32_image(dict(reversed(FILES.items())), volume_id=0x12345678, time_s=1_750_000_000)


def test_a_folder_larger_than_a_cluster() -> None:
    many = {f"DIR/F{n}.TXT": b"%d" % n for n in range(100)}
    assert read_back(fat32_image(many, volume_id=1, time_s=0)) == many


@pytest.mark.parametrize("path", ["lower.efi", "TOOLONGNAME.EFI", "A.LONG", "A//B", "../X", "A B", ""])
def test_refused_names(path: str) -> None:
    with pytest.raises(UsageError) as refused:
        fat32_image({path: b""}, volume_id=1, time_s=0)
    assert refused.value.code == "fat.name"


def test_refused_trees() -> None:
    with pytest.raises(UsageError):
        fat32_image({"A": b"", "A/B": b""}, volume_id=1, time_s=0)
    with pytest.raises(UsageError):
        fat32_image({}, volume_id=1, time_s=0)


@pytest.mark.skipif(shutil.which("fsck.fat", path="/usr/sbin:/usr/bin:/sbin") is None, reason="no dosfstools")
def test_fsck_finds_nothing(tmp_path: pathlib.Path, image: bytes) -> None:
    (tmp_path / "f.img").write_bytes(image)
    checker = shutil.which("fsck.fat", path="/usr/sbin:/usr/bin:/sbin")
    assert checker is not None
    done = subprocess.run([checker, "-n", str(tmp_path / "f.img")], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout


@pytest.mark.skipif(shutil.which("mtype") is None, reason="no mtools")
def test_mtools_reads_it(tmp_path: pathlib.Path, image: bytes) -> None:
    (tmp_path / "f.img").write_bytes(image)
    done = subprocess.run(
        ["mtype", "-i", str(tmp_path / "f.img"), "::EFI/BOOT/BOOTX64.EFI"], capture_output=True, check=True
    )
    assert done.stdout == FILES["EFI/BOOT/BOOTX64.EFI"]
