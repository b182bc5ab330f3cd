# SPDX-License-Identifier: GPL-3.0-or-later
"""Files of guests on the host's data partition, by digest: fetched once over plain HTTP, resumed, evicted, sealed.

Server, network and partition are an attacker's: what is used is what its SHA-256 says. A partial file is only kept to
be continued, and its bytes are hashed anew.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import re
import time
from collections.abc import Callable, Iterable, Iterator

from ..errors import UnreachableError
from .httpget import get
from .kept import Kept

CHUNK_BYTES = 256 * 1024
COPY_BYTES = 64 << 20
KEPT_BYTES = 1 << 20
"""A blob that is read and so large is kept: hashing it takes longer than a launch can wait."""

MAX_ATTEMPTS = 4
"""Connections for one blob; each continues where the last one ended."""

RETRY_WAIT_S = 1.0
RESERVE_BYTES = 64 * 1024 * 1024
"""Room on the partition that no blob may take."""

# fcntl.h and memfd.h: nobody may change a sealed file any more, not even we.
_F_ADD_SEALS, _SEALS = 1033, 0x1 | 0x2 | 0x4 | 0x8

_PIN, _PROVEN = "pin-", "proven-"
_NAME = re.compile(r"[0-9a-f]{64}(?:\.part)?\Z")


class BlobStore:
    """The blobs in ``folder``, made when missing.

    Args:
        folder: On the data partition.
        marks: Folder in memory; says which files were compared since the host started, and which guest needs which.
        monotonic_s: Seconds that never go backwards.
        sleep: Waits between attempts.

    Raises:
        UnreachableError: by ``fetch``: ``store.unreachable``, ``store.missing``, ``store.digest``, ``store.size``,
            ``store.slow``, ``store.space``, ``store.storage``.
    """

    __slots__ = ("_marks", "_monotonic_s", "_sleep", "folder", "kept")

    def __init__(
        self,
        folder: str,
        *,
        marks: str,
        monotonic_s: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self.folder = folder
        self._marks = marks
        self.kept = Kept(os.path.join(marks, "kept"))
        self._monotonic_s = monotonic_s
        self._sleep = sleep

    def path(self, digest: bytes) -> str:
        """Return where the blob is, or would be."""
        return os.path.join(self.folder, digest.hex())

    def has(self, digest: bytes, size_bytes: int) -> bool:
        """Say whether a file of that name and size is there; whoever uses it compares what it needs of it."""
        try:
            return os.stat(self.path(digest)).st_size == size_bytes
        except OSError:
            return False

    def pin(self, guest: str, digests: Iterable[bytes]) -> None:
        """Keep these blobs until ``unpin``: a guest that is there needs them to be measured anew.

        Raises:
            UnreachableError: ``store.storage``.
        """
        path = os.path.join(self._marks, _PIN + guest)
        try:
            os.makedirs(self._marks, 0o700, exist_ok=True)
            _write_small(path, "".join(f"{digest.hex()}\n" for digest in digests).encode())
        except OSError as error:
            raise _storage(path, error) from None

    def unpin(self, guest: str) -> None:
        """Let go of a guest's blobs."""
        with contextlib.suppress(OSError):
            os.unlink(os.path.join(self._marks, _PIN + guest))

    def make_room(self, needed_bytes: int) -> None:
        """Return when the partition has room for ``needed_bytes``; blobs without a pin go, the oldest first.

        Args:
            needed_bytes: What is to be fetched.
        """
        try:
            os.makedirs(self.folder, 0o700, exist_ok=True)
            kept = self._pinned()
            old = sorted(
                (entry.stat().st_mtime_ns, entry.path)
                for entry in os.scandir(self.folder)
                if _NAME.match(entry.name) and entry.name.partition(".")[0] not in kept
            )
            while (free := self._free_bytes()) < needed_bytes + RESERVE_BYTES:
                if not old:
                    raise UnreachableError(
                        f"the data partition has {free >> 20} MiB left, the guest needs {needed_bytes >> 20} MiB and"
                        f" {RESERVE_BYTES >> 20} MiB stay free",
                        code="store.space",
                    )
                with contextlib.suppress(FileNotFoundError):
                    os.unlink(old.pop(0)[1])
        except OSError as error:
            raise _storage(self.folder, error) from None

    def fetch(
        self, store: str, digest: bytes, size_bytes: int, *, limit_bytes: int | None = None, compare: bool = False
    ) -> int:
        """Return the bytes that were fetched, when the blob with SHA-256 ``digest`` is here: 0 when it was already.

        Args:
            store: Base URL of the image store.
            digest: What it has to hash to.
            size_bytes: How long it is; -1 where only its end tells.
            limit_bytes: Longest one accepted where ``size_bytes`` is -1.
            compare: Compare a file that was here already, for parts that are not read through ``read`` or ``sealed``.
        """
        if size_bytes >= 0 and self.has(digest, size_bytes) and (not compare or self._verified(digest)):
            return 0
        partial = self.path(digest) + ".part"
        try:
            fd = self._locked(partial)
            try:
                # Somebody else may have fetched it while we waited for the lock.
                if size_bytes >= 0 and self.has(digest, size_bytes):
                    return 0
                fetched = self._fetch_into(fd, store, digest, size_bytes, limit_bytes)
                found = _sha256(partial)
                if found != digest:
                    raise UnreachableError(
                        f"the image store gave {found.hex()} for {digest.hex()}",
                        code="store.digest",
                        hint="The image store is damaged, or somebody is between.",
                    )
                os.rename(partial, self.path(digest))
                self._mark(digest)
                return fetched
            except BaseException as error:
                # What can be continued stays, everything else goes.
                if os.fstat(fd).st_size == 0 or getattr(error, "code", "") in ("store.digest", "store.size"):
                    with contextlib.suppress(OSError):
                        os.unlink(partial)
                raise
            finally:
                os.close(fd)
        except OSError as error:
            raise _storage(partial, error) from None

    def discard(self, digest: bytes) -> None:
        """Return when the blob is not here: what was found to be another is fetched again."""
        with contextlib.suppress(OSError):
            os.unlink(self.path(digest))

    def read(self, digest: bytes, *, limit_bytes: int) -> bytes:
        """Return a whole blob, its digest compared: a large one only once, and then it is kept.

        Raises:
            UnreachableError: ``store.missing``, ``store.digest``, ``store.storage``.
        """
        kept = self.kept.get(digest)
        if kept is not None:
            with kept:
                data = kept.read(limit_bytes + 1) or b""
            if len(data) <= limit_bytes:
                return data
        try:
            with open(self.path(digest), "rb", buffering=0) as stream:
                data = stream.read(limit_bytes + 1) or b""
        except FileNotFoundError:
            raise UnreachableError(f"there is no blob {digest.hex()}", code="store.missing") from None
        except OSError as error:
            raise _storage(self.path(digest), error) from None
        if len(data) > limit_bytes or hashlib.sha256(data).digest() != digest:
            raise UnreachableError(f"the blob {digest.hex()} was changed on the host", code="store.digest")
        if len(data) >= KEPT_BYTES:
            self.kept.keep(digest, (data,))
        return data

    def sealed(self, digest: bytes, name: str, *, limit_bytes: int) -> int:
        """Return a descriptor of a copy in memory that has the digest: what was compared is what is used.

        The first copy is sealed, so that nobody can change it, and hashed; later ones are of what was hashed then.

        Args:
            digest: Of the blob.
            name: Shown in /proc.
            limit_bytes: Longest blob.
        """
        kept = self.kept.open(digest)
        if kept is not None:
            return kept
        path = self.path(digest)
        fd = os.memfd_create(name, os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
        try:
            with open(path, "rb", buffering=0) as stream:
                offset = 0
                # Copied by the kernel: what is sealed is hashed, so nothing has to be held here.
                while offset <= limit_bytes and (count := os.sendfile(fd, stream.fileno(), offset, COPY_BYTES)):
                    offset += count
            fcntl.fcntl(fd, _F_ADD_SEALS, _SEALS)
            os.lseek(fd, 0, os.SEEK_SET)
            if offset > limit_bytes or _hash(fd) != digest:
                raise UnreachableError(f"the blob {digest.hex()} was changed on the host", code="store.digest")
            self.kept.keep(digest, _chunks(fd))
            os.lseek(fd, 0, os.SEEK_SET)
        except BaseException as error:
            os.close(fd)
            if isinstance(error, FileNotFoundError):
                raise UnreachableError(f"there is no blob {digest.hex()}", code="store.missing") from None
            if isinstance(error, OSError):
                raise _storage(path, error) from None
            raise
        return fd

    def proven(self, package: bytes) -> bool:
        """Say whether ``note_proven`` was called for this package since the host started."""
        return os.path.exists(os.path.join(self._marks, _PROVEN + package.hex()))

    def note_proven(self, package: bytes) -> None:
        """Remember that something was proven of the very bytes that a package names, so need not be proven again."""
        with contextlib.suppress(OSError):
            _write_small(os.path.join(self._marks, _PROVEN + package.hex()), b"")

    def _verified(self, digest: bytes) -> bool:
        """Compare the whole file, unless it is the one that was compared before; one that is another goes."""
        path = self.path(digest)
        try:
            if _read_small(os.path.join(self._marks, digest.hex())) == _identity(path):
                return True
            if _sha256(path) == digest:
                self._mark(digest)
                return True
            os.unlink(path)
        except OSError as error:
            raise _storage(path, error) from None
        return False

    def _mark(self, digest: bytes) -> None:
        """Note which file was compared: another content has another time of change, which nobody can set."""
        os.makedirs(self._marks, 0o700, exist_ok=True)
        _write_small(os.path.join(self._marks, digest.hex()), _identity(self.path(digest)))

    def _pinned(self) -> set[str]:
        try:
            names = [name for name in os.listdir(self._marks) if name.startswith(_PIN)]
        except FileNotFoundError:
            return set()
        return {line for name in names for line in _read_small(os.path.join(self._marks, name)).decode().split()}

    def _free_bytes(self) -> int:
        state = os.statvfs(self.folder)
        return state.f_bavail * state.f_frsize

    def _locked(self, partial: str) -> int:
        """Return the open partial file, ours alone until it is closed; two launches may want the same blob."""
        while True:
            flags = os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC | os.O_NOFOLLOW
            fd = os.open(partial, flags, 0o600)
            fcntl.flock(fd, fcntl.LOCK_EX)
            try:
                if os.stat(partial).st_ino == os.fstat(fd).st_ino:
                    return fd
            except FileNotFoundError:
                pass
            # It was finished or evicted while we waited.
            os.close(fd)

    def _fetch_into(self, fd: int, store: str, digest: bytes, size_bytes: int, limit_bytes: int | None) -> int:
        """Fetch from where the partial file ends, in several attempts; return how many bytes came."""
        url = f"{store.rstrip('/')}/sha256/{digest.hex()}"
        before = fetched = 0
        for attempt in range(MAX_ATTEMPTS):
            if attempt:
                self._sleep(RETRY_WAIT_S * attempt)
            begin = os.fstat(fd).st_size
            if size_bytes >= 0 and begin > size_bytes:
                os.ftruncate(fd, 0)
                begin = 0
            if begin == size_bytes:
                return fetched
            before = begin
            try:
                fetched += get(url, fd, begin, size_bytes, limit_bytes, self._monotonic_s)
                return fetched
            except UnreachableError as error:
                if error.code != "store.unreachable" or attempt == MAX_ATTEMPTS - 1:
                    raise
                fetched += max(0, os.fstat(fd).st_size - before)
        return fetched


def _sha256(path: str) -> bytes:
    with open(path, "rb", buffering=0) as stream:
        return _hash(stream.fileno())


def _hash(fd: int) -> bytes:
    state = hashlib.sha256()
    while chunk := os.read(fd, CHUNK_BYTES):
        state.update(chunk)
    return state.digest()


def _chunks(fd: int) -> Iterator[bytes]:
    """Yield all of a file."""
    os.lseek(fd, 0, os.SEEK_SET)
    while chunk := os.read(fd, CHUNK_BYTES):
        yield chunk


def _identity(path: str) -> bytes:
    state = os.stat(path)
    return f"{state.st_dev}:{state.st_ino}:{state.st_size}:{state.st_ctime_ns}".encode()


def _write_small(path: str, data: bytes) -> None:
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    try:
        os.write(fd, data)
    finally:
        os.close(fd)


def _read_small(path: str) -> bytes:
    try:
        with open(path, "rb", buffering=0) as stream:
            return stream.read(4096) or b""
    except FileNotFoundError:
        return b""


def _storage(path: str, error: OSError) -> UnreachableError:
    return UnreachableError(f"{path}: {error.strerror}", code="store.storage")
