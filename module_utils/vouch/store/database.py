# SPDX-License-Identifier: GPL-3.0-or-later
"""The result store's database: SQLite in a file, or PostgreSQL for teams; transactions; errors by whose fault they are.

A transaction either commits whole or leaves nothing, also when its process is killed: SQLite runs with a write-ahead
log that is synchronised at each commit, and takes its write lock when a transaction begins, so that two writers wait
for each other instead of failing at the end.

Source: sqlite.org, "Write-Ahead Logging", "PRAGMA synchronous"; PostgreSQL manual, appendix A (error codes).
"""

from __future__ import annotations

import contextlib
import functools
import os
import pathlib
import sqlite3
import time
from collections.abc import Iterator
from typing import Any

import sqlalchemy
from sqlalchemy import event
from sqlalchemy.engine import URL, Connection, make_url
from sqlalchemy.exc import ArgumentError, DBAPIError, SQLAlchemyError

from ..errors import UnreachableError, UsageError, VouchError, shown
from ..port.files import make_private_folder

LOCK_WAIT_S = 10.0
"""How long a transaction waits for another one's lock."""

LOCK_POLL_S = 0.02
STATEMENT_LIMIT_S = 60
CONNECT_LIMIT_S = 10

_SQLITE_CODES = {
    sqlite3.SQLITE_BUSY: "store.locked",
    sqlite3.SQLITE_LOCKED: "store.locked",
    sqlite3.SQLITE_FULL: "store.full",
    sqlite3.SQLITE_CORRUPT: "store.damaged",
    sqlite3.SQLITE_NOTADB: "store.damaged",
    sqlite3.SQLITE_READONLY: "store.unwritable",
    sqlite3.SQLITE_CANTOPEN: "store.unreachable",
    sqlite3.SQLITE_PERM: "store.unwritable",
}
_POSTGRES_CODES = {
    "53100": "store.full",
    "55P03": "store.locked",
    "40P01": "store.locked",
    "40001": "store.locked",
    "57014": "store.locked",
    "25006": "store.unwritable",
    "42501": "store.unwritable",
    "XX001": "store.damaged",
    "XX002": "store.damaged",
}
_HINTS = {
    "store.locked": "another process writes to it; try again",
    "store.full": "make room on its disk; nothing was written",
    "store.damaged": "restore it from a backup; nothing in it is trusted meanwhile",
    "store.unwritable": "check who owns it and whether it is read-only",
    "store.unreachable": "check its URL and whether its server runs",
}


class Database:
    """One store. Made by ``store.schema.open_store``, which also looks at its schema.

    Args:
        url: ``sqlite:///relative``, ``sqlite:////absolute``, or ``postgresql://user@host/name``. A password belongs
            into
            PostgreSQL's password file, not here.
        make: Make the file of a SQLite store that is not there yet, readable by its owner only.
        lock_wait_s: How long to wait for another writer.

    Raises:
        UsageError: ``store.url``.
        UnreachableError: ``store.missing`` for a SQLite file that is not there.
    """

    def __init__(self, url: str, *, make: bool = False, lock_wait_s: float = LOCK_WAIT_S) -> None:
        parsed = _parse(url)
        self.shown = parsed.render_as_string(hide_password=True)
        self.postgres = parsed.get_backend_name() == "postgresql"
        arguments: dict[str, Any] = {"timeout": lock_wait_s, "check_same_thread": False}
        if self.postgres:
            limits = f"-c lock_timeout={lock_wait_s * 1000:.0f} -c statement_timeout={STATEMENT_LIMIT_S * 1000}"
            arguments = {"connect_timeout": CONNECT_LIMIT_S, "options": limits}
        else:
            self._file(parsed, make)
        self._engine = sqlalchemy.create_engine(parsed, connect_args=arguments, pool_pre_ping=self.postgres)
        if not self.postgres:
            event.listen(self._engine, "connect", functools.partial(_prepare_sqlite, lock_wait_s))
            event.listen(self._engine, "begin", _begin_sqlite)

    @contextlib.contextmanager
    def writing(self) -> Iterator[Connection]:
        """Open a transaction that may write; it commits when the block ends without an error.

        Raises:
            UnreachableError: ``store.locked``, ``store.full``, ``store.damaged``, ``store.unwritable`` or
                ``store.unreachable``; then nothing of the block is in the store.
        """
        with self._translated(), self._engine.connect() as connection:
            connection = connection.execution_options(vouch_writes=True)
            with connection.begin():
                yield connection

    @contextlib.contextmanager
    def reading(self) -> Iterator[Connection]:
        """Open a transaction that only reads, and sees one state of the store; raises as ``writing``."""
        with self._translated(), self._engine.connect() as connection, connection.begin():
            if self.postgres:
                connection.execute(sqlalchemy.text("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ READ ONLY"))
            yield connection

    def close(self) -> None:
        """Close every connection."""
        self._engine.dispose()

    @contextlib.contextmanager
    def _translated(self) -> Iterator[None]:
        try:
            yield
        except VouchError:
            raise
        except (SQLAlchemyError, sqlite3.Error) as error:
            code = _code_of(error)
            original = error.orig if isinstance(error, DBAPIError) else error
            reason = str(original) if isinstance(original, Exception) else type(error).__name__
            raise UnreachableError(f"{self.shown}: {shown(reason.strip())}", code=code, hint=_HINTS[code]) from None

    def _file(self, url: URL, make: bool) -> None:
        path = pathlib.Path(url.database or "")
        if path.exists():
            return
        if not make:
            raise UnreachableError(
                f"{path} does not exist", code="store.missing", hint="the first appraisal into it makes it"
            )
        make_private_folder(path.parent)
        try:
            os.close(os.open(path, os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600))
        except OSError as error:
            raise UnreachableError(f"{path} cannot be made: {error.strerror}", code="store.unwritable") from None


def _parse(url: str) -> URL:
    try:
        parsed = make_url(url)
        backend = parsed.get_backend_name()
    except ArgumentError:
        # The text may hold a password, so it is not repeated.
        raise UsageError("this is no URL of a store", code="store.url", hint="sqlite:///file does") from None
    if backend == "postgresql":
        return parsed.set(drivername="postgresql+psycopg")
    if backend != "sqlite":
        raise UsageError(f"{shown(backend)} is no kind of store", code="store.url", hint="sqlite or postgresql")
    if not parsed.database or parsed.database == ":memory:":
        raise UsageError("a SQLite store is a file", code="store.url", hint="sqlite:////var/lib/vouch/store.db")
    return parsed.set(drivername="sqlite+pysqlite")


def _code_of(error: Exception) -> str:
    original = getattr(error, "orig", error)
    if isinstance(original, sqlite3.Error):
        number = getattr(original, "sqlite_errorcode", None)
        # Extended codes carry the primary one in their low byte (sqlite.org, "Result and Error Codes").
        return _SQLITE_CODES.get(number & 0xFF, "store.unreachable") if number is not None else "store.unreachable"
    return _POSTGRES_CODES.get(str(getattr(original, "sqlstate", "")), "store.unreachable")


def _prepare_sqlite(lock_wait_s: float, connection: sqlite3.Connection, _record: object) -> None:
    # Without this the driver begins and commits by itself, also around DDL: a migration could be left half done.
    connection.isolation_level = None
    deadline = time.monotonic() + lock_wait_s
    while True:
        try:
            # Of several processes that open a new file at once one changes it; SQLite does not let the others wait.
            connection.execute("PRAGMA journal_mode=WAL").close()
            break
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode & 0xFF != sqlite3.SQLITE_BUSY or time.monotonic() > deadline:
                raise
            time.sleep(LOCK_POLL_S)
    for pragma in ("synchronous=FULL", "foreign_keys=ON"):
        connection.execute(f"PRAGMA {pragma}").close()


def _begin_sqlite(connection: Connection) -> None:
    writes = connection.get_execution_options().get("vouch_writes", False)
    connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")
