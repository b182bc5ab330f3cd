# SPDX-License-Identifier: GPL-3.0-or-later
"""What an attacker with power over a guest's kernel writes into its memory, and the code by which it is found."""

from __future__ import annotations

import contextlib
import hashlib
import itertools
import struct
import time
from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Any

from ansible.module_utils.vouch.measure.measurer import Measurer, Report
from ansible.module_utils.vouch.measure.pages import FRAME_MASK, LARGE, SHIFTS, Budget
from ansible.module_utils.vouch.measure.sids import INITIAL_SIDS, Sids
from ansible.module_utils.vouch.model.codeform import REASONS
from ansible.module_utils.vouch.model.kernelprofile import Profile


class Watched:
    """A guest with its measurer, and what an attacker does to its memory."""

    def __init__(self, guest: Any, policy: bytes, profile: Profile) -> None:
        self.guest, self.profile, self.policy_file = guest, profile, policy
        package: Any = SimpleNamespace(policy=SimpleNamespace(sha256=hashlib.sha256(policy).digest()))
        guest.lstar = profile.symbols["entry_SYSCALL_64"]
        self.measurer = Measurer(
            profile=profile, policy=policy, package=package, memory=guest, monotonic_s=time.monotonic, adopted=True
        )

    @property
    def kernel(self) -> Any:
        """The kernel as the measurer reads it, every page looked up anew."""
        kernel = self.measurer._kernel
        assert kernel is not None
        kernel.space.forget()
        kernel.space.budget = Budget(10_000_000, float("inf"), time.monotonic)
        return kernel

    def place(self, base: int | str, member: str = "") -> int:
        """Return the address of a symbol, or of a member of the struct there."""
        address = self.profile.symbols[base] if isinstance(base, str) else base
        return address + (self.profile.offsets[member] if member else 0)

    @property
    def policy(self) -> int:
        """Where the policy in force is."""
        return int(self.kernel.pointer(self.place("selinux_state"), "selinux_state.policy"))

    def physical(self, address: int) -> int:
        """Return where in the file an address of the kernel is."""
        return int(self.kernel.space.frame(address)) * 4096 + (address & 4095)

    @contextlib.contextmanager
    def changed(self, address: int, data: bytes, *, physical: bool = False) -> Iterator[None]:
        """Write ``data``, and afterwards what was there."""
        at = address if physical else self.physical(address)
        before = self.guest.ram[at : at + len(data)]
        self.guest.ram[at : at + len(data)] = data
        try:
            yield
        finally:
            self.guest.ram[at : at + len(data)] = before

    def round(self, *, heavy: bool) -> Report:
        """Return the report of one round."""
        return self.measurer.heavy() if heavy else self.measurer.light()

    def let_go(self) -> None:
        """Let the guest run on, however often it was stopped."""
        while self.guest._paused:
            self.guest.unpause()


def enforcing(it: Watched) -> Any:
    return it.changed(it.place("selinux_state", "selinux_state.enforcing"), b"\0")


def policy_pointer(it: Watched) -> Any:
    return it.changed(it.place("selinux_state", "selinux_state.policy"), struct.pack("<Q", it.policy + 8))


def text(it: Watched) -> Any:
    return it.changed(it.place("entry_SYSCALL_64") + 0x40, b"\xcc")


def remapped(it: Watched) -> Any:
    address, table = it.place("_stext") + 0x5000, it.kernel.space.root
    for shift in SHIFTS:
        at = table * 4096 + (address >> shift & 511) * 8
        (entry,) = struct.unpack_from("<Q", it.guest.ram, at)
        if shift == 12 or (shift < 39 and entry & LARGE):
            break
        table = (entry & FRAME_MASK) >> 12
    return it.changed(at, struct.pack("<Q", entry ^ 1 << shift), physical=True)


def hook(it: Watched) -> Any:
    return it.changed(it.place("selinux_hooks", "security_hook_list.hook"), struct.pack("<Q", it.place("_stext")))


def gate(it: Watched) -> Any:
    return it.changed(it.place("idt_table") + 14 * 16, b"\x11")


@contextlib.contextmanager
def syscall_entry(it: Watched) -> Iterator[None]:
    it.guest.lstar += 16
    try:
        yield
    finally:
        it.guest.lstar -= 16


def modprobe(it: Watched) -> Any:
    return it.changed(it.place("modprobe_path"), b"/tmp/x\0")


def permissive(it: Watched) -> Any:
    kernel = it.kernel
    other = kernel.pointer(kernel.pointer(it.policy, "selinux_policy.policydb.type_attr_map_array"), "ebitmap.node")
    place = it.place(it.place(it.policy, "selinux_policy.policydb.permissive_map"), "ebitmap.node")
    return it.changed(place, struct.pack("<Q", other))


def rule(it: Watched) -> Any:
    kernel = it.kernel
    slots = kernel.value(it.policy, "selinux_policy.policydb.te_avtab.nslot")
    table = it.kernel.space.read(kernel.pointer(it.policy, "selinux_policy.policydb.te_avtab.htable"), 8 * slots)
    node = next(node for (node,) in struct.iter_unpack("<Q", table) if node)
    return it.changed(it.place(node, "avtab_node.datum"), b"\xff" * 4)


@contextlib.contextmanager
def unlinked(it: Watched, head: int, member: str, index: int) -> Iterator[None]:
    """Take one item off a list, all links in order."""
    item = it.place(list(it.kernel.entries(head, member))[index], member)
    after, before = struct.unpack("<QQ", it.kernel.space.read(item, 16))
    with it.changed(before, struct.pack("<Q", after)), it.changed(after + 8, struct.pack("<Q", before)):
        yield


def hidden_module(it: Watched) -> Any:
    return unlinked(it, it.place("modules"), "module.list", 1)


def measurement(it: Watched) -> Any:
    return unlinked(it, it.place("ima_measurements"), "ima_queue_entry.later", -1)


def credential(it: Watched) -> Any:
    tasks = [task for task in it.measurer._tasks.all(it.kernel) if task.mm]
    victim = next(task for task in tasks if task.sid != tasks[0].sid)
    offset = it.kernel.value(it.place("selinux_blob_sizes"), "lsm_blob_sizes.lbs_cred")
    blob = it.kernel.pointer(victim.cred, "cred.security") + offset
    return it.changed(it.place(blob, "task_security_struct.sid"), struct.pack("<I", tasks[0].sid))


def entries(it: Watched, address: int) -> list[tuple[int, int]]:
    """Return where in the file each page-table entry on the way to ``address`` is, and what it holds."""
    found, table = [], it.kernel.space.root
    for shift in SHIFTS:
        at = table * 4096 + (address >> shift & 511) * 8
        (entry,) = struct.unpack_from("<Q", it.guest.ram, at)
        found.append((at, entry))
        if shift == 12 or (shift < 39 and entry & LARGE):
            break
        table = (entry & FRAME_MASK) >> 12
    return found


def empty_frames(it: Watched, count: int) -> list[int]:
    """Return frames of zeros, from the end of the guest's memory."""
    frames = range(len(it.guest.ram) // 4096 - 1, 0, -1)
    empty = (frame for frame in frames if it.guest.ram[frame * 4096 : frame * 4096 + 4096] == bytes(4096))
    return list(itertools.islice(empty, count))


@contextlib.contextmanager
def other_tables(it: Watched, level: int) -> Iterator[None]:
    """Give the text other page tables from ``level`` (0 is the topmost) down, and leave the old ones as they are."""
    way = entries(it, it.place("_stext"))
    with contextlib.ExitStack() as stack:
        tables = empty_frames(it, len(way) - level - 1)
        for depth, frame in enumerate(tables, level + 1):
            before = (way[depth - 1][1] & FRAME_MASK) >> 12
            content = bytearray(it.guest.ram[before * 4096 : before * 4096 + 4096])
            below = tables[depth - level] if depth + 1 < len(way) else None
            entry = way[depth][1]
            entry = entry ^ 1 << 21 if below is None else entry & ~FRAME_MASK | below << 12
            struct.pack_into("<Q", content, way[depth][0] - before * 4096, entry)
            stack.enter_context(it.changed(frame * 4096, bytes(content), physical=True))
        new = struct.pack("<Q", way[level][1] & ~FRAME_MASK | tables[0] << 12)
        stack.enter_context(it.changed(way[level][0], new, physical=True))
        if not level:
            for vcpu in it.guest.vcpus():
                at = (vcpu.cr3 & ~0x1FFF) + 511 * 8
                stack.enter_context(it.changed(at, new, physical=True))
        yield


def hook_site(it: Watched, reason: str, first: bytes) -> tuple[int, int]:
    """Return where in the code of a hook a site stands that begins with ``first``, and its length."""
    region = it.profile.regions["text"]
    for offset, index in zip(region.site_offsets, region.site_sets, strict=True):
        if REASONS[it.profile.reason(index)] == reason:
            address = region.start + offset
            inside = it.profile.name_of(address).startswith("security_file_permission+")
            if inside and it.kernel.space.read(address, 1) in first.split(b" "):
                return address, it.profile.form_set(index).length
    raise AssertionError(f"no {reason} in use")


def passed_by(it: Watched) -> Any:
    address, length = hook_site(it, "jump label", b"\xeb \xe9")
    return it.changed(address, {2: b"\x66\x90", 5: b"\x0f\x1f\x44\0\0"}[length])


def call_of_nothing(it: Watched) -> Any:
    address, _ = hook_site(it, "static call", b"\xe8")
    return it.changed(address, b"\x0f\x1f\x44\0\0")


def late_patch(it: Watched) -> Any:
    region = it.profile.regions["text"]
    for offset, index in zip(region.site_offsets, region.site_sets, strict=True):
        if REASONS[it.profile.reason(index)] == "lock prefix":
            now = it.kernel.space.read(region.start + offset, 1)
            return it.changed(region.start + offset, b"\xf0" if now == b"\x3e" else b"\x3e")
    raise AssertionError("no lock prefix")


def policy_capability(it: Watched) -> Any:
    place = it.place("selinux_state", "selinux_state.policycap")
    return it.changed(place + 1, bytes([it.kernel.space.read(place + 1, 1)[0] ^ 1]))


def unknown_allowed(it: Watched) -> Any:
    bit = it.profile.offsets["selinux_policy.policydb.allow_unknown:bit"]
    place = it.policy + bit // 8
    return it.changed(place, bytes([it.kernel.space.read(place, 1)[0] | 1 << bit % 8]))


def no_measuring(it: Watched) -> Any:
    return it.changed(it.place("ima_policy_flag"), bytes(4))


def process(it: Watched) -> tuple[Any, Any]:
    """Return the kernel's first task, and a process."""
    tasks = list(it.measurer._tasks.all(it.kernel))
    return tasks[0], next(task for task in tasks if task.mm and task.sid != tasks[0].sid)


def first_credentials(it: Watched) -> Any:
    first, victim = process(it)
    return it.changed(it.place(victim.address, "task_struct.cred"), struct.pack("<Q", first.cred))


def other_process(it: Watched) -> Any:
    """Change the kernel's half of the tables of a process that does not run."""
    running = {vcpu.cr3 >> 12 & ~1 for vcpu in it.guest.vcpus()}
    root = next(root for root in it.measurer._tasks.roots(it.kernel) if root not in running)
    (entry,) = struct.unpack_from("<Q", it.guest.ram, root * 4096 + 511 * 8)
    return it.changed(root * 4096 + 511 * 8, struct.pack("<Q", entry ^ 1 << 20), physical=True)


def code_in_the_entry_area(it: Watched) -> Any:
    table = (entries(it, 0xFFFFFE0000003000)[1][1] & FRAME_MASK) >> 12
    return it.changed(table * 4096 + 400 * 8, struct.pack("<Q", 0x1000000 | LARGE | 0x21), physical=True)


def label_of_a_number(it: Watched) -> Any:
    first, victim = process(it)
    sids = Sids(it.kernel, it.policy)
    context = it.place(sids._dynamic(victim.sid - INITIAL_SIDS - 1), "sidtab_entry.context")
    return it.changed(it.place(context, "context.type"), struct.pack("<I", sids.type_of(first.sid)))


def endless_list(it: Watched) -> Any:
    item = it.place(list(it.kernel.entries(it.place("modules"), "module.list"))[1], "module.list")
    return it.changed(item, struct.pack("<Q", item))


def huge_length(it: Watched) -> Any:
    return it.changed(it.place(it.policy, "selinux_policy.policydb.te_avtab.nslot"), b"\xff" * 4)


def table_in_a_loop(it: Watched) -> Any:
    root = it.kernel.space.root
    return it.changed(root * 4096 + 8 * 300, struct.pack("<Q", root << 12 | 3), physical=True)


Attack = Callable[[Watched], Any]
"""Gives a context in which the guest is attacked."""

LIGHT: dict[str, tuple[Attack, str]] = {
    "enforcing": (enforcing, "guest.selinux.enforcing"),
    "policy pointer": (policy_pointer, "guest.selinux.policy.replaced"),
    "text": (text, "guest.text.changed"),
    "remapped": (remapped, "guest.text.remapped"),
    "hook": (hook, "guest.rodata.changed"),
    "gate": (gate, "guest.idt.gate"),
    "syscall entry": (syscall_entry, "guest.syscall.entry"),
    "modprobe": (modprobe, "guest.kernel.switch"),
    "permissive": (permissive, "guest.selinux.permissive"),
    "tables of the text": (lambda it: other_tables(it, 1), "guest.text.remapped"),
    "tables from the top": (lambda it: other_tables(it, 0), "guest.text.remapped"),
    "hook passed by": (passed_by, "guest.hook.missing"),
    "hook calls nothing": (call_of_nothing, "guest.hook.missing"),
    "late patch": (late_patch, "guest.text.changed"),
    "policy capability": (policy_capability, "guest.selinux.capabilities"),
    "unknown allowed": (unknown_allowed, "guest.selinux.unknown"),
    "no measuring": (no_measuring, "guest.kernel.switch"),
}
HEAVY: dict[str, tuple[Attack, str]] = {
    "rule": (rule, "guest.selinux.rule.added"),
    "hidden module": (hidden_module, "guest.module.missing"),
    "measurement": (measurement, "guest.ima.cut"),
    "credential": (credential, "guest.task.credentials"),
    "first credentials": (first_credentials, "guest.task.credentials"),
    "tables of a process": (other_process, "guest.page.root"),
    "code in the entry area": (code_in_the_entry_area, "guest.page.executable"),
    "label of a number": (label_of_a_number, "guest.sid.changed"),
    "endless list": (endless_list, "guest.list.broken"),
    "huge length": (huge_length, "guest.memory.limit"),
}
