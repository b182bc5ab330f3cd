# SPDX-License-Identifier: GPL-3.0-or-later
"""A machine in memory: a disk of plain files and folders, and UEFI variables in a dict."""

from __future__ import annotations

import contextlib
import pathlib
import uuid
from collections.abc import Iterator
from dataclasses import replace

from ansible.module_utils.vouch.model.disktable import DiskTable
from ansible.module_utils.vouch.port.disk import DiskReport, FileSystem

GIB = 1 << 30


class PowerCut(BaseException):
    """The machine lost power: no handler of ours runs to repair anything."""


class SimDisk:
    """``TargetDisk`` over a folder; ``cut_after`` makes the n-th write lose power."""

    def __init__(self, folder: pathlib.Path, *, size_bytes: int = 3 * GIB) -> None:
        self.folder = folder
        self.size_bytes = size_bytes
        self.table: DiskTable | None = None
        self.signatures: tuple[str, ...] = ()
        self.mounts: tuple[str, ...] = ()
        self.file_systems: dict[int, FileSystem] = {}
        self.writes: list[str] = []
        self.cut_after: int | None = None

    def write(self, what: str) -> None:
        """Count one write; lose power when it is the last one allowed."""
        if self.cut_after is not None and len(self.writes) >= self.cut_after:
            raise PowerCut(what)
        self.writes.append(what)

    def head(self, number: int, count: int) -> bytes:
        """Return the first bytes of a partition."""
        with self.partition(number).open("rb") as stream:
            return stream.read(count)

    def report(self) -> DiskReport:
        return DiskReport(
            path="/dev/disk/by-id/virtio-sim",
            device="/dev/vda",
            size_bytes=self.size_bytes,
            sector_bytes=512,
            table=self.table,
            signatures=self.signatures or (("gpt",) if self.table else ()),
            mounted=self.mounts,
        )

    def write_table(self, table: DiskTable) -> None:
        self.write("table")
        self.table = table
        self.signatures = ()
        self.file_systems = {}
        for entry in table.partitions:
            path = self.folder / f"p{entry.number}"
            path.write_bytes(b"")
            with path.open("r+b") as stream:
                stream.truncate(entry.size * 512)

    def set_partition_guid(self, number: int, guid: uuid.UUID) -> None:
        self.write("guid")
        assert self.table is not None
        entries = tuple(replace(p, guid=guid) if p.number == number else p for p in self.table.partitions)
        self.table = replace(self.table, partitions=entries)

    def partition(self, number: int) -> pathlib.Path:
        return self.folder / f"p{number}"

    def file_system(self, number: int) -> FileSystem | None:
        return self.file_systems.get(number)

    def make_file_system(self, number: int, wanted: FileSystem) -> None:
        self.write(f"mkfs {number}")
        self.file_systems[number] = wanted
        (self.folder / f"fs{number}").mkdir(exist_ok=True)

    @contextlib.contextmanager
    def mounted(self, number: int, *, writable: bool) -> Iterator[pathlib.Path]:
        if writable:
            self.write(f"mount {number}")
        yield self.folder / f"fs{number}"


class SimEfi:
    """``EfiVariables`` in a dict, attached to the disk's power."""

    def __init__(self, disk: SimDisk) -> None:
        self.disk = disk
        self.variables: dict[str, bytes] = {
            "Boot0000": b"\x01\0\0\0\x04\0U\0i\0\0\0\x7f\xff\x04\0",
            "BootOrder": b"\0\0",
        }

    def read(self, name: str) -> bytes | None:
        return self.variables.get(name)

    def boot_entries(self) -> dict[int, bytes]:
        names = (n for n in self.variables if n.startswith("Boot") and n != "BootOrder")
        return {int(name[4:], 16): self.variables[name] for name in names}

    def write(self, name: str, value: bytes, attributes: int) -> None:
        assert attributes == 7
        self.disk.write(name)
        self.variables[name] = value
