# SPDX-License-Identifier: GPL-3.0-or-later
"""Results in both kinds of store: written whole, the newest counts, nothing lost when a writer is killed."""

from __future__ import annotations

import os
import pathlib
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence

import pytest
from ansible.module_utils.vouch.check.seal import SealReader
from ansible.module_utils.vouch.errors import UsageError, VouchError
from ansible.module_utils.vouch.model.finding import Verdict
from ansible.module_utils.vouch.model.standing import SealedStanding, Standing
from ansible.module_utils.vouch.store.events import Event, EventStore
from ansible.module_utils.vouch.store.results import Appraised, ResultStore
from ansible.module_utils.vouch.store.schema import open_store

from standingparts import NOW_S, PUBLIC, host_id, sealed, standing

ROOT = pathlib.Path(__file__).resolve().parents[3]


@pytest.fixture
def store(store_url: str) -> Iterator[ResultStore]:
    database = open_store(store_url, make=True)
    yield ResultStore(database)
    database.close()


def read(items: Sequence[SealedStanding]) -> list[Standing]:
    reader = SealReader([PUBLIC])
    return [reader.verify(item) for item in items]


def test_what_is_put_is_read_and_still_sealed(store: ResultStore) -> None:
    told = [standing(1), standing(1, "web"), standing(2)]
    store.put(sealed(*told), [Appraised(host_id=host_id(1), issued_at_s=NOW_S, result=b"{}", ear="e", bundle="ab")])
    assert sorted(read(store.heads())) == sorted(told)
    assert store.hosts() == {host_id(1): "h1", host_id(2): "h2"}
    found = store.last_appraisal(host_id(1))
    assert found == Appraised(host_id=host_id(1), issued_at_s=NOW_S, result=b"{}", ear="e", bundle="ab")
    assert store.last_appraisal(host_id(2)) is None
    assert store.bundles() == {"ab"}
    assert store.last_verdicts({host_id(1), host_id(3)}) == {
        (host_id(1), ""): "affirming",
        (host_id(1), "web"): "affirming",
    }


def test_the_newest_is_the_last_one_whatever_the_order(store: ResultStore) -> None:
    new = standing(1, issued_at_s=NOW_S + 10, verdict=Verdict.CONTRAINDICATED)
    assert store.put(sealed(new)) == (True,)
    assert store.put(sealed(standing(1), standing(2))) == (False, True)
    store.remove_host(host_id(2))
    assert read(store.heads()) == [new]
    again = standing(1, issued_at_s=NOW_S + 10, verdict=Verdict.AFFIRMING)
    store.put(sealed(again))
    assert read(store.heads()) == [again]
    assert read(store.history(host_id(1))) == [again, standing(1), new]
    assert len(store.history(host_id(1), limit=2)) == 2


def test_a_result_from_the_future_gives_way(store: ResultStore) -> None:
    ahead = standing(1, issued_at_s=NOW_S + 9_000_000, expires_at_s=NOW_S + 9_000_600)
    store.put(sealed(ahead))
    store.put(sealed(standing(1)))
    assert read(store.heads()) == [ahead], "unless its reader says what the future is, the newest stands"
    store.put(sealed(standing(1)), future_s=NOW_S + 60)
    assert read(store.heads()) == [standing(1)]
    soon = standing(1, issued_at_s=NOW_S + 60, verdict=Verdict.CONTRAINDICATED)
    store.put(sealed(soon), future_s=NOW_S + 60)
    store.put(sealed(standing(1)), future_s=NOW_S + 60)
    assert read(store.heads()) == [soon], "clocks that differ a little lose nothing"


def test_a_name_belongs_to_one_host(store: ResultStore) -> None:
    store.put(sealed(standing(1)))
    with pytest.raises(UsageError) as caught:
        store.put(sealed(standing(3), standing(2, name="h1")))
    assert caught.value.code == "store.host.name"
    assert store.hosts() == {host_id(1): "h1"}, "nothing of the refused batch is there"
    store.put(sealed(standing(1, name="renamed", issued_at_s=NOW_S + 1)))
    assert store.hosts() == {host_id(1): "renamed"}


def test_a_removed_host_leaves_its_events(store_url: str) -> None:
    database = open_store(store_url, make=True)
    store, events = ResultStore(database), EventStore(database)
    store.put(sealed(standing(1), standing(1, "web")))
    events.add([Event(NOW_S, host_id(1), "host", "verdict", "affirming", "text \x1b[31m\n\u202e with tricks")])
    assert store.remove_host(host_id(1))
    assert not store.remove_host(host_id(1))
    assert store.heads() == []
    assert [event.detail for event in events.of_host(host_id(1))] == ["text ?[31m?? with tricks"]
    assert events.prune(before_s=NOW_S + 1) == 1
    database.close()


def test_pruning_keeps_what_was_news_and_the_last(store: ResultStore) -> None:
    verdicts = [Verdict.AFFIRMING] * 3 + [Verdict.WARNING] * 2 + [Verdict.AFFIRMING] * 2
    for number, verdict in enumerate(verdicts):
        at_s = NOW_S + number * 1000
        store.put(
            sealed(standing(1, issued_at_s=at_s, expires_at_s=at_s + 600, verdict=verdict)),
            [Appraised(host_id=host_id(1), issued_at_s=at_s, result=b"{}", bundle=f"{number:064x}")],
        )
    assert store.prune(before_s=NOW_S + 100_000) == 3
    kept = [item.issued_at_s for item in read(store.history(host_id(1)))]
    assert kept == [NOW_S + number * 1000 for number in (6, 5, 3, 0)]
    assert store.bundles() == {f"{6:064x}"}
    assert store.prune(before_s=NOW_S + 100_000) == 0


def test_many_writers_lose_nothing(store_url: str) -> None:
    open_store(store_url, make=True).close()
    failures: list[BaseException] = []

    def write(first: int) -> None:
        database = open_store(store_url)
        try:
            for number in range(first, first + 10):
                ResultStore(database).put(sealed(standing(number), standing(0, issued_at_s=NOW_S + number)))
        except VouchError as error:
            failures.append(error)
        finally:
            database.close()

    threads = [threading.Thread(target=write, args=(first,)) for first in (10, 20, 30, 40)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
    database = open_store(store_url)
    found = {item.name: item for item in read(ResultStore(database).heads())}
    assert len(found) == 41
    assert found["h0"].issued_at_s == NOW_S + 49
    database.close()


WRITER = """
import sys
sys.path[:0] = sys.argv[2:]
import ansible.module_utils as mu
mu.__path__.append(sys.argv[2])
from ansible.module_utils.vouch.store.results import Appraised, ResultStore
from ansible.module_utils.vouch.store.schema import open_store
from standingparts import NOW_S, host_id, sealed, standing
store = ResultStore(open_store(sys.argv[1]))
number = 0
while True:
    number += 1
    store.put(
        sealed(standing(number), standing(number, "web")),
        [Appraised(host_id=host_id(number), issued_at_s=NOW_S, result=b"x" * 20000)],
    )
    print(number, flush=True)
"""


def test_a_killed_writer_leaves_whole_results_only(store_url: str) -> None:
    open_store(store_url, make=True).close()
    paths = [str(ROOT / "module_utils"), str(ROOT / "tests")]
    writer = subprocess.Popen([sys.executable, "-c", WRITER, store_url, *paths], stdout=subprocess.PIPE, text=True)
    assert writer.stdout is not None
    told = 0
    while told < 5:
        told = int(writer.stdout.readline())
    time.sleep(0.01)
    os.kill(writer.pid, signal.SIGKILL)
    rest = writer.stdout.read().split()
    writer.wait()
    told = int(rest[-1]) if rest else told
    database = open_store(store_url)
    found = read(ResultStore(database).heads())
    hosts = {item.name for item in found if not item.guest}
    assert {f"h{number}" for number in range(1, told + 1)} <= hosts, "what was confirmed is there"
    assert {item.name for item in found if item.guest} == hosts, "and a host never without its guest"
    assert all(ResultStore(database).last_appraisal(item.host_id) is not None for item in found)
    database.close()
