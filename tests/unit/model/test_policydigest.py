# SPDX-License-Identifier: GPL-3.0-or-later
"""The meaning of a policy as one digest."""

from __future__ import annotations

import dataclasses
import pathlib
from collections.abc import Callable

import pytest
from ansible.module_utils.vouch.model.policydigest import bits_of, semantic_digest
from ansible.module_utils.vouch.parse.sepolicy import PolicyDb, parse_policy
from ansible.module_utils.vouch.parse.serules import RuleTable

from sim.buildnode import policy as build_node


@pytest.fixture
def policy(shared_data: Callable[[str], pathlib.Path]) -> PolicyDb:
    return parse_policy((shared_data("selinux") / "android-emulator-twrp.sepolicy").read_bytes())


def test_bits_are_counted_from_zero() -> None:
    assert list(bits_of(0b10101)) == [0, 2, 4]
    assert list(bits_of(0)) == []


def test_the_order_of_rules_means_nothing(policy: PolicyDb) -> None:
    turned = dataclasses.replace(policy, rules=RuleTable(0, tuple(reversed(policy.rules.rules))))
    assert semantic_digest(turned) == semantic_digest(policy)


def test_neither_do_the_values_of_symbols_nor_the_version() -> None:
    sim = build_node()
    sim.unlabeled = "unlabeled_t"
    turned = dataclasses.replace(
        sim,
        types=[sim.types[0], *reversed(sim.types[1:])],
        attributes={"early": [], **sim.attributes},
        rules=list(reversed(sim.rules)),
        version=34,
    )
    with_both = dataclasses.replace(sim, attributes={**sim.attributes, "early": []})
    one, two = (parse_policy(item.to_bytes()) for item in (with_both, turned))
    assert one.types != two.types
    assert semantic_digest(one) == semantic_digest(two)


def with_attribute(policy: PolicyDb) -> tuple[int, ...]:
    """Return the attributes of each type with one more for the first."""
    first = min(policy.types)
    return tuple(
        sets | (1 << max(policy.attributes) if value == first else 0)
        for value, sets in enumerate(policy.type_attributes)
    )


CHANGES: dict[str, Callable[[PolicyDb], PolicyDb]] = {
    "a rule less": lambda p: dataclasses.replace(p, rules=RuleTable(0, p.rules.rules[1:])),
    "one permission more": lambda p: dataclasses.replace(
        p, rules=RuleTable(0, ((*p.rules.rules[0][:4], p.rules.rules[0][4] ^ 1), *p.rules.rules[1:]))
    ),
    "not permissive": lambda p: dataclasses.replace(p, permissive=()),
    "unknown allowed": lambda p: dataclasses.replace(p, handle_unknown="allow"),
    "a capability": lambda p: dataclasses.replace(p, policy_capabilities=(*p.policy_capabilities, 7)),
    "a genfs context less": lambda p: dataclasses.replace(p, genfs=p.genfs[1:]),
    "a name transition less": lambda p: dataclasses.replace(p, name_transitions=p.name_transitions[1:]),
    "an attribute more": lambda p: dataclasses.replace(p, type_attributes=with_attribute(p)),
}


@pytest.mark.parametrize("change", CHANGES)
def test_what_decides_access_changes_the_digest(policy: PolicyDb, change: str) -> None:
    assert semantic_digest(CHANGES[change](policy)) != semantic_digest(policy)
