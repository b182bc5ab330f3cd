# SPDX-License-Identifier: GPL-3.0-or-later
"""Enrolled hosts on the controller: one private JSON file per host, replaced whole.

Readers need no lock: a file is replaced atomically. Writers hold one lock per store, so what was compared is what is
replaced, and two hosts never get enrolled with one TPM by two plays at the same time.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import pathlib
import re
import time
from collections.abc import Callable, Iterator

from ..errors import ParseError, UnreachableError, UsageError
from ..model.enrolment import MAX_ENROLMENT_BYTES, Enrolment
from ..port.files import make_private_folder, read_bounded, write_atomic

LOCK_NAME = ".lock"
LOCK_WAIT_S = 30.0
LOCK_POLL_S = 0.05

_FILE = re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}\.json\Z")


class EnrolmentStore:
    """The enrolments in ``folder``; the folder is made when something is first written.

    Args:
        folder: Private to the controller's user.
        monotonic_s: Clock for the wait for the lock.
        sleep: Waits.

    Raises:
        UnreachableError: by every method, for a store that cannot be read or written; ``enrolment.malformed`` names
            the file that is damaged, ``enrolment.locked`` says that another writer does not end.
    """

    def __init__(
        self,
        folder: str | os.PathLike[str],
        *,
        monotonic_s: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._folder = pathlib.Path(folder)
        self._monotonic_s = monotonic_s
        self._sleep = sleep

    def find(self, host_id: str) -> Enrolment | None:
        """Return the enrolment of a host, or None."""
        path = self._path(host_id)
        return self._read(path) if path.exists() else None

    def find_by_ek(self, ek_sha256: bytes) -> Enrolment | None:
        """Return the enrolment of the host with that TPM, or None."""
        return next((item for item in self.all() if item.ek_sha256 == ek_sha256), None)

    def get(self, host_id: str) -> Enrolment:
        """Return the enrolment of a host.

        Raises:
            UsageError: ``enrolment.missing``.
        """
        found = self.find(host_id)
        if found is None:
            raise enrolment_missing(host_id, f"nothing of it is in {self._folder}")
        return found

    def all(self) -> tuple[Enrolment, ...]:
        """Return every enrolment, by host id."""
        try:
            names = sorted(name for name in os.listdir(self._folder) if _FILE.match(name))
        except FileNotFoundError:
            return ()
        except OSError as error:
            raise UnreachableError(
                f"{self._folder} cannot be read: {error.strerror}", code="files.unreadable"
            ) from None
        return tuple(self._read(self._folder / name) for name in names)

    def add(self, enrolment: Enrolment) -> bool:
        """Return when the host is enrolled; says whether anything changed.

        The same enrolment again changes nothing. A host that was installed again, on the same TPM and under the same
        id, replaces its enrolment.

        Raises:
            UsageError: ``enrolment.ek.duplicate`` for a TPM, ``enrolment.ak.duplicate`` for an attestation key,
                ``enrolment.ssh-host-key.duplicate`` for a host key that belongs to another host;
                ``enrolment.ek.changed`` for another TPM under a known host id.
        """
        with self._locked():
            for other in self.all():
                if other.host_id == enrolment.host_id:
                    refuse_other_tpm(enrolment, other)
                    if other == enrolment:
                        return False
                else:
                    refuse_shared(enrolment, other)
            self._write(enrolment)
            return True

    def update(self, old: Enrolment, new: Enrolment) -> None:
        """Replace ``old`` by ``new`` unless somebody else replaced it meanwhile.

        Raises:
            UsageError: ``enrolment.changed`` when the store no longer holds ``old``; ``enrolment.identity`` when
                ``new`` is another host or has other keys.
        """
        check_same_identity(old, new)
        with self._locked():
            if self.find(old.host_id) != old:
                raise UsageError(
                    f"the enrolment of {old.host_id} changed meanwhile", code="enrolment.changed", hint="appraise again"
                )
            self._write(new)

    def remove(self, host_id: str) -> bool:
        """Return when the host is not enrolled; says whether it was."""
        path = self._path(host_id)
        if not path.exists():
            return False
        with self._locked():
            try:
                path.unlink(missing_ok=True)
            except OSError as error:
                raise UnreachableError(f"{path} cannot be removed: {error.strerror}", code="files.unwritable") from None
        return True

    def _path(self, host_id: str) -> pathlib.Path:
        name = f"{host_id}.json"
        if _FILE.match(name) is None:
            raise UsageError(f"{host_id!r} is no host id", code="enrolment.host-id")
        return self._folder / name

    def _read(self, path: pathlib.Path) -> Enrolment:
        try:
            enrolment = Enrolment.from_bytes(read_bounded(path, limit_bytes=MAX_ENROLMENT_BYTES))
        except ParseError as error:
            raise UnreachableError(
                f"{path}: {error.message}", code="enrolment.malformed", hint="restore it, or remove it and enrol again"
            ) from None
        if f"{enrolment.host_id}.json" != path.name:
            raise UnreachableError(f"{path} is of host {enrolment.host_id}", code="enrolment.malformed")
        return enrolment

    def _write(self, enrolment: Enrolment) -> None:
        write_atomic(self._path(enrolment.host_id), enrolment.to_bytes() + b"\n")

    @contextlib.contextmanager
    def _locked(self) -> Iterator[None]:
        make_private_folder(self._folder)
        path = self._folder / LOCK_NAME
        try:
            fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise UnreachableError(f"{path} cannot be opened: {error.strerror}", code="files.unwritable") from None
        try:
            self._wait_for(fd, path)
            yield
        finally:
            os.close(fd)  # Closing gives the lock back.

    def _wait_for(self, fd: int, path: pathlib.Path) -> None:
        deadline = self._monotonic_s() + LOCK_WAIT_S
        while True:
            try:
                fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                if self._monotonic_s() >= deadline:
                    raise UnreachableError(
                        f"{path} is held by another process for {LOCK_WAIT_S:.0f} s", code="enrolment.locked"
                    ) from None
                self._sleep(LOCK_POLL_S)
            except OSError as error:  # A file system without locks.
                raise UnreachableError(f"{path} cannot be locked: {error.strerror}", code="files.unwritable") from None
            else:
                return


def enrolment_missing(host_id: str, found: str) -> UsageError:
    """Return (not raise) the error about a host that nobody enrolled.

    Args:
        host_id: The host.
        found: What was found instead, and where: whoever asks may have named the wrong store.
    """
    return UsageError(f"host {host_id} is not enrolled: {found}", code="enrolment.missing", hint="install it first")


def check_same_identity(old: Enrolment, new: Enrolment) -> None:
    """Return when ``new`` is of the same host with the same keys; raises ``UsageError`` ``enrolment.identity``."""
    same = ("host_id", "ek_sha256", "ak_public", "ssh_host_key")
    if any(getattr(old, name) != getattr(new, name) for name in same):
        raise UsageError("an update keeps host and keys", code="enrolment.identity")


def refuse_other_tpm(new: Enrolment, known: Enrolment) -> None:
    """Return when both have one TPM; raises ``UsageError`` ``enrolment.ek.changed``."""
    if known.ek_sha256 != new.ek_sha256:
        raise UsageError(
            f"host {known.host_id} is enrolled with another TPM",
            code="enrolment.ek.changed",
            hint="remove its enrolment first if the machine or its TPM was really exchanged",
        )


def refuse_shared(new: Enrolment, other: Enrolment) -> None:
    """Return when two hosts share no key; raises ``UsageError`` ``enrolment.ek.duplicate`` and the like."""
    hosts = f"of host {new.host_id} is that of host {other.host_id}"
    if new.ek_sha256 == other.ek_sha256:
        raise UsageError(f"the TPM {hosts}", code="enrolment.ek.duplicate", hint="remove the older enrolment first")
    if new.ak_public == other.ak_public:
        raise UsageError(f"the attestation key {hosts}", code="enrolment.ak.duplicate")
    if new.ssh_host_key == other.ssh_host_key:
        raise UsageError(f"the SSH host key {hosts}", code="enrolment.ssh-host-key.duplicate")
