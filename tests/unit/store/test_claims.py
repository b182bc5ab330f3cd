# SPDX-License-Identifier: GPL-3.0-or-later
"""Claims: one owner at a time, taken over when they run out, on both kinds of store."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import pytest
from ansible.module_utils.vouch.store.claims import CLOCK_SKEW_S, ClaimStore, all_watched
from ansible.module_utils.vouch.store.database import Database
from ansible.module_utils.vouch.store.schema import open_store

from standingparts import NOW_S, host_id

HOSTS = [host_id(number) for number in range(10)]
LEASE_S = 20


@pytest.fixture
def database(store_url: str) -> Iterator[Database]:
    database = open_store(store_url, make=True)
    yield database
    database.close()


def claims(database: Database, owner: str) -> ClaimStore:
    return ClaimStore(database, owner, lease_s=LEASE_S)


def test_each_host_has_one_owner(database: Database) -> None:
    one, two = claims(database, "one"), claims(database, "two")
    one.register(HOSTS, now_s=NOW_S)
    two.register(HOSTS, now_s=NOW_S)
    first = {item.host_id for item in one.take(HOSTS, limit=6, now_s=NOW_S)}
    second = {item.host_id for item in two.take(HOSTS, limit=100, now_s=NOW_S)}
    assert (len(first), len(second)) == (6, 4)
    assert first | second == set(HOSTS)
    assert one.take(HOSTS, limit=100, now_s=NOW_S) == []
    assert set(one.renew(now_s=NOW_S + 5)) == first


def test_a_dead_ones_hosts_are_taken_over_and_not_taken_back(database: Database) -> None:
    dead, heir = claims(database, "dead"), claims(database, "heir")
    dead.register(HOSTS, now_s=NOW_S)
    dead.take(HOSTS, limit=100, now_s=NOW_S)
    assert heir.take(HOSTS, limit=100, now_s=NOW_S + LEASE_S - 1) == []
    assert len(heir.take(HOSTS, limit=100, now_s=NOW_S + LEASE_S)) == 10
    assert dead.renew(now_s=NOW_S + LEASE_S) == {}
    dead.note_all([(HOSTS[0], "fresh", 1, 1)])
    assert all_watched(database)[HOSTS[0]].state == "", "what another one holds is not ours to write"
    heir.note_all([(HOSTS[0], "fresh", NOW_S, NOW_S + 60)])
    assert all_watched(database)[HOSTS[0]].state == "fresh"


def test_what_is_given_back_is_free_at_once(database: Database) -> None:
    one, two = claims(database, "one"), claims(database, "two")
    one.register(HOSTS, now_s=NOW_S)
    one.take(HOSTS, limit=100, now_s=NOW_S)
    one.release()
    assert len(two.take(HOSTS, limit=100, now_s=NOW_S)) == 10


def test_only_the_own_hosts_are_taken(database: Database) -> None:
    one = claims(database, "one")
    one.register(HOSTS, now_s=NOW_S)
    assert [item.host_id for item in one.take(HOSTS[:2], limit=100, now_s=NOW_S)] == HOSTS[:2]
    assert one.take([host_id(99)], limit=100, now_s=NOW_S) == []


def test_a_claim_of_a_clock_far_ahead_is_free(database: Database) -> None:
    wrong, other = claims(database, "wrong"), claims(database, "other")
    wrong.register(HOSTS, now_s=NOW_S)
    wrong.take(HOSTS[:5], limit=100, now_s=NOW_S + 86_400)
    wrong.take(HOSTS[5:], limit=100, now_s=NOW_S + LEASE_S + CLOCK_SKEW_S)
    found = {item.host_id for item in other.take(HOSTS, limit=100, now_s=NOW_S)}
    assert found == set(HOSTS[:5]), "a clock that is a little ahead keeps its hosts"
    assert set(other.renew(now_s=NOW_S)) == found


def test_many_that_take_at_once_share(store_url: str) -> None:
    database = open_store(store_url, make=True)
    claims(database, "first").register(HOSTS, now_s=NOW_S)
    taken: list[str] = []
    gate = threading.Barrier(5)

    def take(owner: str) -> None:
        own = open_store(store_url)
        gate.wait()
        for _ in range(4):
            taken.extend(item.host_id for item in claims(own, owner).take(HOSTS, limit=1, now_s=NOW_S))
        own.close()

    threads = [threading.Thread(target=take, args=(f"p{number}",)) for number in range(5)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(taken) == HOSTS
    database.close()
