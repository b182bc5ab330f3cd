# SPDX-License-Identifier: GPL-3.0-or-later
"""The controller's side of an update: what is recorded and ordered, in which order, and what is refused."""

from __future__ import annotations

import json
import pathlib
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from ansible.module_utils.vouch.errors import UnreachableError, UsageError
from ansible.module_utils.vouch.install.hostupdate import UpdateOutcome, UpdateWish, update_host
from ansible.module_utils.vouch.make.sign import generate_private_key
from ansible.module_utils.vouch.model.enrolment import Enrolment
from ansible.module_utils.vouch.model.hostorder import CONFIRM, STAGE, TRY
from ansible.module_utils.vouch.model.updateplan import HostStatus
from ansible.module_utils.vouch.parse.envelope import parse_envelope
from ansible.module_utils.vouch.store.enrolments import EnrolmentStore

from sim.attester import NOW_S, SimHost

NEW = b"\x02" * 32
HOUR = 3600
KEY = generate_private_key()


class FakeHost:
    """A host that does what it is told, unless it refuses."""

    def __init__(self, running: bytes) -> None:
        self.found = HostStatus("current", running, running, b"", 0)
        self.orders: list[dict[str, Any]] = []
        self.refusal = ""
        self.recorded: Callable[[], object] = lambda: None
        self.seen: list[object] = []

    def status(self) -> HostStatus:
        return self.found

    def challenge(self) -> bytes:
        return bytes(32)

    def order(self, envelope: bytes) -> bool:
        if self.refusal:
            raise UnreachableError("no", code=self.refusal)
        order = json.loads(parse_envelope(envelope).payload)
        self.orders.append(order)
        self.seen.append(self.recorded())
        release = bytes.fromhex(order["release"])
        if order["action"] == STAGE:
            self.found = self.found._replace(state="staged", waiting=release, updates=1)
        elif order["action"] == CONFIRM:
            self.found = HostStatus("current", release, release, b"", 1)
        return True

    def boot(self, release: bytes) -> None:
        self.found = self.found._replace(state="trial", running=release)

    def fall_back(self) -> None:
        self.found = self.found._replace(state="fallen-back", running=self.found.confirmed)


class Controller:
    """A store with one host in it."""

    def __init__(self, folder: pathlib.Path) -> None:
        self.store = EnrolmentStore(folder / "enrolments")
        enrolment = SimHost().enrolment
        self.store.add(enrolment)
        self.old, self.host_id = enrolment.release_id, enrolment.host_id
        self.host = FakeHost(self.old)
        self.host.recorded = lambda: self.known
        self.now_s = NOW_S

    @property
    def known(self) -> Enrolment:
        return self.store.get(self.host_id)

    def step(self, state: str, *, rehearse: bool = False, **changes: Any) -> UpdateOutcome:
        wish = UpdateWish(host_id=self.host_id, state=state, release=NEW, store="http://192.0.2.1/", accept_s=HOUR)
        wish = replace(wish, **changes)
        return update_host(wish, self.host, self.store, lambda: KEY, now_s=self.now_s, rehearse=rehearse)

    def refused(self, state: str, **changes: Any) -> str:
        with pytest.raises((UsageError, UnreachableError)) as caught:
            self.step(state, **changes)
        return caught.value.code

    def accept(self) -> None:
        """Accept evidence of the new release."""
        known = self.known
        assert known.next is not None
        self.store.update(known, replace(known, next=replace(known.next, accepted_at_s=self.now_s)))

    @property
    def actions(self) -> list[str]:
        return [order["action"] for order in self.host.orders]


@pytest.fixture
def controller(tmp_path: pathlib.Path) -> Controller:
    return Controller(tmp_path)


def test_a_whole_update(controller: Controller) -> None:
    assert controller.step("staged").order == STAGE
    assert controller.known.next is not None
    assert (controller.known.next.release_id, controller.known.next.until_s) == (NEW, NOW_S + HOUR)
    assert controller.step("tried", confirm_s=700).order == TRY
    controller.host.boot(NEW)
    controller.accept()
    outcome = controller.step("confirmed")
    assert (outcome.order, outcome.after.state) == (CONFIRM, "current")
    known = controller.known
    assert (known.release_id, known.installed, known.next, known.retired) == (
        NEW,
        controller.old,
        None,
        (controller.old,),
    )
    stage, trial, confirm = controller.host.orders
    assert (stage["store"], trial["confirm_s"], confirm["confirm_s"]) == ("http://192.0.2.1/", 700, None)


def test_the_record_comes_before_what_it_allows_and_after_what_it_rests_on(controller: Controller) -> None:
    controller.step("staged")
    controller.host.boot(NEW)
    controller.accept()
    controller.step("confirmed")
    at_stage, at_confirm = controller.host.seen
    assert isinstance(at_stage, Enrolment)
    assert isinstance(at_confirm, Enrolment)
    assert at_stage.next is not None
    assert at_confirm.release_id == controller.old


def test_each_step_twice_orders_once(controller: Controller) -> None:
    for _ in range(2):
        controller.step("staged")
    controller.step("tried")
    controller.host.boot(NEW)
    controller.step("tried")
    controller.accept()
    for _ in range(2):
        last = controller.step("confirmed")
    assert controller.actions == [STAGE, TRY, CONFIRM]
    assert not last.changed
    # And the whole play once more.
    for state in ("staged", "tried", "confirmed"):
        assert not controller.step(state).changed


def test_a_rehearsal_orders_and_records_nothing(controller: Controller) -> None:
    before = controller.known
    outcome = controller.step("staged", rehearse=True)
    assert (outcome.order, outcome.changed) == (STAGE, True)
    assert outcome.recorded.next is not None
    assert (controller.known, controller.actions) == (before, [])


def test_nothing_is_confirmed_without_accepted_evidence(controller: Controller) -> None:
    controller.step("staged")
    controller.host.boot(NEW)
    assert controller.refused("confirmed") == "update.unproven"
    assert controller.actions == [STAGE]


def test_a_play_that_died_after_the_host_confirmed(controller: Controller) -> None:
    """The host keeps the release already, the record does not say so yet."""
    controller.step("staged")
    controller.host.boot(NEW)
    controller.accept()
    controller.host.found = HostStatus("current", NEW, NEW, b"", 1)
    for state in ("staged", "tried", "confirmed"):
        controller.step(state)
    assert controller.actions == [STAGE]
    assert controller.known.release_id == NEW


def test_a_host_that_refuses_stays_expected_and_nothing_else(controller: Controller) -> None:
    controller.host.refusal = "store.missing"
    assert controller.refused("staged") == "store.missing"
    assert controller.known.next is not None
    controller.host.refusal = ""
    controller.step("staged")
    controller.host.boot(NEW)
    controller.accept()
    controller.host.refusal = "update.esp"
    assert controller.refused("confirmed") == "update.esp"
    assert controller.known.release_id == controller.old


def test_a_host_that_fell_back_is_not_restarted_again_by_itself(controller: Controller) -> None:
    controller.step("staged")
    controller.step("tried")
    controller.host.fall_back()
    assert controller.refused("tried") == "update.fallen-back"
    assert controller.step("tried", again=True).order == TRY


WINDOWS: dict[str, tuple[int | None, int | None, bool]] = {
    "none": (None, None, True),
    "now": (NOW_S, NOW_S + 1, True),
    "later": (NOW_S + 1, None, False),
    "over": (None, NOW_S, False),
    "not yet over": (None, NOW_S + 1, True),
}


@pytest.mark.parametrize("window", WINDOWS)
def test_the_restart_keeps_to_its_window(controller: Controller, window: str) -> None:
    begin_s, end_s, within = WINDOWS[window]
    controller.step("staged", begin_s=begin_s, end_s=end_s)
    if within:
        assert controller.step("tried", begin_s=begin_s, end_s=end_s).order == TRY
    else:
        assert controller.refused("tried", begin_s=begin_s, end_s=end_s) == "update.window"
        assert controller.actions == [STAGE]


def test_outside_the_window_nothing_is_wrong_with_a_host_that_is_there(controller: Controller) -> None:
    controller.step("staged")
    controller.host.boot(NEW)
    assert controller.step("tried", end_s=NOW_S).order is None


def test_the_time_of_an_update_is_renewed_when_half_of_it_is_over(controller: Controller) -> None:
    controller.step("staged")
    first = controller.known.next
    controller.now_s += HOUR // 2
    assert not controller.step("staged").changed
    controller.now_s += 1
    assert controller.step("tried").changed
    assert first is not None
    assert controller.known.next is not None
    assert controller.known.next.until_s == controller.now_s + HOUR > first.until_s


def test_what_waits_on_the_host_but_is_not_expected_is_not_tried(controller: Controller) -> None:
    controller.host.found = HostStatus("staged", controller.old, controller.old, NEW, 1)
    assert controller.refused("tried") == "update.unexpected"


def test_no_way_back(controller: Controller) -> None:
    known = controller.known
    controller.store.update(known, replace(known, retired=(NEW,)))
    assert controller.refused("staged") == "update.retired"
    assert controller.actions == []


def test_a_host_nobody_enrolled(controller: Controller) -> None:
    assert controller.refused("staged", host_id="1" * 8 + controller.host_id[8:]) == "enrolment.missing"
