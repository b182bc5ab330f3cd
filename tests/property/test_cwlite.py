# SPDX-License-Identifier: GPL-3.0-or-later
"""The check of a policy against its intent: as a slow and simple reading of docs/cwlite.md says, and no stale names."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator

from ansible.module_utils.vouch.check.cwlite import Conflict, check_policy
from ansible.module_utils.vouch.model.flowmap import NETWORK_CLASSES, flow
from ansible.module_utils.vouch.model.integrity import Entry, Filter, Intent
from ansible.module_utils.vouch.parse.sepolicy import parse_policy
from hypothesis import given, settings
from hypothesis import strategies as st

from sim.policy import CLASSES, SimPolicy, SimRule
from thorough import examples

TYPES = ["kernel_t", "app_t", "user_t", "mail_t", "app_exec_t", "tmp_t", "lib_t", "nameless_t"]
HIGH = ["kernel_t", "app_t"]
ATTRIBUTES = {"domain": TYPES[:4], "file_type": TYPES[4:], "nobody": []}
SYMBOLS = st.sampled_from([*TYPES, *ATTRIBUTES])
PROCESS = ("transition", "dyntransition", "noatsecure", "ptrace", "signal")

Access = tuple[str, str, str, str]
"""Source, target, class, permission."""


def rules_of(tclass: str) -> st.SearchStrategy[SimRule]:
    """Return rules of one class."""
    names = PROCESS if tclass == "process" else CLASSES[tclass]
    chosen = st.sets(st.sampled_from(names), min_size=1, max_size=3).map(lambda found: tuple(sorted(found)))
    return st.builds(SimRule, SYMBOLS, SYMBOLS, st.just(tclass), chosen)


RULES = st.sampled_from([*sorted(CLASSES), "file", "file", "process"]).flatmap(rules_of)
POLICIES = st.builds(
    lambda rules, when_true, when_false, state: SimPolicy(
        types=TYPES,
        attributes=ATTRIBUTES,
        rules=rules,
        booleans={"open_door": state},
        conditionals=[("open_door", when_true, when_false)],
    ),
    st.lists(RULES, max_size=9),
    st.lists(RULES, max_size=2),
    st.lists(RULES, max_size=2),
    st.booleans(),
)
CLASS_AND_PERMISSION = st.sampled_from([(name, one) for name, held in CLASSES.items() for one in held])
FILTERS = st.builds(
    lambda subject, item, what, becomes: Filter(
        subject=subject,
        object=item,
        class_name=what[0],
        permissions=(what[1],),
        reason="generated",
        relabel_to=becomes if what[0] == "file" else "",
    ),
    st.sampled_from(HIGH),
    st.sampled_from(TYPES),
    CLASS_AND_PERMISSION,
    st.sampled_from(["", "", *TYPES]),
)
ENTRIES = st.builds(
    Entry,
    source=st.sampled_from(TYPES[2:]),
    target=st.sampled_from(HIGH),
    entrypoint=st.sampled_from(TYPES),
    reason=st.just("generated"),
)
INTENTS = st.builds(
    lambda filters, entries, mode: Intent(
        tcb=frozenset({"kernel_t"}),
        applications=frozenset({"app_t"}),
        filters=tuple({item.place: item for item in filters}.values()),
        entries=tuple({item.place: item for item in entries}.values()),
        boolean_mode=mode,
    ),
    st.lists(FILTERS, max_size=6),
    st.lists(ENTRIES, max_size=6),
    st.sampled_from(["all", "current"]),
)


def accesses(policy: SimPolicy, mode: str) -> set[Access]:
    """Return everything that is allowed, one permission of one type on one type at a time."""
    rules = list(policy.rules)
    for boolean, when_true, when_false in policy.conditionals:
        rules += when_true if mode == "all" or policy.booleans[boolean] else []
        rules += when_false if mode == "all" or not policy.booleans[boolean] else []
    return {
        (source, target, rule.tclass, permission)
        for rule in rules
        for source in policy.attributes.get(rule.source, [rule.source])
        for target in policy.attributes.get(rule.target, [rule.target])
        for permission in rule.permissions
    }


def written(held: set[Access]) -> set[tuple[str, str]]:
    """Return the objects, type and class, that may hold what an untrusted subject wrote."""
    found = {("nameless_t", tclass) for tclass in CLASSES}
    found |= {(kind, tclass) for kind in TYPES for tclass in CLASSES if tclass in NETWORK_CLASSES}
    return found | {(o, c) for s, o, c, p in held if s not in HIGH and flow(c, p).writes}


def slowly(policy: SimPolicy, intent: Intent) -> Iterator[Conflict]:
    """Yield every conflict, by going through all single accesses."""
    held = accesses(policy, intent.boolean_mode)
    low = written(held)
    filters = {item.place: item.permissions for item in intent.filters}
    entries = {item.place for item in intent.entries}
    for s, o, c, p in held:
        at, starting = flow(c, p), c == "process" and p in ("transition", "dyntransition", "noatsecure")
        if s in HIGH:
            if at.reads and (o, c) in low and p not in filters.get((s, o, c, ""), ()):
                yield Conflict(kind="C1", severity=at.kind, subject=s, object=o, class_name=c)
            if p == "relabelfrom" and (o, c) in low:
                for _, new, _, _ in (one for one in held if one[0] == s and one[2:] == (c, "relabelto")):
                    if (new, c) not in low and (s, o, c, new) not in filters:
                        yield Conflict(kind="C4", severity="data", subject=s, object=o, class_name=c, becomes=new)
            continue
        if at.writes and at.kind == "kernel":
            yield Conflict(kind="C3", severity="kernel", subject=s, object=o, class_name=c)
        elif at.writes and o in HIGH and not starting and p not in filters.get((o, o, c, ""), ()):
            yield Conflict(kind="C2", severity=at.kind, subject=o, object=s, class_name=c)
        if starting and o in HIGH:
            programs = {x for h, x, _, q in held if h == o and q == "entrypoint"}
            if p != "transition" or any((s, o, program) not in entries for program in programs):
                yield Conflict(kind="C5", severity="code", subject=o, object=s, class_name=c)


@given(POLICIES, INTENTS)
@settings(max_examples=examples(600), deadline=None)
def test_it_finds_what_going_through_every_access_finds(policy: SimPolicy, intent: Intent) -> None:
    verdict = check_policy(parse_policy(policy.to_bytes()), intent)
    assert set(verdict.conflicts()) == set(slowly(policy, intent))
    assert verdict.conflict_count >= len(set(verdict.conflicts()))
    assert {(kind, tclass) for kind, tclass in written(accesses(policy, intent.boolean_mode))} == {
        (verdict.policy.types[value], tclass)
        for tclass, types in verdict.low.items()
        for value in verdict.policy.types
        if types >> value & 1
    }


@given(POLICIES, INTENTS, st.randoms(use_true_random=False))
@settings(max_examples=examples(150), deadline=None)
def test_values_and_order_do_not_matter(policy: SimPolicy, intent: Intent, chance: st.DataObject) -> None:
    def shuffled(items: list[str]) -> list[str]:
        return sorted(items, key=lambda _: chance.random())  # type: ignore[attr-defined]

    turned = dataclasses.replace(
        policy,
        types=shuffled(policy.types),
        rules=list(reversed(policy.rules)),
        unlabeled="nameless_t",
        attributes={name: policy.attributes[name] for name in shuffled(list(policy.attributes))},
    )
    one = check_policy(parse_policy(policy.to_bytes()), intent)
    two = check_policy(parse_policy(turned.to_bytes()), intent)
    assert sorted(map(repr, one.conflicts())) == sorted(map(repr, two.conflicts()))
    assert one.filter_uses == two.filter_uses


@given(POLICIES, INTENTS)
@settings(max_examples=examples(300), deadline=None)
def test_a_filter_that_is_not_used_is_not_needed(policy: SimPolicy, intent: Intent) -> None:
    db = parse_policy(policy.to_bytes())
    verdict = check_policy(db, intent)
    kept = tuple(item for item, uses in zip(intent.filters, verdict.filter_uses, strict=True) if uses)
    needed = tuple(item for item, used in zip(intent.entries, verdict.entry_uses, strict=True) if used)
    again = check_policy(db, dataclasses.replace(intent, filters=kept, entries=needed))
    assert again.groups == verdict.groups
