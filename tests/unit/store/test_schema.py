# SPDX-License-Identifier: GPL-3.0-or-later
"""Revisions lead to the tables; a store that is not ready is told by its code; a cut-off upgrade leaves nothing."""

from __future__ import annotations

import pathlib
import threading
from collections.abc import Callable

import pytest
import sqlalchemy
from alembic.autogenerate import compare_metadata
from alembic.operations import Operations
from alembic.runtime.migration import MigrationContext
from ansible.module_utils.vouch.errors import UnreachableError, UsageError, VouchError
from ansible.module_utils.vouch.store.database import Database
from ansible.module_utils.vouch.store.revisions import REVISIONS
from ansible.module_utils.vouch.store.schema import NEWEST, open_store, revision_of, upgrade
from ansible.module_utils.vouch.store.tables import METADATA


def test_revisions_lead_to_the_tables(store_url: str) -> None:
    database = open_store(store_url, make=True)
    with database.reading() as connection:
        context = MigrationContext.configure(
            connection, opts={"include_name": lambda name, *_: name != "vouch_schema", "compare_type": True}
        )
        assert compare_metadata(context, METADATA) == []
        assert revision_of(connection) == len(REVISIONS)
    database.close()


def test_the_newest_revision_is_the_last_one() -> None:
    assert len(REVISIONS) == NEWEST


def test_opening_again_changes_nothing(store_url: str) -> None:
    open_store(store_url, make=True).close()
    database = open_store(store_url)
    assert upgrade(database) == (len(REVISIONS), len(REVISIONS))
    database.close()


def test_an_older_store_waits_for_its_upgrade(store_url: str) -> None:
    database = Database(store_url, make=True)
    upgrade(database, REVISIONS[:1])
    with pytest.raises(UnreachableError, match=r"store\.schema\.old"):
        open_store(store_url, make=True)
    assert upgrade(database) == (1, len(REVISIONS))
    open_store(store_url).close()
    database.close()


def test_an_upgrade_keeps_the_watched_hosts(store_url: str) -> None:
    database = Database(store_url, make=True)
    upgrade(database, REVISIONS[:2])
    _change("INSERT INTO watches VALUES ('h1', 'one', 7, 8, 'failed', 9, 10)")(database)
    upgrade(database)
    with database.reading() as connection:
        (row,) = connection.execute(sqlalchemy.text("SELECT * FROM watches"))
    assert tuple(row) == ("h1", "one", 7, 8, "failed", 9)
    database.close()


def _change(*statements: str) -> Callable[[Database], None]:
    def change(database: Database) -> None:
        with database.writing() as connection:
            for statement in statements:
                connection.execute(sqlalchemy.text(statement))

    return change


@pytest.mark.parametrize(
    ("code", "change"),
    [
        ("store.schema.new", _change("INSERT INTO vouch_schema VALUES (99, 0)")),
        ("store.schema.half", _change("DROP TABLE heads")),
        ("store.schema.foreign", _change("DROP TABLE vouch_schema")),
    ],
)
def test_a_store_that_is_not_ours_to_use(store_url: str, code: str, change: Callable[[Database], None]) -> None:
    database = open_store(store_url, make=True)
    change(database)
    with pytest.raises(UnreachableError) as caught:
        open_store(store_url, make=True)
    assert caught.value.code == code
    if code != "store.schema.half":
        with pytest.raises(UnreachableError) as caught:
            upgrade(database)
        assert caught.value.code == code
    database.close()


def test_a_revision_that_fails_leaves_the_store_as_it_was(store_url: str) -> None:
    database = open_store(store_url, make=True)

    def broken(operations: Operations) -> None:
        operations.create_table("half", sqlalchemy.Column("id", sqlalchemy.Integer))
        raise UnreachableError("the power went", code="test.power")

    with pytest.raises(UnreachableError, match=r"test\.power"):
        upgrade(database, (*REVISIONS, broken))
    with database.reading() as connection:
        assert not sqlalchemy.inspect(connection).has_table("half")
        assert revision_of(connection) == len(REVISIONS)
    database.close()


@pytest.mark.parametrize(
    "url", ["", "nonsense", "mysql://host/name", "sqlite://", "sqlite:///:memory:", "://", "postgresql+nothing"]
)
def test_what_is_no_url(url: str) -> None:
    with pytest.raises(UsageError) as caught:
        Database(url)
    assert caught.value.code == "store.url"


def test_a_password_is_never_shown(tmp_path: pathlib.Path) -> None:
    database = Database("postgresql://me:secret@127.0.0.1:1/none")
    assert "secret" not in database.shown
    with pytest.raises(UnreachableError) as caught, database.reading():
        pass
    assert caught.value.code == "store.unreachable"
    assert "secret" not in str(caught.value)


def test_a_file_that_is_missing_or_something_else(tmp_path: pathlib.Path) -> None:
    with pytest.raises(UnreachableError, match=r"store\.missing"):
        open_store(f"sqlite:///{tmp_path}/none.db")
    (tmp_path / "text.db").write_text("no database at all, but long enough to be looked at" * 100)
    with pytest.raises(UnreachableError, match=r"store\.damaged"):
        open_store(f"sqlite:///{tmp_path}/text.db", make=True)
    (tmp_path / "empty.db").touch()
    with pytest.raises(UnreachableError, match=r"store\.missing"):
        open_store(f"sqlite:///{tmp_path}/empty.db")
    (tmp_path / "folder").mkdir()
    with pytest.raises(UnreachableError, match=r"store\.unreachable"):
        open_store(f"sqlite:///{tmp_path}/folder")


def test_a_new_file_is_its_owners_alone(tmp_path: pathlib.Path) -> None:
    open_store(f"sqlite:///{tmp_path}/new/store.db", make=True).close()
    assert (tmp_path / "new/store.db").stat().st_mode & 0o777 == 0o600
    assert (tmp_path / "new").stat().st_mode & 0o777 == 0o700


def test_a_locked_store_says_so(store_url: str) -> None:
    open_store(store_url, make=True).close()
    holder, waiter = open_store(store_url), open_store(store_url, lock_wait_s=0.2)
    lock = "LOCK TABLE hosts" if holder.postgres else "DELETE FROM hosts"
    with holder.writing() as connection:
        connection.execute(sqlalchemy.text(lock))
        with pytest.raises(UnreachableError) as caught, waiter.writing() as other:
            other.execute(sqlalchemy.text("DELETE FROM hosts"))
        assert caught.value.code == "store.locked"
    holder.close()
    waiter.close()


def test_a_full_disk_says_so_and_loses_nothing(tmp_path: pathlib.Path) -> None:
    database = open_store(f"sqlite:///{tmp_path}/store.db", make=True)
    with database.reading() as connection:
        pages = connection.execute(sqlalchemy.text("PRAGMA page_count")).scalar_one()
    insert = sqlalchemy.text(
        "INSERT INTO events(at, host_id, subject, kind, code, detail) VALUES (1,'h','s','k','c',:d)"
    )

    def fill() -> None:
        with database.writing() as connection:
            connection.execute(sqlalchemy.text(f"PRAGMA max_page_count={pages + 2}"))
            for _ in range(100):
                connection.execute(insert, {"d": "x" * 4096})

    with pytest.raises(UnreachableError) as caught:
        fill()
    assert caught.value.code == "store.full"
    with database.reading() as connection:
        assert connection.execute(sqlalchemy.text("SELECT count(*) FROM events")).scalar_one() == 0
    database.close()


def test_many_that_make_one_store_at_once(store_url: str) -> None:
    failures: list[VouchError] = []
    gate = threading.Barrier(8)

    def make() -> None:
        gate.wait()
        try:
            open_store(store_url, make=True).close()
        except VouchError as error:
            failures.append(error)

    threads = [threading.Thread(target=make) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
