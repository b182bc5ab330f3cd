# SPDX-License-Identifier: GPL-3.0-or-later
"""Who watches which host: claims that run out by themselves, so the hosts of a dead process are taken over.

A claim is a row with an owner and a time. Whoever holds it renews it before that time; whoever looks for work takes
rows whose time is over. PostgreSQL lets several look at once (``FOR UPDATE SKIP LOCKED``); SQLite has one writer
anyway.

No claim is believed that lies further ahead than one can: who made it had a clock that was wrong, and its hosts would
be nobody's until that time came.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from sqlalchemy import and_, or_, select, update
from sqlalchemy.dialects import postgresql, sqlite

from .database import Database
from .tables import WATCHES

NOBODY = ""

CLOCK_SKEW_S = 60
"""How far the clocks of those that share a store may be apart."""


class Watched(NamedTuple):
    """What is known of one watched host.

    Attributes:
        host_id: Which.
        state: Its state when that was last written (``watch.state``); empty before.
        state_since_s: Since when, Unix seconds.
    """

    host_id: str
    state: str
    state_since_s: int


class ClaimStore:
    """The claims of one process.

    Args:
        database: The store.
        owner: Name of this process, unique among those that share the store.
        lease_s: How long a claim lives without being renewed.
    """

    def __init__(self, database: Database, owner: str, *, lease_s: int) -> None:
        self._database = database
        self._owner = owner
        self._lease_s = lease_s

    def register(self, hosts: Iterable[str], *, now_s: int) -> None:
        """Have a row for each host; those that are there stay as they are."""
        dialect = postgresql if self._database.postgres else sqlite
        rows = [
            {
                "host_id": host_id,
                "owner": NOBODY,
                "claimed_until": 0,
                "due_at": now_s,
                "state": "",
                "state_since": now_s,
            }
            for host_id in sorted(set(hosts))
        ]
        if rows:
            with self._database.writing() as connection:
                connection.execute(dialect.insert(WATCHES).on_conflict_do_nothing(), rows)

    def take(self, hosts: Iterable[str], *, limit: int, now_s: int) -> list[Watched]:
        """Claim up to ``limit`` of ``hosts`` that nobody holds now; return them."""
        wanted = sorted(set(hosts))
        # Twice, so that one whose hosts are asked less often is not robbed of them.
        furthest_s = now_s + 2 * self._lease_s + CLOCK_SKEW_S
        over = or_(WATCHES.c.claimed_until <= now_s, WATCHES.c.claimed_until > furthest_s)
        taken: list[Watched] = []
        with self._database.writing() as connection:
            for at in range(0, len(wanted), 500):
                left = limit - len(taken)
                if left <= 0:
                    break
                free = (
                    select(WATCHES)
                    .where(and_(WATCHES.c.host_id.in_(wanted[at : at + 500]), over))
                    .order_by(WATCHES.c.due_at, WATCHES.c.host_id)
                    .limit(left)
                    .with_for_update(skip_locked=True)
                )
                found = [_watched(row) for row in connection.execute(free)]
                ids = [item.host_id for item in found]
                values = {"owner": self._owner, "claimed_until": now_s + self._lease_s}
                connection.execute(update(WATCHES).where(WATCHES.c.host_id.in_(ids)).values(**values))
                taken += found
        return taken

    def renew(self, *, now_s: int) -> dict[str, Watched]:
        """Prolong every claim of this process that has not run out; return what it still holds.

        One that ran out is not taken back here: somebody else may look after that host by now.
        """
        mine = and_(WATCHES.c.owner == self._owner, WATCHES.c.claimed_until > now_s)
        with self._database.writing() as connection:
            connection.execute(update(WATCHES).where(mine).values(claimed_until=now_s + self._lease_s))
            held = select(WATCHES).where(and_(WATCHES.c.owner == self._owner, WATCHES.c.claimed_until > now_s))
            return {row.host_id: _watched(row) for row in connection.execute(held)}

    def release(self) -> None:
        """Give every claim back at once, at an orderly end."""
        with self._database.writing() as connection:
            mine = WATCHES.c.owner == self._owner
            connection.execute(update(WATCHES).where(mine).values(owner=NOBODY, claimed_until=0))

    def note_all(self, notes: Iterable[tuple[str, str, int, int]]) -> None:
        """Write down how hosts are doing and when they are asked next: (host id, state, since, due), Unix seconds.

        In one transaction, and without effect for a host that this process does not hold.
        """
        with self._database.writing() as connection:
            for host_id, state, since_s, due_at_s in notes:
                mine = and_(WATCHES.c.host_id == host_id, WATCHES.c.owner == self._owner)
                values = {"state": state, "state_since": since_s, "due_at": due_at_s}
                connection.execute(update(WATCHES).where(mine).values(**values))


def all_watched(database: Database) -> dict[str, Watched]:
    """Return every watched host, whoever watches it."""
    with database.reading() as connection:
        return {row.host_id: _watched(row) for row in connection.execute(select(WATCHES))}


def _watched(row: object) -> Watched:
    return Watched(row.host_id, row.state, row.state_since)  # type: ignore[attr-defined]
