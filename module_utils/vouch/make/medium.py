# SPDX-License-Identifier: GPL-3.0-or-later
"""A bootable medium: a GPT with one EFI system partition, as one image for a USB stick or a lab machine.

==================== =====================================
sectors of 512 bytes content
==================== =====================================
0                    protective MBR
1                    GPT header
2 - 33               128 partition entries
2048 ..              the EFI system partition
last 33              partition entries again, then the header
==================== =====================================

Source: UEFI 2.10, 5.2.3 and 5.3.
"""

from __future__ import annotations

import hashlib
import struct
import uuid
import zlib
from collections.abc import Mapping

from .fat import SECTOR_BYTES, fat32_image

FIRST_SECTOR = 2048
ENTRIES = 128
ENTRY_BYTES = 128
TYPE_ESP = uuid.UUID("c12a7328-f81f-11d2-ba4b-00a0c93ec93b")
DEFAULT_LOADER = "EFI/BOOT/BOOTX64.EFI"
_ENTRY_SECTORS = ENTRIES * ENTRY_BYTES // SECTOR_BYTES
_NAMESPACE = uuid.UUID("b7b6d1e5-6c0e-5c44-9a0d-0f6e5a1f6a11")


def boot_medium(application: bytes, *, time_s: int, label: str = "VOUCH") -> bytes:
    """Return the image of a medium that starts ``application`` on any x86-64 UEFI machine.

    Args:
        application: An EFI application.
        time_s: Time of the files on it.
        label: Name of the file system and the partition.
    """
    return medium({DEFAULT_LOADER: application}, time_s=time_s, label=label)


def medium(files: Mapping[str, bytes], *, time_s: int, label: str = "VOUCH") -> bytes:
    """Return the image of a medium with ``files`` (path to content) in its EFI system partition.

    GUIDs and the volume's serial number follow from the content, so equal content gives equal bytes.
    """
    digest = hashlib.sha256()
    for path, content in sorted(files.items()):
        digest.update(hashlib.sha256(path.encode()).digest() + hashlib.sha256(content).digest())
    identity = digest.hexdigest()
    volume = fat32_image(files, volume_id=int(identity[:8], 16), time_s=time_s, label=label)
    partition_sectors = len(volume) // SECTOR_BYTES
    total = FIRST_SECTOR + -(-partition_sectors // FIRST_SECTOR) * FIRST_SECTOR + FIRST_SECTOR
    disk_guid = uuid.uuid5(_NAMESPACE, identity)
    entry = TYPE_ESP.bytes_le + uuid.uuid5(disk_guid, "esp").bytes_le
    entry += struct.pack("<QQQ", FIRST_SECTOR, FIRST_SECTOR + partition_sectors - 1, 0)
    entries = (entry + label.encode("utf-16-le").ljust(72, b"\0")).ljust(ENTRIES * ENTRY_BYTES, b"\0")
    image = bytearray(total * SECTOR_BYTES)
    _put(image, 0, _protective_mbr(total))
    _put(image, 1, _header(1, total - 1, 2, total, disk_guid, entries))
    _put(image, 2, entries)
    _put(image, FIRST_SECTOR, volume)
    _put(image, total - 1 - _ENTRY_SECTORS, entries)
    _put(image, total - 1, _header(total - 1, 1, total - 1 - _ENTRY_SECTORS, total, disk_guid, entries))
    return bytes(image)


def _put(image: bytearray, sector: int, content: bytes) -> None:
    image[sector * SECTOR_BYTES : sector * SECTOR_BYTES + len(content)] = content


def _protective_mbr(total: int) -> bytes:
    record = struct.pack("<B3sB3sII", 0, b"\x00\x02\x00", 0xEE, b"\xff\xff\xff", 1, min(total - 1, 0xFFFFFFFF))
    return bytes(446) + record + bytes(48) + b"\x55\xaa"


def _header(own: int, other: int, entries_at: int, total: int, disk: uuid.UUID, entries: bytes) -> bytes:
    def fields(checksum: int) -> bytes:
        head = struct.pack("<8sIIIIQQ", b"EFI PART", 0x00010000, 92, checksum, 0, own, other)
        head += struct.pack("<QQ", 2 + _ENTRY_SECTORS, total - 2 - _ENTRY_SECTORS) + disk.bytes_le
        return head + struct.pack("<QIII", entries_at, ENTRIES, ENTRY_BYTES, zlib.crc32(entries))

    return fields(zlib.crc32(fields(0))).ljust(SECTOR_BYTES, b"\0")
