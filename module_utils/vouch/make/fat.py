# SPDX-License-Identifier: GPL-3.0-or-later
"""A FAT32 file system with a few files, the same bytes for the same input, in memory.

=================== =================================================
sectors             content
=================== =================================================
0, 6                boot sector and its copy
1, 7                FSInfo and its copy
2, 8                the boot code's last sector, only its signature
32 ..               first file allocation table, then the second
behind them         clusters, numbered from 2; the root directory first
=================== =================================================

Names are upper-case 8.3 names, all that a boot medium needs. All times are those given.

Source: Microsoft, "FAT32 File System Specification" 1.03; UEFI 2.10, 13.3.
"""

from __future__ import annotations

import datetime
import re
import struct
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from ..errors import UsageError

SECTOR_BYTES = 512
CLUSTER_BYTES = 1024
RESERVED_SECTORS = 32
FIRST_CLUSTER = 2
MIN_CLUSTERS = 65536
"""With fewer than 65525 clusters a reader takes the file system for FAT16 (specification, "FAT Type Determination")."""

_END = 0x0FFFFFFF
_DIRECTORY = 0x10
_ARCHIVE = 0x20
_NAME = re.compile(r"[A-Z0-9_-]{1,8}(\.[A-Z0-9_-]{1,3})?")
_EARLIEST = datetime.datetime(1980, 1, 1, tzinfo=datetime.UTC)


@dataclass(slots=True)
class _Node:
    """A directory while the file system is laid out."""

    children: dict[str, _Node | bytes] = field(default_factory=dict)
    cluster: int = 0


def fat32_image(files: Mapping[str, bytes], *, volume_id: int, time_s: int, label: str = "VOUCH") -> bytes:
    """Return a FAT32 file system that holds ``files``.

    Args:
        files: Path such as ``EFI/BOOT/BOOTX64.EFI`` to content.
        volume_id: 32-bit serial number.
        time_s: Time of everything in it, seconds since 1970; before 1980 counts as 1980.
        label: Volume label, at most 11 characters.

    Raises:
        UsageError: a name that is no upper-case 8.3 name (``fat.name``), or no files (``fat.empty``).
    """
    if not files:
        raise UsageError("a file system without files", code="fat.empty")
    root = _tree(files)
    chains: list[tuple[int, bytes]] = []
    used = _layout(root, parent=0, stamp=_stamp(time_s), label=label, chains=chains)
    clusters = max(used, MIN_CLUSTERS)
    fat_sectors = -(-(clusters + FIRST_CLUSTER) * 4 // SECTOR_BYTES)
    per_cluster = CLUSTER_BYTES // SECTOR_BYTES
    total_sectors = RESERVED_SECTORS + 2 * fat_sectors + clusters * per_cluster
    boot = _boot_sector(total_sectors, fat_sectors, volume_id, label)
    reserved = bytearray(RESERVED_SECTORS * SECTOR_BYTES)
    info = _info_sector(free=clusters - used, following=FIRST_CLUSTER + used)
    blank = bytes(510) + b"\x55\xaa"
    for sector, content in ((0, boot), (1, info), (2, blank), (6, boot), (7, info), (8, blank)):
        reserved[sector * SECTOR_BYTES : (sector + 1) * SECTOR_BYTES] = content
    table = _allocation_table(chains, fat_sectors)
    data = bytearray(clusters * CLUSTER_BYTES)
    for cluster, content in chains:
        start = (cluster - FIRST_CLUSTER) * CLUSTER_BYTES
        data[start : start + len(content)] = content
    return bytes(reserved) + table + table + bytes(data)


def _tree(files: Mapping[str, bytes]) -> _Node:
    root = _Node()
    for path, content in sorted(files.items()):
        node = root
        parts = path.split("/")
        for part in parts:
            if not _NAME.fullmatch(part):
                raise UsageError(f"{part!r} is no upper-case 8.3 name", code="fat.name")
        for part in parts[:-1]:
            child = node.children.setdefault(part, _Node())
            if not isinstance(child, _Node):
                raise UsageError(f"{part} is a file and a directory", code="fat.name")
            node = child
        if parts[-1] in node.children:
            raise UsageError(f"{path} is a file and a directory", code="fat.name")
        node.children[parts[-1]] = content
    return root


def _layout(
    node: _Node,
    *,
    parent: int,
    stamp: bytes,
    label: str,
    chains: list[tuple[int, bytes]],
    following: int = FIRST_CLUSTER,
) -> int:
    """Give clusters to ``node`` and all below it; return how many are used so far."""
    is_root = following == FIRST_CLUSTER
    node.cluster = following
    count = len(node.children) + (1 if is_root else 2)
    following += _clusters(count * 32)
    entries = [_entry(label.ljust(11), 0x08, 0, 0, stamp)] if is_root else []
    if not is_root:
        entries += [
            _entry(".".ljust(11), _DIRECTORY, node.cluster, 0, stamp),
            # The root counts as cluster 0 here, whatever its number is.
            _entry("..".ljust(11), _DIRECTORY, 0 if parent == FIRST_CLUSTER else parent, 0, stamp),
        ]
    for name, child in sorted(node.children.items()):
        if isinstance(child, _Node):
            first = following
            used = _layout(child, parent=node.cluster, stamp=stamp, label=label, chains=chains, following=following)
            following = FIRST_CLUSTER + used
            entries.append(_entry(_short(name), _DIRECTORY, first, 0, stamp))
        else:
            entries.append(_entry(_short(name), _ARCHIVE, following if child else 0, len(child), stamp))
            if child:
                chains.append((following, child))
                following += _clusters(len(child))
    chains.append((node.cluster, b"".join(entries)))
    return following - FIRST_CLUSTER


def _clusters(size: int) -> int:
    return max(1, -(-size // CLUSTER_BYTES))


def _short(name: str) -> str:
    stem, _, extension = name.partition(".")
    return stem.ljust(8) + extension.ljust(3)


def _entry(name: str, attributes: int, cluster: int, size: int, stamp: bytes) -> bytes:
    time, date = stamp[:2], stamp[2:]
    head = name.encode("ascii") + bytes([attributes, 0, 0]) + time + date + date
    return head + struct.pack("<H", cluster >> 16) + time + date + struct.pack("<HI", cluster & 0xFFFF, size)


def _stamp(time_s: int) -> bytes:
    moment = max(datetime.datetime.fromtimestamp(time_s, datetime.UTC), _EARLIEST)
    time = moment.hour << 11 | moment.minute << 5 | moment.second // 2
    date = (moment.year - 1980) << 9 | moment.month << 5 | moment.day
    return struct.pack("<HH", time, date)


def _allocation_table(chains: list[tuple[int, bytes]], sectors: int) -> bytes:
    table = [0x0FFFFFF8, _END]
    for first, last in sorted(_runs(chains)):
        table.extend(range(first + 1, last + 1))
        table.append(_END)
    raw = struct.pack(f"<{len(table)}I", *table)
    return raw.ljust(sectors * SECTOR_BYTES, b"\0")


def _runs(chains: list[tuple[int, bytes]]) -> Iterator[tuple[int, int]]:
    for cluster, content in chains:
        yield cluster, cluster + _clusters(len(content)) - 1


def _boot_sector(total_sectors: int, fat_sectors: int, volume_id: int, label: str) -> bytes:
    head = b"\xeb\x58\x90" + b"VOUCH   "
    head += struct.pack(
        "<HBHBHHBHHHII",
        SECTOR_BYTES,
        CLUSTER_BYTES // SECTOR_BYTES,
        RESERVED_SECTORS,
        2,
        0,
        0,
        0xF8,
        0,
        32,
        64,
        0,
        total_sectors,
    )
    head += struct.pack("<IHHIHH12x", fat_sectors, 0, 0, FIRST_CLUSTER, 1, 6)
    head += struct.pack("<BBBI", 0x80, 0, 0x29, volume_id) + label.ljust(11).encode("ascii") + b"FAT32   "
    return head.ljust(510, b"\0") + b"\x55\xaa"


def _info_sector(*, free: int, following: int) -> bytes:
    return struct.pack("<I480xIII12xI", 0x41615252, 0x61417272, free, following, 0xAA550000)
