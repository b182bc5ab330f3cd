# SPDX-License-Identifier: GPL-3.0-or-later
"""Data that lead a reader astray: lists without end, in circles and out of the guest, lengths of 4 GiB.

Each ends soon, and as the violation that it is.
"""

from __future__ import annotations

import contextlib
import itertools
import struct
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from sim.guestattacks import Watched, empty_frames
from sim.recordedguest import PAGE_BYTES, recorded_guest

DIRECT_MAP = 0xFFFF_8880_0000_0000
LIMIT_S = 10


def pointer(address: int) -> bytes:
    return struct.pack("<Q", address)


@contextlib.contextmanager
def long_list(it: Watched, head: int, offset: int, step: int, count: int) -> Iterator[None]:
    """Hang ``count`` items on a list, each ``step`` bytes behind the other, all links in order."""
    pages = -(-count * step // PAGE_BYTES) + 1
    used = [0, *it.guest.frames, len(it.guest.ram) // PAGE_BYTES]
    first = next(low + 1 for low, high in itertools.pairwise(used) if high - low > pages + 1)
    at = first * PAGE_BYTES
    items = [DIRECT_MAP + at + number * step + offset for number in range(count)]
    content = bytearray(pages * PAGE_BYTES)
    for number, item in enumerate(items):
        after = items[number + 1] if number + 1 < count else head
        struct.pack_into("<QQ", content, item - DIRECT_MAP - at, after, items[number - 1] if number else head)
    with it.changed(at, bytes(content), physical=True), it.changed(head, struct.pack("<QQ", items[0], items[-1])):
        yield


def modules_without_end(it: Watched) -> Any:
    return long_list(it, it.place("modules"), it.profile.offsets["module.list"], it.profile.sizes["module"], 1100)


def tasks_in_a_circle(it: Watched) -> Any:
    """A circle that the head is no part of, each link back in order but one."""
    second = it.kernel.pointer(it.place("init_task"), "task_struct.tasks")
    return it.changed(second, pointer(second))


def rules_in_a_circle(it: Watched) -> Any:
    kernel, table = it.kernel, "selinux_policy.policydb.te_avtab"
    slots = kernel.value(it.policy, f"{table}.nslot")
    heads = kernel.space.read(kernel.pointer(it.policy, f"{table}.htable"), 8 * slots)
    node = next(node for (node,) in struct.iter_unpack("<Q", heads) if node)
    return it.changed(it.place(node, "avtab_node.next"), pointer(node))


def cache_in_a_circle(it: Watched) -> Any:
    slots = it.place(it.place("selinux_avc"), "selinux_avc.avc_cache.slots")
    heads = it.kernel.space.read(slots, 8 * 512)
    node = next(node for (node,) in struct.iter_unpack("<Q", heads) if node)
    return it.changed(node, pointer(node))


def bitmap_in_a_circle(it: Watched) -> Any:
    node = it.kernel.pointer(it.place(it.policy, "selinux_policy.policydb.policycaps"), "ebitmap.node")
    return it.changed(it.place(node, "ebitmap_node.next"), pointer(node))


def many_sids(it: Watched) -> Any:
    table = it.kernel.pointer(it.policy, "selinux_policy.sidtab")
    return it.changed(it.place(table, "sidtab.count"), b"\xff" * 4)


def many_slots(it: Watched) -> Any:
    return it.changed(it.place(it.policy, "selinux_policy.policydb.te_cond_avtab.nslot"), b"\xff" * 4)


def module_of_4_gib(it: Watched) -> Any:
    module = next(iter(it.kernel.entries(it.place("modules"), "module.list")))
    return it.changed(it.place(it.place(module, "module.mem"), "module_memory.size"), b"\xff" * 4)


def measurement(it: Watched) -> tuple[int, int]:
    """Return the first entry of the list, and its first field."""
    item = next(iter(it.kernel.entries(it.place("ima_measurements"), "ima_queue_entry.later")))
    entry = it.kernel.pointer(item, "ima_queue_entry.entry")
    return entry, it.place(entry, "ima_template_entry.template_data")


def measurement_of_4_gib(it: Watched) -> Any:
    return it.changed(it.place(measurement(it)[1], "ima_field_data.len"), b"\xff" * 4)


def measurement_with_many_fields(it: Watched) -> Any:
    kind = it.kernel.pointer(measurement(it)[0], "ima_template_entry.template_desc")
    return it.changed(it.place(kind, "ima_template_desc.num_fields"), b"\xff" * 4)


def measurements_that_never_end(it: Watched) -> Any:
    offset = it.profile.offsets["ima_queue_entry.later"]
    return long_list(it, it.place("ima_measurements"), offset, 48, 70_000)


def path_without_end(it: Watched) -> Any:
    return it.changed(it.place("poweroff_cmd"), b"x" * 256)


def pointer_out_of_the_guest(it: Watched) -> Any:
    return it.changed(it.place("selinux_state", "selinux_state.policy"), pointer(DIRECT_MAP + (1 << 40)))


def pointer_to_programs(it: Watched) -> Any:
    return it.changed(it.place("selinux_state", "selinux_state.policy"), pointer(0x400000))


def tables_without_end(it: Watched) -> Any:
    """Each entry of each table leads to the next one, all of them in the end to code."""
    frames = empty_frames(it, 3)
    stack = contextlib.ExitStack()
    for frame, below in zip(frames, [*frames[1:], None], strict=True):
        entry = 1 if below is None else below << 12 | 3
        stack.enter_context(it.changed(frame * PAGE_BYTES, pointer(entry) * 512, physical=True))
    top = it.kernel.space.root * PAGE_BYTES + 300 * 8
    stack.enter_context(it.changed(top, pointer(frames[0] << 12 | 3), physical=True))
    return stack


HOSTILE: dict[str, tuple[Callable[[Watched], Any], set[str]]] = {
    "modules without end": (modules_without_end, {"guest.list.endless"}),
    "tasks in a circle": (tasks_in_a_circle, {"guest.list.broken"}),
    "rules in a circle": (rules_in_a_circle, {"guest.list.endless"}),
    "cache in a circle": (cache_in_a_circle, {"guest.list.endless"}),
    "bitmap in a circle": (bitmap_in_a_circle, {"guest.list.endless"}),
    "many SIDs": (many_sids, {"guest.memory.limit"}),
    "many slots": (many_slots, {"guest.memory.limit"}),
    "module of 4 GiB": (module_of_4_gib, {"guest.memory.limit"}),
    "measurement of 4 GiB": (measurement_of_4_gib, {"guest.memory.limit"}),
    "measurement with many fields": (measurement_with_many_fields, {"guest.memory.limit"}),
    "measurements that never end": (measurements_that_never_end, {"guest.memory.unmapped", "guest.ima.changed"}),
    "path without end": (path_without_end, {"guest.memory.limit"}),
    "pointer out of the guest": (pointer_out_of_the_guest, {"guest.memory.unmapped"}),
    "pointer to programs": (pointer_to_programs, {"guest.memory.unmapped"}),
    "tables without end": (tables_without_end, {"guest.page.executable"}),
}


@pytest.mark.parametrize("fault", HOSTILE)
def test_hostile(fault: str) -> None:
    it = recorded_guest()
    how, expected = HOSTILE[fault]
    began_s = time.monotonic()
    with how(it):
        found = {finding.code for finding in it.round(heavy=True).violations}
        assert found & expected, found
        assert time.monotonic() - began_s < LIMIT_S
    it.measurer.heavy()
    assert it.round(heavy=True).violations == ()
