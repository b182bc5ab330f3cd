# SPDX-License-Identifier: GPL-3.0-or-later
"""The watch over simulated hosts and a real store: asking, violations, a store that fails, takeover, an orderly end."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import json
import pathlib
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest
from ansible.module_utils.vouch.errors import UnreachableError, UsageError
from ansible.module_utils.vouch.model.enrolment import Enrolment
from ansible.module_utils.vouch.model.finding import Verdict
from ansible.module_utils.vouch.model.standing import PUSHED, Standing
from ansible.module_utils.vouch.port.hostlink import HostLink
from ansible.module_utils.vouch.store.results import ResultStore
from ansible.module_utils.vouch.store.schema import open_store
from ansible.module_utils.vouch.store.sqlenrolments import SqlEnrolments
from ansible.module_utils.vouch.store.tables import WATCHES
from ansible.module_utils.vouch.watch.config import WatchedHost
from ansible.module_utils.vouch.watch.service import wait
from prometheus_client import generate_latest
from sqlalchemy import select

from bundles import launch
from sim.attester import ssh_key
from watchparts import LIMIT_S, Field, parts_of, run, silent, until


@pytest.fixture
def field(tmp_path: pathlib.Path) -> Field:
    return Field(f"sqlite:///{tmp_path}/store.db")


def test_hosts_are_asked_again_and_again_with_nonces_of_their_own(field: Field) -> None:
    async def then() -> None:
        await until(lambda: min(len(field.one.nonces), len(field.two.nonces)) >= 3, "asked three times")
        await until(lambda: field.status("h1") == field.status("h2") == "affirming", "both are affirmed")

    run(field.watch(), then=then)
    nonces = [*field.one.nonces, *field.two.nonces]
    assert len(set(nonces)) == len(nonces)
    assert set(field.states().values()) == {"fresh"}
    assert all(item.owner == "" for item in _rows(field)), "claims were given back"


def _rows(field: Field) -> list[Any]:
    with field.database.reading() as connection:
        return list(connection.execute(select(WATCHES)))


def test_a_violation_is_written_at_once_and_outranks_what_was_asked_before(field: Field) -> None:
    launch(field.one.host)
    store = ResultStore(field.database)

    def pushed() -> list[Standing]:
        told = [Standing.from_bytes(item.standing) for item in store.history(field.one.host.host_id, "web")]
        return [item for item in told if item.stage == PUSHED]

    async def then() -> None:
        await until(lambda: field.status("h1", "web") == "affirming", "affirmed")
        field.one.told.put({"event": "guest.violation", "guest": "web", "codes": "guest.text.changed,\x1b[31m"})
        await until(lambda: bool(pushed()), "written")
        (found,) = pushed()
        assert (found.verdict, found.reasons) == (Verdict.CONTRAINDICATED, ("guest.text.changed",))
        asked = len(field.one.nonces)
        await until(lambda: len(field.one.nonces) > asked, "and asked again")

    run(field.watch(), then=then)
    assert b"vouch_watch_violations_total 1.0" in generate_latest(field.metrics.registry)


def test_guests_that_a_host_makes_up_get_no_standing(field: Field) -> None:
    async def then() -> None:
        await until(lambda: field.status("h1") == "affirming", "affirmed")
        asked = len(field.one.nonces)
        for number in range(100):
            field.one.told.put({"event": "guest.violation", "guest": f"g{number}", "codes": "guest.text.changed"})
        await until(lambda: len(field.one.nonces) > asked, "and asked again")
        await until(lambda: b"vouch_watch_strangers_total 100.0" in generate_latest(field.metrics.registry), "counted")

    run(field.watch(), then=then)
    assert {guest for _, guest in ResultStore(field.database).last_verdicts({field.one.host.host_id})} == {""}
    assert b"vouch_watch_violations_total 0.0" in generate_latest(field.metrics.registry)
    assert 1 <= sum("does not have" in line for line in field.log) < 10


@pytest.mark.parametrize(
    "event",
    [
        {"event": "watch.alive"},
        {"event": "guest.launch", "guest": "web"},
        {"event": "guest.violation", "guest": "../etc"},
        {"event": "guest.violation", "guest": ["web"]},
        {"event": "guest.violation"},
    ],
)
def test_what_is_no_violation_changes_nothing(field: Field, event: dict[str, Any]) -> None:
    async def then() -> None:
        await until(lambda: field.status("h1") == "affirming", "affirmed")
        field.one.told.put(event)
        before = len(field.one.nonces)
        await until(lambda: len(field.one.nonces) > before, "life goes on")

    run(field.watch(), then=then)
    assert b"vouch_watch_violations_total 0.0" in generate_latest(field.metrics.registry)
    assert ResultStore(field.database).history(field.one.host.host_id, "web") == []


def test_silence_is_told_apart(field: Field) -> None:
    async def then() -> None:
        await until(lambda: field.status("h1") == "affirming", "affirmed")
        field.one.answer = silent
        await until(lambda: field.states().get(field.one.host.host_id) == "unreachable", "noticed")
        assert field.status("h1") == "none"
        enrolments = SqlEnrolments(field.database)

        def planned() -> bool:
            known = enrolments.get(field.two.host.host_id)
            with contextlib.suppress(UsageError):  # It is advanced by each answer.
                enrolments.update(known, known.expecting(b"\x09" * 32, until_s=int(time.time()) + 600))
                return True
            return False

        await until(planned, "an update is recorded")
        await asyncio.sleep(0.6)
        field.two.answer = silent
        await until(lambda: field.states().get(field.two.host.host_id) == "updating", "planned")

    run(field.watch(), then=then)
    assert ("state", "unreachable") in field.events(field.one)


def test_replayed_evidence_of_another_nonce_is_refused(field: Field) -> None:
    kept: list[bytes] = []
    # Not before the first was seen to be good: who looks may be slower than the watch.
    replaying = threading.Event()

    def replay(nonce: bytes) -> bytes:
        kept.append(field.one.host.evidence(nonce).to_bytes())
        return kept[0 if replaying.is_set() else -1]

    async def then() -> None:
        await until(lambda: field.status("h1") == "affirming", "the first is good")
        replaying.set()
        await until(lambda: field.status("h1") == "contraindicated", "the second is not")

    field.one.answer = replay
    run(field.watch(), then=then)
    assert field.status("h2") == "affirming", "the other host has nothing to do with it"


def test_a_store_that_fails_for_a_while_loses_nothing(field: Field, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ansible.module_utils.vouch.watch.service.STORE_PAUSE_S", 0.2)
    broken = threading.Event()
    put = ResultStore.put

    def failing(self: ResultStore, *args: Any, **named: Any) -> tuple[bool, ...]:
        if broken.is_set():
            raise UnreachableError("no room", code="store.full")
        return put(self, *args, **named)

    monkeypatch.setattr(ResultStore, "put", failing)

    async def then() -> None:
        broken.set()
        await until(lambda: any("store.full" in line for line in field.log), "said")
        assert field.status("h1") == "none"
        broken.clear()
        await until(lambda: field.status("h1") == "affirming", "written when it can be")

    run(field.watch(), then=then)


def test_a_host_that_is_away_is_not_asked_more_often_for_being_listened_to(
    field: Field, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ansible.module_utils.vouch.watch.service.RESUBSCRIBE_S", 0.1)

    def away() -> Iterator[dict[str, Any] | None]:
        raise UnreachableError("no route", code="ssh.connect")

    async def then() -> None:
        field.one.answer = silent
        monkeypatch.setattr(field.one, "events", away)
        await until(lambda: len(field.one.nonces) >= 2, "asked twice")
        asked = len(field.one.nonces)
        await asyncio.sleep(3.5)
        assert len(field.one.nonces) - asked <= 2, "two seconds, then four"

    run(field.watch(), then=then)


def test_a_host_that_was_enrolled_again_is_reached_by_its_new_key(field: Field) -> None:
    enrolments, keys = SqlEnrolments(field.database), list[str]()
    watch = field.watch()
    links = watch._parts.links

    def link(host: WatchedHost, key: str) -> HostLink:
        if host.name == "h1":
            keys.append(key)
        return links(host, key)

    watch._parts = dataclasses.replace(watch._parts, links=link)

    async def then() -> None:
        await until(lambda: field.status("h1") == "affirming", "affirmed")
        known = enrolments.get(field.one.host.host_id)
        enrolments.remove(known.host_id)
        enrolments.add(dataclasses.replace(known, ssh_host_key=ssh_key(77)))
        await until(lambda: keys[-1] == ssh_key(77), "connected anew")

    run(watch, then=then)
    assert keys == [field.one.host.ssh_host_key, ssh_key(77)]


def test_a_host_that_tells_without_end_is_asked_once_a_second(field: Field) -> None:
    launch(field.one.host)

    async def then() -> None:
        await until(lambda: field.status("h1", "web") == "affirming", "affirmed")
        asked = len(field.one.nonces)
        end_s = time.monotonic() + 3
        while time.monotonic() < end_s:
            field.one.told.put({"event": "guest.violation", "guest": "web", "codes": "guest.text.changed"})
            await asyncio.sleep(0.01)
        assert 1 <= len(field.one.nonces) - asked <= 4

    run(field.watch(), then=then)


def test_while_the_enrolments_are_away_nothing_is_said_about_hosts(
    field: Field, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ansible.module_utils.vouch.watch.service.STORE_PAUSE_S", 0.2)
    away = threading.Event()
    find = SqlEnrolments.find

    def failing(self: SqlEnrolments, host_id: str) -> Enrolment | None:
        if away.is_set():
            raise UnreachableError("no route", code="store.unreachable")
        return find(self, host_id)

    monkeypatch.setattr(SqlEnrolments, "find", failing)

    async def then() -> None:
        await until(lambda: field.status("h1") == field.status("h2") == "affirming", "both are affirmed")
        away.set()
        await until(lambda: any("store.unreachable" in line for line in field.log), "said")
        await asyncio.sleep(1.5)
        assert field.status("h1") == field.status("h2") == "affirming"
        asked = len(field.one.nonces)
        away.clear()
        await until(lambda: len(field.one.nonces) > asked, "and asked again")

    run(field.watch(), then=then)
    assert {code for link in field.links.values() for kind, code in field.events(link) if kind == "verdict"} == {
        "affirming"
    }
    assert b"vouch_watch_unasked_total 0.0" not in generate_latest(field.metrics.registry)


@pytest.mark.parametrize("turns", range(6))
def test_a_wait_that_is_cancelled_ends(turns: int) -> None:
    async def forever(event: asyncio.Event) -> None:
        while True:
            await wait(event, LIMIT_S)
            event.clear()

    async def then() -> bool:
        event = asyncio.Event()
        task = asyncio.create_task(forever(event))
        await asyncio.sleep(0)
        event.set()
        for _ in range(turns):
            await asyncio.sleep(0)
        task.cancel()
        ended, _ = await asyncio.wait([task], timeout=0.5)
        task.cancel()
        return bool(ended)

    assert asyncio.run(then())


def test_the_hosts_of_a_dead_process_are_taken_over(field: Field) -> None:
    dead = parts_of(field.database, field.links, owner="dead", lease_s=1).claims
    now_s = int(time.time())
    dead.register(field.links, now_s=now_s)
    assert len(dead.take(field.links, limit=10, now_s=now_s)) == 2

    async def then() -> None:
        await until(lambda: field.status("h1") == field.status("h2") == "affirming", "taken over")

    run(field.watch("heir"), then=then)


def test_two_processes_share_the_hosts(field: Field) -> None:
    other = open_store(field.url)

    async def then() -> None:
        await until(lambda: field.status("h1") == field.status("h2") == "affirming", "both are looked after")
        owners = {row.owner for row in _rows(field)}
        assert owners == {"one", "two"}

    run(field.watch("one", capacity=1), field.watch("two", database=other, capacity=1), then=then)
    other.close()


def test_hooks_are_told_of_changes_and_may_fail(field: Field, tmp_path: pathlib.Path) -> None:
    script = tmp_path / "hook"
    (tmp_path / "told").mkdir()
    # A file for each call: several run at a time.
    script.write_text(f"#!/bin/sh\ncat > {tmp_path}/told/.$$ && mv {tmp_path}/told/.$$ {tmp_path}/told/$$\n")
    script.chmod(0o755)
    hooks = [
        {"kind": "command", "argv": [str(script)], "timeout_s": 10},
        {"kind": "command", "argv": ["/nowhere/hook"], "timeout_s": 10},
    ]

    def told() -> list[str]:
        return [path.read_text() for path in (tmp_path / "told").glob("[!.]*")]

    async def then() -> None:
        await until(lambda: field.status("h1") == "affirming", "affirmed")
        field.one.answer = silent
        await until(lambda: any("unreachable" in text for text in told()), "told")
        await until(lambda: ("hook", "hook.command") in field.events(field.one), "the failure is an event")

    run(field.watch(hooks=hooks), then=then)
    state = next(item for item in map(json.loads, told()) if item["kind"] == "state" and item["after"] == "unreachable")
    assert (state["name"], state["subject"], state["before"]) == ("h1", "host", "fresh")
