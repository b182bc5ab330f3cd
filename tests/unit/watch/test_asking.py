# SPDX-License-Identifier: GPL-3.0-or-later
"""One question: put again where the first answer cannot be judged, and no result where the fault is ours."""

from __future__ import annotations

import pathlib

import pytest
from ansible.module_utils.vouch.errors import UnreachableError
from ansible.module_utils.vouch.model.enrolment import Enrolment
from ansible.module_utils.vouch.model.finding import Verdict
from ansible.module_utils.vouch.store.schema import open_store
from ansible.module_utils.vouch.store.sqlenrolments import SqlEnrolments
from ansible.module_utils.vouch.watch.asking import MAX_JUMPS, Asked, Asker
from ansible.module_utils.vouch.watch.config import WatchedHost

from sim.attester import TTL_S, SimHost
from watchparts import JumpyClock, SimLink, parts_of, silent


class Asking:
    """One enrolled host and who asks it; what is accepted advances its enrolment."""

    def __init__(self, folder: pathlib.Path) -> None:
        self.sim = SimHost()
        self.link = SimLink(self.sim)
        self.database = open_store(f"sqlite:///{folder}/store.db", make=True)
        self.clock = JumpyClock()
        parts = parts_of(self.database, {self.sim.host_id: self.link})
        self.enrolments = SqlEnrolments(self.database)
        self.asker = Asker(parts.appraiser, self.enrolments, self.clock)
        self.host = WatchedHost(name="h1", host_id=self.sim.host_id, address="x", port=22, user="vouch")

    def ask(self) -> Asked:
        asked = self.asker.ask(self.host, lambda _known: self.link)
        if asked.before is not None and asked.appraisal.enrolment is not None:
            self.enrolments.update(asked.before, asked.appraisal.enrolment)
        return asked


@pytest.fixture
def asking(tmp_path: pathlib.Path) -> Asking:
    return Asking(tmp_path)


def verdict(asked: Asked) -> tuple[Verdict, tuple[str, ...]]:
    found = asked.appraisal.result
    return found.verdict, tuple(item.code for item in found.findings)


def test_the_list_is_asked_for_from_where_it_was_judged_up_to(asking: Asking) -> None:
    asking.ask()
    asking.sim.measure("/init", b"initrd")
    assert verdict(asking.ask())[0] is Verdict.AFFIRMING
    assert (asking.link.offsets[0], asking.link.offsets[1] > 0) == (0, True)


def test_a_host_that_booted_the_same_again_is_asked_for_its_whole_list(asking: Asking) -> None:
    asking.ask()
    asking.sim.boot()
    asking.sim.measure("/init", b"initrd")
    assert verdict(asking.ask())[0] is Verdict.AFFIRMING
    assert [offset > 0 for offset in asking.link.offsets] == [False, True, False]
    assert len(set(asking.link.nonces)) == 3, "a nonce is good for one answer"


def test_who_never_sends_the_list_that_was_asked_for_is_asked_twice(asking: Asking) -> None:
    asking.ask()
    asking.link.answer = lambda nonce: _from(asking.sim, nonce, 1)
    assert verdict(asking.ask()) == (Verdict.CONTRAINDICATED, ("ima.offset.mismatch",))
    assert len(asking.link.nonces) == 3


def _from(sim: SimHost, nonce: bytes, offset: int) -> bytes:
    sim.ima_offset = offset
    return sim.evidence(nonce).to_bytes()


@pytest.mark.parametrize("seconds", [3600, -3600])
def test_a_clock_that_jumps_once_is_nobodys_fault(asking: Asking, seconds: int) -> None:
    def answer(nonce: bytes) -> bytes:
        if len(asking.link.nonces) == 1:
            asking.clock.jump(seconds)
        return asking.sim.evidence(nonce).to_bytes()

    asking.link.answer = answer
    asked = asking.ask()
    assert verdict(asked)[0] is Verdict.AFFIRMING
    assert len(asking.link.nonces) == 2
    assert asked.appraisal.result.issued_at_s == int(asking.clock.now().timestamp())


def test_under_a_clock_that_never_rests_nothing_is_said_about_hosts(asking: Asking) -> None:
    def answer(nonce: bytes) -> bytes:
        asking.clock.jump(3600)
        return asking.sim.evidence(nonce).to_bytes()

    asking.link.answer = answer
    with pytest.raises(UnreachableError) as caught:
        asking.ask()
    assert caught.value.code == "clock.jumped"
    assert len(asking.link.nonces) == 1 + MAX_JUMPS


def test_an_answer_that_took_too_long_is_stale(asking: Asking) -> None:
    def answer(nonce: bytes) -> bytes:
        asking.clock.advance(TTL_S)
        return asking.sim.evidence(nonce).to_bytes()

    asking.link.answer = answer
    assert verdict(asking.ask()) == (Verdict.CONTRAINDICATED, ("quote.nonce.stale",))
    assert len(asking.link.nonces) == 1


def test_enrolments_that_cannot_be_read_are_no_result(asking: Asking, monkeypatch: pytest.MonkeyPatch) -> None:
    def away(_self: SqlEnrolments, _host_id: str) -> Enrolment | None:
        raise UnreachableError("no route", code="store.unreachable")

    monkeypatch.setattr(SqlEnrolments, "find", away)
    with pytest.raises(UnreachableError, match=r"store\.unreachable"):
        asking.ask()
    assert asking.link.nonces == []


def test_what_stands_in_the_way_of_one_host_is_its_result(asking: Asking, monkeypatch: pytest.MonkeyPatch) -> None:
    asking.link.answer = silent
    assert verdict(asking.ask()) == (Verdict.NONE, ("ssh.connect",))
    asking.enrolments.remove(asking.sim.host_id)
    assert verdict(asking.ask()) == (Verdict.NONE, ("enrolment.missing",))

    def malformed(_self: SqlEnrolments, _host_id: str) -> Enrolment | None:
        raise UnreachableError("an enrolment in the store: no JSON", code="enrolment.malformed")

    monkeypatch.setattr(SqlEnrolments, "find", malformed)
    assert verdict(asking.ask()) == (Verdict.NONE, ("enrolment.malformed",))
