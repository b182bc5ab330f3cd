# SPDX-License-Identifier: GPL-3.0-or-later
"""Where a host stands: never better than its state, and never better than its result."""

from __future__ import annotations

import dataclasses

import pytest
from ansible.module_utils.vouch.errors import UsageError
from ansible.module_utils.vouch.report.standing import STANDINGS, is_current, order_of, runs_refused, standing_of
from ansible.module_utils.vouch.report.view import STATES, FleetInput, HostInput, PackageInput

from sim.attester import NOW_S, TTL_S
from sim.fleet import hosts, packages

KINDS = {host.name: host for host in hosts()}
WORDS = {
    "xen-01": "affirming",
    "xen-02": "affirming",
    "xen-03": "affirming",
    "xen-04": "warning",
    "xen-05": "contraindicated",
    "xen-06": "contraindicated",
    "xen-07": "unreachable",
    "xen-08": "expired",
    "xen-09": "rebooted",
    "xen-10": "updating",
    "xen-11": "failed",
    "xen-12": "none",
}


@pytest.mark.parametrize("name", WORDS)
def test_each_kind_has_its_word(name: str) -> None:
    assert standing_of(KINDS[name], NOW_S).word == WORDS[name]


def test_every_state_has_a_word() -> None:
    assert {standing_of(dataclasses.replace(KINDS["xen-12"], state=state), NOW_S).word for state in STATES} == {
        *(set(STATES) - {"fresh", "rebooted"})
    }
    assert set(STATES) - {"fresh"} <= set(STANDINGS)


@pytest.mark.parametrize("state", STATES)
def test_no_state_makes_an_old_result_count(state: str) -> None:
    host = dataclasses.replace(KINDS["xen-01"], state=state)
    after_s = NOW_S + TTL_S
    assert not is_current(host, after_s)
    assert standing_of(host, after_s).word == ("expired" if state in ("fresh", "rebooted") else state)
    assert not runs_refused(dataclasses.replace(KINDS["xen-03"], state=state), after_s)


def test_a_result_counts_up_to_its_last_second() -> None:
    host = KINDS["xen-01"]
    assert standing_of(host, NOW_S + TTL_S - 1).word == "affirming"
    assert standing_of(host, NOW_S + TTL_S).word == "expired"


@pytest.mark.parametrize("state", sorted(set(STATES) - {"fresh", "rebooted", "failed"}))
def test_no_other_state_lets_a_result_count(state: str) -> None:
    assert not is_current(dataclasses.replace(KINDS["xen-01"], state=state), NOW_S)


@pytest.mark.parametrize(
    ("changes", "word"),
    [
        ({"result": None}, "none"),
        ({"result": KINDS["xen-07"].result, "host_id": KINDS["xen-07"].host_id, "enrolment": None}, "unreachable"),
    ],
)
def test_fresh_without_an_answer_is_not_fresh(changes: dict[str, object], word: str) -> None:
    host = dataclasses.replace(KINDS["xen-01"], **changes)  # type: ignore[arg-type]
    assert standing_of(host, NOW_S).word == word
    assert not is_current(host, NOW_S)


def test_a_host_that_booted_is_never_better_than_its_result() -> None:
    assert is_current(KINDS["xen-09"], NOW_S)
    assert STANDINGS["warning"].rank < STANDINGS["rebooted"].rank < STANDINGS["affirming"].rank
    assert standing_of(dataclasses.replace(KINDS["xen-04"], state="rebooted"), NOW_S).word == "warning"
    assert standing_of(dataclasses.replace(KINDS["xen-05"], state="rebooted"), NOW_S).word == "contraindicated"
    assert standing_of(dataclasses.replace(KINDS["xen-12"], state="rebooted"), NOW_S).word == "none"


def test_a_failed_host_whose_evidence_is_refused_says_so() -> None:
    assert standing_of(dataclasses.replace(KINDS["xen-05"], state="failed"), NOW_S).word == "contraindicated"
    assert standing_of(dataclasses.replace(KINDS["xen-01"], state="failed"), NOW_S).word == "failed"


def test_the_worst_come_first_and_a_refused_guest_counts() -> None:
    ordered = sorted(KINDS.values(), key=lambda host: order_of(host, NOW_S))
    names = [host.name for host in ordered]
    assert names[:4] == ["xen-05", "xen-06", "xen-03", "xen-11"]
    assert names[-2:] == ["xen-01", "xen-02"]


def test_a_refusal_does_not_heal_by_getting_old() -> None:
    refused = dataclasses.replace(KINDS["xen-05"], state="unreachable", name="z")
    assert order_of(refused, NOW_S) < order_of(KINDS["xen-07"], NOW_S)


REFUSED: dict[str, tuple[str, object]] = {
    "an unknown state": ("report.state", lambda: dataclasses.replace(KINDS["xen-01"], state="fine")),
    "the result of another host": (
        "report.host",
        lambda: dataclasses.replace(KINDS["xen-01"], result=KINDS["xen-02"].result),
    ),
    "the enrolment of another host": (
        "report.host",
        lambda: dataclasses.replace(KINDS["xen-01"], enrolment=KINDS["xen-02"].enrolment),
    ),
    "one id twice": (
        "report.host",
        lambda: FleetInput(title="x", generated_at_s=0, hosts=(KINDS["xen-12"], KINDS["xen-12"])),
    ),
    "a package under another id": (
        "report.package",
        lambda: FleetInput(
            title="x",
            generated_at_s=0,
            packages={bytes(32): PackageInput(report=next(iter(packages().values())).report)},
        ),
    ),
}


@pytest.mark.parametrize("fault", REFUSED)
def test_parts_that_do_not_belong_together(fault: str) -> None:
    code, make = REFUSED[fault]
    with pytest.raises(UsageError) as caught:
        make()  # type: ignore[operator]
    assert caught.value.code == code


def test_a_host_without_anything_is_told() -> None:
    bare = HostInput(name="", host_id="x", state="none")
    assert standing_of(bare, 0) is STANDINGS["none"]
