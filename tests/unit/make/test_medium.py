# SPDX-License-Identifier: GPL-3.0-or-later
"""A bootable medium: a GPT that checks out, and the loader where firmware looks for it."""

from __future__ import annotations

import json
import pathlib
import shutil
import struct
import subprocess
import zlib

import pytest
from ansible.module_utils.vouch.make.medium import DEFAULT_LOADER, FIRST_SECTOR, TYPE_ESP, boot_medium

SFDISK = shutil.which("sfdisk", path="/usr/sbin:/usr/bin:/sbin")


@pytest.fixture(scope="module")
def image() -> bytes:
    return boot_medium(b"MZ" + bytes(5000), time_s=1_750_000_000)


def header(image: bytes, sector: int) -> tuple[int, ...]:
    raw = bytearray(image[sector * 512 : sector * 512 + 92])
    checksum = struct.unpack_from("<I", raw, 16)[0]
    raw[16:20] = bytes(4)
    assert raw.startswith(b"EFI PART")
    assert zlib.crc32(raw) == checksum
    return struct.unpack_from("<QQQQ", raw, 24)


def test_both_headers_agree(image: bytes) -> None:
    last = len(image) // 512 - 1
    assert header(image, 1)[:2] == (1, last)
    assert header(image, last)[:2] == (last, 1)
    assert image[1024 : 1024 + 128 * 128] == image[(last - 32) * 512 : last * 512]


def test_partition_is_an_efi_system_partition(image: bytes) -> None:
    assert image[1024:1040] == TYPE_ESP.bytes_le
    assert image[FIRST_SECTOR * 512 + 82 : FIRST_SECTOR * 512 + 90] == b"FAT32   "
    assert image[510:512] == b"\x55\xaa"


def test_content_decides_the_guids(image: bytes) -> None:
    other = boot_medium(b"MZ" + bytes(4999) + b"x", time_s=1_750_000_000)
    assert image == boot_medium(b"MZ" + bytes(5000), time_s=1_750_000_000)
    assert image[1040:1056] != other[1040:1056]


@pytest.mark.skipif(SFDISK is None, reason="no sfdisk")
def test_sfdisk_reads_it(tmp_path: pathlib.Path, image: bytes) -> None:
    (tmp_path / "m.img").write_bytes(image)
    done = subprocess.run([str(SFDISK), "--json", str(tmp_path / "m.img")], capture_output=True, check=True)
    table = json.loads(done.stdout)["partitiontable"]
    assert table["label"] == "gpt"
    assert [(p["start"], p["type"]) for p in table["partitions"]] == [(FIRST_SECTOR, str(TYPE_ESP).upper())]
    assert done.stderr == b""


@pytest.mark.skipif(shutil.which("mtype") is None, reason="no mtools")
def test_firmware_finds_the_loader(tmp_path: pathlib.Path, image: bytes) -> None:
    (tmp_path / "m.img").write_bytes(image)
    source = f"{tmp_path / 'm.img'}@@{FIRST_SECTOR * 512}"
    done = subprocess.run(["mtype", "-i", source, f"::{DEFAULT_LOADER}"], capture_output=True, check=True)
    assert done.stdout == b"MZ" + bytes(5000)
