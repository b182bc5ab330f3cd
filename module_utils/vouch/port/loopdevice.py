# SPDX-License-Identifier: GPL-3.0-or-later
"""A file as a read-only block device that goes away by itself.

``LO_FLAGS_AUTOCLEAR`` lets the kernel detach the device when its last user closes it: first we have it open, then Xen's
block back end has, for as long as the domain lives. So no crash of ours leaves one behind.

Source: Linux 6.12, include/uapi/linux/loop.h (struct loop_config 304 bytes, struct loop_info64 232 bytes), loop(4).
"""

from __future__ import annotations

import errno
import fcntl
import os
import struct

from ..errors import UnreachableError

CONTROL = "/dev/loop-control"
MAX_ATTEMPTS = 16
"""Somebody else may take the number that was free."""

_CTL_GET_FREE, _CONFIGURE = 0x4C82, 0x4C0A
_READ_ONLY, _AUTOCLEAR = 1, 4
_FLAGS_OFFSET, _NAME_OFFSET, _NAME_BYTES, _CONFIG_BYTES = 60, 64, 64, 304
"""Of lo_flags and lo_file_name in struct loop_config, whose first eight bytes are fd and block_size."""


class LoopDevice:
    """An attached device; ``close`` lets go of it.

    Attributes:
        path: Of its node.
    """

    __slots__ = ("_fd", "path")

    def __init__(self, path: str, fd: int) -> None:
        self.path = path
        self._fd = fd

    def close(self) -> None:
        """Return when it is no longer ours; it goes when nobody else has it open."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1


def attach(fd: int, name: str) -> LoopDevice:
    """Return a read-only loop device over an open file.

    Args:
        fd: The file; what is compared through it is what the device gives.
        name: What the kernel calls the backing file, for people.

    Raises:
        UnreachableError: ``loop.failed``.
    """
    config = bytearray(_CONFIG_BYTES)
    # fd and block_size; the size of a block is left to the kernel.
    struct.pack_into("=II", config, 0, fd, 0)
    struct.pack_into("=I", config, _FLAGS_OFFSET, _READ_ONLY | _AUTOCLEAR)
    short = name.encode("utf-8", "replace")[: _NAME_BYTES - 1]
    config[_NAME_OFFSET : _NAME_OFFSET + len(short)] = short
    try:
        control = os.open(CONTROL, os.O_RDWR | os.O_CLOEXEC)
        try:
            for _ in range(MAX_ATTEMPTS):
                path = f"/dev/loop{fcntl.ioctl(control, _CTL_GET_FREE)}"
                device = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
                try:
                    fcntl.ioctl(device, _CONFIGURE, bytes(config))
                except OSError as error:
                    os.close(device)
                    if error.errno != errno.EBUSY:
                        raise
                    continue
                return LoopDevice(path, device)
        finally:
            os.close(control)
    except OSError as error:
        raise UnreachableError(f"no loop device for {name}: {error.strerror}", code="loop.failed") from None
    raise UnreachableError(f"no loop device for {name}: others took {MAX_ATTEMPTS}", code="loop.failed")
