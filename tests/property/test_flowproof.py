# SPDX-License-Identifier: GPL-3.0-or-later
"""Two checkers, written apart, agree: what one passes the other proves, what one refuses the other refuses as well."""

from __future__ import annotations

import dataclasses

import pytest
from ansible.module_utils.vouch.check.cwlite import PolicyVerdict, check_policy
from ansible.module_utils.vouch.check.flowproof import verify_proof
from ansible.module_utils.vouch.errors import EvidenceError
from ansible.module_utils.vouch.make.flowproof import make_proof
from ansible.module_utils.vouch.model.integrity import Entry, Filter, Intent
from ansible.module_utils.vouch.model.policydigest import bits_of
from ansible.module_utils.vouch.parse.sepolicy import PolicyDb, parse_policy
from hypothesis import given, settings
from hypothesis import strategies as st

from sim.policy import CLASSES, SimPolicy, SimRule
from thorough import examples

TYPES = ["kernel_t", "app_t", "user_t", "mail_t", "app_exec_t", "tmp_t", "lib_t", "unlabeled_t"]
HIGH = ["kernel_t", "app_t"]
ATTRIBUTES = {"domain": TYPES[:4], "file_type": TYPES[4:]}
SYMBOLS = st.sampled_from([*TYPES, *ATTRIBUTES])
RULES = st.sampled_from(sorted(CLASSES)).flatmap(
    lambda tclass: st.builds(
        SimRule,
        SYMBOLS,
        SYMBOLS,
        st.just(tclass),
        st.sets(st.sampled_from(CLASSES[tclass]), min_size=1, max_size=3).map(lambda names: tuple(sorted(names))),
    )
)
POLICIES = st.builds(
    lambda rules, when_true, when_false, state, permissive, unknown: SimPolicy(
        types=TYPES,
        attributes=ATTRIBUTES,
        rules=rules,
        booleans={"open_door": state},
        conditionals=[("open_door", when_true, when_false)],
        permissive=permissive,
        handle_unknown=unknown,
    ),
    st.lists(RULES, max_size=7),
    st.lists(RULES, max_size=2),
    st.lists(RULES, max_size=2),
    st.booleans(),
    st.sampled_from([[]] * 9 + [["user_t"]]),
    st.sampled_from(["deny"] * 8 + ["reject", "allow"]),
)
MODES = st.sampled_from(["all", "current"])


def intent(mode: str, filters: tuple[Filter, ...] = (), entries: tuple[Entry, ...] = ()) -> Intent:
    """Return an intent that trusts ``HIGH``."""
    return Intent(
        tcb=frozenset({"kernel_t"}),
        applications=frozenset({"app_t"}),
        filters=filters,
        entries=entries,
        boolean_mode=mode,
    )


def cleared(policy: PolicyDb, verdict: PolicyVerdict) -> Intent:
    """Return the intent of ``verdict`` with a filter or entry for every conflict that can have one."""
    name = policy.symbol_name
    filters: dict[tuple[str, str, str, str], Filter] = {}
    entries: dict[tuple[str, str, str], Entry] = {}
    for group in verdict.groups:
        subject = name(group.subject)
        for item in bits_of(group.objects):
            if group.kind == "C5":
                for entrypoint in TYPES:
                    entry = Entry(source=name(item), target=subject, entrypoint=entrypoint, reason="generated")
                    entries[entry.place] = entry
            elif group.kind != "C3":
                made = Filter(
                    subject=subject,
                    object=subject if group.kind == "C2" else name(item),
                    class_name=group.class_name,
                    permissions=tuple(sorted(policy.classes[group.class_name].permissions)),
                    reason="generated",
                    relabel_to=name(group.becomes) if group.becomes else "",
                )
                filters[made.place] = made
    return intent(verdict.intent.boolean_mode, tuple(filters.values()), tuple(entries.values()))


def agrees(policy: SimPolicy, wanted: Intent) -> PolicyVerdict:
    """Assert that both checkers say the same of ``policy``, and return the verdict."""
    data = policy.to_bytes()
    db = parse_policy(data)
    verdict = check_policy(db, wanted)
    if verdict.passed:
        verified = verify_proof(make_proof(data, db, wanted, verdict), policy=data, intent=wanted)
        assert verified.intent == wanted
        return verdict
    forged = dataclasses.replace(verdict, faults=(), groups=())
    with pytest.raises(EvidenceError):
        verify_proof(make_proof(data, db, wanted, forged), policy=data, intent=wanted)
    return verdict


@given(POLICIES, MODES)
@settings(max_examples=examples(300), deadline=None)
def test_both_checkers_agree(policy: SimPolicy, mode: str) -> None:
    verdict = agrees(policy, intent(mode))
    if not verdict.passed:
        agrees(policy, cleared(verdict.policy, verdict))


@given(POLICIES, MODES, st.data())
@settings(max_examples=examples(200), deadline=None)
def test_one_filter_less_is_refused(policy: SimPolicy, mode: str, data: st.DataObject) -> None:
    db = parse_policy(policy.to_bytes())
    wanted = cleared(db, check_policy(db, intent(mode)))
    verdict = check_policy(db, wanted)
    used = [item for item, uses in zip(wanted.filters, verdict.filter_uses, strict=True) if uses]
    if verdict.passed and used:
        gone = data.draw(st.sampled_from(used))
        left = dataclasses.replace(wanted, filters=tuple(item for item in wanted.filters if item != gone))
        assert not agrees(policy, left).passed


@given(POLICIES, MODES)
@settings(max_examples=examples(200), deadline=None)
def test_a_verdict_for_every_boolean_holds_for_each(policy: SimPolicy, mode: str) -> None:
    db = parse_policy(policy.to_bytes())
    wanted = cleared(db, check_policy(db, intent("all")))
    if check_policy(db, wanted).passed:
        for state in (True, False):
            assert agrees(
                dataclasses.replace(policy, booleans={"open_door": state}), wanted.with_booleans("current")
            ).passed
