# SPDX-License-Identifier: GPL-3.0-or-later
"""Appraisals and standings in the store: written together, read by subject.

The store keeps what it is given. Whether a standing is worth anything is for ``check.seal`` to say, each time it is
read.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import sqlalchemy
from sqlalchemy import and_, delete, insert, or_, select, update
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.engine import Connection, Row
from sqlalchemy.exc import IntegrityError

from ..errors import UsageError, shown
from ..model.standing import SealedStanding, Standing
from ..parse.canonical import MAX_SAFE_INTEGER
from .database import Database
from .tables import APPRAISALS, HEADS, HOSTS, SEALS, STANDINGS

MAX_ROWS = 1_000_000
"""No query gives more rows than this."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Appraised:
    """One appraisal to be kept: the result as written, its signed form, the bundle it was made from."""

    host_id: str
    issued_at_s: int
    result: bytes
    ear: str = ""
    bundle: str = ""


class ResultStore:
    """The results of one store."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def put(
        self,
        sealed: Sequence[SealedStanding],
        appraised: Sequence[Appraised] = (),
        *,
        future_s: int = MAX_SAFE_INTEGER,
    ) -> tuple[bool, ...]:
        """Write standings of one seal, and the appraisals they were taken from; all of them or nothing.

        Returns, for each standing, whether it became its subject's last one.

        A standing older than the one that is there is kept, and does not become the subject's last one.

        Args:
            sealed: The standings.
            appraised: The appraisals.
            future_s: What was issued after this moment, Unix seconds, is from a clock that was wrong. No reader counts
                it, so it gives way; else a clock that once jumped ahead would leave hosts without a result until then.

        Raises:
            UsageError: ``store.host.name`` when the name of a host belongs to another one in the store.
            UnreachableError: as ``Database.writing``.
        """
        standings = [Standing.from_bytes(item.standing) for item in sealed]
        with self._database.writing() as connection:
            for host_id, name, at_s in dict.fromkeys((s.host_id, s.name, s.issued_at_s) for s in standings):
                _register(connection, host_id, name, at_s)
            for appraisal in appraised:
                connection.execute(
                    insert(APPRAISALS).values(
                        host_id=appraisal.host_id,
                        issued_at=appraisal.issued_at_s,
                        result=appraisal.result,
                        ear=appraisal.ear,
                        bundle=appraisal.bundle,
                    )
                )
            seals: dict[bytes, int] = {}
            became = []
            for standing, item in zip(standings, sealed, strict=True):
                if item.seal not in seals:
                    seals[item.seal] = _key(connection.execute(insert(SEALS).values(envelope=item.seal)))
                became.append(_add(connection, standing, item, seals[item.seal], future_s))
        return tuple(became)

    def heads(self) -> list[SealedStanding]:
        """Return the last standing of every subject, as stored: nothing of it is verified."""
        joined = HEADS.join(STANDINGS, HEADS.c.standing_id == STANDINGS.c.id).join(SEALS)
        with self._database.reading() as connection:
            rows = connection.execute(_columns().select_from(joined).limit(MAX_ROWS)).all()
        return [_sealed(row) for row in rows]

    def last_verdicts(self, hosts: set[str]) -> dict[tuple[str, str], str]:
        """Return (host id, guest) to the verdict of its last standing, for some hosts; nothing of it is verified."""
        joined = HEADS.join(STANDINGS, HEADS.c.standing_id == STANDINGS.c.id)
        query = select(HEADS.c.host_id, HEADS.c.guest, STANDINGS.c.verdict).select_from(joined)
        found: dict[tuple[str, str], str] = {}
        wanted = sorted(hosts)
        with self._database.reading() as connection:
            for at in range(0, len(wanted), 500):
                for row in connection.execute(query.where(HEADS.c.host_id.in_(wanted[at : at + 500]))):
                    found[row.host_id, row.guest] = row.verdict
        return found

    def history(self, host_id: str, guest: str = "", *, limit: int = 100) -> list[SealedStanding]:
        """Return the last ``limit`` standings of one subject, newest first, as stored."""
        query = (
            _columns()
            .select_from(STANDINGS.join(SEALS))
            .where(and_(STANDINGS.c.host_id == host_id, STANDINGS.c.guest == guest))
            .order_by(STANDINGS.c.id.desc())
            .limit(limit)
        )
        with self._database.reading() as connection:
            return [_sealed(row) for row in connection.execute(query)]

    def last_appraisal(self, host_id: str) -> Appraised | None:
        """Return the newest appraisal of a host, as stored."""
        query = (
            select(APPRAISALS)
            .where(APPRAISALS.c.host_id == host_id)
            .order_by(APPRAISALS.c.issued_at.desc(), APPRAISALS.c.id.desc())
            .limit(1)
        )
        with self._database.reading() as connection:
            row = connection.execute(query).one_or_none()
        return None if row is None else _appraised(row)

    def hosts(self) -> dict[str, str]:
        """Return host id to name of every host that was ever appraised and not removed."""
        with self._database.reading() as connection:
            return {row.host_id: row.name for row in connection.execute(select(HOSTS).limit(MAX_ROWS))}

    def remove_host(self, host_id: str) -> bool:
        """Forget a host and all its results; its events stay. Says whether it was there."""
        with self._database.writing() as connection:
            return connection.execute(delete(HOSTS).where(HOSTS.c.host_id == host_id)).rowcount > 0

    def bundles(self) -> set[str]:
        """Return the ids of the bundles that results name."""
        with self._database.reading() as connection:
            query = select(APPRAISALS.c.bundle).where(APPRAISALS.c.bundle != "").distinct()
            return set(connection.execute(query).scalars())

    def prune(self, *, before_s: int) -> int:
        """Remove results that expired before ``before_s`` and are nobody's last one; return how many standings went.

        A verdict that changed something is history worth keeping, so each first standing of a new verdict stays.
        """
        with self._database.writing() as connection:
            doomed = list(_unremarkable(connection, before_s))
            for at in range(0, len(doomed), 500):
                connection.execute(delete(STANDINGS).where(STANDINGS.c.id.in_(doomed[at : at + 500])))
            connection.execute(delete(SEALS).where(SEALS.c.id.not_in(select(STANDINGS.c.seal_id))))
            newest = select(sqlalchemy.func.max(APPRAISALS.c.id)).group_by(APPRAISALS.c.host_id)
            connection.execute(
                delete(APPRAISALS).where(and_(APPRAISALS.c.issued_at < before_s, APPRAISALS.c.id.not_in(newest)))
            )
        return len(doomed)


def _register(connection: Connection, host_id: str, name: str, at_s: int) -> None:
    known = connection.execute(select(HOSTS.c.name).where(HOSTS.c.host_id == host_id)).scalar_one_or_none()
    if known == name:
        return
    try:
        with connection.begin_nested():
            if known is None:
                connection.execute(insert(HOSTS).values(host_id=host_id, name=name, added_at=at_s))
            else:
                connection.execute(update(HOSTS).where(HOSTS.c.host_id == host_id).values(name=name))
    except IntegrityError:
        again = connection.execute(select(HOSTS.c.name).where(HOSTS.c.host_id == host_id)).scalar_one_or_none()
        if again == name:  # Another writer was faster with the same.
            return
        raise UsageError(
            f"the name {shown(name)} belongs to another host than {host_id}",
            code="store.host.name",
            hint="remove the old host from the store, or give one of them another name",
        ) from None


def _add(connection: Connection, standing: Standing, item: SealedStanding, seal_id: int, future_s: int) -> bool:
    added = _key(
        connection.execute(
            insert(STANDINGS).values(
                host_id=standing.host_id,
                guest=standing.guest,
                verdict=standing.verdict.value,
                issued_at=standing.issued_at_s,
                expires_at=standing.expires_at_s,
                standing=item.standing,
                seal_id=seal_id,
                seal_index=item.place,
                seal_path=item.path,
            )
        )
    )
    subject = {"host_id": standing.host_id, "guest": standing.guest}
    # Another writer may add the same subject at this very moment: then this waits for it, adds nothing, and what
    # follows sees what it wrote.
    dialect = postgresql if connection.dialect.name == "postgresql" else sqlite
    connection.execute(dialect.insert(HEADS).values(**subject, standing_id=added).on_conflict_do_nothing())
    older = select(STANDINGS.c.id).where(
        and_(
            STANDINGS.c.id == HEADS.c.standing_id,
            or_(STANDINGS.c.issued_at <= standing.issued_at_s, STANDINGS.c.issued_at > future_s),
        )
    )
    moved = connection.execute(
        update(HEADS)
        .where(and_(*(HEADS.c[name] == value for name, value in subject.items()), older.exists()))
        .values(standing_id=added)
    )
    return moved.rowcount > 0


def _unremarkable(connection: Connection, before_s: int) -> Iterator[int]:
    heads = set(connection.execute(select(HEADS.c.standing_id)).scalars())
    query = select(
        STANDINGS.c.id, STANDINGS.c.host_id, STANDINGS.c.guest, STANDINGS.c.verdict, STANDINGS.c.expires_at
    ).order_by(STANDINGS.c.host_id, STANDINGS.c.guest, STANDINGS.c.id)
    last: tuple[str, str, str] | None = None
    for row in connection.execute(query):
        this = (row.host_id, row.guest, row.verdict)
        if this == last and row.expires_at < before_s and row.id not in heads:
            yield row.id
        last = this


def _columns() -> sqlalchemy.Select[Any]:
    return select(STANDINGS.c.standing, SEALS.c.envelope, STANDINGS.c.seal_index, STANDINGS.c.seal_path)


def _sealed(row: Row[Any]) -> SealedStanding:
    return SealedStanding(
        standing=bytes(row.standing), seal=bytes(row.envelope), place=row.seal_index, path=bytes(row.seal_path)
    )


def _appraised(row: Row[Any]) -> Appraised:
    return Appraised(
        host_id=row.host_id, issued_at_s=row.issued_at, result=bytes(row.result), ear=row.ear, bundle=row.bundle
    )


def _key(done: sqlalchemy.CursorResult[Any]) -> int:
    assert done.inserted_primary_key is not None
    return int(done.inserted_primary_key[0])
