# SPDX-License-Identifier: GPL-3.0-or-later
"""Initial RAM file systems as ``newc`` archives that are the same bytes for the same input.

Layout of one entry (all numbers are 8 upper-case hex digits; 110 bytes of header):

====== ==== ==========================================
offset size name
====== ==== ==========================================
0      6    magic ``070701``
6      8    ino: numbered from 1 in the order written
14     8    mode: type and permissions, as in ``st_mode``
22     8    uid
30     8    gid
38     8    nlink
46     8    mtime, seconds
54     8    filesize: 0 but for the last name of a file
62     16   devmajor, devminor: always 0
78     16   rdevmajor, rdevminor
94     8    namesize, with the closing NUL
102    8    check: always 0
110    ..   name, NUL, zeros to a multiple of 4
..     ..   data, zeros to a multiple of 4
====== ==== ==========================================

Source: Linux, Documentation/driver-api/early-userspace/buffer-format.rst.
"""

from __future__ import annotations

import stat
import tarfile
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from ..errors import UsageError

MAX_FIELD = 0xFFFFFFFF
"""Largest number a header field holds; a file may not be longer."""

TRAILER = "TRAILER!!!"
_CHUNK_BYTES = 1 << 20


@dataclass(frozen=True, slots=True, kw_only=True)
class CpioEntry:
    """One name of an archive.

    Attributes:
        path: Relative, without leading ``/`` or ``./``; ``.`` is the root itself.
        mode: File type and permissions, as in ``st_mode``.
        data: Content of a regular file (bytes, or the file to read it from), or the target of a symbolic link.
        rdev: Major and minor number of a device node.
        link: Names with the same non-empty value are one file (hard links); only one of them needs ``data``.
    """

    path: str
    mode: int
    uid: int = 0
    gid: int = 0
    mtime_s: int = 0
    data: bytes | Path | None = None
    rdev: tuple[int, int] = (0, 0)
    link: str = ""

    def __post_init__(self) -> None:
        if not self.path or self.path.startswith("/") or self.path.endswith("/") or "\0" in self.path:
            raise UsageError(f"cpio: {self.path!r} is no relative path", code="cpio.path")
        if self.path == TRAILER or ".." in self.path.split("/"):
            raise UsageError(f"cpio: the name {self.path!r} is not allowed", code="cpio.path")
        if not stat.S_IFMT(self.mode):
            raise UsageError(f"cpio: {self.path}: the mode has no file type", code="cpio.mode")
        if stat.S_ISLNK(self.mode) and not self.data:
            raise UsageError(f"cpio: {self.path}: a symbolic link needs a target", code="cpio.data")
        if self.data is not None and not (stat.S_ISREG(self.mode) or stat.S_ISLNK(self.mode)):
            raise UsageError(f"cpio: {self.path}: only files and symbolic links have data", code="cpio.data")

    @property
    def size_bytes(self) -> int:
        """Length of the content."""
        if isinstance(self.data, Path):
            return self.data.stat().st_size
        return len(self.data or b"")


def directory(path: str, mode: int = 0o755, *, mtime_s: int = 0) -> CpioEntry:
    """Return the entry of a directory."""
    return CpioEntry(path=path, mode=stat.S_IFDIR | mode, mtime_s=mtime_s)


def regular(path: str, data: bytes | Path, mode: int = 0o644, *, mtime_s: int = 0) -> CpioEntry:
    """Return the entry of a regular file."""
    return CpioEntry(path=path, mode=stat.S_IFREG | mode, data=data, mtime_s=mtime_s)


def symlink(path: str, target: str, *, mtime_s: int = 0) -> CpioEntry:
    """Return the entry of a symbolic link."""
    return CpioEntry(path=path, mode=stat.S_IFLNK | 0o777, data=target.encode(), mtime_s=mtime_s)


def character_device(path: str, major: int, minor: int, mode: int = 0o600, *, mtime_s: int = 0) -> CpioEntry:
    """Return the entry of a character device."""
    return CpioEntry(path=path, mode=stat.S_IFCHR | mode, rdev=(major, minor), mtime_s=mtime_s)


def write_newc(entries: Iterable[CpioEntry]) -> bytes:
    """Return the whole archive; see ``iter_newc``."""
    return b"".join(iter_newc(entries))


def iter_newc(entries: Iterable[CpioEntry]) -> Iterator[bytes]:
    """Yield an archive of ``entries``, sorted by path, in pieces.

    Args:
        entries: Any order. Directories must be listed (use ``with_parents``); nothing is added but the trailer.

    Raises:
        UsageError: a path given twice (``cpio.duplicate``), hard links that disagree (``cpio.link``), or a file of
            4 GiB and more (``cpio.too-large``).
    """
    ordered = sorted(entries, key=lambda e: e.path.encode("utf-8", "surrogateescape"))
    groups: dict[str, list[CpioEntry]] = {}
    previous = None
    for entry in ordered:
        if entry.path == previous:
            raise UsageError(f"cpio: {entry.path} is given twice", code="cpio.duplicate")
        previous = entry.path
        if entry.link:
            groups.setdefault(entry.link, []).append(entry)
    inodes: dict[str, int] = {}
    for number, entry in enumerate(ordered, 1):
        group = groups.get(entry.link, [entry]) if entry.link else [entry]
        ino = inodes.setdefault(entry.link, number) if entry.link else number
        # Unpackers attach the data to the last name of a file; earlier names carry none.
        source = _content(group) if entry is group[-1] else None
        yield from _member(entry, ino=ino, nlink=len(group) if not stat.S_ISDIR(entry.mode) else 2, source=source)
    yield _header(TRAILER, ino=0, mode=0, uid=0, gid=0, nlink=1, mtime_s=0, size=0, rdev=(0, 0))


def with_parents(entries: Iterable[CpioEntry], *, mtime_s: int = 0) -> list[CpioEntry]:
    """Return ``entries`` plus a 0755 directory for every parent that is not among them."""
    listed = list(entries)
    have = {entry.path for entry in listed}
    for entry in tuple(listed):
        parts = entry.path.split("/")
        for depth in range(1, len(parts)):
            parent = "/".join(parts[:depth])
            if parent not in have:
                have.add(parent)
                listed.append(directory(parent, mtime_s=mtime_s))
    return listed


def entries_from_tree(
    root: Path,
    *,
    mtime_s: int = 0,
    keep_owner: bool = False,
    skip: Callable[[str], bool] | None = None,
) -> Iterator[CpioEntry]:
    """Yield an entry for everything under ``root`` (the root itself is not one of them).

    Args:
        root: Directory to walk; symbolic links are kept, not followed.
        mtime_s: The one time all entries get.
        keep_owner: Keep uid and gid; otherwise all belong to 0.
        skip: Called with the relative path; True leaves the entry out, and all below a directory.
    """
    for path in sorted(root.iterdir()):
        yield from _walk(root, path, mtime_s, keep_owner, skip)


def entries_from_tar(
    archive: tarfile.TarFile,
    *,
    mtime_s: int = 0,
    keep_owner: bool = False,
    skip: Callable[[str], bool] | None = None,
) -> Iterator[CpioEntry]:
    """Yield an entry for every member of ``archive``, contents in memory; arguments as in ``entries_from_tree``.

    No file is extracted, so owners and device nodes survive without privileges.
    A hard link whose target was left out by ``skip`` carries the content itself.
    """
    contents: dict[str, tarfile.TarInfo] = {}
    for member in archive:
        path = _plain(member.name)
        if member.isreg():
            contents[path] = member
        if path == "." or (skip is not None and _skipped(path, skip)):
            continue
        yield _from_member(archive, member, path, contents, mtime_s, keep_owner)


def merge(*layers: Iterable[CpioEntry]) -> list[CpioEntry]:
    """Return all entries, where a later layer replaces a path of an earlier one."""
    by_path: dict[str, CpioEntry] = {}
    for layer in layers:
        for entry in layer:
            by_path[entry.path] = entry
    return list(by_path.values())


def _content(group: list[CpioEntry]) -> bytes | Path | None:
    found = [entry.data for entry in group if entry.data is not None]
    if len({_identity(data) for data in found}) > 1:
        raise UsageError(f"cpio: the names of {group[0].path} have different contents", code="cpio.link")
    first = group[0]
    if any((e.mode, e.uid, e.gid, e.mtime_s) != (first.mode, first.uid, first.gid, first.mtime_s) for e in group):
        raise UsageError(f"cpio: the names of {first.path} have different owners, modes or times", code="cpio.link")
    return found[0] if found else None


def _identity(data: bytes | Path) -> object:
    """Return what is equal for equal contents: names of one file on disk count as one."""
    if isinstance(data, bytes):
        return data
    info = data.stat()
    return (info.st_dev, info.st_ino)


def _member(entry: CpioEntry, *, ino: int, nlink: int, source: bytes | Path | None) -> Iterator[bytes]:
    size = source.stat().st_size if isinstance(source, Path) else len(source or b"")
    if size > MAX_FIELD:
        raise UsageError(f"cpio: {entry.path} has {size} bytes; newc ends at 4 GiB", code="cpio.too-large")
    yield _header(
        entry.path,
        ino=ino,
        mode=entry.mode,
        uid=entry.uid,
        gid=entry.gid,
        nlink=nlink,
        mtime_s=entry.mtime_s,
        size=size,
        rdev=entry.rdev,
    )
    if isinstance(source, Path):
        written = 0
        with source.open("rb") as stream:
            while chunk := stream.read(_CHUNK_BYTES):
                written += len(chunk)
                yield chunk
        if written != size:
            raise UsageError(f"cpio: {source} changed while it was read", code="cpio.changed")
    elif source:
        yield source
    yield bytes(-size % 4)


def _header(
    path: str, *, ino: int, mode: int, uid: int, gid: int, nlink: int, mtime_s: int, size: int, rdev: tuple[int, int]
) -> bytes:
    name = path.encode("utf-8", "surrogateescape") + b"\0"
    fields = (ino, mode, uid, gid, nlink, mtime_s, size, 0, 0, *rdev, len(name), 0)
    if any(not 0 <= field <= MAX_FIELD for field in fields):
        raise UsageError(f"cpio: {path}: a number does not fit its field", code="cpio.range")
    head = b"070701" + b"".join(b"%08X" % field for field in fields) + name
    return head + bytes(-len(head) % 4)


def _walk(
    root: Path, path: Path, mtime_s: int, keep_owner: bool, skip: Callable[[str], bool] | None
) -> Iterator[CpioEntry]:
    relative = path.relative_to(root).as_posix()
    if skip is not None and skip(relative):
        return
    info = path.lstat()
    entry = CpioEntry(
        path=relative,
        mode=info.st_mode if not stat.S_ISLNK(info.st_mode) else stat.S_IFLNK | 0o777,
        uid=info.st_uid if keep_owner else 0,
        gid=info.st_gid if keep_owner else 0,
        mtime_s=mtime_s,
        data=_tree_data(path, info.st_mode),
        link=f"{info.st_dev}:{info.st_ino}" if stat.S_ISREG(info.st_mode) and info.st_nlink > 1 else "",
        rdev=_device(info.st_rdev, info.st_mode),
    )
    yield entry
    if stat.S_ISDIR(info.st_mode):
        for child in sorted(path.iterdir()):
            yield from _walk(root, child, mtime_s, keep_owner, skip)


def _tree_data(path: Path, mode: int) -> bytes | Path | None:
    if stat.S_ISREG(mode):
        return path
    if stat.S_ISLNK(mode):
        return str(path.readlink()).encode("utf-8", "surrogateescape")
    return None


def _device(rdev: int, mode: int) -> tuple[int, int]:
    # Linux's own encoding (include/linux/kdev_t.h, new_encode_dev), so this stays free of os.major.
    if not (stat.S_ISCHR(mode) or stat.S_ISBLK(mode)):
        return (0, 0)
    return ((rdev >> 8) & 0xFFF, (rdev & 0xFF) | ((rdev >> 12) & 0xFFF00))


def _plain(name: str) -> str:
    return name.removeprefix("./").strip("/") or "."


def _skipped(path: str, skip: Callable[[str], bool]) -> bool:
    parts = path.split("/")
    return any(skip("/".join(parts[:depth])) for depth in range(1, len(parts) + 1))


_TAR_KINDS = {
    tarfile.DIRTYPE: stat.S_IFDIR,
    tarfile.SYMTYPE: stat.S_IFLNK,
    tarfile.CHRTYPE: stat.S_IFCHR,
    tarfile.BLKTYPE: stat.S_IFBLK,
    tarfile.FIFOTYPE: stat.S_IFIFO,
}


def _from_member(
    archive: tarfile.TarFile,
    member: tarfile.TarInfo,
    path: str,
    contents: dict[str, tarfile.TarInfo],
    mtime_s: int,
    keep_owner: bool,
) -> CpioEntry:
    base = CpioEntry(
        path=path,
        mode=stat.S_IFREG | (member.mode & 0o7777),
        uid=member.uid if keep_owner else 0,
        gid=member.gid if keep_owner else 0,
        mtime_s=mtime_s,
    )
    if member.isreg() or member.islnk():
        original = _plain(member.linkname) if member.islnk() else path
        holder = contents.get(original)
        if holder is None:
            raise UsageError(f"cpio: hard link {path} to {original}, which is not in the archive", code="cpio.link")
        stream = archive.extractfile(holder)
        data = stream.read() if stream is not None else b""
        mode = stat.S_IFREG | (holder.mode & 0o7777)
        return replace(base, mode=mode, data=data, link=f"tar:{original}")
    kind = _TAR_KINDS.get(member.type)
    if kind is None:
        raise UsageError(f"cpio: {path} is of the unknown tar type {member.type!r}", code="cpio.type")
    if kind == stat.S_IFLNK:
        return replace(base, mode=kind | 0o777, data=member.linkname.encode("utf-8", "surrogateescape"))
    device = (member.devmajor, member.devminor) if kind in (stat.S_IFCHR, stat.S_IFBLK) else (0, 0)
    return replace(base, mode=kind | (member.mode & 0o7777), rdev=device)
