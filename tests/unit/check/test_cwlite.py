# SPDX-License-Identifier: GPL-3.0-or-later
"""The check of a policy against its intent: one change to a good policy, and the verdict names just that."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import pytest
from ansible.module_utils.vouch.check.cwlite import Conflict, PolicyVerdict, check_policy
from ansible.module_utils.vouch.errors import UsageError
from ansible.module_utils.vouch.model.integrity import Entry, Filter, Intent
from ansible.module_utils.vouch.parse.sepolicy import parse_policy

from sim.buildnode import intent, policy
from sim.policy import SimPolicy, allow


def verdict_of(sim: SimPolicy, wanted: Intent | None = None) -> PolicyVerdict:
    """Return what is found."""
    return check_policy(parse_policy(sim.to_bytes()), wanted or intent())


def conflict(text: str) -> Conflict:
    """Return the conflict of ``"C1 data subject object:class [becomes]"``."""
    kind, severity, subject, item, *becomes = text.split()
    of, _, tclass = item.partition(":")
    return Conflict(
        kind=kind,
        severity=severity,
        subject=subject,
        object=of,
        class_name=tclass,
        becomes=becomes[0] if becomes else "",
    )


def test_the_good_policy_passes() -> None:
    verdict = verdict_of(policy())
    assert verdict.passed
    assert (verdict.conflict_count, list(verdict.conflicts()), verdict.faults) == (0, [], ())
    assert verdict.filter_uses == (("read",), ("read",))


MUTATIONS: dict[str, tuple[list[str], list[str]]] = {
    "the compiler writes the configuration": (
        ["cc_t etc_t:file write"],
        ["C1 data kernel_t etc_t:file", "C1 data init_t etc_t:file", "C1 data distccd_t etc_t:file"],
    ),
    "the compiler writes the server's program": (
        ["cc_t distccd_exec_t:file append"],
        ["C1 code distccd_t distccd_exec_t:file", "C1 data distccd_t distccd_exec_t:file"],
    ),
    "the server runs what the compiler wrote": (
        ["distccd_t cc_tmp_t:file execute"],
        ["C1 code distccd_t cc_tmp_t:file"],
    ),
    "the server reads what has no label": (["distccd_t unlabeled_t:file read"], ["C1 data distccd_t unlabeled_t:file"]),
    "init reads the network": (["init_t init_t:tcp_socket read"], ["C1 net init_t init_t:tcp_socket"]),
    "the compiler sends a signal": (
        ["cc_t distccd_t:process signal"],
        ["C2 ipc distccd_t cc_t:process"],
    ),
    "the compiler looks into the server's memory": (
        ["cc_t distccd_t:process ptrace"],
        ["C2 code distccd_t cc_t:process"],
    ),
    "the compiler loads a policy": (["cc_t kernel_t:security load_policy"], ["C3 kernel cc_t kernel_t:security"]),
    "the compiler loads a module": (["cc_t cc_t:capability sys_module"], ["C3 kernel cc_t cc_t:capability"]),
    "the server makes the compiler's output its configuration": (
        ["distccd_t cc_tmp_t:file relabelfrom", "distccd_t etc_t:file relabelto"],
        ["C4 data distccd_t cc_tmp_t:file etc_t"],
    ),
    "the compiler starts the server": (
        ["cc_t distccd_t:process transition"],
        ["C5 code distccd_t cc_t:process"],
    ),
    "the compiler becomes the server": (
        ["cc_t distccd_t:process dyntransition"],
        ["C5 code distccd_t cc_t:process"],
    ),
    "the compiler may keep its environment": (
        ["cc_t distccd_t:process noatsecure"],
        ["C5 code distccd_t cc_t:process"],
    ),
    "the compiler takes a label": (
        ["cc_t etc_t:file relabelto"],
        ["C1 data kernel_t etc_t:file", "C1 data init_t etc_t:file", "C1 data distccd_t etc_t:file"],
    ),
}


@pytest.mark.parametrize("what", MUTATIONS)
def test_one_rule_more_is_named(what: str) -> None:
    rules, expected = MUTATIONS[what]
    sim = policy()
    sim.rules += [allow(text) for text in rules]
    verdict = verdict_of(sim)
    assert not verdict.passed
    assert set(verdict.conflicts()) == {conflict(text) for text in expected}
    assert verdict.conflict_count == len(expected)


HARMLESS = (
    *("cc_t etc_t:file read", "cc_t distccd_exec_t:file execute", "cc_t cc_t:process signal"),
    *("init_t cc_t:process signal", "distccd_t cc_tmp_t:file write", "init_t kernel_t:security load_policy"),
    *("cc_t distccd_t:process getattr", "cc_t kernel_t:security compute_av"),
)


@pytest.mark.parametrize("text", HARMLESS)
def test_a_rule_that_only_flows_down_is_none(text: str) -> None:
    sim = policy()
    sim.rules.append(allow(text))
    assert verdict_of(sim).passed


FAULTS: dict[str, tuple[Callable[[SimPolicy], SimPolicy], str, str]] = {
    "permissive": (lambda sim: dataclasses.replace(sim, permissive=["cc_t"]), "policy.permissive", "cc_t"),
    "unknown allowed": (
        lambda sim: dataclasses.replace(sim, handle_unknown="allow"),
        "policy.unknown-allowed",
        "allow",
    ),
}


@pytest.mark.parametrize("what", FAULTS)
def test_faults_of_the_whole_policy(what: str) -> None:
    change, code, actual = FAULTS[what]
    verdict = verdict_of(change(policy()))
    assert not verdict.passed
    assert [(fault.code, fault.actual) for fault in verdict.faults] == [(code, actual)]
    assert not verdict.groups


def with_boolean(state: bool) -> SimPolicy:
    """Return the policy with a rule that hangs on a boolean and breaks it."""
    sim = policy()
    sim.booleans = {"cc_debug": state}
    sim.conditionals = [
        ("cc_debug", [allow("cc_t distccd_t:process ptrace")], [allow("cc_t distccd_t:process signal")])
    ]
    return sim


@pytest.mark.parametrize("state", [True, False])
def test_booleans_count_as_the_intent_says(state: bool) -> None:
    ptrace, signal = "C2 code distccd_t cc_t:process", "C2 ipc distccd_t cc_t:process"
    everything = verdict_of(with_boolean(state))
    assert set(everything.conflicts()) == {conflict(ptrace), conflict(signal)}
    now = verdict_of(with_boolean(state), intent().with_booleans("current"))
    assert set(now.conflicts()) == {conflict(ptrace if state else signal)}


def test_entries_clear_a_start_by_each_program() -> None:
    sim = policy()
    sim.rules += [allow("cc_t distccd_t:process transition"), allow("distccd_t etc_t:file entrypoint")]
    one, two = (
        Entry(source="cc_t", target="distccd_t", entrypoint=name, reason="tests")
        for name in ("distccd_exec_t", "etc_t")
    )
    only = dataclasses.replace(intent(), entries=(one,))
    assert set(verdict_of(sim, only).conflicts()) == {conflict("C5 code distccd_t cc_t:process")}
    both = verdict_of(sim, dataclasses.replace(intent(), entries=(one, two)))
    assert both.passed
    assert both.entry_uses == (True, True)


def test_what_nothing_needs_is_told() -> None:
    idle = Filter(subject="init_t", object="etc_t", class_name="file", permissions=("read",), reason="tests")
    entry = Entry(source="cc_t", target="init_t", entrypoint="cc_exec_t", reason="tests")
    wanted = dataclasses.replace(intent(), filters=(*intent().filters, idle), entries=(entry,))
    verdict = verdict_of(policy(), wanted)
    assert verdict.passed
    assert verdict.filter_uses[wanted.filters.index(idle)] == ()
    assert verdict.entry_uses == (False,)


def test_objects_without_a_label_count_by_their_initial_sid_whatever_they_are_called() -> None:
    sim = policy()
    sim.unlabeled = "etc_t"
    assert conflict("C1 data init_t etc_t:file") in set(verdict_of(sim).conflicts())


def reads(item: str = "etc_t", tclass: str = "file", permission: str = "read") -> dict[str, object]:
    """Return a change of the intent: one filter."""
    made = Filter(subject="init_t", object=item, class_name=tclass, permissions=(permission,), reason="r")
    return {"filters": (made,)}


@pytest.mark.parametrize(
    "change",
    [
        {"tcb": frozenset({"kernel_t", "init_t", "ghost_t"})},
        reads(item="ghost_t"),
        reads(tclass="ghost"),
        reads(permission="fly"),
        {"entries": (Entry(source="cc_t", target="init_t", entrypoint="ghost_t", reason="r"),)},
    ],
)
def test_names_in_vain_are_refused(change: dict[str, Any]) -> None:
    with pytest.raises(UsageError) as caught:
        verdict_of(policy(), dataclasses.replace(intent(), **change))
    assert caught.value.code == "cwlite.name"
