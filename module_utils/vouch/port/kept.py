# SPDX-License-Identifier: GPL-3.0-or-later
"""What was compared with its digest once and is kept in memory, so that it need not be hashed again before each start.

The folder is on a tmpfs that nobody but root of this host writes, and whoever is root here is the VM verifier's own
trust base: what lies there is as good as what a process of ours holds. Files on a disk are never kept, only copies.
"""

from __future__ import annotations

import contextlib
import io
import os
from collections.abc import Iterable

LIMIT_BYTES = 192 << 20
"""Kernel, initrd and unpacked kernel of three images; what was not used for longest goes."""


class Kept:
    """The copies in ``folder``, made when missing. Nothing here fails: what cannot be kept is hashed again.

    Args:
        folder: In memory.
        limit_bytes: Of all copies together.
    """

    __slots__ = ("_folder", "_limit_bytes")

    def __init__(self, folder: str, limit_bytes: int = LIMIT_BYTES) -> None:
        self._folder = folder
        self._limit_bytes = limit_bytes

    def open(self, digest: bytes) -> int | None:
        """Return a descriptor of the copy, for reading only, or None where there is none."""
        path = self._path(digest)
        try:
            fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
        except OSError:
            return None
        with contextlib.suppress(OSError):
            os.utime(path)
        return fd

    def get(self, digest: bytes) -> io.FileIO | None:
        """Return the copy, to be read from its beginning and closed, or None where there is none."""
        fd = self.open(digest)
        return None if fd is None else open(fd, "rb", buffering=0)

    def keep(self, digest: bytes, parts: Iterable[bytes | bytearray | memoryview]) -> None:
        """Keep a copy of what has this digest, which the caller compared, of the very bytes that are handed over."""
        fresh = f"{self._path(digest)}.{os.getpid()}"
        with contextlib.suppress(OSError):
            os.makedirs(self._folder, 0o700, exist_ok=True)
            try:
                with open(fresh, "xb", opener=_private) as stream:
                    for part in parts:
                        stream.write(part)
                    size = stream.tell()
                if size <= self._limit_bytes:
                    self._make_room(size)
                    os.rename(fresh, self._path(digest))
            finally:
                with contextlib.suppress(FileNotFoundError):
                    os.unlink(fresh)

    def _make_room(self, needed_bytes: int) -> None:
        with os.scandir(self._folder) as entries:
            found = sorted((entry.stat().st_mtime_ns, entry.stat().st_size, entry.path) for entry in entries)
        left = [(size, path) for _, size, path in found if not path.endswith(f".{os.getpid()}")]
        total = sum(size for size, _ in left)
        for size, path in left:
            if total + needed_bytes <= self._limit_bytes:
                return
            with contextlib.suppress(FileNotFoundError):
                os.unlink(path)
            total -= size

    def _path(self, digest: bytes) -> str:
        return os.path.join(self._folder, digest.hex())


def _private(path: str, flags: int) -> int:
    return os.open(path, flags | os.O_CLOEXEC | os.O_NOFOLLOW, 0o400)
