# SPDX-License-Identifier: GPL-3.0-or-later
"""The eight symbol tables of an SELinux kernel policy.

A table is its number of primary names, its number of entries, and the entries. Every entry begins with the length of
its name (booleans: third), the name follows the numbers:

============ ===================================================================================================
common       value, permissions (a table of their own: name, value)
class        length of its common's name, value, permissions, constraints, validatetrans, defaults (from 27, 28)
role         value, bounds; bit maps of dominated roles and of types
type         value, properties (1 primary, 2 attribute), bounds; neither property: an alias
user         value, bounds; bit map of roles, MLS range, default MLS level
boolean      value, state, length
sensitivity  is alias; MLS level
category     value, is alias
============ ===================================================================================================

Source: Linux 6.12, security/selinux/ss/policydb.c.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import TypeVar

from .sebitmap import PolicyCursor, read_bitmap, read_count

MAX_NAME_BYTES = 512
MAX_SYMBOLS = 65_535
"""Values of types and classes are 16-bit numbers in a rule."""
MAX_TYPES = 16_384
"""Of types and attributes: three times what distributions have. A set of types takes 2 KB."""
MAX_PERMISSIONS = 32
MAX_CONSTRAINTS = 4096
MAX_CONSTRAINT_TERMS = 1024

_NAME = re.compile(rb"[\x21-\x7e]+\Z")
_VERSION_TYPE_NAMES = 29
_VERSION_CLASS_DEFAULTS = 27
_VERSION_CLASS_DEFAULT_TYPE = 28
_TERM_NAMES = 5
_TERM_LAST = 5

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class ConstraintTerm:
    """One step of a constraint, in postfix order: kind, attribute, operator, and names where it has some.

    ``names`` is a bit map of values less one (users, roles or types); the type set before expansion (``types``,
    ``not_types``, ``flags``) is what the policy's author wrote, and the kernel does not use it.
    """

    kind: int
    attribute: int
    operator: int
    names: int = 0
    types: int = 0
    not_types: int = 0
    flags: int = 0


@dataclass(frozen=True, slots=True)
class Constraint:
    """What must hold for the permissions of a bit mask."""

    permissions: int
    terms: tuple[ConstraintTerm, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class PolicyClass:
    """An object class: its value, permission name to bit number, and what restricts it."""

    value: int
    permissions: Mapping[str, int]
    common: str = ""
    constraints: tuple[Constraint, ...] = ()
    transitions: tuple[Constraint, ...] = ()
    defaults: tuple[int, int, int, int] = (0, 0, 0, 0)


@dataclass(frozen=True, slots=True, kw_only=True)
class Role:
    """A role: bit maps of dominated roles and of its types, values less one."""

    value: int
    bounds: int
    dominates: int
    types: int


@dataclass(frozen=True, slots=True, kw_only=True)
class TypeSymbol:
    """A name in the table of types: a type, an attribute, or an alias of a type."""

    value: int
    properties: int
    bounds: int

    @property
    def is_type(self) -> bool:
        """Whether it is the primary name of a type."""
        return self.properties & 3 == 1

    @property
    def is_attribute(self) -> bool:
        """Whether it is an attribute."""
        return bool(self.properties & 2)


@dataclass(frozen=True, slots=True)
class Level:
    """An MLS level: sensitivity value and bit map of categories, values less one."""

    sensitivity: int
    categories: int


@dataclass(frozen=True, slots=True)
class Range:
    """An MLS range."""

    low: Level
    high: Level


@dataclass(frozen=True, slots=True, kw_only=True)
class User:
    """A user: bit map of roles (values less one), range and default level."""

    value: int
    bounds: int
    roles: int
    range: Range
    default_level: Level


@dataclass(frozen=True, slots=True, kw_only=True)
class Boolean:
    """A boolean and the state that the file gives it."""

    value: int
    state: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Symbols:
    """All tables, and the value checks of everything that follows them in the file."""

    commons: Mapping[str, Mapping[str, int]]
    classes: Mapping[str, PolicyClass]
    roles: Mapping[str, Role]
    types: Mapping[str, TypeSymbol]
    users: Mapping[str, User]
    booleans: Mapping[str, Boolean]
    sensitivities: Mapping[str, tuple[bool, Level]]
    categories: Mapping[str, tuple[int, bool]]
    type_count: int
    class_names: Mapping[int, str] = field(init=False)
    role_values: frozenset[int] = field(init=False)
    user_values: frozenset[int] = field(init=False)
    boolean_names: Mapping[int, str] = field(init=False)

    def __post_init__(self) -> None:
        put = object.__setattr__
        put(self, "class_names", MappingProxyType({item.value: name for name, item in self.classes.items()}))
        put(self, "role_values", frozenset(item.value for item in self.roles.values()))
        put(self, "user_values", frozenset(item.value for item in self.users.values()))
        put(self, "boolean_names", MappingProxyType({item.value: name for name, item in self.booleans.items()}))

    def type(self, cursor: PolicyCursor, name: str) -> int:
        """Consume the value of a type or an attribute."""
        return _within(cursor, name, cursor.u32le(name), self.type_count)

    def role(self, cursor: PolicyCursor, name: str) -> int:
        """Consume the value of a role."""
        return _among(cursor, name, cursor.u32le(name), self.role_values)

    def user(self, cursor: PolicyCursor, name: str) -> int:
        """Consume the value of a user."""
        return _among(cursor, name, cursor.u32le(name), self.user_values)

    def tclass(self, cursor: PolicyCursor, name: str) -> int:
        """Consume the value of a class."""
        return _among(cursor, name, cursor.u32le(name), self.class_names)


def read_symbols(cursor: PolicyCursor, version: int) -> Symbols:
    """Consume the eight tables.

    Raises:
        ParseError: a name or a value twice, a value beyond the table, a class with an unknown common.
    """
    commons = _table(cursor, "common", lambda length: _common(cursor, length))[0]
    classes = _table(cursor, "class", lambda length: _class(cursor, length, version, commons))[0]
    roles = _table(cursor, "role", lambda length: _role(cursor, length))[0]
    types, type_count = _table(cursor, "type", lambda length: _type(cursor, length))
    if type_count > MAX_TYPES:
        raise cursor.fail("type", f"{type_count} types, more than {MAX_TYPES}", code="parse.too-many")
    users = _table(cursor, "user", lambda length: _user(cursor, length))[0]
    booleans = _booleans(cursor)
    sensitivities = _table(cursor, "sensitivity", lambda length: _sensitivity(cursor, length))[0]
    categories = _table(cursor, "category", lambda length: _category(cursor, length))[0]
    for what, values in (
        ("class", [item.value for item in classes.values()]),
        ("role", [item.value for item in roles.values()]),
        ("type", [item.value for item in types.values() if item.properties & 3]),
        ("user", [item.value for item in users.values()]),
        ("boolean", [item.value for item in booleans.values()]),
    ):
        if len(values) != len(set(values)) or any(value < 1 for value in values):
            raise cursor.fail(what, "two entries have one value, or one has none", code="parse.duplicate")
    if any(not 1 <= item.value <= type_count for item in types.values()):
        raise cursor.fail("type", f"a type has a value beyond {type_count}")
    return Symbols(
        commons=MappingProxyType(commons),
        classes=MappingProxyType(classes),
        roles=MappingProxyType(roles),
        types=MappingProxyType(types),
        users=MappingProxyType(users),
        booleans=MappingProxyType(booleans),
        sensitivities=MappingProxyType(sensitivities),
        categories=MappingProxyType(categories),
        type_count=type_count,
    )


def read_name(cursor: PolicyCursor, length: int, what: str) -> str:
    """Consume a name of ``length`` printable bytes."""
    if not 1 <= length <= MAX_NAME_BYTES:
        raise cursor.fail(what, f"a name of {length} bytes")
    raw = cursor.take(length, what)
    if not _NAME.match(raw):
        raise cursor.fail(what, "a name that is not printable ASCII")
    return raw.decode("ascii")


def read_level(cursor: PolicyCursor) -> Level:
    """Consume an MLS level."""
    return Level(cursor.u32le("sensitivity"), read_bitmap(cursor, "categories"))


def read_range(cursor: PolicyCursor) -> Range:
    """Consume an MLS range of one or two levels."""
    count = cursor.u32le("range")
    if count not in (1, 2):
        raise cursor.fail("range", f"an MLS range of {count} levels")
    sensitivities = [cursor.u32le("sensitivity") for _ in range(count)]
    levels = [Level(sensitivity, read_bitmap(cursor, "categories")) for sensitivity in sensitivities]
    return Range(levels[0], levels[-1])


def _table(cursor: PolicyCursor, what: str, read: Callable[[int], tuple[str, T]]) -> tuple[dict[str, T], int]:
    primary = read_count(cursor, MAX_SYMBOLS, what)
    found: dict[str, T] = {}
    for _ in range(read_count(cursor, MAX_SYMBOLS, what)):
        name, entry = read(cursor.u32le(what))
        if name in found:
            raise cursor.fail(what, f"{name} stands twice", code="parse.duplicate")
        found[name] = entry
    return found, primary


def _permissions(cursor: PolicyCursor, count: int) -> dict[str, int]:
    if count > MAX_PERMISSIONS:
        raise cursor.fail("permissions", f"{count} permissions in one class", code="parse.too-many")
    found: dict[str, int] = {}
    for _ in range(count):
        length, value = cursor.u32le("permission"), cursor.u32le("permission")
        name = read_name(cursor, length, "permission")
        if not 1 <= value <= MAX_PERMISSIONS or name in found:
            raise cursor.fail("permission", f"{name} has value {value}, or stands twice")
        found[name] = value - 1
    return found


def _common(cursor: PolicyCursor, length: int) -> tuple[str, Mapping[str, int]]:
    cursor.u32le("value")
    cursor.u32le("permissions")
    count = cursor.u32le("permissions")
    return read_name(cursor, length, "common"), MappingProxyType(_permissions(cursor, count))


def _class(
    cursor: PolicyCursor, length: int, version: int, commons: Mapping[str, Mapping[str, int]]
) -> tuple[str, PolicyClass]:
    common_length, value = cursor.u32le("common"), cursor.u32le("value")
    cursor.u32le("permissions")
    own, constraints = cursor.u32le("permissions"), cursor.u32le("constraints")
    name = read_name(cursor, length, "class")
    common = read_name(cursor, common_length, "common") if common_length else ""
    if common and common not in commons:
        raise cursor.fail("class", f"{name} has an unknown common")
    permissions = {**commons.get(common, {}), **_permissions(cursor, own)}
    if len(set(permissions.values())) != len(permissions):
        raise cursor.fail("class", f"{name} has two permissions of one value", code="parse.duplicate")
    rules = _constraints(cursor, constraints, version)
    transitions = _constraints(cursor, cursor.u32le("validatetrans"), version)
    defaults = [cursor.u32le("defaults") for _ in range(3)] if version >= _VERSION_CLASS_DEFAULTS else [0, 0, 0]
    kind = cursor.u32le("defaults") if version >= _VERSION_CLASS_DEFAULT_TYPE else 0
    return name, PolicyClass(
        value=value,
        permissions=MappingProxyType(permissions),
        common=common,
        constraints=rules,
        transitions=transitions,
        defaults=(defaults[0], defaults[1], defaults[2], kind),
    )


def _constraints(cursor: PolicyCursor, count: int, version: int) -> tuple[Constraint, ...]:
    if count > MAX_CONSTRAINTS:
        raise cursor.fail("constraints", f"{count} constraints of one class", code="parse.too-many")
    found = []
    for _ in range(count):
        permissions = cursor.u32le("constraint")
        terms = tuple(
            _term(cursor, version) for _ in range(read_count(cursor, MAX_CONSTRAINT_TERMS, "constraint terms"))
        )
        found.append(Constraint(permissions, terms))
    return tuple(found)


def _term(cursor: PolicyCursor, version: int) -> ConstraintTerm:
    kind, attribute, operator = (cursor.u32le("constraint term") for _ in range(3))
    if not 1 <= kind <= _TERM_LAST:
        raise cursor.fail("constraint term", f"kind {kind}")
    if kind != _TERM_NAMES:
        return ConstraintTerm(kind, attribute, operator)
    names = read_bitmap(cursor, "constraint names")
    if version < _VERSION_TYPE_NAMES:
        return ConstraintTerm(kind, attribute, operator, names)
    types, not_types = read_bitmap(cursor, "type set"), read_bitmap(cursor, "type set")
    return ConstraintTerm(kind, attribute, operator, names, types, not_types, cursor.u32le("type set"))


def _role(cursor: PolicyCursor, length: int) -> tuple[str, Role]:
    value, bounds = cursor.u32le("value"), cursor.u32le("bounds")
    name = read_name(cursor, length, "role")
    dominates = read_bitmap(cursor, "dominates")
    return name, Role(value=value, bounds=bounds, dominates=dominates, types=read_bitmap(cursor, "role types"))


def _type(cursor: PolicyCursor, length: int) -> tuple[str, TypeSymbol]:
    value, properties, bounds = (cursor.u32le("type") for _ in range(3))
    return read_name(cursor, length, "type"), TypeSymbol(value=value, properties=properties, bounds=bounds)


def _user(cursor: PolicyCursor, length: int) -> tuple[str, User]:
    value, bounds = cursor.u32le("value"), cursor.u32le("bounds")
    name = read_name(cursor, length, "user")
    roles, whole = read_bitmap(cursor, "roles"), read_range(cursor)
    return name, User(value=value, bounds=bounds, roles=roles, range=whole, default_level=read_level(cursor))


def _booleans(cursor: PolicyCursor) -> dict[str, Boolean]:
    read_count(cursor, MAX_SYMBOLS, "boolean")
    found: dict[str, Boolean] = {}
    for _ in range(read_count(cursor, MAX_SYMBOLS, "boolean")):
        value, state, length = (cursor.u32le("boolean") for _ in range(3))
        name = read_name(cursor, length, "boolean")
        if state not in (0, 1) or name in found:
            raise cursor.fail("boolean", f"{name} has state {state}, or stands twice")
        found[name] = Boolean(value=value, state=bool(state))
    return found


def _sensitivity(cursor: PolicyCursor, length: int) -> tuple[str, tuple[bool, Level]]:
    alias = cursor.u32le("sensitivity")
    return read_name(cursor, length, "sensitivity"), (bool(alias), read_level(cursor))


def _category(cursor: PolicyCursor, length: int) -> tuple[str, tuple[int, bool]]:
    value, alias = cursor.u32le("category"), cursor.u32le("category")
    return read_name(cursor, length, "category"), (value, bool(alias))


def _within(cursor: PolicyCursor, name: str, value: int, highest: int) -> int:
    if not 1 <= value <= highest:
        raise cursor.fail(name, f"value {value}, not 1 to {highest}")
    return value


def _among(cursor: PolicyCursor, name: str, value: int, known: frozenset[int] | Mapping[int, str]) -> int:
    if value not in known:
        raise cursor.fail(name, f"value {value} is not defined")
    return value
