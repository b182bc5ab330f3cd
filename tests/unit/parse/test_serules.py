# SPDX-License-Identifier: GPL-3.0-or-later
"""Rules of SELinux policies, in every version of the format."""

from __future__ import annotations

import dataclasses
import struct

import pytest
from ansible.module_utils.vouch.errors import ParseError
from ansible.module_utils.vouch.parse.sepolicy import NEWEST, OLDEST, parse_policy
from ansible.module_utils.vouch.parse.serules import ALLOW, XALLOW

from sim.buildnode import policy
from sim.policy import SimPolicy, allow
from thorough import some

VERSIONS = range(OLDEST, NEWEST + 1)


def whole(version: int) -> SimPolicy:
    """Return a policy with everything that ``version`` can have."""
    return dataclasses.replace(
        policy(),
        version=version,
        constraint="init_t",
        names=[("cc_t", "etc_t", "file", "resolv.conf", "cc_tmp_t")] if version >= 25 else [],
        commands=[("cc_t", "etc_t", "chr_file")] if version >= 30 else [],
        conditional_commands=[("cc_t", "etc_t", "chr_file")] if version >= 34 else [],
    )


@pytest.mark.parametrize("version", VERSIONS)
def test_every_version_is_read_whole(version: int) -> None:
    sim = whole(version)
    data = sim.to_bytes()
    found = parse_policy(data)
    assert found.version == version
    assert len([rule for rule in found.rules.rules if rule[3] == ALLOW]) == len(sim.rules)
    assert [item.kind for item in found.rules.extended] == ([XALLOW] if version >= 30 else [])
    assert len(found.conditionals[0].when_true.extended) == int(version >= 34)
    assert [(item.name, item.sources) for item in found.name_transitions] == (
        [("resolv.conf", 1 << sim.value("cc_t"))] if version >= 25 else []
    )
    (constraint,) = found.classes["file"].constraints
    assert constraint.terms[0].names == 1 << sim.value("init_t") - 1
    for length in some(range(len(data))):
        with pytest.raises(ParseError):
            parse_policy(data[:length])


@pytest.mark.parametrize("version", [24, 29])
def test_extended_rules_before_their_version_are_refused(version: int) -> None:
    with pytest.raises(ParseError):
        parse_policy(dataclasses.replace(whole(version), commands=[("cc_t", "etc_t", "chr_file")]).to_bytes())


def test_so_are_conditional_ones() -> None:
    sim = dataclasses.replace(whole(33), conditional_commands=[("cc_t", "etc_t", "chr_file")])
    with pytest.raises(ParseError):
        parse_policy(sim.to_bytes())


def test_without_mls_the_bytes_have_ranges_all_the_same() -> None:
    assert parse_policy(dataclasses.replace(policy(), mls=False).to_bytes()).mls is False


def test_rule_numbers_go_on_through_the_conditionals() -> None:
    sim = policy()
    found = parse_policy(sim.to_bytes())
    (node,) = found.conditionals
    assert (node.when_true.first, node.when_false.first) == (len(sim.rules), len(sim.rules) + 1)
    assert [index for index, _ in node.when_true.allows()] == [len(sim.rules)]


def rule_bytes(sim: SimPolicy, text: str) -> bytes:
    """Return the bytes of a rule that ``sim`` has."""
    source, target, tclass = (
        allow(text).source,
        allow(text).target,
        parse_policy(sim.to_bytes()).classes[allow(text).tclass].value,
    )
    return struct.pack("<4H", sim.value(source), sim.value(target), tclass, 1)


FORGED = {
    "a source of 0": lambda key: struct.pack("<H", 0) + key[2:],
    "a source beyond the table": lambda key: struct.pack("<H", 60_000) + key[2:],
    "a target beyond the table": lambda key: key[:2] + struct.pack("<H", 60_000) + key[4:],
    "a class that does not exist": lambda key: key[:4] + struct.pack("<H", 99) + key[6:],
    "two kinds at once": lambda key: key[:6] + struct.pack("<H", 3),
    "no kind": lambda key: key[:6] + bytes(2),
    "a neverallow": lambda key: key[:6] + struct.pack("<H", 0x80),
    "a transition to a type that does not exist": lambda key: key[:6] + struct.pack("<HI", 0x10, 500),
}


@pytest.mark.parametrize("what", FORGED)
def test_rules_that_name_nothing_are_refused(what: str) -> None:
    sim, data = policy(), policy().to_bytes()
    key = rule_bytes(sim, "domain etc_t:file read")
    assert data.count(key) == 1
    changed = FORGED[what](key)
    at = data.index(key)
    with pytest.raises(ParseError):
        parse_policy(data[:at] + changed + data[at + len(changed) :])


def test_two_rules_of_one_key_are_refused() -> None:
    sim = policy()
    data = sim.to_bytes()
    one, two = (rule_bytes(sim, text) for text in ("domain etc_t:file read", "cc_t cc_tmp_t:file create"))
    with pytest.raises(ParseError) as caught:
        parse_policy(data.replace(one, two))
    assert caught.value.code == "parse.duplicate"


EXPRESSIONS = {
    "an operator of two with one": [(1, 1), (4, 0)],
    "two results": [(1, 1), (1, 1)],
    "nothing": [],
    "a boolean that does not exist": [(1, 7)],
    "an operator that does not exist": [(1, 1), (1, 1), (9, 0)],
    "not of nothing": [(2, 0), (1, 1)],
}


@pytest.mark.parametrize("what", EXPRESSIONS)
def test_expressions_that_are_none_are_refused(what: str) -> None:
    data = policy().to_bytes()
    good = struct.pack("<5I", 1, 0, 1, 1, 1)
    terms = EXPRESSIONS[what]
    assert data.count(good) == 1
    changed = struct.pack("<3I", 1, 0, len(terms)) + b"".join(struct.pack("<2I", *term) for term in terms)
    with pytest.raises(ParseError):
        parse_policy(data.replace(good, changed))
