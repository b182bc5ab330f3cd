# SPDX-License-Identifier: GPL-3.0-or-later
"""Files: bounded reads, atomic private writes."""

from __future__ import annotations

import contextlib
import os
import pathlib

from ..errors import UnreachableError

PRIVATE_MODE = 0o600
PUBLIC_MODE = 0o644

READ_CHUNK_BYTES = 1 << 20


def read_bounded(path: str | os.PathLike[str], *, limit_bytes: int, offset_bytes: int = 0) -> bytes:
    """Return the content of ``path`` from ``offset_bytes`` on.

    Reads until the end rather than trusting the size: files of securityfs and efivarfs report 0 or 4096.

    Raises:
        UnreachableError: ``files.missing``, ``files.unreadable`` or, past ``limit_bytes``, ``files.too-large``.
    """
    chunks: list[bytes] = []
    total = 0
    try:
        with open(path, "rb", buffering=0) as stream:
            _skip(stream.fileno(), offset_bytes)
            while chunk := os.read(stream.fileno(), READ_CHUNK_BYTES):
                total += len(chunk)
                if total > limit_bytes:
                    raise UnreachableError(f"{path} is longer than {limit_bytes} bytes", code="files.too-large")
                chunks.append(chunk)
    except FileNotFoundError:
        raise UnreachableError(f"{path} does not exist", code="files.missing") from None
    except OSError as error:
        raise UnreachableError(f"{path} cannot be read: {error.strerror}", code="files.unreadable") from None
    return b"".join(chunks)


def file_digest(path: str | os.PathLike[str]) -> bytes:
    """Return SHA-256 of a file, however long.

    Raises:
        UnreachableError: ``files.missing``, ``files.unreadable``.
    """
    # Imported here: dom0 reads through this module, and hashes elsewhere.
    import hashlib

    try:
        with open(path, "rb") as stream:
            return hashlib.file_digest(stream, "sha256").digest()
    except FileNotFoundError:
        raise UnreachableError(f"{path} does not exist", code="files.missing") from None
    except OSError as error:
        raise UnreachableError(f"{path} cannot be read: {error.strerror}", code="files.unreadable") from None


def _skip(fd: int, offset_bytes: int) -> None:
    """Move to ``offset_bytes``; sequential files (securityfs) seek by reading, so a plain lseek is enough."""
    if offset_bytes:
        os.lseek(fd, offset_bytes, os.SEEK_SET)


def write_atomic(path: str | os.PathLike[str], data: bytes, *, mode: int = PRIVATE_MODE) -> None:
    """Put ``data`` at ``path``: a reader sees the old content or the new, also after a crash.

    Args:
        path: Final name; its folder must exist.
        data: Content.
        mode: Permission bits, set before the first byte is written.

    Raises:
        UnreachableError: ``files.unwritable``; the old content is still there then.
    """
    # Imported here: dom0 reads through this module, and its Python has no such file.
    import tempfile

    target = pathlib.Path(path)
    temporary = ""
    try:
        fd, temporary = tempfile.mkstemp(prefix=f".{target.name}.", dir=target.parent)
        with os.fdopen(fd, "wb") as stream:
            os.fchmod(stream.fileno(), mode)
            stream.write(data)
            stream.flush()
            os.fsync(stream.fileno())
        os.replace(temporary, target)
        _sync_folder(target.parent)
    except OSError as error:
        if temporary:
            with contextlib.suppress(OSError):
                os.unlink(temporary)
        raise UnreachableError(f"{target} cannot be written: {error.strerror}", code="files.unwritable") from None


def make_private_folder(path: str | os.PathLike[str]) -> pathlib.Path:
    """Make ``path`` and its parents; the folder itself is readable by its owner only.

    Raises:
        UnreachableError: ``files.unwritable``.
    """
    folder = pathlib.Path(path)
    try:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    except OSError as error:
        raise UnreachableError(f"{folder} cannot be made: {error.strerror}", code="files.unwritable") from None
    return folder


def _sync_folder(folder: pathlib.Path) -> None:
    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
