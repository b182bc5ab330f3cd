# SPDX-License-Identifier: GPL-3.0-or-later
"""The kernel's IMA list in binary form, read from a byte offset, whole entries only.

    entry:  u32 pcr | 20 bytes digest (SHA-1 of the template data) | u32 n | n bytes template name |
            u32 m | m bytes template data        (every template but "ima")
            20 bytes file digest | u32 m | m bytes path      (template "ima")

Numbers are little-endian (the kernel's own order; this runs on x86-64). The content is not judged here: the appraiser
does that. The reader only finds where entries end, so that an answer never ends inside one and a resume offset
never begins inside one.

Source: Linux security/integrity/ima/ima_fs.c, ima_measurements_show (6.12).
"""

from __future__ import annotations

import os
from array import array
from bisect import bisect_left, bisect_right

from ..errors import UnreachableError

SECURITYFS_PATH = "/sys/kernel/security/ima/binary_runtime_measurements"

MAX_LOG_BYTES = 32 * 1024 * 1024
"""Bytes read at once: base64 makes 43 MiB of them, which fits the 64 MiB answer."""

READ_CHUNK_BYTES = 256 * 1024
_HEAD_BYTES = 28
_DIGEST_BYTES = 20
_MAX_NAME_BYTES = 64


class ImaLog:
    """Reader that remembers where every entry seen so far ends.

    Args:
        path: The list; it only grows.

    Raises:
        UnreachableError: by its methods, code ``ima.unreadable`` or, for a list that shrank or is not a list,
            ``ima.malformed``.
    """

    __slots__ = ("_ends", "_path")

    def __init__(self, path: str = SECURITYFS_PATH) -> None:
        self._path = path
        # 8 bytes per entry: an offset is checked without reading the list again.
        self._ends = array("Q", [0])

    @property
    def end_bytes(self) -> int:
        """Where the last whole entry seen so far ends."""
        return self._ends[-1]

    def is_boundary(self, offset_bytes: int) -> bool:
        """Say whether an entry seen so far begins or ends at ``offset_bytes``."""
        at = bisect_left(self._ends, offset_bytes)
        return at < len(self._ends) and self._ends[at] == offset_bytes

    def refresh(self) -> int:
        """Read what is new and return ``end_bytes``.

        A list longer than ``MAX_LOG_BYTES`` is read in several calls; the end moves on each time.
        """
        self._walk(self._read(self.end_bytes))
        return self.end_bytes

    def read_from(self, offset_bytes: int) -> bytes:
        """Return the whole entries from ``offset_bytes`` (a boundary) to the end of the list as it is now."""
        data = self._read(offset_bytes)
        known = self.end_bytes - offset_bytes
        if len(data) > known:
            self._walk(data[known:])
        # The last boundary that was read: the list may be longer than one read.
        last = self._ends[bisect_right(self._ends, offset_bytes + len(data)) - 1]
        return data[: max(last - offset_bytes, 0)]

    def _read(self, offset_bytes: int) -> bytes:
        chunks: list[bytes] = []
        total = 0
        try:
            fd = os.open(self._path, os.O_RDONLY | os.O_CLOEXEC)
            try:
                # A sequential file of the kernel: seeking makes it produce, and drop, what lies before.
                os.lseek(fd, offset_bytes, os.SEEK_SET)
                while total < MAX_LOG_BYTES and (chunk := os.read(fd, READ_CHUNK_BYTES)):
                    chunks.append(chunk)
                    total += len(chunk)
            finally:
                os.close(fd)
        except OSError as error:
            raise UnreachableError(f"{self._path} cannot be read: {error.strerror}", code="ima.unreadable") from None
        return b"".join(chunks)

    def _walk(self, data: bytes) -> None:
        """Note the end of each whole entry in ``data``, which begins at ``end_bytes``; a cut last one is left."""
        base, at = self.end_bytes, 0
        while at + _HEAD_BYTES <= len(data):
            name_bytes = int.from_bytes(data[at + 24 : at + 28], "little")
            if not 0 < name_bytes <= _MAX_NAME_BYTES:
                raise UnreachableError(f"{self._path} byte {base + at}: no IMA entry", code="ima.malformed")
            name_end = at + _HEAD_BYTES + name_bytes
            size_at = name_end + (_DIGEST_BYTES if data[at + _HEAD_BYTES : name_end] == b"ima" else 0)
            if size_at + 4 > len(data):
                break
            end = size_at + 4 + int.from_bytes(data[size_at : size_at + 4], "little")
            if end > len(data):
                break
            self._ends.append(base + end)
            at = end
