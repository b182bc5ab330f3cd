# SPDX-License-Identifier: GPL-3.0-or-later
"""Which revision the store's tables have, and how they get to the newest.

A revision is a function over Alembic's operations, run in one transaction with the note that it ran, so a store is
never between two of them. An empty store is filled when it is opened for writing. One of an older revision is changed
only when somebody asks for it (``vouch-store upgrade``): other processes may still run the older code.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Any

import sqlalchemy
from sqlalchemy import BigInteger, Column, Integer, MetaData, Table
from sqlalchemy.engine import Connection

from ..errors import UnreachableError
from .database import LOCK_WAIT_S, Database
from .tables import METADATA

Revision = Callable[[Any], None]
"""A function over Alembic's operations (``revisions``)."""

NEWEST = 3
"""How many revisions there are. Written down, so that whoever only reads a store need not load what changes one."""

_VERSION = Table(
    "vouch_schema",
    MetaData(),
    Column("revision", Integer, primary_key=True, autoincrement=False),
    Column("changed_at", BigInteger, nullable=False),
)
_UPGRADE_LOCK = 0x766F756368
"""PostgreSQL advisory lock: one upgrade at a time."""


def open_store(url: str, *, make: bool = False, lock_wait_s: float = LOCK_WAIT_S) -> Database:
    """Return the store at ``url``, ready for use.

    Args:
        url: As ``Database`` takes it.
        make: Make a store that is not there yet.
        lock_wait_s: How long to wait for another writer.

    Raises:
        UsageError: ``store.url``.
        UnreachableError: ``store.missing``, ``store.schema.old``, ``store.schema.new``, ``store.schema.foreign``,
            ``store.schema.half``, or as ``Database``.
    """
    database = Database(url, make=make, lock_wait_s=lock_wait_s)
    try:
        with database.reading() as connection:
            found = revision_of(connection)
            tables = _tables(connection)
        if found == 0 and not tables and make:
            upgrade(database)
        elif found == 0 and not tables:
            raise UnreachableError(f"{database.shown} is empty", code="store.missing", hint="appraise into it first")
        else:
            _check(database.shown, found, tables)
    except BaseException:
        database.close()
        raise
    return database


def upgrade(database: Database, revisions: Sequence[Revision] | None = None) -> tuple[int, int]:
    """Bring the tables to the newest revision; return (revision before, revision now).

    Args:
        database: The store.
        revisions: Others than those of ``revisions.REVISIONS``.

    Raises:
        UnreachableError: ``store.schema.new``, ``store.schema.foreign``, or as ``Database``; then nothing was changed.
    """
    # Each play that reads the inventory opens a store and hardly one changes it: Alembic would cost them a tenth of a
    # second.
    from alembic.operations import Operations
    from alembic.runtime.migration import MigrationContext

    from .revisions import REVISIONS

    revisions = REVISIONS if revisions is None else revisions
    with database.writing() as connection:
        if database.postgres:
            connection.execute(sqlalchemy.select(sqlalchemy.func.pg_advisory_xact_lock(_UPGRADE_LOCK)))
        before = revision_of(connection)
        if before == 0 and _tables(connection):
            _check(database.shown, before, _tables(connection))
        if before > len(revisions):
            raise _newer(database.shown, before, len(revisions))
        operations = Operations(MigrationContext.configure(connection))
        _VERSION.create(connection, checkfirst=True)
        for number in range(before + 1, len(revisions) + 1):
            revisions[number - 1](operations)
            connection.execute(sqlalchemy.insert(_VERSION).values(revision=number, changed_at=int(time.time())))
    return before, len(revisions)


def revision_of(connection: Connection) -> int:
    """Return the revision of the tables; 0 when none ran."""
    if not sqlalchemy.inspect(connection).has_table(_VERSION.name):
        return 0
    return connection.execute(sqlalchemy.select(sqlalchemy.func.max(_VERSION.c.revision))).scalar() or 0


def _tables(connection: Connection) -> set[str]:
    return set(sqlalchemy.inspect(connection).get_table_names()) - {_VERSION.name}


def _check(shown: str, found: int, tables: set[str]) -> None:
    newest = NEWEST
    if found == 0:
        raise UnreachableError(
            f"{shown} holds tables that are not a store's",
            code="store.schema.foreign",
            hint="give it a database of its own",
        )
    if found > newest:
        raise _newer(shown, found, newest)
    if found < newest:
        raise UnreachableError(
            f"{shown} has revision {found}, this program needs {newest}",
            code="store.schema.old",
            hint="stop what writes to it, back it up, run vouch-store upgrade",
        )
    missing = set(METADATA.tables) - tables
    if missing:
        raise UnreachableError(
            f"{shown} lacks {', '.join(sorted(missing))} though it says revision {found}",
            code="store.schema.half",
            hint="restore it from a backup",
        )


def _newer(shown: str, found: int, newest: int) -> UnreachableError:
    return UnreachableError(
        f"{shown} has revision {found}, this program knows {newest}", code="store.schema.new", hint="use a newer Vouch"
    )
