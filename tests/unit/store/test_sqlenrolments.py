# SPDX-License-Identifier: GPL-3.0-or-later
"""Enrolments in a store keep the rules of those in files, also between processes."""

from __future__ import annotations

import pathlib
import threading
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest
import sqlalchemy
from ansible.module_utils.vouch.errors import UnreachableError, UsageError
from ansible.module_utils.vouch.model.enrolment import Enrolment
from ansible.module_utils.vouch.store.anyenrolments import open_enrolments, peek_enrolments
from ansible.module_utils.vouch.store.database import Database
from ansible.module_utils.vouch.store.enrolments import EnrolmentStore
from ansible.module_utils.vouch.store.schema import open_store
from ansible.module_utils.vouch.store.sqlenrolments import SqlEnrolments

from sim.attester import SimHost

HOST = SimHost().enrolment


def enrolment(seed: int, **changes: Any) -> Enrolment:
    """Return an enrolment with keys of its own."""
    key = HOST.ssh_host_key[:-4] + f"{seed:04d}"
    return replace(
        HOST,
        host_id=f"00000000-0000-4000-8000-{seed:012d}",
        ek_sha256=bytes([seed]) * 32,
        ak_public=bytes([seed]) * 90,
        ssh_host_key=key,
        **changes,
    )


@pytest.fixture
def database(store_url: str) -> Iterator[Database]:
    database = open_store(store_url, make=True)
    yield database
    database.close()


def test_added_found_updated_removed(database: Database) -> None:
    store = SqlEnrolments(database)
    assert store.all() == ()
    with pytest.raises(UsageError, match=r"enrolment\.missing"):
        store.get(enrolment(1).host_id)
    assert store.add(enrolment(2))
    assert store.add(enrolment(1))
    assert not store.add(enrolment(1))
    assert store.all() == (enrolment(1), enrolment(2))
    assert store.find_by_ek(enrolment(2).ek_sha256) == enrolment(2)
    assert store.find_by_ek(bytes(32)) is None
    new = replace(enrolment(1), accepted_at_s=9)
    store.update(enrolment(1), new)
    assert store.get(new.host_id) == new
    with pytest.raises(UsageError, match=r"enrolment\.changed"):
        store.update(enrolment(1), replace(new, accepted_at_s=10))
    with pytest.raises(UsageError, match=r"enrolment\.identity"):
        store.update(new, replace(new, ak_public=b"other"))
    assert store.remove(new.host_id)
    assert not store.remove(new.host_id)
    assert store.all() == (enrolment(2),)


@pytest.mark.parametrize(
    ("name", "code"),
    [
        ("ek_sha256", "enrolment.ek.duplicate"),
        ("ak_public", "enrolment.ak.duplicate"),
        ("ssh_host_key", "enrolment.ssh-host-key.duplicate"),
    ],
)
def test_two_hosts_cannot_share(database: Database, name: str, code: str) -> None:
    store = SqlEnrolments(database)
    store.add(enrolment(1))
    with pytest.raises(UsageError) as caught:
        store.add(replace(enrolment(2), **{name: getattr(enrolment(1), name)}))
    assert caught.value.code == code
    store.add(enrolment(3))
    with pytest.raises(UsageError) as caught:
        store.add(replace(enrolment(3), **{name: getattr(enrolment(1), name)}))
    assert caught.value.code in {code, "enrolment.ek.changed"}
    assert len(store.all()) == 2


def test_another_tpm_under_a_known_id(database: Database) -> None:
    store = SqlEnrolments(database)
    store.add(enrolment(1))
    with pytest.raises(UsageError, match=r"enrolment\.ek\.changed"):
        store.add(replace(enrolment(2), host_id=enrolment(1).host_id))
    again = replace(enrolment(1), ak_public=b"new key")
    assert store.add(again)
    assert store.all() == (again,)


def test_of_many_plays_that_enrol_one_tpm_one_wins(store_url: str) -> None:
    open_store(store_url, make=True).close()
    outcomes: list[str] = []

    def play(seed: int) -> None:
        store = open_enrolments(store_url)
        try:
            store.add(replace(enrolment(seed), ek_sha256=bytes(32)))
            outcomes.append("enrolled")
        except UsageError as error:
            outcomes.append(error.code)

    threads = [threading.Thread(target=play, args=(seed,)) for seed in range(1, 6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(outcomes) == sorted(["enrolled"] + ["enrolment.ek.duplicate"] * 4)


def test_a_damaged_row_is_an_error(database: Database) -> None:
    SqlEnrolments(database).add(enrolment(1))
    with database.writing() as connection:
        connection.execute(sqlalchemy.text("UPDATE enrolments SET enrolment = :x"), {"x": b"{}"})
    with pytest.raises(UnreachableError, match=r"enrolment\.malformed"):
        SqlEnrolments(database).all()


def test_a_place_is_a_folder_or_a_store(tmp_path: pathlib.Path) -> None:
    assert isinstance(open_enrolments(str(tmp_path / "folder")), EnrolmentStore)
    assert isinstance(open_enrolments(f"sqlite:///{tmp_path}/x.db"), SqlEnrolments)
    assert isinstance(peek_enrolments(f"sqlite:///{tmp_path}/x.db"), SqlEnrolments)


def test_who_only_looks_makes_no_store(tmp_path: pathlib.Path) -> None:
    url = f"sqlite:///{tmp_path}/none/x.db"
    with pytest.raises(UnreachableError, match=r"store\.missing"):
        open_enrolments(url, make=False)
    seen = peek_enrolments(url)
    one = enrolment(1)
    assert (seen.find(one.host_id), seen.find_by_ek(one.ek_sha256), seen.all()) == (None, None, ())
    assert not seen.remove(one.host_id)
    with pytest.raises(UsageError, match=r"enrolment\.missing"):
        seen.get(one.host_id)
    for change in (lambda: seen.add(one), lambda: seen.update(one, one)):
        with pytest.raises(UnreachableError, match=r"store\.missing"):
            change()
    assert not (tmp_path / "none").exists()
