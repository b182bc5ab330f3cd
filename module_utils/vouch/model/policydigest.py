# SPDX-License-Identifier: GPL-3.0-or-later
"""What a policy means, as one digest: the same for a file and for what the kernel writes back after loading it.

The kernel writes symbol tables and rules in the order of its hash tables, so two files of one meaning differ. Here
every statement becomes a line in names instead of numbers; the sorted lines are hashed. The format version is left
out: a version only says how the same statements are written down.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator

from ..parse.secontexts import Context
from ..parse.sepolicy import PolicyDb
from ..parse.serules import BOOLEAN, DONTAUDIT, NOT, OPERATORS, TYPES, RuleTable
from ..parse.sesymbols import Constraint, Level, Range

LABEL = b"vouch SELinux policy semantics 1\n"

_NAMES_OF_USERS, _NAMES_OF_ROLES = 1, 2
_NAMES = 5


def semantic_digest(policy: PolicyDb) -> bytes:
    """Return SHA-256 over everything in ``policy`` that decides access or labels, in an order of its own.

    Covered: flags, capabilities, permissive types, classes and permissions with constraints and defaults, types,
    attributes, aliases and their members, roles, users, booleans with their states, MLS, all rules with their
    conditions, transitions, contexts. Names of commons are not: they only abbreviate.
    """
    text = _Text(policy)
    lines = sorted({*text.head(), *text.symbols(), *text.rules(), *text.contexts()})
    state = hashlib.sha256(LABEL)
    for line in lines:
        state.update(line.encode("ascii") + b"\n")
    return state.digest()


def expression_text(policy: PolicyDb, expression: Iterable[tuple[int, int]]) -> str:
    """Return a conditional's expression as people write it, for instance ``(allow_x and not allow_y)``."""
    stack: list[str] = []
    for operator, boolean in expression:
        if operator == BOOLEAN:
            stack.append(policy.symbols.boolean_names[boolean])
        elif operator == NOT:
            stack.append(f"not {stack.pop()}")
        else:
            right, left = stack.pop(), stack.pop()
            stack.append(f"({left} {OPERATORS[operator]} {right})")
    return stack.pop()


def bits_of(bitmap: int) -> Iterator[int]:
    """Yield the numbers of the bits that are set, lowest first."""
    while bitmap:
        low = bitmap & -bitmap
        yield low.bit_length() - 1
        bitmap ^= low


class _Text:
    """The statements of one policy as lines."""

    def __init__(self, policy: PolicyDb) -> None:
        self._policy = policy
        symbols = policy.symbols
        self._type = [policy.symbol_name(value) for value in range(symbols.type_count + 1)]
        self._class = dict(symbols.class_names)
        self._role = {role.value: name for name, role in symbols.roles.items()}
        self._user = {user.value: name for name, user in symbols.users.items()}
        self._category = {value: name for name, (value, alias) in symbols.categories.items() if not alias}
        self._sensitivity = {
            level.sensitivity: name for name, (alias, level) in symbols.sensitivities.items() if not alias
        }
        self._permissions = {
            item.value: {bit: name for name, bit in item.permissions.items()} for item in symbols.classes.values()
        }

    def head(self) -> Iterator[str]:
        policy = self._policy
        yield f"mls {policy.mls} unknown {policy.handle_unknown}"
        yield from (f"capability {number}" for number in policy.policy_capabilities)
        yield from (f"permissive {self._type[value]}" for value in policy.permissive)

    def symbols(self) -> Iterator[str]:
        policy, symbols = self._policy, self._policy.symbols
        for name, item in symbols.classes.items():
            yield f"class {name} defaults {item.defaults}"
            yield from (f"class {name} permission {permission}" for permission in item.permissions)
            for what, constraints in (("constrain", item.constraints), ("validatetrans", item.transitions)):
                yield from (f"{what} {name} {self._constraint(item.value, one)}" for one in constraints)
        for name, symbol in symbols.types.items():
            kind = "type" if symbol.is_type else "attribute" if symbol.is_attribute else "alias"
            bounds = self._type[symbol.bounds] if 0 < symbol.bounds < len(self._type) else symbol.bounds
            yield f"{kind} {name} of {self._type[symbol.value]} bounds {bounds}"
            if symbol.is_type:
                members = (self._type[bit] for bit in bits_of(policy.type_attributes[symbol.value]))
                yield f"member {name} {' '.join(sorted(members))}"
        for name, role in symbols.roles.items():
            yield f"role {name} bounds {self._role.get(role.bounds, role.bounds)}"
            yield from (f"role {name} dominates {self._role.get(bit + 1, bit)}" for bit in bits_of(role.dominates))
            yield from (f"role {name} type {self._numbered(bit + 1)}" for bit in bits_of(role.types))
        for name, user in symbols.users.items():
            roles = " ".join(sorted(str(self._role.get(bit + 1, bit)) for bit in bits_of(user.roles)))
            level = self._level(user.default_level)
            yield f"user {name} bounds {user.bounds} roles {roles} range {self._range(user.range)} level {level}"
        yield from (f"boolean {name} {item.state}" for name, item in symbols.booleans.items())
        for name, (is_alias, grade) in symbols.sensitivities.items():
            yield f"sensitivity {name} {is_alias} {grade.sensitivity} {self._level(grade)}"
        yield from (f"category {name} {value} {is_alias}" for name, (value, is_alias) in symbols.categories.items())

    def rules(self) -> Iterator[str]:
        policy = self._policy
        yield from self._table(policy.rules, "")
        for node in policy.conditionals:
            condition = expression_text(policy, node.expression)
            yield from self._table(node.when_true, f"if {condition} ")
            yield from self._table(node.when_false, f"unless {condition} ")
        for role, kind, new, tclass in policy.role_transitions:
            yield f"role_transition {self._role[role]} {self._type[kind]} {self._role[new]} {self._class.get(tclass)}"
        yield from (f"role_allow {self._role[role]} {self._role[new]}" for role, new in policy.role_allows)
        for name in policy.name_transitions:
            tail = f"{self._type[name.target]} {self._class[name.tclass]} {self._type[name.result]} {name.name}"
            yield from (f"name_transition {self._numbered(bit)} {tail}" for bit in bits_of(name.sources))
        for item in policy.range_transitions:
            key = f"{self._type[item.source]} {self._type[item.target]} {self._class[item.tclass]}"
            yield f"range_transition {key} {self._range(item.range)}"

    def contexts(self) -> Iterator[str]:
        labels, context = self._policy.labels, self._context
        yield from (f"sid {sid} {context(one)}" for sid, one in labels.initial_sids)
        yield from (f"fs {name} {context(one)} {context(two)}" for name, one, two in labels.file_systems)
        # The first match decides, so the order of networks, and of paths below, means something.
        yield from (f"port {i} {p} {a} {b} {context(c)}" for i, (p, a, b, c) in enumerate(labels.ports))
        yield from (f"netif {name} {context(one)} {context(two)}" for name, one, two in labels.interfaces)
        for what, nodes in (("node", labels.nodes), ("node6", labels.nodes6), ("ibpkey", labels.ib_keys)):
            yield from (f"{what} {i} {key.hex()} {context(one)}" for i, (key, one) in enumerate(nodes))
        yield from (f"fs_use {behaviour} {name} {context(one)}" for behaviour, name, one in labels.fs_uses)
        yield from (f"ibendport {name} {port} {context(one)}" for name, port, one in labels.ib_ports)
        for item in self._policy.genfs:
            tclass = self._class.get(item.tclass, "any")
            yield f"genfs {item.file_system} {item.path} {tclass} {context(item.context)}"

    def _table(self, table: RuleTable, condition: str) -> Iterator[str]:
        names, classes = self._type, self._class
        permissions: dict[tuple[int, int], str] = {}
        for source, target, tclass, kind, data in table.rules:
            if kind in TYPES:
                value = names[data]
            else:
                mask = ~data & 0xFFFFFFFF if kind == DONTAUDIT else data
                if (tclass, mask) not in permissions:
                    known = self._permissions[tclass]
                    permissions[tclass, mask] = ",".join(sorted(known[bit] for bit in bits_of(mask) if bit in known))
                value = permissions[tclass, mask]
            yield f"{condition}rule {kind} {names[source]} {names[target]} {classes[tclass]} {value}"
        for item in table.extended:
            key = f"{item.kind} {names[item.source]} {names[item.target]} {classes[item.tclass]}"
            yield f"{condition}extended {key} {item.specified} {item.driver} {item.bits.hex()}"

    def _constraint(self, tclass: int, constraint: Constraint) -> str:
        known = self._permissions[tclass]
        names = ",".join(sorted(known.get(bit, str(bit)) for bit in bits_of(constraint.permissions)))
        terms = []
        for term in constraint.terms:
            lookup: Callable[[int], object] = self._numbered
            if term.kind == _NAMES and term.attribute & 3:
                table = self._user if term.attribute & _NAMES_OF_USERS else self._role
                lookup = table.get
            listed = ",".join(sorted(str(lookup(bit + 1)) for bit in bits_of(term.names)))
            terms.append(f"{term.kind}.{term.attribute}.{term.operator}[{listed}]")
        return f"{names}: {' '.join(terms)}"

    def _numbered(self, value: int) -> str:
        return self._type[value] if value < len(self._type) else f"#{value}"

    def _level(self, level: Level) -> str:
        sensitivity = self._sensitivity.get(level.sensitivity, level.sensitivity)
        return f"{sensitivity}:" + ",".join(str(self._category.get(b + 1, b)) for b in bits_of(level.categories))

    def _range(self, both: Range) -> str:
        return f"{self._level(both.low)}-{self._level(both.high)}"

    def _context(self, context: Context) -> str:
        user, role = self._user[context.user], self._role[context.role]
        return f"{user}:{role}:{self._type[context.type]}:{self._range(context.range)}"
