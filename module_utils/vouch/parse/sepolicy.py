# SPDX-License-Identifier: GPL-3.0-or-later
"""SELinux kernel policies (``policy.24`` to ``policy.34``): symbols, rules, conditionals, contexts.

All integers are little-endian and 32 bits wide unless said otherwise; a bit map and a rule table have readers of
their own (``sebitmap``, ``serules``). In this order:

=================== ==================================================================================================
head                magic 0xf97cff8c, length and text ``SE Linux``, version, flags, 8 symbol tables, 7 or 9 contexts
capabilities        bit map of policy capabilities, bit map of permissive types
8 symbol tables     commons, classes, roles, types, users, booleans, sensitivities, categories
rules               access vector table; conditional nodes, each with two lists of rules
roles               transitions, allows
file names          type transitions by the name of the new object
contexts            initial SIDs, file systems, ports, interfaces, nodes, fs_use, IPv6 nodes, Infiniband
genfs               contexts of files on pseudo file systems, by path
ranges              MLS range transitions
members             for each type a bit map of the attributes it has
=================== ==================================================================================================

Source: Linux 6.12, security/selinux/ss/policydb.c. Standard library only: dom0 runs it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType

from .sebitmap import PolicyCursor, read_bitmap, read_count
from .secontexts import Context, Genfs, Labels, RangeTransition, read_genfs, read_labels, read_range_transitions
from .serules import Conditional, NameTransition, RuleTable, read_conditionals, read_name_transitions, read_rules
from .sesymbols import (
    Boolean,
    PolicyClass,
    Role,
    Symbols,
    TypeSymbol,
    User,
    read_symbols,
)

__all__ = [
    "Boolean",
    "Conditional",
    "Context",
    "Genfs",
    "Labels",
    "PolicyClass",
    "PolicyDb",
    "Role",
    "RuleTable",
    "TypeSymbol",
    "User",
    "parse_policy",
]

MAGIC = 0xF97CFF8C
TARGET = b"SE Linux"
OLDEST, NEWEST = 24, 34
SYMBOL_TABLES = 8
MAX_POLICY_BYTES = 16 * 1024 * 1024
"""The largest of a distribution that we know of has 9 MB; objects made of a hostile one take some 30 times its size."""

MAX_ROLE_RULES = 65_536

_FLAG_MLS, _FLAG_REJECT, _FLAG_ALLOW = 1, 2, 4
_BOTH = _FLAG_REJECT | _FLAG_ALLOW
_VERSION_ROLETRANS_CLASS = 26
_VERSION_INFINIBAND = 31


@dataclass(frozen=True, slots=True, kw_only=True)
class PolicyDb:
    """One kernel policy. Sets of types are integers: bit n stands for the type of value n.

    Attributes:
        version: Format version, 24 to 34.
        mls: Whether contexts have an MLS range.
        handle_unknown: ``deny``, ``reject`` or ``allow``: what the kernel does about classes and permissions that it
            knows and the policy does not.
        policy_capabilities: Numbers of the capabilities that are on.
        permissive: Values of permissive types.
        symbols: The raw symbol tables.
        rules: Unconditional rules.
        conditionals: Rules that hang on booleans.
        role_transitions: Role, type, new role, class value (0 before version 26).
        role_allows: Role, new role.
        name_transitions: Type transitions by file name.
        labels: Contexts of initial SIDs, ports, nodes, file systems.
        genfs: Contexts below pseudo file systems.
        range_transitions: MLS ranges of new processes and objects.
        type_attributes: For each type value (index 0 is unused) the set of attributes, itself included.
    """

    version: int
    mls: bool
    handle_unknown: str
    policy_capabilities: tuple[int, ...]
    permissive: tuple[int, ...]
    symbols: Symbols
    rules: RuleTable
    conditionals: tuple[Conditional, ...]
    role_transitions: tuple[tuple[int, int, int, int], ...]
    role_allows: tuple[tuple[int, int], ...]
    name_transitions: tuple[NameTransition, ...]
    labels: Labels
    genfs: tuple[Genfs, ...]
    range_transitions: tuple[RangeTransition, ...]
    type_attributes: tuple[int, ...]
    types: Mapping[int, str]
    attributes: Mapping[int, str]
    type_members: tuple[int, ...]

    @property
    def classes(self) -> Mapping[str, PolicyClass]:
        """Object classes by name."""
        return self.symbols.classes

    @property
    def booleans(self) -> Mapping[str, Boolean]:
        """Booleans by name."""
        return self.symbols.booleans

    @property
    def roles(self) -> Mapping[str, Role]:
        """Roles by name."""
        return self.symbols.roles

    @property
    def users(self) -> Mapping[str, User]:
        """Users by name."""
        return self.symbols.users

    def members(self, symbol: int) -> int:
        """Return the set of types behind a type's or an attribute's value; empty for an unknown value."""
        return self.type_members[symbol] if 0 <= symbol < len(self.type_members) else 0

    def symbol_name(self, symbol: int) -> str:
        """Return the name of a type or an attribute; its number when it has none."""
        return self.types.get(symbol) or self.attributes.get(symbol) or f"#{symbol}"

    def tables(self) -> tuple[RuleTable, ...]:
        """Return every rule table in the order of the file: unconditional, then each conditional's two."""
        listed = [self.rules]
        for node in self.conditionals:
            listed += (node.when_true, node.when_false)
        return tuple(listed)


def parse_policy(data: bytes) -> PolicyDb:
    """Return the policy that the whole of ``data`` is.

    Args:
        data: Content of a kernel policy file, at most ``MAX_POLICY_BYTES``.

    Raises:
        ParseError: truncated, trailing bytes, another version or target, a value out of its range, a name twice.

    Trust: ``data`` is written by whoever built the guest; the result says what the policy allows, not that it is good.
    """
    cursor = PolicyCursor(data, limit_bytes=MAX_POLICY_BYTES, what="sepolicy")
    version, flags = _head(cursor)
    capabilities = _bits(read_bitmap(cursor, "policycaps"))
    permissive = read_bitmap(cursor, "permissive")
    symbols = read_symbols(cursor, version)
    rules = read_rules(cursor, symbols, version, first=0)
    conditionals = read_conditionals(cursor, symbols, version, first=rules.count)
    role_transitions = _role_transitions(cursor, symbols, version)
    role_allows = tuple(
        (symbols.role(cursor, "role_allow"), symbols.role(cursor, "role_allow"))
        for _ in range(read_count(cursor, MAX_ROLE_RULES, "role_allow"))
    )
    names = read_name_transitions(cursor, symbols, version)
    labels = read_labels(cursor, symbols, version)
    genfs = read_genfs(cursor, symbols)
    ranges = read_range_transitions(cursor, symbols)
    attributes = (0, *(_type_attributes(cursor, symbols, value) for value in range(1, symbols.type_count + 1)))
    cursor.done()
    return PolicyDb(
        version=version,
        mls=bool(flags & _FLAG_MLS),
        handle_unknown={0: "deny", _FLAG_REJECT: "reject", _FLAG_ALLOW: "allow"}[flags & _BOTH],
        policy_capabilities=capabilities,
        permissive=_bits(_known_types(cursor, symbols, permissive)),
        symbols=symbols,
        rules=rules,
        conditionals=conditionals,
        role_transitions=role_transitions,
        role_allows=role_allows,
        name_transitions=names,
        labels=labels,
        genfs=genfs,
        range_transitions=ranges,
        type_attributes=attributes,
        types=_names(symbols, lambda symbol: symbol.is_type),
        attributes=_names(symbols, lambda symbol: symbol.is_attribute),
        type_members=_members(symbols, attributes),
    )


def _head(cursor: PolicyCursor) -> tuple[int, int]:
    if cursor.u32le("magic") != MAGIC:
        raise cursor.fail("magic", "no SELinux kernel policy", code="parse.magic")
    length = cursor.u32le("target")
    target = cursor.take(min(length, 32), "target")
    if target != TARGET:
        raise cursor.fail("target", "a policy for something else than SELinux in Linux", code="parse.unsupported")
    version, flags, tables, contexts = (
        cursor.u32le(field) for field in ("version", "flags", "symbol tables", "contexts")
    )
    if not OLDEST <= version <= NEWEST:
        raise cursor.fail("version", f"version {version}, not {OLDEST} to {NEWEST}", code="parse.unsupported")
    if flags & ~(_FLAG_MLS | _BOTH) or flags & _BOTH == _BOTH:
        raise cursor.fail("flags", f"unknown flags {flags:#x}")
    wanted = 9 if version >= _VERSION_INFINIBAND else 7
    if tables != SYMBOL_TABLES or contexts != wanted:
        raise cursor.fail("tables", f"{tables} symbol and {contexts} context tables, not {SYMBOL_TABLES} and {wanted}")
    return version, flags


def _role_transitions(cursor: PolicyCursor, symbols: Symbols, version: int) -> tuple[tuple[int, int, int, int], ...]:
    found = []
    for _ in range(read_count(cursor, MAX_ROLE_RULES, "role_transition")):
        role, kind, new = symbols.role(cursor, "role"), symbols.type(cursor, "type"), symbols.role(cursor, "new role")
        found.append((role, kind, new, symbols.tclass(cursor, "class") if version >= _VERSION_ROLETRANS_CLASS else 0))
    return tuple(found)


def _type_attributes(cursor: PolicyCursor, symbols: Symbols, value: int) -> int:
    # Bit k of the file stands for value k + 1; here bit n stands for value n.
    found = read_bitmap(cursor, "type_attributes") << 1
    if found.bit_length() > symbols.type_count + 1:
        raise cursor.fail("type_attributes", f"type {value} has attributes that do not exist")
    return found | 1 << value


def _known_types(cursor: PolicyCursor, symbols: Symbols, types: int) -> int:
    if types.bit_length() > symbols.type_count + 1:
        raise cursor.fail("permissive", "a type that does not exist is permissive")
    return types


def _names(symbols: Symbols, wanted: Callable[[TypeSymbol], bool]) -> Mapping[int, str]:
    return MappingProxyType({s.value: name for name, s in symbols.types.items() if wanted(s)})


def _members(symbols: Symbols, attributes: tuple[int, ...]) -> tuple[int, ...]:
    members = [0] * (symbols.type_count + 1)
    for symbol in symbols.types.values():
        if symbol.is_type:
            bit = 1 << symbol.value
            rest = attributes[symbol.value]
            while rest:
                low = rest & -rest
                members[low.bit_length() - 1] |= bit
                rest ^= low
    return tuple(members)


def _bits(bitmap: int) -> tuple[int, ...]:
    found = []
    while bitmap:
        low = bitmap & -bitmap
        found.append(low.bit_length() - 1)
        bitmap ^= low
    return tuple(found)
