# SPDX-License-Identifier: GPL-3.0-or-later
"""One watched host: what an appraisal changes, what is news, and when it may be away."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest
from ansible.module_utils.vouch.errors import UnreachableError
from ansible.module_utils.vouch.fleet.appraiser import Answer, Appraiser
from ansible.module_utils.vouch.make.sign import public_key
from ansible.module_utils.vouch.model.enrolment import Enrolment
from ansible.module_utils.vouch.model.finding import Verdict
from ansible.module_utils.vouch.watch.config import WatchedHost
from ansible.module_utils.vouch.watch.pushed import UNNAMED, PushedViolation, read_violation
from ansible.module_utils.vouch.watch.ward import Change, Ward

from bundles import PACKAGE_KEY, SIGNED_PACKAGE, launch
from sim.attester import NOW_S, SimAppraiser, SimHost

NONCE = bytes(31) + b"\x07"


class Watched:
    def __init__(self, *, known: str = "") -> None:
        self.sim = SimHost()
        release = self.sim.release
        self.appraiser = Appraiser(
            SimAppraiser(host=self.sim, policy_changes={"package_keys": (public_key(PACKAGE_KEY),)}).policy,
            {self.sim.release_id: (release.envelope, release.manifest)},
            [SIGNED_PACKAGE],
        )
        host = WatchedHost(name="h1", host_id=self.sim.host_id, address="x", port=22, user="vouch")
        self.enrolment: Enrolment = self.sim.enrolment
        self.ward = Ward(host, known=known, now_s=NOW_S)

    def answers(self, *, asked_at_s: int = NOW_S) -> list[str]:
        data = self.sim.evidence(NONCE).to_bytes()
        key = self.sim.ssh_host_key
        return self._take(Answer(evidence=data, nonce=NONCE, channel_key=key, asked_at_s=asked_at_s))

    def silent(self) -> list[str]:
        return self._take(UnreachableError("no route", code="ssh.connect"))

    def _take(self, answer: Any) -> list[str]:
        done = self.appraiser.appraise(self.sim.host_id, answer, self.enrolment, now_s=NOW_S)
        before, self.enrolment = self.enrolment, done.enrolment or self.enrolment
        return [line(item) for item in self.ward.appraised(done, before, now_s=NOW_S, mono_s=0.0)]


def line(change: Change) -> str:
    return f"{change.subject} {change.kind} {change.before or '-'} {change.after}"


def test_what_changes_is_told_once() -> None:
    watched = Watched()
    assert watched.answers() == ["host state expired fresh"]
    watched.sim.ima_offset = 0
    assert watched.silent() == ["host state fresh unreachable", "host verdict affirming none"]
    assert watched.silent() == []
    assert watched.ward.failures == 2


@pytest.mark.parametrize(("known", "told"), [("fresh", []), ("failed", ["host state failed fresh"])])
def test_finding_what_was_known_before_the_start_is_no_news(known: str, told: list[str]) -> None:
    assert Watched(known=known).answers() == told


def test_a_host_that_is_being_updated_may_be_away() -> None:
    watched = Watched()
    watched.enrolment = dataclasses.replace(
        watched.enrolment.expecting(b"\x09" * 32, until_s=NOW_S + 60), accepted_at_s=NOW_S
    )
    watched.silent()
    assert watched.ward.state.state == "updating"
    watched.enrolment = watched.enrolment.expecting(b"\x09" * 32, until_s=NOW_S)
    watched.silent()
    assert watched.ward.state.state == "unreachable"


def test_a_violation_is_news_once_between_two_appraisals() -> None:
    watched = Watched()
    launch(watched.sim)
    assert watched.ward.pushed(PushedViolation("web", ("guest.text",)), now_s=NOW_S, ttl_s=60) == (None, ())
    watched.answers()
    told, changes = watched.ward.pushed(PushedViolation("web", ("guest.text",)), now_s=NOW_S, ttl_s=60)
    assert told is not None
    assert (told.guest, told.verdict) == ("web", Verdict.CONTRAINDICATED)
    assert [line(item) for item in changes] == ["guest:web verdict affirming contraindicated"]
    assert watched.ward.pushed(PushedViolation("web", ("guest.hook",)), now_s=NOW_S, ttl_s=60) == (None, ())


def test_an_answer_that_was_asked_for_before_a_violation_does_not_take_it_back() -> None:
    watched = Watched()
    launch(watched.sim)
    watched.answers(asked_at_s=NOW_S - 20)
    violation = PushedViolation("web", ("guest.text",))
    watched.ward.pushed(violation, now_s=NOW_S - 5, ttl_s=60)
    assert watched.answers(asked_at_s=NOW_S - 10) == []
    assert [item.verdict for item in watched.ward.standings if item.guest] == [Verdict.CONTRAINDICATED]
    assert watched.ward.pushed(violation, now_s=NOW_S, ttl_s=60) == (None, ())
    assert watched.silent() == ["host state fresh unreachable", "host verdict affirming none"]
    assert "guest:web verdict contraindicated affirming" in watched.answers(asked_at_s=NOW_S)


def test_a_violation_told_by_a_clock_far_ahead_gives_way() -> None:
    watched = Watched()
    launch(watched.sim)
    watched.answers()
    watched.ward.pushed(PushedViolation("web", ("guest.text",)), now_s=NOW_S + 3600, ttl_s=60)
    assert watched.answers() == ["guest:web verdict contraindicated affirming"]


def test_only_guests_of_the_last_accepted_evidence_can_be_told_of() -> None:
    watched = Watched()
    launch(watched.sim)
    assert not watched.ward.knows("web")
    watched.answers()
    watched.silent()
    assert watched.ward.knows("web")
    for number in range(100):
        stranger = PushedViolation(f"g{number}", ("x",))
        assert watched.ward.pushed(stranger, now_s=NOW_S, ttl_s=60) == (None, ())
    assert watched.ward.standings[1:] == ()
    assert [watched.ward.stranger(), watched.ward.stranger()] == [True, False]
    watched.answers()
    assert watched.ward.stranger()
    watched.sim.boot()
    watched.sim.statement_changes.clear()
    watched.sim.ima_offset = 0
    watched.answers()
    assert not watched.ward.knows("web")


@pytest.mark.parametrize(
    ("event", "found"),
    [
        ({"event": "guest.violation", "guest": "web", "codes": "a.b,c"}, PushedViolation("web", ("a.b", "c"))),
        ({"event": "guest.violation", "guest": "web", "codes": "a.b,a.b"}, PushedViolation("web", ("a.b",))),
        ({"event": "guest.violation", "guest": "web", "codes": "<b>,\x1b"}, PushedViolation("web", (UNNAMED,))),
        ({"event": "guest.violation", "guest": "web", "codes": 7}, PushedViolation("web", (UNNAMED,))),
        ({"event": "guest.violation", "guest": "web"}, PushedViolation("web", (UNNAMED,))),
        ({"event": "guest.violation", "guest": "Web"}, None),
        ({"event": "guest.violation", "guest": "x" * 64}, None),
        ({"event": "guest.stop", "guest": "web", "codes": "a"}, None),
        ({}, None),
    ],
)
def test_what_a_host_tells(event: dict[str, Any], found: PushedViolation | None) -> None:
    assert read_violation(event) == found
