# SPDX-License-Identifier: GPL-3.0-or-later
"""What was appraised is in the store whole: sealed, with its bundle, and an event only where it is news."""

from __future__ import annotations

import dataclasses
import pathlib
from collections.abc import Iterator

import pytest
from ansible.module_utils.vouch.appraise.result import AttestationResult, unreachable_result
from ansible.module_utils.vouch.errors import UnreachableError
from ansible.module_utils.vouch.fleet.recorder import Found, Recorder
from ansible.module_utils.vouch.fleet.register import read_register
from ansible.module_utils.vouch.make.bundle import write_bundle
from ansible.module_utils.vouch.model.finding import Verdict
from ansible.module_utils.vouch.store.bundles import BundleStore
from ansible.module_utils.vouch.store.database import Database
from ansible.module_utils.vouch.store.events import EventStore
from ansible.module_utils.vouch.store.results import ResultStore
from ansible.module_utils.vouch.store.schema import open_store

from sim.attester import NOW_S, SimAppraiser, SimHost
from standingparts import KEY, PUBLIC, standing


@pytest.fixture
def database(store_url: str) -> Iterator[Database]:
    database = open_store(store_url, make=True)
    yield database
    database.close()


@pytest.fixture(scope="module")
def good() -> AttestationResult:
    host = SimHost()
    result: AttestationResult = SimAppraiser(host=host).appraise(host.evidence()).result
    assert result.verdict is Verdict.AFFIRMING
    return result


def test_a_result_with_its_bundle(database: Database, tmp_path: pathlib.Path, good: AttestationResult) -> None:
    bundles = BundleStore(tmp_path)
    parts = {"result.json": good.to_bytes()}
    (told,) = Recorder(database, KEY, bundles=bundles).record(
        [Found(name="h1", result=good, ear="token", parts=parts)], now_s=NOW_S
    )
    register = read_register(ResultStore(database), [PUBLIC])
    assert register.host("h1") == told
    assert told.verdict is Verdict.AFFIRMING
    kept = ResultStore(database).last_appraisal(good.host_id)
    assert kept is not None
    assert AttestationResult.from_bytes(kept.result) == good
    assert kept.ear == "token"
    assert bundles.read(kept.bundle) == write_bundle(parts)


def test_older_news_is_no_event_and_each_change_of_one_batch_is_one(
    database: Database, good: AttestationResult
) -> None:
    recorder = Recorder(database, KEY)
    pushed = standing(
        1,
        "web",
        host_id=good.host_id,
        name="h1",
        verdict=Verdict.CONTRAINDICATED,
        issued_at_s=NOW_S + 5,
        expires_at_s=NOW_S + 60,
    )
    recorder.record_standings([pushed], now_s=NOW_S)
    older = pushed._replace(verdict=Verdict.AFFIRMING, issued_at_s=NOW_S)
    recorder.record_standings([older], now_s=NOW_S)
    later = [
        pushed._replace(verdict=verdict, issued_at_s=NOW_S + 6 + at)
        for at, verdict in enumerate((Verdict.WARNING, Verdict.WARNING, Verdict.AFFIRMING))
    ]
    recorder.record_standings(later, now_s=NOW_S)
    told = [event.code for event in EventStore(database).of_host(good.host_id)]
    assert told == ["affirming", "warning", "contraindicated"]


def test_only_news_is_an_event(database: Database, good: AttestationResult) -> None:
    recorder = Recorder(database, KEY)
    later = dataclasses.replace(good, issued_at_s=good.issued_at_s + 10, expires_at_s=good.expires_at_s + 10)
    gone = unreachable_result(
        good.host_id,
        UnreachableError("no route", code="ssh.unreachable"),
        policy_digest=good.policy_digest,
        issued_at_s=good.issued_at_s + 20,
        ttl_s=60,
    )
    for result in (good, later, gone, gone):
        recorder.record([Found(name="h1", result=result)], now_s=NOW_S)
    pushed = standing(
        1, "web", host_id=good.host_id, name="h1", verdict=Verdict.CONTRAINDICATED, reasons=("guest.text",)
    )
    recorder.record_standings([pushed], now_s=NOW_S)
    recorder.record_standings([pushed], now_s=NOW_S)
    told = [(event.subject, event.code, event.detail) for event in EventStore(database).of_host(good.host_id)]
    assert told == [
        ("guest:web", "contraindicated", "guest.text"),
        ("host", "none", "ssh.unreachable"),
        ("host", "affirming", ""),
    ]


def test_nothing_to_record(database: Database) -> None:
    assert Recorder(database, KEY).record([], now_s=NOW_S) == ()
    Recorder(database, KEY).record_standings([], now_s=NOW_S)
    assert ResultStore(database).heads() == []
