# SPDX-License-Identifier: GPL-3.0-or-later
"""What the VM verifier has to remember of a guest to find it again after a crash: one small file each, in memory.

The folder lies in /run: it lives as long as PCR 14 and the domains do, until the next reset. A file is written before
the step it tells of, so that whatever a step left behind is found, and goes last.

    CREATING   a domain with this UUID may exist, paused
    CREATED    it exists, paused; it may have been measured, and its launch recorded
    RELEASED   it may run
    STOPPING   its end was ordered; what is left of it goes
"""

from __future__ import annotations

import contextlib
import os
from typing import Any, NamedTuple

from ..errors import ParseError, VouchError
from ..model.gueststate import GUEST_ID, GuestRecord
from ..parse.canonical import dump_canonical, load_canonical
from ..parse.fields import Fields

CREATING, CREATED, RELEASED, STOPPING = "creating", "created", "released", "stopping"
STEPS = (CREATING, CREATED, RELEASED, STOPPING)

MAX_JOURNAL_BYTES = 64 * 1024
_SUFFIX = ".json"


class GuestJournal(NamedTuple):
    """One guest.

    Attributes:
        record: What is known of it.
        step: One of ``STEPS``.
        uuid: Of its domain.
        order: SHA-256 of the signed order that started it.
        card: dom0's end of its network card; "" while none is known.
        action: What its package wants done when it is no longer what it was: ``pause`` or ``destroy``.
        held: Whether it is paused by order.
    """

    record: GuestRecord
    step: str
    uuid: bytes
    order: bytes
    card: str = ""
    action: str = "pause"
    held: bool = False

    def to_json(self) -> dict[str, Any]:
        """Return the JSON form."""
        return {
            "version": 1,
            "record": self.record.to_json(),
            "step": self.step,
            "uuid": self.uuid.hex(),
            "order": self.order.hex(),
            "card": self.card,
            "action": self.action,
            "held": self.held,
        }

    @classmethod
    def from_json(cls, value: Any) -> GuestJournal:
        """Return the journal of a JSON value.

        Raises:
            ParseError: for anything that ``to_json`` does not write.
        """
        fields = Fields(value, "journal")
        fields.literal("version", 1)
        held = fields.take("held")
        if not isinstance(held, bool):
            raise fields.fail("held", "is neither true nor false")
        journal = cls(
            record=GuestRecord.from_json(fields.take("record")),
            step=fields.choice("step", *STEPS),
            uuid=fields.hex("uuid", 16),
            order=fields.hex("order", 32),
            card=fields.text("card", maximum_chars=15, empty=True),
            action=fields.choice("action", "pause", "destroy"),
            held=held,
        )
        fields.done()
        return journal


class JournalFolder:
    """The files in ``folder``, made when missing.

    Raises:
        VouchError: ``journal.storage``.
    """

    __slots__ = ("folder",)

    def __init__(self, folder: str) -> None:
        self.folder = folder

    def write(self, journal: GuestJournal) -> None:
        """Return when the file says this; a crash leaves the old content or the new."""
        path = self._path(journal.record.id)
        try:
            os.makedirs(self.folder, 0o700, exist_ok=True)
            fd = os.open(path + ".new", os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
            try:
                os.write(fd, dump_canonical(journal.to_json()))
            finally:
                os.close(fd)
            os.rename(path + ".new", path)
        except OSError as error:
            raise VouchError(f"{path}: {error.strerror}", code="journal.storage") from None

    def remove(self, guest: str) -> None:
        """Return when there is no file of this guest."""
        try:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(self._path(guest))
        except OSError as error:
            raise VouchError(f"{self._path(guest)}: {error.strerror}", code="journal.storage") from None

    def read_all(self) -> dict[str, GuestJournal]:
        """Return every guest's journal by its id; a file that is none, which no crash leaves, goes."""
        found: dict[str, GuestJournal] = {}
        try:
            names = os.listdir(self.folder)
        except FileNotFoundError:
            return found
        except OSError as error:
            raise VouchError(f"{self.folder}: {error.strerror}", code="journal.storage") from None
        for name in sorted(names):
            guest, suffix = os.path.splitext(name)
            journal = self._read(name) if suffix == _SUFFIX and GUEST_ID.match(guest) else None
            if journal is not None and journal.record.id == guest:
                found[guest] = journal
            else:
                with contextlib.suppress(OSError):
                    os.unlink(os.path.join(self.folder, name))
        return found

    def read(self, guest: str) -> GuestJournal | None:
        """Return the journal of a guest, or None."""
        return self._read(guest + _SUFFIX)

    def _read(self, name: str) -> GuestJournal | None:
        try:
            with open(os.path.join(self.folder, name), "rb", buffering=0) as stream:
                data = stream.read(MAX_JOURNAL_BYTES + 1) or b""
            return GuestJournal.from_json(load_canonical(data, limit_bytes=MAX_JOURNAL_BYTES))
        except (OSError, ParseError):
            return None

    def _path(self, guest: str) -> str:
        return os.path.join(self.folder, guest + _SUFFIX)
