# SPDX-License-Identifier: GPL-3.0-or-later
"""What waits for the store: every change in its order, bounded, and each enrolment advanced as if it had not waited."""

from __future__ import annotations

import pathlib
from typing import Any

import pytest
from ansible.module_utils.vouch.errors import UnreachableError
from ansible.module_utils.vouch.fleet.appraiser import Answer
from ansible.module_utils.vouch.fleet.recorder import Recorder
from ansible.module_utils.vouch.model.enrolment import Enrolment
from ansible.module_utils.vouch.store.enrolments import EnrolmentStore
from ansible.module_utils.vouch.store.events import EventStore
from ansible.module_utils.vouch.store.results import ResultStore
from ansible.module_utils.vouch.store.schema import open_store
from ansible.module_utils.vouch.watch.desk import MAX_CHANGES, Appraised, Desk

from bundles import launch
from sim.attester import NOW_S, SimHost
from standingparts import KEY
from watchparts import SimLink, parts_of


class Office:
    """A desk whose store can go away, and one host with its enrolment in a folder."""

    def __init__(self, folder: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.sim = SimHost()
        database = open_store(f"sqlite:///{folder}/store.db", make=True)
        parts = parts_of(database, {self.sim.host_id: SimLink(self.sim)})
        self.appraiser = parts.appraiser
        self.enrolments = EnrolmentStore(folder / "enrolments")
        self.enrolments.add(self.sim.enrolment)
        self.events, self.results = EventStore(database), ResultStore(database)
        self.log: list[str] = []
        self.desk = Desk(Recorder(database, KEY), self.enrolments, self.events, parts.claims, self.log.append)
        self.second = 0
        self.away = False
        put = ResultStore.put

        def failing(store: ResultStore, *args: Any, **named: Any) -> tuple[bool, ...]:
            if self.away:
                raise UnreachableError("no room", code="store.full")
            return put(store, *args, **named)

        monkeypatch.setattr(ResultStore, "put", failing)

    def good(self, before: Enrolment | None = None) -> None:
        before = before or self.enrolments.get(self.sim.host_id)
        self.sim.ima_offset = 0
        nonce = self.second.to_bytes(32, "big")
        self._put(nonce, self.sim.evidence(nonce).to_bytes(), before)

    def bad(self) -> None:
        evidence = self.sim.evidence(b"\xff" * 32).to_bytes()
        self._put(bytes(32), evidence, self.enrolments.get(self.sim.host_id))

    def silent(self) -> None:
        before = self.enrolments.get(self.sim.host_id)
        gone = UnreachableError("no route", code="ssh.connect")
        done = self.appraiser.appraise(self.sim.host_id, gone, before, now_s=NOW_S + self.second)
        self.second += 1
        self.desk.put(Appraised("h1", done, before))

    def _put(self, nonce: bytes, evidence: bytes, before: Enrolment) -> None:
        at_s = NOW_S + self.second
        self.second += 1
        answer = Answer(evidence=evidence, nonce=nonce, channel_key=self.sim.ssh_host_key, asked_at_s=at_s)
        done = self.appraiser.appraise(self.sim.host_id, answer, before, now_s=at_s)
        self.desk.put(Appraised("h1", done, before))

    def fails(self) -> None:
        self.away = True
        with pytest.raises(UnreachableError, match=r"store\.full"):
            self.desk.write(now_s=NOW_S)
        self.away = False

    def told(self) -> list[str]:
        """Write, and return the verdicts that became events, oldest first."""
        self.desk.write(now_s=NOW_S)
        return [event.code for event in reversed(self.events.of_host(self.sim.host_id))]


@pytest.fixture
def office(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> Office:
    return Office(tmp_path, monkeypatch)


def test_a_change_that_waits_is_not_replaced_by_what_came_after_it(office: Office) -> None:
    office.good()
    office.fails()
    office.bad()
    office.fails()
    office.good()
    office.good()
    assert office.desk.waiting == 3, "the same again replaces"
    assert office.told() == ["affirming", "contraindicated", "affirming"]
    assert office.desk.waiting == 0
    assert office.told() == ["affirming", "contraindicated", "affirming"], "nothing is written twice"
    assert office.enrolments.get(office.sim.host_id).accepted_at_s == NOW_S + 3
    assert office.log == []


def test_results_of_one_enrolment_are_all_kept_and_the_last_advances_it(office: Office) -> None:
    first = office.enrolments.get(office.sim.host_id)
    office.good(first)
    office.bad()
    office.good(first)
    assert office.told() == ["affirming", "contraindicated", "affirming"]
    assert office.enrolments.get(office.sim.host_id).accepted_at_s == NOW_S + 2


def test_an_enrolment_that_was_advanced_before_the_store_failed_loses_no_result(office: Office) -> None:
    for _ in range(3):
        office.good()
        office.fails()
        office.bad()
        office.fails()
    assert office.told() == ["affirming", "contraindicated"] * 3
    assert office.log == []


def test_a_result_by_an_enrolment_that_somebody_replaced_is_dropped(office: Office) -> None:
    known = office.enrolments.get(office.sim.host_id)
    office.good(known)
    office.enrolments.update(known, known.expecting(b"\x09" * 32, until_s=NOW_S + 60))
    assert office.told() == []
    assert "enrolment.changed" in office.log[0]
    assert office.desk.waiting == 0


def test_of_several_by_an_enrolment_that_somebody_replaced_every_accepted_one_is_dropped(office: Office) -> None:
    known = office.enrolments.get(office.sim.host_id)
    office.good(known)
    office.bad()
    office.good(known)
    now = known.expecting(b"\x09" * 32, until_s=NOW_S + 60)
    office.enrolments.update(known, now)
    assert office.told() == ["contraindicated"]
    assert (office.enrolments.get(office.sim.host_id), office.desk.waiting) == (now, 0)


def test_a_refused_guest_is_bad_news_too(office: Office) -> None:
    """It is not what its launch in the log says."""
    launch(office.sim)
    (record,) = office.sim.statement_changes["guests"]  # type: ignore[misc]
    office.sim.statement_changes["guests"] = (record._replace(package=bytes(32)),)
    office.good()
    office.sim.statement_changes["guests"] = ()
    office.sim.boot()
    for _ in range(MAX_CHANGES):
        office.silent()
        office.good()
    assert office.desk.waiting == MAX_CHANGES
    office.told()
    events = office.events.of_host(office.sim.host_id)
    assert ("guest:web", "contraindicated") in {(event.subject, event.code) for event in events}


def test_what_waits_is_bounded_and_bad_news_stays(office: Office) -> None:
    office.bad()
    for _ in range(MAX_CHANGES):
        office.silent()
        office.good()
    assert office.desk.waiting == MAX_CHANGES
    assert office.log
    told = office.told()
    assert (len(told), told[0], told[-1]) == (MAX_CHANGES, "contraindicated", "affirming")


def test_a_result_that_is_not_for_this_store_takes_no_other_down(office: Office) -> None:
    other = SimHost(seed=2)
    gone = UnreachableError("no route", code="ssh.connect")
    office.desk.put(Appraised("h1", office.appraiser.appraise(other.host_id, gone, None, now_s=NOW_S), None))
    office.good()
    assert office.told() == []
    assert office.results.hosts() == {other.host_id: "h1"}
    assert "store.host.name" in office.log[0]
