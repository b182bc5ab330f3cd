# SPDX-License-Identifier: GPL-3.0-or-later
"""The whole default policies of two Debian releases: counted as their own setools does, and known to the flow map."""

from __future__ import annotations

import pytest
from ansible.module_utils.vouch.check.cwlite import check_policy
from ansible.module_utils.vouch.model.flowmap import FLOW_MAP
from ansible.module_utils.vouch.model.integrity import Intent
from ansible.module_utils.vouch.model.policydigest import semantic_digest
from ansible.module_utils.vouch.parse.sepolicy import PolicyDb, parse_policy
from ansible.module_utils.vouch.parse.serules import (
    ALLOW,
    AUDITALLOW,
    CHANGE,
    DONTAUDIT,
    MEMBER,
    TRANSITION,
    XALLOW,
    XDONTAUDIT,
)

from debianpolicy import SUITES, DebianPolicy, NoPolicyError, debian_policy

pytestmark = pytest.mark.lab

USERSPACE_CLASSES = ("db_", "x_")
"""Classes of databases and of X: left out of the map on purpose."""


@pytest.fixture(scope="module", params=SUITES)
def built(request: pytest.FixtureRequest) -> tuple[DebianPolicy, PolicyDb]:
    """Return a policy as built and as parsed."""
    try:
        found = debian_policy(request.param)
    except NoPolicyError as error:
        pytest.skip(str(error))
    return found, parse_policy(found.path.read_bytes())


def test_counts_are_those_of_setools(built: tuple[DebianPolicy, PolicyDb]) -> None:
    found, policy = built
    kinds = [rule[3] for table in policy.tables() for rule in table.rules]
    extended = [rule.kind for table in policy.tables() for rule in table.extended]
    ours = {
        "Policy Version": policy.version,
        "Classes": len(policy.classes),
        "Categories": len(policy.symbols.categories),
        "Types": len(policy.types),
        "Attributes": len(policy.attributes),
        "Users": len(policy.users),
        "Roles": len(policy.roles),
        "Booleans": len(policy.booleans),
        "Cond. Expr.": len(policy.conditionals),
        "Allow": kinds.count(ALLOW),
        "Auditallow": kinds.count(AUDITALLOW),
        "Dontaudit": kinds.count(DONTAUDIT),
        "Type_trans": kinds.count(TRANSITION) + sum(item.sources.bit_count() for item in policy.name_transitions),
        "Type_change": kinds.count(CHANGE),
        "Type_member": kinds.count(MEMBER),
        "Range_trans": len(policy.range_transitions),
        "Role allow": len(policy.role_allows),
        "Role_trans": len(policy.role_transitions),
        "Permissives": len(policy.permissive),
        "Polcap": len(policy.policy_capabilities),
        "Allowxperm": extended.count(XALLOW),
        "Dontauditxperm": extended.count(XDONTAUDIT),
        "Initial SIDs": len(policy.labels.initial_sids),
        "Fs_use": len(policy.labels.fs_uses),
        "Genfscon": len(policy.genfs),
        "Portcon": len(policy.labels.ports),
        "Nodecon": len(policy.labels.nodes) + len(policy.labels.nodes6),
        "Netifcon": len(policy.labels.interfaces),
    }
    assert ours == {word: found.counts.get(word) for word in ours}


def test_the_flow_map_knows_every_permission(built: tuple[DebianPolicy, PolicyDb]) -> None:
    _, policy = built
    unknown = [
        f"{name}:{permission}"
        for name, item in policy.classes.items()
        for permission in item.permissions
        if not name.startswith(USERSPACE_CLASSES) and permission not in FLOW_MAP.get(name, {})
    ]
    assert not unknown


def test_it_does_not_pass(built: tuple[DebianPolicy, PolicyDb]) -> None:
    _, policy = built
    verdict = check_policy(policy, Intent(tcb=frozenset({"kernel_t", "init_t"})))
    assert {fault.code for fault in verdict.faults} == {"policy.unknown-allowed"}
    assert {group.kind for group in verdict.groups} >= {"C1", "C2", "C3", "C5"}
    assert semantic_digest(policy) == semantic_digest(parse_policy(built[0].path.read_bytes()))
