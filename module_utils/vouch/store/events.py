# SPDX-License-Identifier: GPL-3.0-or-later
"""What happened to hosts and guests, in order; for people, reports and hooks. No verdict rests on it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from sqlalchemy import delete, insert, select

from ..errors import shown
from .database import Database
from .tables import EVENTS

MAX_DETAIL_CHARS = 1000


class Event(NamedTuple):
    """One event.

    Attributes:
        at_s: Unix seconds, by the clock of whoever wrote it.
        host_id: Which host.
        subject: ``host`` or ``guest:<id>``.
        kind: What happened: ``state``, ``violation``, ``update``, ``hook``.
        code: Stable code of the reason, or the new state.
        detail: A sentence for people; made printable when it is written.
    """

    at_s: int
    host_id: str
    subject: str
    kind: str
    code: str
    detail: str


class EventStore:
    """The events of one store."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def add(self, events: Sequence[Event]) -> None:
        """Append events, in their order; raises as ``Database.writing``."""
        if not events:
            return
        rows = [
            {
                "at": item.at_s,
                "host_id": item.host_id,
                "subject": shown(item.subject),
                "kind": shown(item.kind)[:64],
                "code": shown(item.code),
                "detail": "".join(c if c.isprintable() else "?" for c in item.detail[:MAX_DETAIL_CHARS]),
            }
            for item in events
        ]
        with self._database.writing() as connection:
            connection.execute(insert(EVENTS), rows)

    def of_host(self, host_id: str, *, limit: int = 200) -> list[Event]:
        """Return the last ``limit`` events of a host, newest first."""
        query = select(EVENTS).where(EVENTS.c.host_id == host_id).order_by(EVENTS.c.id.desc()).limit(limit)
        with self._database.reading() as connection:
            return [
                Event(row.at, row.host_id, row.subject, row.kind, row.code, row.detail)
                for row in connection.execute(query)
            ]

    def prune(self, *, before_s: int) -> int:
        """Remove events before ``before_s``; return how many."""
        with self._database.writing() as connection:
            return connection.execute(delete(EVENTS).where(EVENTS.c.at < before_s)).rowcount
