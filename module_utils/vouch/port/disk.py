# SPDX-License-Identifier: GPL-3.0-or-later
"""One disk of this machine: what is on it, its table, its partitions, its file systems.

Everything goes through util-linux, dosfstools and e2fsprogs; nothing here decides what should be on the disk.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import os
import pathlib
import stat
import tempfile
import time
import uuid
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Protocol

from ..errors import UnreachableError
from ..model.disktable import DiskTable, sfdisk_script, table_from_sfdisk
from .command import CommandResult, Runner, run

CHUNK_BYTES = 1 << 20
NODE_WAIT_S = 15.0
"""How long a partition's device node may take after the table was written."""

_BLKID_NOTHING = 2
_BLKID_AMBIVALENT = 8
_FSCK_MENDED = 1

# Without "noload" a read-only mount replays the journal, which is a write.
_READ_ONLY = {"ext4": "ro,noload"}


@dataclass(frozen=True, slots=True, kw_only=True)
class FileSystem:
    """A file system as blkid names it: ``vfat`` or ``ext4``, label, UUID (vfat: ``ABCD-1234``)."""

    kind: str
    label: str
    uuid: str


@dataclass(frozen=True, slots=True, kw_only=True)
class DiskReport:
    """What was seen: a disk, its size, its table (None: no GPT), what is on it, who uses it."""

    path: str
    device: str
    size_bytes: int
    sector_bytes: int
    table: DiskTable | None
    signatures: tuple[str, ...]
    mounted: tuple[str, ...]


class TargetDisk(Protocol):
    """A disk to install on."""

    def report(self) -> DiskReport:
        """Look at the disk."""
        ...

    def write_table(self, table: DiskTable) -> None:
        """Replace the partition table; what was on the disk before is lost."""
        ...

    def set_partition_guid(self, number: int, guid: uuid.UUID) -> None:
        """Change one partition's GUID, nothing else."""
        ...

    def partition(self, number: int) -> pathlib.Path:
        """Return the file to read and write a partition's bytes."""
        ...

    def file_system(self, number: int) -> FileSystem | None:
        """Return the file system on a partition, or None."""
        ...

    def make_file_system(self, number: int, wanted: FileSystem) -> None:
        """Make an empty file system."""
        ...

    def mounted(self, number: int, *, writable: bool) -> contextlib.AbstractContextManager[pathlib.Path]:
        """Mount a partition for the length of a block; on leaving everything is on the disk."""
        ...


class BlockDisk:
    """A real disk, given by a stable name.

    Args:
        path: ``/dev/disk/by-id/...``; the stable name is what the operator approved.
        runner: The door to other programs.
        sysfs: Where sysfs is mounted.

    Raises:
        UnreachableError: ``disk.missing`` or ``disk.not-a-disk``.
    """

    def __init__(self, path: str, *, runner: Runner = run, sysfs: pathlib.Path = pathlib.Path("/sys")) -> None:
        self._path = path
        self._run = runner
        self._sysfs = sysfs
        self._device = os.path.realpath(path)
        try:
            mode = os.stat(self._device).st_mode
        except OSError:
            raise UnreachableError(
                f"disk {path} does not exist; this machine has {', '.join(stable_names()) or 'no disk at all'}",
                code="disk.missing",
                hint="Set measured_host_disk to one of these names.",
            ) from None
        self._name = os.path.basename(self._device)
        if not stat.S_ISBLK(mode) or (self._block() / "partition").exists():
            raise UnreachableError(
                f"{path} is not a whole disk", code="disk.not-a-disk", hint="Give the disk, not a partition or a file."
            )

    @contextlib.contextmanager
    def locked(self) -> Iterator[BlockDisk]:
        """Keep the device manager away from the disk for the length of a block.

        udev reads the partition table again whenever a writer closes the disk, and for that moment the partitions are
        gone. It leaves a disk alone that somebody holds a lock on.

        Raises:
            UnreachableError: ``disk.in-use`` when another program keeps its lock.

        Source: systemd.io/BLOCK_DEVICE_LOCKING.
        """
        fd = os.open(self._device, os.O_RDONLY | os.O_CLOEXEC)
        try:
            deadline = time.monotonic() + NODE_WAIT_S
            while True:
                try:
                    fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    break
                except BlockingIOError:
                    if time.monotonic() > deadline:
                        raise UnreachableError(
                            f"disk {self._path} is locked by another program",
                            code="disk.in-use",
                            hint="Another installation runs, or a partitioning tool is open; end it.",
                        ) from None
                    time.sleep(0.1)
            yield self
        finally:
            os.close(fd)

    def report(self) -> DiskReport:
        """Look at the disk; nothing is written."""
        size = int(self._attribute("size")) * 512
        partitions = self._partitions()
        signatures = [*self._signatures(self._device, "")]
        for number, name in partitions:
            signatures += self._signatures(f"/dev/{name}", f" on partition {number}")
        return DiskReport(
            path=self._path,
            device=self._device,
            size_bytes=size,
            sector_bytes=int(self._attribute("queue/logical_block_size")),
            table=self._table(),
            signatures=tuple(signatures),
            mounted=tuple(self._users([self._name, *(name for _, name in partitions)])),
        )

    def write_table(self, table: DiskTable) -> None:
        """Replace the partition table and every signature it buries."""
        argv = ["sfdisk", "--quiet", "--lock=no", "--wipe=always", "--wipe-partitions=always", self._device]
        self._run(argv, stdin=sfdisk_script(table).encode(), timeout_s=60)
        self._wait_for_nodes(table)

    def set_partition_guid(self, number: int, guid: uuid.UUID) -> None:
        """Change one partition's GUID, nothing else; the kernel is not told, since nothing moves."""
        argv = ["sfdisk", "--quiet", "--lock=no", "--no-reread", "--no-tell-kernel"]
        self._run([*argv, "--part-uuid", self._device, str(number), str(guid)], timeout_s=60)
        _sync(self._device)

    def partition(self, number: int) -> pathlib.Path:
        """Return the device node of partition ``number``.

        Raises:
            UnreachableError: ``disk.partition.missing``.
        """
        for found, name in self._partitions():
            if found == number:
                return pathlib.Path("/dev", name)
        raise UnreachableError(f"disk {self._path} has no partition {number}", code="disk.partition.missing")

    def file_system(self, number: int) -> FileSystem | None:
        """Return the file system on a partition, or None."""
        values = self._probe(str(self.partition(number)))
        if "TYPE" not in values:
            return None
        return FileSystem(kind=values["TYPE"], label=values.get("LABEL", ""), uuid=values.get("UUID", ""))

    def make_file_system(self, number: int, wanted: FileSystem) -> None:
        """Make an empty file system of kind ``vfat`` or ``ext4``."""
        device = str(self.partition(number))
        if wanted.kind == "vfat":
            argv = ["mkfs.vfat", "-F", "32", "-n", wanted.label, "-i", wanted.uuid.replace("-", ""), device]
        else:
            argv = ["mkfs.ext4", "-q", "-F", "-m", "0", "-E", "lazy_itable_init=1,lazy_journal_init=1"]
            argv += ["-L", wanted.label, "-U", wanted.uuid, device]
        self._run(argv, timeout_s=300)
        _sync(device)

    @contextlib.contextmanager
    def mounted(self, number: int, *, writable: bool) -> Iterator[pathlib.Path]:
        """Mount a partition for the length of a block; on leaving everything is on the disk."""
        device = str(self.partition(number))
        kind = self.file_system(number)
        if kind is None:
            raise UnreachableError(
                f"partition {number} of {self._path} has no file system", code="disk.filesystem.missing"
            )
        folder = tempfile.mkdtemp(prefix="vouch-")
        options = "nosuid,nodev,noexec," + ("rw" if writable else _READ_ONLY.get(kind.kind, "ro"))
        if kind.kind == "vfat":
            options += ",fmask=0177,dmask=0077"
            if writable:
                # FAT has no journal: mend what a power cut left, or the kernel may turn the mount read-only midway.
                self._run(["fsck.vfat", "-a", device], timeout_s=120, ok=(0, _FSCK_MENDED))
        try:
            self._run(["mount", "-t", kind.kind, "-o", options, device, folder], timeout_s=60)
            try:
                yield pathlib.Path(folder)
            finally:
                self._run(["umount", folder], timeout_s=120)
        finally:
            os.rmdir(folder)

    def _block(self) -> pathlib.Path:
        return self._sysfs / "class/block" / self._name

    def _attribute(self, name: str) -> str:
        return (self._block() / name).read_text().strip()

    def _partitions(self) -> list[tuple[int, str]]:
        found = []
        for entry in self._block().iterdir():
            with contextlib.suppress(OSError, ValueError):
                found.append((int((entry / "partition").read_text()), entry.name))
        return sorted(found)

    def _table(self) -> DiskTable | None:
        result = self._run(["sfdisk", "--json", self._device], timeout_s=60, ok=(0, 1))
        if result.returncode:
            return None
        return table_from_sfdisk(json.loads(result.stdout))

    def _signatures(self, device: str, where: str) -> Iterator[str]:
        values = self._probe(device)
        for key in ("PTTYPE", "TYPE"):
            # A partition's own PTTYPE is a table inside it; the entry's type is of no interest here.
            if key in values:
                label = values.get("LABEL", "")
                yield f"{values[key]}{f' {label!r}' if label and key == 'TYPE' else ''}{where}"
        if not where and "AMBIVALENT" in values:
            yield "several signatures that contradict each other"

    def _probe(self, device: str) -> dict[str, str]:
        ok = (0, _BLKID_NOTHING, _BLKID_AMBIVALENT)
        result: CommandResult = self._run(["blkid", "-p", "-o", "export", device], timeout_s=60, ok=ok)
        if result.returncode == _BLKID_AMBIVALENT:
            return {"AMBIVALENT": "1"}
        lines = (line.partition("=") for line in result.text.splitlines())
        return {key: value.replace("\\ ", " ") for key, _, value in lines if key and key != "DEVNAME"}

    def _users(self, names: Iterable[str]) -> Iterator[str]:
        """Yield mount points, swap and device-mapper holders of the named block devices."""
        numbers: dict[str, str] = {}
        for name in names:
            base = self._sysfs / "class/block" / name
            numbers[(base / "dev").read_text().strip()] = name
            holders = base / "holders"
            if holders.is_dir():
                yield from (f"{name} held by {entry.name}" for entry in sorted(holders.iterdir()))
        for line in pathlib.Path("/proc/self/mountinfo").read_text().splitlines():
            fields = line.split(" ")
            if fields[2] in numbers:
                yield f"{numbers[fields[2]]} mounted on {fields[4]}"
        swaps = pathlib.Path("/proc/swaps")
        for line in swaps.read_text().splitlines()[1:] if swaps.exists() else []:
            name = os.path.basename(line.split()[0])
            if name in numbers.values():
                yield f"{name} used as swap"

    def _wait_for_nodes(self, table: DiskTable) -> None:
        """Wait until kernel and device manager show every partition at its place."""
        wanted = {(p.number, p.start * table.sector_bytes // 512) for p in table.partitions}
        deadline = time.monotonic() + NODE_WAIT_S
        while True:
            seen = set()
            for number, name in self._partitions():
                with contextlib.suppress(OSError, ValueError):
                    start = int((self._sysfs / "class/block" / name / "start").read_text())
                    if stat.S_ISBLK(os.stat(f"/dev/{name}").st_mode):
                        seen.add((number, start))
            if seen == wanted:
                return
            if time.monotonic() > deadline:
                raise UnreachableError(
                    f"the kernel does not show the new partitions of {self._path}",
                    code="disk.table.busy",
                    hint="Something holds the disk open; reboot the installer and run again.",
                )
            time.sleep(0.1)


def stable_names(folder: pathlib.Path = pathlib.Path("/dev/disk/by-id")) -> list[str]:
    """Return the stable names of the whole disks of this machine."""
    try:
        names = sorted(entry.name for entry in folder.iterdir())
    except OSError:
        return []
    return [str(folder / name) for name in names if "-part" not in name]


def digest_of(path: pathlib.Path, size_bytes: int, *, uncached: bool = False) -> bytes | None:
    """Return the SHA-256 of the first ``size_bytes`` of a file or device; None when it is shorter.

    Args:
        path: A regular file or a block device.
        size_bytes: How much to read.
        uncached: Drop the kernel's cache first, so that the disk answers and not the memory.
    """
    state = hashlib.sha256()
    left = size_bytes
    with open(path, "rb", buffering=0) as stream:
        if uncached:
            os.posix_fadvise(stream.fileno(), 0, size_bytes, os.POSIX_FADV_DONTNEED)
        while left:
            chunk = stream.read(min(CHUNK_BYTES, left))
            if not chunk:
                return None
            state.update(chunk)
            left -= len(chunk)
    return state.digest()


def write_prefix(path: pathlib.Path, chunks: Iterable[bytes], *, limit_bytes: int) -> int:
    """Write ``chunks`` to the beginning of a device or file and wait until they are on the medium.

    Returns:
        How many bytes were written.

    Raises:
        UnreachableError: ``disk.too-small`` past ``limit_bytes``, ``disk.write`` when the medium refuses.
    """
    total = 0
    try:
        with open(path, "r+b", buffering=0) as stream:
            for chunk in chunks:
                total += len(chunk)
                if total > limit_bytes:
                    raise UnreachableError(
                        f"the image is larger than the {limit_bytes} bytes of {path}", code="disk.too-small"
                    )
                view = memoryview(chunk)
                while view:
                    view = view[stream.write(view) or 0 :]
            os.fsync(stream.fileno())
    except OSError as error:
        raise UnreachableError(f"{path} cannot be written: {error.strerror}", code="disk.write") from None
    return total


def erase_head(path: pathlib.Path) -> None:
    """Overwrite the first mebibyte with zeros: nothing that was there is recognised any more."""
    write_prefix(path, [bytes(CHUNK_BYTES)], limit_bytes=CHUNK_BYTES)


def _sync(device: str) -> None:
    fd = os.open(device, os.O_RDONLY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
