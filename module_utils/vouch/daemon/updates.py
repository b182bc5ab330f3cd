# SPDX-License-Identifier: GPL-3.0-or-later
"""Which release runs, which one is meant to, and how it came here: the main process's side of updates.

Three files on the data partition, each replaced whole:

    identity.json   the release that is meant to run (the installer's, later the last one that was confirmed)
    updates.json    the update proofs from the installation up to it, and behind them one of a release that waits
    trial           PCR 4 of the release that ordered ``try``, and seconds; there until ``confirm``. The image's
                    ``/usr/lib/vouch/trial`` restarts a host that has run anything else for so long

What runs is told by PCR 4; what is meant to run decides nothing but answers. Whoever writes these files from outside
makes the host state another release than it measured to, which an appraisal refuses.

Source: docs/proof.md, "Update proof"; docs/adr/0008-updates-by-boot-next.md.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any, NamedTuple

from ..errors import ParseError, UsageError, VouchError
from ..model.hostorder import CONFIRM, STAGE, TRY
from ..model.launchregister import MAX_FAILED_ATTEMPTS, pcr4_values
from ..model.update import (
    CURRENT,
    FALLEN_BACK,
    MAX_UPDATES,
    OTHER,
    STAGED,
    TRIAL,
    TRIAL_FILE,
    UPDATES_FILE,
    UpdateStatement,
)
from ..parse.canonical import dump_canonical, load_json
from ..parse.fields import decode_base64

MAX_BOOK_BYTES = 1 << 20


class Change(NamedTuple):
    """A step that was allowed: what the one who does it has to know. ``done`` says that there is nothing to do."""

    done: bool
    statement: UpdateStatement | None = None


class Updates:
    """The book of this host's releases.

    Args:
        folder: The data partition.
        host_id: Of this host.
        release_id: By ``identity.json``, in hex.
        pcr4: Returns PCR 4; only asked once there was an update.

    Raises:
        UsageError: ``verifier.updates``: the book cannot be read; the service does not start on half a history.
        VouchError: what ``pcr4`` raises.
    """

    def __init__(self, folder: str, *, host_id: str, release_id: str, pcr4: Callable[[], bytes]) -> None:
        self._folder, self._host_id, self._pcr4 = folder, host_id, pcr4
        self.confirmed = release_id
        self.proofs: list[dict[str, Any]] = []
        self._statements: list[UpdateStatement] = []
        path = os.path.join(folder, UPDATES_FILE)
        if os.path.exists(path):
            try:
                with open(path, "rb", buffering=0) as stream:
                    self._take(load_json(stream.read(MAX_BOOK_BYTES + 1) or b"", limit_bytes=MAX_BOOK_BYTES))
            except (OSError, ParseError, ValueError) as error:
                raise UsageError(f"{path} is not as this service writes it: {error}", code="verifier.updates") from None
        self.running = self._running()

    @property
    def waiting(self) -> UpdateStatement | None:
        """The release that was written and not confirmed, whether it runs or not."""
        last = self._statements[-1] if self._statements else None
        return None if last is None or last.release_id.hex() == self.confirmed else last

    @property
    def state(self) -> str:
        """One of the words of ``model.update``."""
        waiting, running = self.waiting, self.running
        if waiting is not None and waiting.release_id.hex() == running:
            return TRIAL
        if running != self.confirmed:
            return OTHER
        if waiting is None:
            return CURRENT
        return FALLEN_BACK if os.path.exists(self._trial()) else STAGED

    def status(self) -> dict[str, Any]:
        """Return the answer to ``host.status``."""
        waiting = self.waiting
        return {
            "state": self.state,
            "running": self.running,
            "confirmed": self.confirmed,
            "waiting": "" if waiting is None else waiting.release_id.hex(),
            "updates": len(self._statements),
        }

    def begin(self, action: str, release: bytes) -> Change:
        """Say whether this step may be taken now.

        Raises:
            VouchError: ``update.unconfirmed``, ``update.state``, ``update.many``, ``update.not-staged``,
                ``update.not-running``.
        """
        state, waiting, wanted = self.state, self.waiting, release.hex()
        if state == OTHER:
            raise VouchError(
                f"release {self.running} runs, {self.confirmed} is meant to: restart the host first",
                code="update.state",
            )
        if action == STAGE:
            if wanted == self.running:
                return Change(True, waiting)
            if state == TRIAL:
                raise VouchError(f"the release that runs, {self.running}, is not confirmed", code="update.unconfirmed")
            if len(self._statements) - (waiting is not None) >= MAX_UPDATES:
                raise VouchError(f"{MAX_UPDATES} updates were made: install the host again", code="update.many")
            return Change(False, waiting if waiting is not None and waiting.release_id == release else None)
        if action == TRY:
            if state == TRIAL and wanted == self.running:
                return Change(True, waiting)
            if state not in (STAGED, FALLEN_BACK) or waiting is None or waiting.release_id != release:
                raise VouchError(f"release {wanted} does not wait here", code="update.not-staged")
            return Change(False, waiting)
        assert action == CONFIRM
        if wanted != self.running:
            raise VouchError(f"release {self.running} runs, not {wanted}", code="update.not-running")
        return Change(state == CURRENT, waiting)

    def staged(self, statement: UpdateStatement, proof: dict[str, Any]) -> None:
        """Note that a release waits, in place of one that waited before and was not confirmed."""
        waits = self.waiting is not None
        self.proofs = [*(self.proofs[:-1] if waits else self.proofs), proof]
        self._statements = [*(self._statements[:-1] if waits else self._statements), statement]
        self._write(UPDATES_FILE, dump_canonical({"version": 1, "updates": self.proofs}))
        self._remove(TRIAL_FILE)

    def begin_trial(self, confirm_s: int) -> None:
        """Note that another release runs next, and has so long to be confirmed."""
        self._write(TRIAL_FILE, f"{self._pcr4().hex()} {confirm_s}\n".encode())

    def end_trial(self) -> Callable[[], None]:
        """Note that a confirmation came, before it takes effect; return what takes the note back."""
        try:
            with open(self._trial(), "rb", buffering=0) as stream:
                before = stream.read(256) or b""
        except FileNotFoundError:
            return lambda: None
        self._remove(TRIAL_FILE)
        return lambda: self._write(TRIAL_FILE, before)

    def confirm(self) -> None:
        """Note that the release which waits is from now on the one that is meant to run."""
        assert self.waiting is not None
        confirmed = self.waiting.release_id.hex()
        document = {"host_id": self._host_id, "release_id": confirmed, "version": 1}
        self._write("identity.json", dump_canonical(document), 0o644)
        self.confirmed = confirmed

    def _running(self) -> str:
        """Return the id of the release that runs, as far as this host knows, in hex."""
        if not self._statements:
            return self.confirmed
        register = self._pcr4()
        for statement in reversed(self._statements):
            if register in pcr4_values(statement.authenticode_sha256, MAX_FAILED_ATTEMPTS):
                return statement.release_id.hex()
        # The installer's own: its xen.efi is named by nobody here.
        return self._statements[0].before.hex()

    def _take(self, book: Any) -> None:
        if not isinstance(book, dict) or set(book) != {"version", "updates"} or book["version"] != 1:
            raise ValueError("unknown members")
        if not isinstance(book["updates"], list) or len(book["updates"]) > MAX_UPDATES + 1:
            raise ValueError("no list of updates, or a long one")
        for proof in book["updates"]:
            statement = decode_base64(proof["statement"]) if isinstance(proof, dict) else None
            if statement is None or set(proof) != {"statement", "attest", "signature", "pcrs"}:
                raise ValueError("an update without a statement")
            self._statements.append(UpdateStatement.from_bytes(statement))
            self.proofs.append(proof)

    def _trial(self) -> str:
        return os.path.join(self._folder, TRIAL_FILE)

    def _write(self, name: str, data: bytes, mode: int = 0o600) -> None:
        path = os.path.join(self._folder, name)
        try:
            fd = os.open(path + ".new", os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, mode)
            try:
                os.fchmod(fd, mode)
                if os.write(fd, data) != len(data):
                    raise OSError(28, "cut short")
                os.fsync(fd)
            finally:
                os.close(fd)
            os.rename(path + ".new", path)
            self._sync()
        except OSError as error:
            raise VouchError(f"{path}: {error.strerror}", code="update.storage") from None

    def _remove(self, name: str) -> None:
        try:
            os.unlink(os.path.join(self._folder, name))
            self._sync()
        except FileNotFoundError:
            return
        except OSError as error:
            raise VouchError(f"{name}: {error.strerror}", code="update.storage") from None

    def _sync(self) -> None:
        fd = os.open(self._folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(fd)
        finally:
            os.close(fd)
