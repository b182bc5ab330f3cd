# SPDX-License-Identifier: GPL-3.0-or-later
"""A guest as its keeper knows it: what it is, how far, who watches it, and what is being done about it."""

from __future__ import annotations

from collections.abc import Callable

from ..model.gueststate import BROKEN, HOLDS, PAUSED, RUNNING, VIOLATED, GuestRecord
from .child import Child
from .journal import GuestJournal


class Ward:
    """One guest.

    Attributes:
        id: Its id.
        journal: What is remembered of it; None until its domain is made.
        record: What was last said of it; None before its package was verified.
        child: The process that starts and watches it; None when nobody does.
        launched: Whether its launch stands in the log.
        released: Whether it may run.
        busy: Whether something is being done that has to end first.
        order: Number of the request that waits for it, 0 for none.
        stop_order: Number of the request to end it once what is being done is done, 0 for none.
        package: Id of the package that was ordered.
        deadline_s: When its process has to have said something.
        written_s: When its journal was last written.
        again: What failed and is to be done again at ``retry_s``.
    """

    __slots__ = (
        *("again", "busy", "child", "deadline_s", "id", "journal", "launched", "order", "package", "record"),
        *("released", "retry_s", "stop_order", "written_s"),
    )

    def __init__(self, guest: str, package: bytes) -> None:
        self.id = guest
        self.package = package
        self.journal: GuestJournal | None = None
        self.record: GuestRecord | None = None
        self.child: Child | None = None
        self.launched = self.released = self.busy = False
        self.order = self.stop_order = 0
        self.deadline_s = self.retry_s = self.written_s = 0.0
        self.again: Callable[[], None] | None = None

    @property
    def violated(self) -> bool:
        """Whether it broke a rule."""
        return self.record is not None and self.record.verdict == BROKEN

    def keep(self, journal: GuestJournal) -> GuestJournal:
        """Remember a journal and its record."""
        self.journal, self.record = journal, journal.record
        return journal

    def said(self, record: GuestRecord) -> GuestRecord:
        """Take over what the guest's process says it found; what only the keeper knows stays.

        Trust: that process reads a hostile guest's memory, so it speaks of that memory and of nothing else.
        """
        own = self.record if self.record is not None else record
        state = own.state if own.state in (PAUSED, VIOLATED) else RUNNING
        self.record = own._replace(
            state=state,
            phase=record.phase,
            verdict=BROKEN if own.verdict == BROKEN else HOLDS,
            checked_at_s=record.checked_at_s,
            rounds=record.rounds,
            ima_count=record.ima_count,
            ima_head=record.ima_head,
        )
        if self.journal is not None:
            self.journal = self.journal._replace(record=self.record)
        return self.record

    def broke(self, codes: tuple[str, ...], *, domain_id: int | None = None) -> GuestRecord:
        """Return the record of a guest that broke rules."""
        assert self.record is not None
        record = self.record._replace(
            state=VIOLATED, verdict=BROKEN, violations=tuple(sorted({*self.record.violations, *codes}))
        )
        if domain_id is not None:
            record = record._replace(domain_id=domain_id)
        self.record = record
        if self.journal is not None:
            self.journal = self.journal._replace(record=record)
        return record
