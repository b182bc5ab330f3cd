# SPDX-License-Identifier: GPL-3.0-or-later
"""Symbol tables and contexts of SELinux policies: names and values once, and within their tables."""

from __future__ import annotations

import struct

import pytest
from ansible.module_utils.vouch.errors import ParseError
from ansible.module_utils.vouch.parse.sepolicy import parse_policy
from ansible.module_utils.vouch.parse.sesymbols import MAX_TYPES

from sim.buildnode import policy


def entry(*numbers: int, name: str) -> bytes:
    """Return the bytes of a symbol: numbers, then its name."""
    return struct.pack(f"<{len(numbers)}I", *numbers) + name.encode()


CC = entry(4, 4, 1, 0, name="cc_t")
BOOLEAN = entry(1, 0, 8, name="cc_debug")
SIGNAL = entry(6, 3, name="signal")
TABLE = struct.pack("<2I", 10, 10) + entry(8, 1, 1, 0, name="kernel_t")

FORGED: dict[str, tuple[bytes, bytes]] = {
    "a value twice": (CC, entry(4, 3, 1, 0, name="cc_t")),
    "a value of 0": (CC, entry(4, 0, 1, 0, name="cc_t")),
    "a value beyond the table": (CC, entry(4, 11, 1, 0, name="cc_t")),
    "a name of nothing": (CC, entry(0, 4, 1, 0, name="cc_t")),
    "a name that is not printable": (CC, entry(4, 4, 1, 0, name="cc\n_")),
    "too many types": (TABLE, struct.pack("<2I", MAX_TYPES + 1, 10) + TABLE[8:]),
    "a boolean neither on nor off": (BOOLEAN, entry(1, 2, 8, name="cc_debug")),
    "a permission of value 0": (SIGNAL, entry(6, 0, name="signal")),
    "a permission of value 33": (SIGNAL, entry(6, 33, name="signal")),
    "a permission of another's value": (SIGNAL, entry(6, 1, name="signal")),
}


def test_names_and_values() -> None:
    sim = policy()
    found = parse_policy(sim.to_bytes())
    assert {name: value for value, name in found.types.items()} == {name: sim.value(name) for name in sim.types}
    assert found.members(sim.value("domain")) == sum(1 << sim.value(n) for n in sim.attributes["domain"])
    assert found.members(sim.value("cc_t")) == 1 << sim.value("cc_t")
    assert found.members(999) == 0
    assert found.symbol_name(999) == "#999"
    assert found.labels.initial_sids[0][1].type == sim.value("kernel_t")
    assert {name: item.state for name, item in found.booleans.items()} == sim.booleans


@pytest.mark.parametrize("what", FORGED)
def test_symbols_that_contradict_are_refused(what: str) -> None:
    data = policy().to_bytes()
    good, forged = FORGED[what]
    assert data.count(good) == 1
    with pytest.raises(ParseError):
        parse_policy(data.replace(good, forged))


def test_a_name_twice_is_refused() -> None:
    data = policy().to_bytes()
    with pytest.raises(ParseError) as caught:
        parse_policy(data.replace(entry(6, 2, 1, 0, name="init_t"), entry(4, 2, 1, 0, name="cc_t")))
    assert caught.value.code == "parse.duplicate"


CONTEXT = struct.pack("<4I", 1, 1, 2, 1)
"""SID 1: first user, second role, first type."""


@pytest.mark.parametrize("changed", [(1, 9, 2, 1), (1, 1, 9, 1), (1, 1, 2, 99), (1, 1, 2, 0)])
def test_contexts_of_nobody_are_refused(changed: tuple[int, ...]) -> None:
    data = policy().to_bytes()
    at = data.rindex(CONTEXT)
    with pytest.raises(ParseError):
        parse_policy(data[:at] + struct.pack("<4I", *changed) + data[at + len(CONTEXT) :])
