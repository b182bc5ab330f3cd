# SPDX-License-Identifier: GPL-3.0-or-later
"""UEFI variables through efivarfs.

A file ``<name>-<vendor guid>`` holds four bytes of attributes, then the value; a write is one ``write(2)`` of both, or
the kernel refuses it. Variables the kernel does not know as harmless carry the immutable flag.

Source: Linux Documentation/filesystems/efivarfs.rst; UEFI 2.10, 8.2.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import pathlib
import re
import struct
from typing import Protocol

from ..errors import UnreachableError
from .files import read_bounded

EFIVARFS = pathlib.Path("/sys/firmware/efi/efivars")
GLOBAL_GUID = "8be4df61-93ca-11d2-aa0d-00e098032b8c"
MAX_VARIABLE_BYTES = 1 << 20

_FS_IOC_GETFLAGS = 0x80086601
_FS_IOC_SETFLAGS = 0x40086602
_FS_IMMUTABLE_FL = 0x10
_BOOT = re.compile(rf"Boot([0-9A-F]{{4}})-{GLOBAL_GUID}\Z")


class EfiVariables(Protocol):
    """Global UEFI variables by name, values without their attributes."""

    def read(self, name: str) -> bytes | None:
        """Return the value, or None where there is no such variable."""
        ...

    def write(self, name: str, value: bytes, attributes: int) -> None:
        """Make or replace a variable."""
        ...

    def boot_entries(self) -> dict[int, bytes]:
        """Return every Boot#### by its number."""
        ...


class EfivarFs:
    """The variables of this machine.

    Args:
        root: Where efivarfs is mounted.

    Raises:
        UnreachableError: ``efi.absent`` when the machine did not start by UEFI, ``efi.variables.unmounted``.
    """

    def __init__(self, root: pathlib.Path = EFIVARFS) -> None:
        if not root.parent.is_dir():
            raise UnreachableError(
                "this machine was not started by UEFI firmware",
                code="efi.absent",
                hint="Switch the firmware from legacy or CSM boot to UEFI and boot the installer again.",
            )
        if not root.is_dir() or not any(root.iterdir()):
            raise UnreachableError(
                f"UEFI variables are not readable at {root}",
                code="efi.variables.unmounted",
                hint="Mount efivarfs there.",
            )
        self._root = root

    def read(self, name: str) -> bytes | None:
        """Return the value of the global variable ``name``, or None where there is none."""
        path = self._path(name)
        if not path.exists():
            return None
        return self._value(path)

    def boot_entries(self) -> dict[int, bytes]:
        """Return every Boot#### by its number."""
        found: dict[int, bytes] = {}
        for path in sorted(self._root.iterdir()):
            match = _BOOT.match(path.name)
            if match:
                found[int(match[1], 16)] = self._value(path)
        return found

    def write(self, name: str, value: bytes, attributes: int) -> None:
        """Make or replace the global variable ``name``, and read it back.

        Raises:
            UnreachableError: ``efi.variable.write``: read-only firmware, no room, or another value read back.
        """
        path = self._path(name)
        _clear_immutable(path)
        try:
            fd = os.open(path, os.O_WRONLY | os.O_CREAT, 0o644)
            try:
                os.write(fd, struct.pack("<I", attributes) + value)
            finally:
                os.close(fd)
        except OSError as error:
            raise UnreachableError(
                f"UEFI variable {name} cannot be written: {error.strerror}",
                code="efi.variable.write",
                hint="Free variable space in the firmware set-up, or allow the system to write boot entries there.",
            ) from None
        if self._value(path) != value:
            raise UnreachableError(f"the firmware kept another value of {name}", code="efi.variable.write")

    def _path(self, name: str) -> pathlib.Path:
        return self._root / f"{name}-{GLOBAL_GUID}"

    def _value(self, path: pathlib.Path) -> bytes:
        return read_bounded(path, limit_bytes=MAX_VARIABLE_BYTES)[4:]


def _clear_immutable(path: pathlib.Path) -> None:
    try:
        fd = os.open(path, os.O_RDONLY)
    except FileNotFoundError:
        return
    try:
        # Other file systems (tests) do not know the flag.
        with contextlib.suppress(OSError):
            flags = struct.unpack("i", fcntl.ioctl(fd, _FS_IOC_GETFLAGS, struct.pack("i", 0)))[0]
            if flags & _FS_IMMUTABLE_FL:
                fcntl.ioctl(fd, _FS_IOC_SETFLAGS, struct.pack("i", flags & ~_FS_IMMUTABLE_FL))
    finally:
        os.close(fd)
