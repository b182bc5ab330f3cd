# SPDX-License-Identifier: GPL-3.0-or-later
"""How the kernel's own numbers of classes and permissions lead to those of the policy.

The kernel asks by its numbers; a table made when the policy was loaded translates them. Whoever changes that table
makes the kernel ask for something else than it means. What it must hold follows from the kernel's read-only list of
names (``secclass_map``, compared with the profile before) and the approved policy.

Source: Linux 6.12, security/selinux/ss/services.c (selinux_set_mapping, map_decision), include/classmap.h.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Mapping

from ..model.finding import Finding
from ..parse.sepolicy import PolicyDb
from .kernel import Kernel

SOURCE = "docs/introspection.md, SELinux"
MAX_CLASSES = 512
MAX_PERMISSIONS = 32
MAX_NAME_BYTES = 64

Translation = Mapping[int, tuple[int, tuple[int, ...]]]
"""The kernel's class to the policy's, and for each of the kernel's permission bits that of the policy (0 for none)."""


def expected_map(kernel: Kernel, policy: PolicyDb) -> Translation:
    """Return what the table must hold; made once, after the read-only data was judged.

    Raises:
        GuestMemoryError: the list of names cannot be read.
    """
    size, permissions_at = (
        kernel.profile.sizes["security_class_mapping"],
        kernel.profile.offsets["security_class_mapping.perms"],
    )
    found: dict[int, tuple[int, tuple[int, ...]]] = {}
    at = kernel.symbol("secclass_map")
    for number in range(1, MAX_CLASSES):
        name_at = kernel.space.u64(at)
        if not name_at:
            break
        item = policy.classes.get(kernel.space.text(name_at, MAX_NAME_BYTES))
        bits: list[int] = []
        for index in range(MAX_PERMISSIONS):
            permission_at = kernel.space.u64(at + permissions_at + 8 * index)
            if not permission_at:
                break
            bit = None if item is None else item.permissions.get(kernel.space.text(permission_at, MAX_NAME_BYTES))
            bits.append(0 if bit is None else 1 << bit)
        found[number] = (0 if item is None else item.value, tuple(bits))
        at += size
    return found


def check_map(kernel: Kernel, policy: int, expected: Translation) -> Iterator[Finding]:
    """Yield a finding when the table of the policy in force is another.

    Raises:
        GuestMemoryError: it cannot be read.
    """
    table = kernel.pointer(policy, "selinux_policy.map.mapping")
    size = kernel.profile.sizes["selinux_mapping"]
    for number, (value, bits) in expected.items():
        data = kernel.space.read(table + number * size, size)
        at = kernel.profile.offsets["selinux_mapping.perms"]
        found_value, count = struct.unpack_from("<HH", data)
        found = struct.unpack_from(f"<{len(bits)}I", data, at)
        if found_value != value or (value and (count != len(bits) or found != bits)):
            yield Finding.deny(
                "guest.selinux.classes",
                "selinux",
                f"class {number}: {value} {bits}",
                f"{found_value} {found}",
                source=SOURCE,
            )
            return
