# SPDX-License-Identifier: GPL-3.0-or-later
"""Small SELinux policies as the kernel reads them: assign a rule, write the bytes.

Written from the kernel's reader (``security/selinux/ss/policydb.c``), not from ours.
"""

from __future__ import annotations

import itertools
import struct
from collections.abc import Iterable
from dataclasses import dataclass, field

VERSION = 33
KERNEL_SID, UNLABELED_SID = 1, 3
CLASSES: dict[str, tuple[str, ...]] = {
    "process": ("transition", "dyntransition", "signal", "sigchld", "ptrace", "setcurrent", "noatsecure", "getattr"),
    "file": (
        *("read", "write", "append", "create", "unlink", "getattr", "open", "execute", "execute_no_trans"),
        *("entrypoint", "relabelfrom", "relabelto", "map"),
    ),
    "dir": ("search", "read", "add_name", "remove_name", "write", "getattr"),
    "lnk_file": ("read", "create", "unlink"),
    "chr_file": ("read", "write", "open", "ioctl"),
    "tcp_socket": ("read", "write", "create", "recv_msg", "name_bind"),
    "unix_stream_socket": ("read", "write", "connectto", "create"),
    "fd": ("use",),
    "security": ("load_policy", "setenforce", "setbool", "compute_av", "read_policy"),
    "capability": ("sys_module", "sys_rawio", "chown"),
    "system": ("module_load", "syslog_read"),
    "filesystem": ("associate", "mount", "getattr"),
}
"""Classes of every policy here, with permissions in the order of their bits."""


@dataclass(frozen=True)
class SimRule:
    """``allow source target:tclass { permissions }``; source and target are types or attributes."""

    source: str
    target: str
    tclass: str
    permissions: tuple[str, ...]


def allow(text: str) -> SimRule:
    """Return the rule of ``"source target:class perm perm"``.

    >>> allow("a_t b_t:file read write").permissions
    ('read', 'write')
    """
    source, target, *permissions = text.split()
    kind, _, tclass = target.partition(":")
    return SimRule(source, kind, tclass, tuple(permissions))


@dataclass
class SimPolicy:
    """A policy to be changed and written.

    Attributes:
        types: Types; the first is the kernel's.
        rules: Rules that always hold.
        attributes: Attribute to its types.
        conditionals: Boolean, its rules when true, its rules when false.
        booleans: Boolean to its state.
        permissive: Permissive types.
        handle_unknown: ``deny``, ``reject`` or ``allow``.
        unlabeled: Type of what has no label; the last when empty.
        version: Of the format, 24 to 34.
        mls: Whether the flag is set; the bytes have ranges either way.
        constraint: Type that alone may use the permissions of ``file``; none when empty.
        commands: Extended permissions (ioctl of driver 0x54): source, target, class. From version 30.
        conditional_commands: The same when ``conditionals[0]`` is true. From version 34.
        names: Transitions by file name: source, target, class, name, new type. From version 25.
    """

    types: list[str]
    rules: list[SimRule] = field(default_factory=list)
    attributes: dict[str, list[str]] = field(default_factory=dict)
    conditionals: list[tuple[str, list[SimRule], list[SimRule]]] = field(default_factory=list)
    booleans: dict[str, bool] = field(default_factory=dict)
    permissive: list[str] = field(default_factory=list)
    handle_unknown: str = "deny"
    unlabeled: str = ""
    version: int = VERSION
    mls: bool = True
    constraint: str = ""
    commands: list[tuple[str, str, str]] = field(default_factory=list)
    conditional_commands: list[tuple[str, str, str]] = field(default_factory=list)
    names: list[tuple[str, str, str, str, str]] = field(default_factory=list)

    def value(self, name: str) -> int:
        """Return the value of a type or an attribute."""
        return [*self.types, *self.attributes].index(name) + 1

    def to_bytes(self) -> bytes:
        """Return the policy file."""
        flags = int(self.mls) | {"deny": 0, "reject": 2, "allow": 4}[self.handle_unknown]
        contexts = 9 if self.version >= 31 else 7
        head = struct.pack("<2I", 0xF97CFF8C, 8) + b"SE Linux" + struct.pack("<4I", self.version, flags, 8, contexts)
        permissive = bitmap(self.value(name) for name in self.permissive)
        conditionals = b"".join(self._conditional(at, *item) for at, item in enumerate(self.conditionals))
        parts = [
            *(head, bitmap(()), permissive, *self._symbols(), self._table(self.rules, self.commands)),
            *(u32(len(self.conditionals)), conditionals, u32(0), u32(0), self._names()),
            *(self._labels(), u32(*[0] * (contexts - 1)), u32(0), u32(0), *self._members()),
        ]
        return b"".join(parts)

    def _symbols(self) -> Iterable[bytes]:
        yield u32(0, 0)
        yield u32(len(CLASSES), len(CLASSES))
        for value, (name, permissions) in enumerate(CLASSES.items(), 1):
            limited = bool(self.constraint) and name == "file"
            yield u32(len(name), 0, value, len(permissions), len(permissions), int(limited)) + name.encode()
            yield b"".join(u32(len(p), bit) + p.encode() for bit, p in enumerate(permissions, 1))
            yield self._constraint() if limited else b""
            yield u32(0, *[0] * (3 if self.version >= 27 else 0), *[0] * (1 if self.version >= 28 else 0))
        every = bitmap(range(len(self.types)))
        yield u32(2, 2) + u32(8, 1, 0) + b"object_r" + bitmap([0]) + every
        yield u32(8, 2, 0) + b"system_r" + bitmap([1]) + every
        names = [*((name, 1) for name in self.types), *((name, 2) for name in self.attributes)]
        yield u32(len(names), len(names))
        yield from (u32(len(name), value, kind, 0) + name.encode() for value, (name, kind) in enumerate(names, 1))
        yield u32(1, 1) + u32(8, 1, 0) + b"system_u" + bitmap([1]) + _RANGE + _LEVEL
        yield u32(len(self.booleans), len(self.booleans))
        for value, (name, state) in enumerate(self.booleans.items(), 1):
            yield u32(value, state, len(name)) + name.encode()
        yield u32(1, 1) + u32(2, 0) + b"s0" + _LEVEL
        yield u32(0, 0)

    def _constraint(self) -> bytes:
        names = bitmap([self.value(self.constraint) - 1])
        return u32(0xFFFFFFFF, 1, 5, 4, 1) + names + (names + bitmap(()) + u32(0) if self.version >= 29 else b"")

    def _table(self, rules: Iterable[SimRule], commands: Iterable[tuple[str, str, str]] = ()) -> bytes:
        # The kernel refuses two rules of one key.
        merged: dict[tuple[int, int, int], int] = {}
        for rule in rules:
            key = (self.value(rule.source), self.value(rule.target), list(CLASSES).index(rule.tclass) + 1)
            bits = sum(1 << CLASSES[rule.tclass].index(permission) for permission in set(rule.permissions))
            merged[key] = merged.get(key, 0) | bits
        packed = [struct.pack("<4HI", *key, 1, bits) for key, bits in merged.items()]
        for source, target, tclass in commands:
            key = (self.value(source), self.value(target), list(CLASSES).index(tclass) + 1)
            packed.append(struct.pack("<4H2B32s", *key, 0x100, 1, 0x54, b"\x01"))
        return u32(len(packed)) + b"".join(packed)

    def _conditional(self, at: int, boolean: str, when_true: list[SimRule], when_false: list[SimRule]) -> bytes:
        state = u32(self.booleans[boolean], 1, 1, list(self.booleans).index(boolean) + 1)
        return state + self._table(when_true, () if at else self.conditional_commands) + self._table(when_false)

    def _names(self) -> bytes:
        if self.version < 25:
            return b""
        rows = []
        for source, target, tclass, name, result in self.names:
            text = u32(len(name)) + name.encode()
            key = (self.value(target), list(CLASSES).index(tclass) + 1)
            if self.version >= 33:
                rows.append(text + u32(*key, 1) + bitmap([self.value(source) - 1]) + u32(self.value(result)))
            else:
                rows.append(text + u32(self.value(source), *key, self.value(result)))
        return u32(len(rows)) + b"".join(rows)

    def _labels(self) -> bytes:
        sids = {KERNEL_SID: self.types[0], UNLABELED_SID: self.unlabeled or self.types[-1]}
        contexts = b"".join(u32(sid, 1, 2, self.value(name)) + _RANGE for sid, name in sids.items())
        return u32(len(sids)) + contexts

    def _members(self) -> Iterable[bytes]:
        for name in self.types:
            yield bitmap([*(self.value(a) - 1 for a, members in self.attributes.items() if name in members)])
        yield from (bitmap(()) for _ in self.attributes)


def u32(*values: int) -> bytes:
    """Return ``values`` as little-endian 32-bit numbers."""
    return struct.pack(f"<{len(values)}I", *values)


def bitmap(bits: Iterable[int]) -> bytes:
    """Return an ebitmap."""
    ordered = sorted(set(bits))
    nodes = [(start * 64, list(group)) for start, group in itertools.groupby(ordered, key=lambda bit: bit // 64)]
    highest = nodes[-1][0] + 64 if nodes else 0
    return u32(64, highest, len(nodes)) + b"".join(
        struct.pack("<IQ", start, sum(1 << bit - start for bit in group)) for start, group in nodes
    )


_LEVEL = u32(1) + bitmap(())
_RANGE = u32(1, 1) + bitmap(())
