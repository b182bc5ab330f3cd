# SPDX-License-Identifier: GPL-3.0-or-later
"""SELinux in the guest's memory: is it on, and is its policy still the approved one, rule by rule?

The policy that counts is the package's file, which is the kernel's own form of it, so what the kernel holds can be
compared entry by entry. Light checks look at flags, pointers and counters; ``check_policy`` reads the whole.

Source: Linux 6.12, security/selinux/include/security.h, ss/services.h, ss/policydb.h, ss/avtab.h, ss/ebitmap.h.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator

from ..errors import shown
from ..model.finding import Finding
from ..parse.sepolicy import PolicyDb
from ..parse.serules import EXTENDED, RuleTable
from .kernel import Kernel
from .memory import GuestMemoryError

SOURCE = "docs/introspection.md, SELinux"
SUBJECT = "selinux"

MAX_STARTBIT = 1 << 20
MAX_SLOTS = 1 << 20
MORE_RULES = 1024
MAX_SHOWN = 8
"""Differences that are spelt out; the rest is told by their number."""

_ENABLED = 0x8000
_KEY = struct.Struct("<4H")
_WORD_BITS = 64
_TYPES, _BOOLEANS = 3, 5
"""Indices of symtab (ss/symtab.h, SYM_TYPES, SYM_BOOLS)."""


class SelinuxFacts:
    """The policy, prepared once: what the kernel must hold.

    Args:
        policy: The approved policy.
        size_bytes: Of its file.
    """

    __slots__ = (
        "attributes",
        "booleans",
        "capabilities",
        "conditional",
        "counts",
        "permissive",
        "rules",
        "size_bytes",
        "unknown",
        "version",
    )

    def __init__(self, policy: PolicyDb, size_bytes: int) -> None:
        self.rules = frozenset(_flat(policy.rules))
        self.conditional = sorted(
            rule for node in policy.conditionals for table in (node.when_true, node.when_false) for rule in _flat(table)
        )
        self.booleans = {item.value: item.state for item in policy.booleans.values()}
        self.permissive = sum(1 << value for value in policy.permissive)
        self.capabilities = policy.policy_capabilities
        unknown = policy.handle_unknown
        self.unknown = {"allow_unknown": int(unknown == "allow"), "reject_unknown": int(unknown == "reject")}
        # The kernel counts from 0: bit n stands for value n + 1.
        self.attributes = tuple(bits >> 1 for bits in policy.type_attributes[1:])
        self.counts = {_TYPES: policy.symbols.type_count, _BOOLEANS: len(policy.booleans)}
        self.size_bytes = size_bytes
        self.version = policy.version


class SelinuxState:
    """The kernel's state of SELinux.

    Args:
        kernel: The guest's kernel.
        facts: What it must be.
    """

    __slots__ = ("_facts", "_kernel", "policy")

    def __init__(self, kernel: Kernel, facts: SelinuxFacts) -> None:
        self._kernel = kernel
        self._facts = facts
        self.policy = 0
        """Address of the policy it uses, once there is one."""

    def loaded(self) -> bool:
        """Say whether a policy is in force, and what was remembered from before it is forgotten."""
        kernel, state = self._kernel, self._kernel.symbol("selinux_state")
        if not kernel.value(state, "selinux_state.initialized"):
            return False
        policy = kernel.pointer(state, "selinux_state.policy")
        told = kernel.value(kernel.symbol("selinux_avc"), "selinux_avc.avc_cache.latest_notif")
        return told >= kernel.value(policy, "selinux_policy.latest_granting") > 0

    def check_state(self) -> Iterator[Finding]:
        """Yield findings on flags, pointer and counters."""
        kernel, facts = self._kernel, self._facts
        state = kernel.symbol("selinux_state")
        if kernel.value(state, "selinux_state.enforcing") != 1:
            yield _finding("guest.selinux.enforcing", "enforcing", "not enforcing")
        if kernel.value(state, "selinux_state.initialized") != 1:
            yield _finding("guest.selinux.initialised", "a policy in force", "none")
        if kernel.has("selinux_state.checkreqprot") and kernel.value(state, "selinux_state.checkreqprot"):
            yield _finding("guest.selinux.checkreqprot", "0", "1")
        policy = kernel.pointer(state, "selinux_state.policy")
        if self.policy and policy != self.policy:
            yield _finding("guest.selinux.policy.replaced", f"{self.policy:#x}", f"{policy:#x}")
        granting = kernel.value(policy, "selinux_policy.latest_granting")
        told: tuple[tuple[str, int, int], ...] = (
            ("loads", 1, granting),
            ("rules", len(facts.rules), kernel.value(policy, "selinux_policy.policydb.te_avtab.nel")),
            (
                "conditional rules",
                len(facts.conditional),
                kernel.value(policy, "selinux_policy.policydb.te_cond_avtab.nel"),
            ),
            ("bytes", facts.size_bytes, kernel.value(policy, "selinux_policy.policydb.len")),
            ("version", facts.version, kernel.value(policy, "selinux_policy.policydb.policyvers")),
            *(
                (f"symbols of table {index}", count, self._symbols(policy, index))
                for index, count in facts.counts.items()
            ),
        )
        for what, expected, found in told:
            if expected != found:
                yield _finding("guest.selinux.policy.changed", f"{expected} {what}", f"{found}")
        yield from self._answers(state, policy)
        if self._bitmap(kernel.place(policy, "selinux_policy.policydb.permissive_map")) != facts.permissive:
            yield _finding("guest.selinux.permissive", "the permissive types of the policy", "others")
        yield from self._booleans(policy)

    def check_policy(self) -> Iterator[Finding]:
        """Yield findings on every rule and the attributes of every type."""
        kernel, facts = self._kernel, self._facts
        policy = kernel.pointer(kernel.symbol("selinux_state"), "selinux_state.policy")
        rules = list(self._rules(policy, "te_avtab"))
        yield from _differences(facts.rules, frozenset(rules), len(rules))
        conditional = sorted(self._rules(policy, "te_cond_avtab"))
        if conditional != facts.conditional:
            yield from _differences(frozenset(facts.conditional), frozenset(conditional), len(conditional))
        array = kernel.pointer(policy, "selinux_policy.policydb.type_attr_map_array")
        size = kernel.profile.sizes["ebitmap"]
        for index, expected in enumerate(facts.attributes):
            found = self._bitmap(array + index * size)
            # The kernel leaves a type's own bit to the file, which has it or not.
            if found | 1 << index != expected | 1 << index:
                yield _finding("guest.selinux.attributes", f"type {index + 1}: {expected:#x}", f"{found:#x}")
                return
        capabilities = self._bitmap(kernel.place(policy, "selinux_policy.policydb.policycaps"))
        if capabilities != sum(1 << item for item in facts.capabilities):
            yield _finding("guest.selinux.capabilities", str(facts.capabilities), f"{capabilities:#x}")

    def _answers(self, state: int, policy: int) -> Iterator[Finding]:
        """Yield findings on what decides beside the rules: capabilities of the policy, what is said of the unknown."""
        kernel, facts = self._kernel, self._facts
        switched = kernel.space.read(
            kernel.place(state, "selinux_state.policycap"), kernel.profile.sizes["selinux_state.policycap"]
        )
        wanted = bytes(number in facts.capabilities for number in range(len(switched)))
        if switched != wanted:
            yield _finding("guest.selinux.capabilities", wanted.hex(), switched.hex())
        for name, expected in facts.unknown.items():
            member = f"selinux_policy.policydb.{name}:bit"
            if kernel.has(member):
                bit = kernel.profile.offsets[member]
                found = kernel.space.unsigned(policy + bit // 8, 1) >> bit % 8 & 1
                if found != expected:
                    yield _finding("guest.selinux.unknown", f"{name} {expected}", f"{found}")

    def _symbols(self, policy: int, index: int) -> int:
        base = (
            self._kernel.place(policy, "selinux_policy.policydb.symtab") + index * self._kernel.profile.sizes["symtab"]
        )
        return self._kernel.value(base, "symtab.nprim")

    def _booleans(self, policy: int) -> Iterator[Finding]:
        kernel = self._kernel
        array = kernel.pointer(policy, "selinux_policy.policydb.bool_val_to_struct")
        for value, expected in self._facts.booleans.items():
            datum = kernel.space.u64(array + 8 * (value - 1))
            found = kernel.value(datum, "cond_bool_datum.state")
            if bool(found) != expected:
                yield _finding("guest.selinux.boolean", f"boolean {value} {expected}", f"{bool(found)}")

    def _bitmap(self, address: int) -> int:
        """Return the set in an ebitmap."""
        kernel, found, last = self._kernel, 0, -1
        node = kernel.pointer(address, "ebitmap.node")
        width = kernel.profile.sizes["ebitmap_node.maps"]
        while node:
            kernel.space.budget.spend()
            start = kernel.value(node, "ebitmap_node.startbit")
            if start <= last or start > MAX_STARTBIT:
                raise GuestMemoryError("a bitmap leads back to itself", code="guest.list.endless")
            last = start
            data = kernel.space.read(kernel.place(node, "ebitmap_node.maps"), width)
            found |= int.from_bytes(data, "little") << start
            node = kernel.pointer(node, "ebitmap_node.next")
        return found

    def _rules(self, policy: int, table: str) -> Iterator[tuple[int | bytes, ...]]:
        """Yield source, target, class, kind and data of each rule of a table."""
        kernel, space = self._kernel, self._kernel.space
        slots = kernel.value(policy, f"selinux_policy.policydb.{table}.nslot")
        if not slots:
            return
        if slots > MAX_SLOTS:
            raise GuestMemoryError(f"{slots} slots of rules", code="guest.memory.limit")
        heads = space.read(kernel.pointer(policy, f"selinux_policy.policydb.{table}.htable"), 8 * slots)
        offsets, size = kernel.profile.offsets, kernel.profile.sizes["avtab_node"]
        key_at, data_at, next_at = (offsets[f"avtab_node.{name}"] for name in ("key", "datum", "next"))
        # A few more than there should be, so that those can be told.
        most, count = len(self._facts.rules) + len(self._facts.conditional) + MORE_RULES, 0
        for (node,) in struct.iter_unpack("<Q", heads):
            while node:
                count += 1
                if count > most:
                    raise GuestMemoryError("the rules have no end", code="guest.list.endless")
                space.budget.spend()
                data = space.read(node, size)
                source, target, tclass, kind = _KEY.unpack_from(data, key_at)
                kind &= ~_ENABLED
                if kind in EXTENDED:
                    yield (
                        source,
                        target,
                        tclass,
                        kind,
                        self._extended(int.from_bytes(data[data_at : data_at + 8], "little")),
                    )
                else:
                    yield (source, target, tclass, kind, int.from_bytes(data[data_at : data_at + 4], "little"))
                node = int.from_bytes(data[next_at : next_at + 8], "little")

    def _extended(self, address: int) -> bytes:
        kernel = self._kernel
        specified = kernel.value(address, "avtab_extended_perms.specified")
        driver = kernel.value(address, "avtab_extended_perms.driver")
        return bytes((specified, driver)) + kernel.space.read(kernel.place(address, "avtab_extended_perms.perms"), 32)


def _flat(table: RuleTable) -> Iterator[tuple[int | bytes, ...]]:
    yield from table.rules
    for rule in table.extended:
        yield (rule.source, rule.target, rule.tclass, rule.kind, bytes((rule.specified, rule.driver)) + rule.bits)


def _differences(
    expected: frozenset[tuple[int | bytes, ...]], found: frozenset[tuple[int | bytes, ...]], count: int
) -> Iterator[Finding]:
    if added := found - expected:
        yield _finding("guest.selinux.rule.added", "the rules of the package's policy", _told(added))
    if missing := expected - found:
        yield _finding("guest.selinux.rule.missing", "the rules of the package's policy", _told(missing))
    if count != len(found):
        yield _finding("guest.selinux.rule.added", "each rule once", f"{count - len(found)} twice")


def _told(rules: frozenset[tuple[int | bytes, ...]]) -> str:
    first = sorted(rules, key=str)[:MAX_SHOWN]
    return f"{len(rules)}: " + "; ".join(" ".join(shown(part) for part in rule) for rule in first)


def _finding(code: str, expected: object, actual: object) -> Finding:
    return Finding.deny(code, SUBJECT, expected, actual, source=SOURCE)
