# SPDX-License-Identifier: GPL-3.0-or-later
"""The rules of an SELinux kernel policy: access vector tables, conditionals, type transitions by name.

A rule is 8 bytes of key (16-bit source, target, class, kind) and 4 bytes of data: permission bits, or a type. Extended
permissions (kinds 0x100 to 0x400) have 34 bytes instead: what they extend, a driver number, 256 bits.

Source: Linux 6.12, security/selinux/ss/avtab.c, conditional.c, policydb.c.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass

from .sebitmap import PolicyCursor, read_bitmap, read_count
from .sesymbols import Symbols, read_name

ALLOW, AUDITALLOW, DONTAUDIT = 0x1, 0x2, 0x4
TRANSITION, MEMBER, CHANGE = 0x10, 0x20, 0x40
XALLOW, XAUDITALLOW, XDONTAUDIT = 0x100, 0x200, 0x400
VECTORS = frozenset({ALLOW, AUDITALLOW, DONTAUDIT})
"""Kinds whose data is permission bits; DONTAUDIT's data is the bits that are still audited."""
TYPES = frozenset({TRANSITION, MEMBER, CHANGE})
"""Kinds whose data is a type."""
EXTENDED = frozenset({XALLOW, XAUDITALLOW, XDONTAUDIT})

MAX_RULES = 4_000_000
MAX_CONDITIONALS = 65_536
MAX_EXPRESSION = 64
MAX_NAME_TRANSITIONS = 1_000_000

BOOLEAN, NOT = 1, 2
OPERATORS = {3: "or", 4: "and", 5: "xor", 6: "==", 7: "!="}

_ENABLED = 0x8000
"""Set by the kernel in memory for rules of a true conditional; it means nothing in a file."""
_RULE = struct.Struct("<4HI")
_KEY = struct.Struct("<4H")
_NAMES_SINCE, _COMPRESSED_NAMES = 25, 33
_EXTENDED, _EXTENDED_CONDITIONALS = 30, 34

Rule = tuple[int, int, int, int, int]
"""Source and target symbol, class value, kind, data. A plain tuple: a policy has a hundred thousand."""


@dataclass(frozen=True, slots=True)
class ExtendedRule:
    """Permissions by command number, ioctl's for instance: which 256 of a driver, or which drivers."""

    source: int
    target: int
    tclass: int
    kind: int
    specified: int
    driver: int
    bits: bytes


@dataclass(frozen=True, slots=True)
class RuleTable:
    """One access vector table; ``first`` is the index of its first rule in the whole policy."""

    first: int
    rules: tuple[Rule, ...]
    extended: tuple[ExtendedRule, ...] = ()

    @property
    def count(self) -> int:
        """Number of rules, the extended ones among them."""
        return len(self.rules) + len(self.extended)

    def allows(self) -> Iterator[tuple[int, Rule]]:
        """Yield index in the policy and rule of every ``allow``."""
        for index, rule in enumerate(self.rules, self.first):
            if rule[3] == ALLOW:
                yield index, rule


@dataclass(frozen=True, slots=True)
class Conditional:
    """Rules that hang on booleans: a postfix expression of (operator, boolean value), and two lists."""

    state: bool
    expression: tuple[tuple[int, int], ...]
    when_true: RuleTable
    when_false: RuleTable


@dataclass(frozen=True, slots=True)
class NameTransition:
    """A type transition by the name of the new object; ``sources`` is a set of symbols (bit n is value n)."""

    name: str
    target: int
    tclass: int
    sources: int
    result: int


def read_rules(cursor: PolicyCursor, symbols: Symbols, version: int, *, first: int) -> RuleTable:
    """Consume the unconditional table and its count.

    Args:
        cursor: Where it begins.
        symbols: What its values must be of.
        version: Of the policy.
        first: Index for its first rule.

    Raises:
        ParseError: a source, target, class or type that does not exist, an unknown kind, two rules of one key.
    """
    table = _read_table(cursor, symbols, first=first, extended=version >= _EXTENDED)
    if len({(a << 16 | b) << 32 | c << 16 | d for a, b, c, d, _ in table.rules}) != len(table.rules):
        raise cursor.fail("rules", "two rules have one source, target, class and kind", code="parse.duplicate")
    return table


def _read_table(cursor: PolicyCursor, symbols: Symbols, *, first: int, extended: bool) -> RuleTable:
    count = read_count(cursor, MAX_RULES, "rules")
    block = cursor.peek(_RULE.size * count)
    plain = list(_RULE.iter_unpack(block)) if len(block) == _RULE.size * count else []
    kinds = {rule[3] & ~_ENABLED for rule in plain}
    if len(plain) == count and kinds <= VECTORS | TYPES:
        cursor.take(len(block), "rules")
        if any(rule[3] & _ENABLED for rule in plain):
            plain = [(*rule[:3], rule[3] & ~_ENABLED, rule[4]) for rule in plain]
        table = RuleTable(first, tuple(plain))
    else:
        table = _mixed(cursor, count, first)
    _check(cursor, symbols, table)
    if table.extended and not extended:
        raise cursor.fail("rules", "extended permissions, which this version does not have here")
    return table


def _mixed(cursor: PolicyCursor, count: int, first: int) -> RuleTable:
    rules: list[Rule] = []
    extended = []
    for _ in range(count):
        source, target, tclass, kind = _KEY.unpack(cursor.take(_KEY.size, "rule"))
        kind &= ~_ENABLED
        if kind in EXTENDED:
            specified, driver = cursor.u8("rule"), cursor.u8("rule")
            extended.append(ExtendedRule(source, target, tclass, kind, specified, driver, cursor.take(32, "rule")))
        elif kind in VECTORS or kind in TYPES:
            rules.append((source, target, tclass, kind, cursor.u32le("rule")))
        else:
            raise cursor.fail("rule", f"kind {kind:#x}")
    return RuleTable(first, tuple(rules), tuple(extended))


def _check(cursor: PolicyCursor, symbols: Symbols, table: RuleTable) -> None:
    used = {rule[0] for rule in table.rules} | {rule[1] for rule in table.rules}
    used |= {rule.source for rule in table.extended} | {rule.target for rule in table.extended}
    used |= {rule[4] for rule in table.rules if rule[3] in TYPES}
    if used and not 1 <= min(used) <= max(used) <= symbols.type_count:
        raise cursor.fail("rules", f"a rule names type {min(used)} or {max(used)}, not 1 to {symbols.type_count}")
    unknown = ({rule[2] for rule in table.rules} | {rule.tclass for rule in table.extended}) - set(symbols.class_names)
    if unknown:
        raise cursor.fail("rules", f"a rule names class {min(unknown)}, which does not exist")


def read_conditionals(cursor: PolicyCursor, symbols: Symbols, version: int, *, first: int) -> tuple[Conditional, ...]:
    """Consume the conditional nodes.

    Raises:
        ParseError: an expression that is no expression, or a rule as in ``read_rules``.
    """
    nodes = []
    for _ in range(read_count(cursor, MAX_CONDITIONALS, "conditionals")):
        state = cursor.u32le("conditional")
        length = read_count(cursor, MAX_EXPRESSION, "expression")
        expression = tuple((cursor.u32le("expression"), cursor.u32le("expression")) for _ in range(length))
        _check_expression(cursor, symbols, expression)
        when_true = _read_table(cursor, symbols, first=first, extended=version >= _EXTENDED_CONDITIONALS)
        first += when_true.count
        when_false = _read_table(cursor, symbols, first=first, extended=version >= _EXTENDED_CONDITIONALS)
        first += when_false.count
        nodes.append(Conditional(state == 1, expression, when_true, when_false))
    return tuple(nodes)


def _check_expression(cursor: PolicyCursor, symbols: Symbols, expression: tuple[tuple[int, int], ...]) -> None:
    depth = 0
    for operator, boolean in expression:
        if operator == BOOLEAN:
            if boolean not in symbols.boolean_names:
                raise cursor.fail("expression", f"boolean {boolean} does not exist")
            depth += 1
        elif operator in OPERATORS:
            depth -= 1
        elif operator != NOT:
            raise cursor.fail("expression", f"operator {operator}")
        if depth < 1:
            raise cursor.fail("expression", "an operator without its operands")
    if depth != 1:
        raise cursor.fail("expression", f"{depth} results")


def read_name_transitions(cursor: PolicyCursor, symbols: Symbols, version: int) -> tuple[NameTransition, ...]:
    """Consume the type transitions by name, in the plain or (from version 33) the compressed form."""
    found: list[NameTransition] = []
    alone = [1 << value for value in range(symbols.type_count + 1)] if version < _COMPRESSED_NAMES else []
    if version < _NAMES_SINCE:
        return ()
    for _ in range(read_count(cursor, MAX_NAME_TRANSITIONS, "name transitions")):
        name = read_name(cursor, cursor.u32le("name transition"), "name transition")
        if version < _COMPRESSED_NAMES:
            source, target = symbols.type(cursor, "source"), symbols.type(cursor, "target")
            tclass, result = symbols.tclass(cursor, "class"), symbols.type(cursor, "result")
            found.append(NameTransition(name, target, tclass, alone[source], result))
            continue
        target, tclass = symbols.type(cursor, "target"), symbols.tclass(cursor, "class")
        for _ in range(read_count(cursor, MAX_NAME_TRANSITIONS, "name transition")):
            sources = read_bitmap(cursor, "sources") << 1
            if sources.bit_length() > symbols.type_count + 1:
                raise cursor.fail("sources", "a type that does not exist")
            found.append(NameTransition(name, target, tclass, sources, symbols.type(cursor, "result")))
    return tuple(found)
