# SPDX-License-Identifier: GPL-3.0-or-later
"""Which way information flows when SELinux allows a permission: the map under every CW-Lite verdict.

The map is our own and complete in itself (``flowtable`` has the rows). What it does not know flows both ways, so a
class or a permission that a newer kernel brings can only make a verdict stricter. Its digest is part of every proof.

Source: docs/cwlite.md, section "The map".
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from types import MappingProxyType

from ..parse.canonical import dump_canonical
from . import flowtable

READ, WRITE, BOTH, NEITHER = "r", "w", "b", "n"
SEVERITIES = ("code", "kernel", "data", "ipc", "name", "net")
"""Kinds of flow, the worst first."""

NETWORK_CLASSES = flowtable.NETWORK
"""Classes whose every object counts as written by untrusted subjects: whoever is at the other end."""

UNTRUSTED_TYPES = ("unlabeled_t", "netlabel_peer_t")
"""Types that count as written by untrusted subjects in every class: nobody said where the content is from."""

UNTRUSTED_SIDS = (3, 5, 11)
"""Initial SIDs, fixed by the kernel, whose types count likewise whatever a policy calls them: objects without a valid
label, files without one, network peers without one. Not in the digest: a proof that leaves them out has a labelling
that is too small."""


@dataclass(frozen=True, slots=True)
class Flow:
    """What one permission lets happen.

    Attributes:
        direction: ``r``, ``w``, ``b`` or ``n``, seen from the subject.
        kind: One of ``SEVERITIES``; empty when nothing flows.
        reason: Why, in one line.
    """

    direction: str
    kind: str
    reason: str

    @property
    def reads(self) -> bool:
        """Whether information comes to the subject."""
        return self.direction in (READ, BOTH)

    @property
    def writes(self) -> bool:
        """Whether the subject changes the object."""
        return self.direction in (WRITE, BOTH)


UNKNOWN = Flow(BOTH, "data", "the map does not know it, so it counts as both")


def flow(class_name: str, permission: str) -> Flow:
    """Return the flow of a permission; ``UNKNOWN`` for one that the map does not have."""
    return FLOW_MAP.get(class_name, {}).get(permission, UNKNOWN)


@cache
def flow_map_digest() -> bytes:
    """Return SHA-256 over the canonical form of everything here that decides a verdict; reasons do not."""
    rows = {
        name: {permission: [item.direction, item.kind] for permission, item in permissions.items()}
        for name, permissions in FLOW_MAP.items()
    }
    document = {"map": rows, "network": sorted(NETWORK_CLASSES), "untrusted": sorted(UNTRUSTED_TYPES)}
    return hashlib.sha256(dump_canonical(document)).digest()


def _rows(*texts: str, kind: str = "") -> dict[str, Flow]:
    """Return permission to flow; a later text wins."""
    found: dict[str, Flow] = {}
    for text in texts:
        for line in text.strip().splitlines():
            permission, direction, what, reason = line.format(kind=kind).split(maxsplit=3)
            found[permission] = Flow(direction, "" if what == "-" else what, reason)
    return found


def _capability(rows: str, rest: str) -> dict[str, Flow]:
    harmless = Flow(NEITHER, "", "what it permits is checked by the class of the object, or is not for SELinux")
    return {**dict.fromkeys(rest.split(), harmless), **_rows(rows)}


def _build() -> Mapping[str, Mapping[str, Flow]]:
    t = flowtable
    found: dict[str, dict[str, Flow]] = {
        "file": _rows(t.FILE),
        "anon_inode": _rows(t.FILE, t.DEVICE),
        "chr_file": _rows(t.FILE, t.DEVICE),
        "blk_file": _rows(t.FILE, t.BLOCK),
        "dir": _rows(t.FILE, t.DIRECTORY),
        "lnk_file": _rows(t.FILE, t.LINK),
        "fifo_file": _rows(t.FILE, t.PIPE),
        "sock_file": _rows(t.FILE, t.SOCKET_FILE),
        "process": _rows(t.PROCESS),
        "process2": _rows(t.PROCESS2),
        "security": _rows(t.SECURITY),
        "system": _rows(t.SYSTEM),
        "filesystem": _rows(t.FILESYSTEM),
        "capability": _capability(t.CAPABILITY, t.CAPABILITY_REST),
        "capability2": _capability(t.CAPABILITY2, t.CAPABILITY2_REST),
        # Inside a user namespace none of them reaches the kernel itself.
        "cap_userns": _capability("", f"{t.CAPABILITY_REST} sys_module sys_rawio sys_boot"),
        "cap2_userns": _capability("", f"{t.CAPABILITY2_REST} mac_admin mac_override bpf perfmon"),
        **{name: _rows(t.IPC) for name in ("ipc", "sem", "shm", "msgq")},
        **{name: _rows(t.SOCKET, kind="net") for name in t.NETWORK},
        **{name: _rows(t.SOCKET, kind="ipc") for name in t.LOCAL},
        **{name: _rows(t.SOCKET, t.NETLINK, kind="ipc") for name in t.NETLINK_CLASSES},
        **{name: _rows(text) for name, text in t.OTHER.items()},
    }
    found["unix_stream_socket"] |= _rows(t.UNIX_STREAM)
    found["netlink_audit_socket"] |= _rows(t.AUDIT)
    return MappingProxyType({name: MappingProxyType(found[name]) for name in sorted(found)})


FLOW_MAP = _build()
"""Class to permission to flow."""
