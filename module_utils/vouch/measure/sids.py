# SPDX-License-Identifier: GPL-3.0-or-later
"""SIDs of the guest's SELinux: from the number that a task or a file carries to the type in its context.

Source: Linux 6.12, security/selinux/ss/sidtab.h, sidtab.c (sidtab_lookup, sid_to_index).
"""

from __future__ import annotations

import struct
from collections.abc import Iterator

from ..model.finding import Finding
from .kernel import Kernel
from .memory import PAGE_BYTES, GuestMemoryError

INITIAL_SIDS = 27
"""SECINITSID_NUM: the policy's own labels; the numbers above are made as contexts are met."""

SOURCE = "docs/introspection.md, SELinux"
INNER_ENTRIES = PAGE_BYTES // 8
MAX_LEVEL = 3
MAX_SIDS = 1 << 16


class Sids:
    """The table of one policy.

    Args:
        kernel: The guest's kernel.
        policy: Address of the policy in force.

    Raises:
        GuestMemoryError: by ``type_of``: no such SID, or a table that leads nowhere.
    """

    __slots__ = ("_count", "_kernel", "_leaf_entries", "_table", "_types")

    def __init__(self, kernel: Kernel, policy: int) -> None:
        self._kernel = kernel
        self._table = kernel.pointer(policy, "selinux_policy.sidtab")
        self._leaf_entries = PAGE_BYTES // kernel.profile.sizes["sidtab_entry"]
        self._count = kernel.value(self._table, "sidtab.count")
        if self._count > MAX_SIDS:
            raise GuestMemoryError(f"{self._count} SIDs", code="guest.memory.limit")
        self._types: dict[int, int] = {}

    def type_of(self, sid: int) -> int:
        """Return the value of the type in the context of ``sid``."""
        found = self._types.get(sid)
        if found is None:
            entry = self._initial(sid) if sid <= INITIAL_SIDS else self._dynamic(sid - INITIAL_SIDS - 1)
            context = self._kernel.place(entry, "sidtab_entry.context")
            found = self._types[sid] = self._kernel.value(context, "context.type")
        return found

    def contexts(self) -> Iterator[tuple[int, int, int]]:
        """Yield user, role and type of each SID that was made as its context was met, in order."""
        offsets, size = self._kernel.profile.offsets, self._kernel.profile.sizes["sidtab_entry"]
        at = offsets["sidtab_entry.context"]
        user, role, kind = (at + offsets[f"context.{name}"] for name in ("user", "role", "type"))
        word = struct.Struct("<I").unpack_from
        for first in range(0, self._count, self._leaf_entries):
            count = min(self._leaf_entries, self._count - first)
            self._kernel.space.budget.spend(count)
            data = self._kernel.space.read(self._dynamic(first), count * size)
            for place in range(0, count * size, size):
                yield (word(data, place + user)[0], word(data, place + role)[0], word(data, place + kind)[0])

    def _initial(self, sid: int) -> int:
        if sid < 1:
            raise GuestMemoryError(f"there is no SID {sid}", code="guest.sid.unknown")
        size = self._kernel.profile.sizes["sidtab_isid_entry"]
        place = self._kernel.place(self._table, "sidtab.isids") + (sid - 1) * size
        # An initial SID that the policy does not label is read as "unlabeled", the third.
        if not self._kernel.value(place, "sidtab_isid_entry.set") and sid != 3:
            return self._initial(3)
        return self._kernel.place(place, "sidtab_isid_entry.entry")

    def _dynamic(self, index: int) -> int:
        if index >= self._count:
            raise GuestMemoryError(f"there is no SID {index + INITIAL_SIDS + 1}", code="guest.sid.unknown")
        level, capacity = 0, self._leaf_entries
        while capacity < self._count and level < MAX_LEVEL:
            level, capacity = level + 1, capacity * INNER_ENTRIES
        leaf, inside = divmod(index, self._leaf_entries)
        node = self._kernel.space.u64(self._kernel.place(self._table, "sidtab.roots") + 8 * level)
        for depth in range(level - 1, -1, -1):
            step = INNER_ENTRIES**depth
            at, leaf = divmod(leaf, step)
            node = self._kernel.space.u64(node + 8 * at)
        return node + inside * self._kernel.profile.sizes["sidtab_entry"]


class SidHistory:
    """What each SID meant in the last round: a number keeps its label for as long as its policy is in force."""

    __slots__ = ("_dynamic", "_initial")

    def __init__(self) -> None:
        self._dynamic: list[tuple[int, int, int]] = []
        self._initial: tuple[int, ...] = ()

    def check(self, sids: Sids) -> Iterator[Finding]:
        """Yield a finding when one means something else now; the guest stands still.

        Raises:
            GuestMemoryError: the table cannot be read.
        """
        initial = tuple(sids.type_of(sid) for sid in range(1, INITIAL_SIDS + 1))
        if self._initial and initial != self._initial:
            yield _finding("initial SIDs", str(self._initial), str(initial))
        now = list(sids.contexts())
        if now[: len(self._dynamic)] != self._dynamic:
            pairs = enumerate(zip(self._dynamic, now, strict=False), INITIAL_SIDS + 1)
            changed = next((f"SID {sid}: {old} is {new}" for sid, (old, new) in pairs if old != new), "fewer SIDs")
            yield _finding("SIDs", f"{len(self._dynamic)} contexts as they were", changed)
        self._initial, self._dynamic = initial, now


def _finding(subject: str, expected: str, actual: str) -> Finding:
    return Finding.deny("guest.sid.changed", subject, expected, actual, source=SOURCE)
