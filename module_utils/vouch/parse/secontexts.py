# SPDX-License-Identifier: GPL-3.0-or-later
"""Contexts in an SELinux kernel policy: initial SIDs, networks, file systems, ranges.

A context is user, role, type and an MLS range. What is labelled stands in seven tables, from version 31 in nine:

====== ============= ===============================================
table  of            key
====== ============= ===============================================
0      initial SIDs  SID
1      file systems  name; two contexts
2      ports         protocol, lowest, highest
3      interfaces    name; two contexts
4      nodes         IPv4 address, mask
5      fs_use        behaviour, name
6      nodes         IPv6 address, mask
7      ibpkey        subnet prefix, lowest, highest
8      ibendport     port, device name
====== ============= ===============================================

Source: Linux 6.12, security/selinux/ss/policydb.c, ocontext_read.
"""

from __future__ import annotations

from dataclasses import dataclass

from .sebitmap import PolicyCursor, read_count
from .sesymbols import Range, Symbols, read_name, read_range

MAX_LABELS = 262_144
_VERSION_INFINIBAND = 31


@dataclass(frozen=True, slots=True)
class Context:
    """Values of user, role and type, and the range."""

    user: int
    role: int
    type: int
    range: Range


@dataclass(frozen=True, slots=True, kw_only=True)
class Labels:
    """What each table says; keys as in the file, numbers or bytes, each with its contexts."""

    initial_sids: tuple[tuple[int, Context], ...] = ()
    file_systems: tuple[tuple[str, Context, Context], ...] = ()
    ports: tuple[tuple[int, int, int, Context], ...] = ()
    interfaces: tuple[tuple[str, Context, Context], ...] = ()
    nodes: tuple[tuple[bytes, Context], ...] = ()
    fs_uses: tuple[tuple[int, str, Context], ...] = ()
    nodes6: tuple[tuple[bytes, Context], ...] = ()
    ib_keys: tuple[tuple[bytes, Context], ...] = ()
    ib_ports: tuple[tuple[str, int, Context], ...] = ()


@dataclass(frozen=True, slots=True)
class Genfs:
    """The context of what is below ``path`` on a file system; a class of 0 means every class."""

    file_system: str
    path: str
    tclass: int
    context: Context


@dataclass(frozen=True, slots=True)
class RangeTransition:
    """The range that a new process or object gets."""

    source: int
    target: int
    tclass: int
    range: Range


def read_context(cursor: PolicyCursor, symbols: Symbols) -> Context:
    """Consume a context."""
    user, role, kind = symbols.user(cursor, "user"), symbols.role(cursor, "role"), symbols.type(cursor, "type")
    return Context(user, role, kind, read_range(cursor))


def read_labels(cursor: PolicyCursor, symbols: Symbols, version: int) -> Labels:
    """Consume the tables.

    Raises:
        ParseError: a user, role or type that does not exist, too many entries.
    """

    def context() -> Context:
        return read_context(cursor, symbols)

    def name() -> str:
        return read_name(cursor, cursor.u32le("name"), "name")

    def count(what: str) -> range:
        return range(read_count(cursor, MAX_LABELS, what))

    def number(what: str) -> int:
        return cursor.u32le(what)

    sids = tuple((number("sid"), context()) for _ in count("initial sids"))
    file_systems = tuple((name(), context(), context()) for _ in count("file systems"))
    ports = tuple((number("protocol"), number("port"), number("port"), context()) for _ in count("ports"))
    interfaces = tuple((name(), context(), context()) for _ in count("interfaces"))
    nodes = tuple((cursor.take(8, "node"), context()) for _ in count("nodes"))
    fs_uses = tuple((number("fs_use"), name(), context()) for _ in count("fs_use"))
    nodes6 = tuple((cursor.take(32, "node"), context()) for _ in count("nodes"))
    keys: tuple[tuple[bytes, Context], ...] = ()
    ib_ports: list[tuple[str, int, Context]] = []
    if version >= _VERSION_INFINIBAND:
        keys = tuple((cursor.take(16, "ibpkey"), context()) for _ in count("ibpkeys"))
        for _ in count("ibendports"):
            length, port = number("ibendport"), number("ibendport")
            ib_ports.append((read_name(cursor, length, "ibendport"), port, context()))
    return Labels(
        initial_sids=sids,
        file_systems=file_systems,
        ports=ports,
        interfaces=interfaces,
        nodes=nodes,
        fs_uses=fs_uses,
        nodes6=nodes6,
        ib_keys=keys,
        ib_ports=tuple(ib_ports),
    )


def read_genfs(cursor: PolicyCursor, symbols: Symbols) -> tuple[Genfs, ...]:
    """Consume the contexts of pseudo file systems."""
    found = []
    for _ in range(read_count(cursor, MAX_LABELS, "genfs")):
        file_system = read_name(cursor, cursor.u32le("genfs"), "genfs")
        for _ in range(read_count(cursor, MAX_LABELS, "genfs")):
            path = read_name(cursor, cursor.u32le("genfs path"), "genfs path")
            tclass = cursor.u32le("genfs class")
            if tclass and tclass not in symbols.class_names:
                raise cursor.fail("genfs class", f"class {tclass} does not exist")
            found.append(Genfs(file_system, path, tclass, read_context(cursor, symbols)))
    return tuple(found)


def read_range_transitions(cursor: PolicyCursor, symbols: Symbols) -> tuple[RangeTransition, ...]:
    """Consume the range transitions."""
    found = []
    for _ in range(read_count(cursor, MAX_LABELS, "range transitions")):
        source, target = symbols.type(cursor, "source"), symbols.type(cursor, "target")
        found.append(RangeTransition(source, target, symbols.tclass(cursor, "class"), read_range(cursor)))
    return tuple(found)
