# SPDX-License-Identifier: GPL-3.0-or-later
"""The running host's own disk, for updates: the slot that does not run, two files of the ESP, the next boot.

The slot that runs is held by device mapper, so opening the other one exclusively is a second proof that it is the other
one. The EFI system partition is mounted by a unit of the image for as long as it is needed, and mounted anew before
anything is read back from it. Everything here is done again after a power cut; nothing here decides what is written.

Source: Linux ABI/stable/sysfs-block; uevent members PARTNAME and PARTN (block/partitions/core.c); renameat2(2),
RENAME_EXCHANGE (on vfat since Linux 6.0); UEFI 2.10, 3.3 (BootNext).
"""

from __future__ import annotations

import contextlib
import ctypes
import hashlib
import os
import pathlib
import struct
from collections.abc import Callable, Iterator, Sequence
from typing import Protocol

from ..errors import UnreachableError
from ..model.update import CURRENT_EFI, NEXT_EFI, NEXT_ENTRY, SLOTS
from .efi import EFIVARFS, EfivarFs
from .tool import run_tool

CHUNK_BYTES = 1 << 20
ESP_FOLDER = "/run/vouch/esp"
ESP_UNIT = "vouch-esp.service"
ESP_RESERVE_BYTES = 1 << 20
SYSTEMCTL = "/usr/bin/systemctl"
LIMIT_S = 120.0

_ATTRIBUTES = 0x7
"""NON_VOLATILE | BOOTSERVICE_ACCESS | RUNTIME_ACCESS."""

_HARD_DRIVE_BYTES = 42
"""Length of a Media/Hard Drive node (UEFI 2.10, 10.3.5.1)."""

_AT_FDCWD, _RENAME_EXCHANGE = -100, 2


class HostSlots(Protocol):
    """What an update does to the machine it runs on; ``Dom0Slots`` is the real form.

    Raises:
        UnreachableError: by all of it: ``update.disk``, ``update.esp``, ``update.boot-entry``, and what the tools and
            ``port.efi`` raise.
    """

    def inactive(self) -> tuple[str, int]:
        """Return the slot that does not run, and its size."""
        ...

    def root_digest(self, size_bytes: int) -> bytes | None:
        """Return SHA-256 of the beginning of the inactive slot, as the medium has it; None when it is shorter."""
        ...

    def write_root(self, source: str) -> None:
        """Copy a file to the beginning of the inactive slot; on the medium when this returns."""
        ...

    def esp_digests(self) -> tuple[bytes | None, bytes | None]:
        """Return SHA-256 of what starts now and of what waits, as the medium has them; None where there is no file."""
        ...

    def write_next(self, source: str) -> None:
        """Copy a file to what waits; on the medium when this returns."""
        ...

    def exchange(self) -> None:
        """Let what waits start from now on, and keep what started; on the medium when this returns."""
        ...

    def boot_next(self) -> None:
        """Have the firmware start what waits, once."""
        ...

    def restart(self) -> None:
        """Begin to restart the machine in an orderly way, and return."""
        ...


class Dom0Slots:
    """The disk that dom0's verified root is on.

    Args:
        sysfs: Where sysfs is mounted.
        dev: Where device nodes are.
        root: A path on the verified root file system.
        esp: Where ``ESP_UNIT`` mounts the EFI system partition.
        efivars: Where efivarfs is mounted while ``ESP_UNIT`` runs.
        run: The door to programs.
    """

    __slots__ = ("_dev", "_efivars", "_esp", "_root", "_run", "_sysfs")

    def __init__(
        self,
        *,
        sysfs: str = "/sys",
        dev: str = "/dev",
        root: str = "/",
        esp: str = ESP_FOLDER,
        efivars: pathlib.Path = EFIVARFS,
        run: Callable[[Sequence[str]], object] = lambda argv: run_tool(argv, timeout_s=LIMIT_S),
    ) -> None:
        self._sysfs, self._dev, self._root = sysfs, dev, root
        self._esp, self._efivars, self._run = esp, efivars, run

    def inactive(self) -> tuple[str, int]:
        """Return the slot that does not run, and its size."""
        slot, device = self._inactive()
        with self._disk_errors(device):
            fd = os.open(device, os.O_RDONLY | os.O_CLOEXEC)
            try:
                return slot, os.lseek(fd, 0, os.SEEK_END)
            finally:
                os.close(fd)

    def root_digest(self, size_bytes: int) -> bytes | None:
        """Return SHA-256 of the beginning of the inactive slot, as the medium has it."""
        _, device = self._inactive()
        with self._disk_errors(device), open(device, "rb", buffering=0) as stream:
            # Else memory answers, which holds what was written and not what arrived.
            os.posix_fadvise(stream.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
            state, left = hashlib.sha256(), size_bytes
            while left and (chunk := stream.read(min(CHUNK_BYTES, left))):
                state.update(chunk)
                left -= len(chunk)
            return None if left else state.digest()

    def write_root(self, source: str) -> None:
        """Copy a file to the beginning of the inactive slot."""
        _, device = self._inactive()
        with self._disk_errors(device):
            # O_EXCL: of a block device, not while a file system or device mapper holds it (open(2)).
            fd = os.open(device, os.O_WRONLY | os.O_EXCL | os.O_CLOEXEC)
            try:
                _copy(source, fd)
            finally:
                os.close(fd)

    def esp_digests(self) -> tuple[bytes | None, bytes | None]:
        """Return SHA-256 of what starts now and of what waits, as the medium has them."""
        with self._mounted():
            return self._file_digest(CURRENT_EFI), self._file_digest(NEXT_EFI)

    def write_next(self, source: str) -> None:
        """Copy a file to what waits."""
        path = os.path.join(self._esp, NEXT_EFI)
        with self._mounted(), self._disk_errors(path):
            before = os.stat(path).st_size if os.path.exists(path) else 0
            room = os.statvfs(os.path.dirname(path))
            needed = os.stat(source).st_size + ESP_RESERVE_BYTES
            if room.f_bavail * room.f_frsize + before < needed:
                raise UnreachableError(
                    f"the EFI system partition has no room for {needed} bytes",
                    code="update.esp",
                    hint="Remove files that are not ours from it.",
                )
            fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
            try:
                _copy(source, fd)
            finally:
                os.close(fd)

    def exchange(self) -> None:
        """Let what waits start from now on, and keep what started."""
        current, waiting = (os.path.join(self._esp, name) for name in (CURRENT_EFI, NEXT_EFI))
        with self._mounted(), self._disk_errors(current):
            # Both directory entries lie in one sector of the folder, and no cluster is freed: a power cut leaves the
            # old pair or the new one (ADR 8).
            libc = ctypes.CDLL(None, use_errno=True)
            names = (os.fsencode(waiting), os.fsencode(current))
            if libc.renameat2(_AT_FDCWD, names[0], _AT_FDCWD, names[1], _RENAME_EXCHANGE) != 0:
                raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
            fd = os.open(os.path.dirname(current), os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            try:
                os.fsync(fd)
            finally:
                os.close(fd)

    def boot_next(self) -> None:
        """Have the firmware start what waits, once."""
        with self._mounted():
            efi = EfivarFs(self._efivars)
            found = [number for number, value in sorted(efi.boot_entries().items()) if _starts_next(value)]
            if not found:
                raise UnreachableError(
                    f"the firmware has no boot entry {NEXT_ENTRY!r} that starts {NEXT_EFI}",
                    code="update.boot-entry",
                    hint="The firmware removed or changed it: install the host again.",
                )
            efi.write("BootNext", struct.pack("<H", found[0]), _ATTRIBUTES)

    def restart(self) -> None:
        """Begin to restart the machine in an orderly way."""
        self._run([SYSTEMCTL, "start", "--no-block", "--job-mode=replace-irreversibly", "reboot.target"])

    def _inactive(self) -> tuple[str, str]:
        """Return the slot that does not run and its device."""
        partitions = self._partitions()
        number = os.stat(self._root).st_dev
        held = f"{self._sysfs}/dev/block/{os.major(number)}:{os.minor(number)}/slaves"
        try:
            running = {partitions.get(name, "") for name in os.listdir(held)}
        except OSError as error:
            raise _disk(held, error.strerror or "") from None
        for slot, other in (SLOTS, SLOTS[::-1]):
            if running == {f"vouch-{slot}"}:
                names = [name for name, label in partitions.items() if label == f"vouch-{other}"]
                if len(names) == 1:
                    return other, os.path.join(self._dev, names[0])
        raise _disk(held, f"the root is on {sorted(running)}, and {len(partitions)} partitions are beside it")

    def _partitions(self) -> dict[str, str]:
        """Return the partitions of the disk that the root is on, device to name in the table."""
        number = os.stat(self._root).st_dev
        held = f"{self._sysfs}/dev/block/{os.major(number)}:{os.minor(number)}/slaves"
        found = {}
        try:
            for name in os.listdir(held):
                disk = os.path.dirname(os.path.realpath(os.path.join(held, name)))
                for entry in os.listdir(disk):
                    path = os.path.join(disk, entry, "uevent")
                    if os.path.exists(path):
                        found[entry] = _partition_name(path)
        except OSError as error:
            raise _disk(held, error.strerror or "") from None
        return {name: label for name, label in found.items() if label}

    def _file_digest(self, name: str) -> bytes | None:
        path = os.path.join(self._esp, name)
        with self._disk_errors(path):
            try:
                with open(path, "rb") as stream:
                    return hashlib.file_digest(stream, "sha256").digest()
            except FileNotFoundError:
                return None

    @contextlib.contextmanager
    def _mounted(self) -> Iterator[None]:
        """Have the EFI system partition mounted, freshly, for the length of a block."""
        self._run([SYSTEMCTL, "restart", ESP_UNIT])
        try:
            yield
        finally:
            self._run([SYSTEMCTL, "stop", ESP_UNIT])

    @staticmethod
    @contextlib.contextmanager
    def _disk_errors(path: str) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise _disk(path, error.strerror or str(error)) from None


def _copy(source: str, fd: int) -> None:
    """Write a whole file and wait until it is on the medium."""
    with open(source, "rb", buffering=0) as stream:
        while chunk := stream.read(CHUNK_BYTES):
            view = memoryview(chunk)
            while view:
                view = view[os.write(fd, view) :]
    os.fsync(fd)


def _starts_next(value: bytes) -> bool:
    """Say whether an EFI_LOAD_OPTION is the installer's for what waits (UEFI 2.10, 3.1.3 and 10.3).

    One partition, one file, nothing behind it: Xen would obey words there, and no register would show them.
    """
    name = f"{NEXT_ENTRY}\0".encode("utf-16-le")
    path = ("\\" + NEXT_EFI.replace("/", "\\") + "\0").encode("utf-16-le")
    paths = value[6 + len(name) :]
    return (
        value[6:].startswith(name)
        and int.from_bytes(value[4:6], "little") == len(paths)
        and len(paths) == _HARD_DRIVE_BYTES + 4 + len(path) + 4
        and paths.startswith(b"\x04\x01" + struct.pack("<H", _HARD_DRIVE_BYTES))
        and paths[_HARD_DRIVE_BYTES:] == b"\x04\x04" + struct.pack("<H", 4 + len(path)) + path + b"\x7f\xff\x04\0"
    )


def _partition_name(path: str) -> str:
    with open(path, encoding="ascii", errors="replace") as stream:
        lines = stream.read(4096).splitlines()
    return next((line.removeprefix("PARTNAME=") for line in lines if line.startswith("PARTNAME=")), "")


def _disk(path: str, problem: str) -> UnreachableError:
    return UnreachableError(f"{path}: {problem}", code="update.disk")
