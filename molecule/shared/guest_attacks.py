# SPDX-License-Identifier: GPL-3.0-or-later
"""Attacks on a running guest from dom0, each for real: its memory or its processor is changed, and it is measured.

Runs in dom0, with the VM verifier's own code, against a guest that nobody else watches. After each attack the memory is
put back, and the next round has to be clean again. One JSON object a line: the attack, the codes that were found, in
which kind of round, and the seconds from the change to the paused guest.

usage: guest_attacks.py DOMAIN pv|pvh PROFILE POLICY ROUNDS
"""

from __future__ import annotations

import ctypes
import hashlib
import json
import struct
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

sys.path.insert(0, "/usr/lib/vouch/python")

from vouch.measure.measurer import RUNNING, Measurer, Report
from vouch.measure.memory import PAGE_BYTES, PV
from vouch.measure.pages import FRAME_MASK, LARGE, SHIFTS, Budget
from vouch.model.kernelprofile import Profile
from vouch.port import xenguest
from vouch.port.xencontrol import XenControl

BOOT_LIMIT_S = 900
REST_S = 0.3
READ_WRITE = 3
STEPS = 10_000_000
HVM_CPU, HVM_HEADER_BYTES, LSTAR = 2, 8, 960
PV_CONTEXT_BYTES, TRAPS, TRAP_BYTES, SYSCALL = 8192, 720, 16, 5128
PAGE_FAULT = 14

LIGHT, HEAVY = "light", "heavy"


def told(**members: Any) -> None:
    """Write one line."""
    print(json.dumps(members), flush=True)


class Guest(xenguest.XenGuest):
    """The guest as the measurer has it; remembers when it was stopped."""

    paused_at_s = 0.0

    def pause(self) -> None:
        """Stop it, and note when it came to stand."""
        super().pause()
        if self._paused == 1:
            self.paused_at_s = time.monotonic()

    def unpause(self) -> None:
        """Take one pause back."""
        super().unpause()
        if not self._paused:
            self.paused_at_s = 0.0

    def let_go(self) -> None:
        """Take every pause back."""
        while self._paused:
            self.unpause()


class Target:
    """The guest, with everything an attacker in dom0 can reach."""

    def __init__(self, domain_id: int, kind: str, profile: Path, policy: Path) -> None:
        self.id, self.kind = domain_id, kind
        self.control = XenControl()
        self.memory = Guest(domain_id, kind, self.control)
        self.profile = Profile.from_bytes(profile.read_bytes())
        data = policy.read_bytes()
        package: Any = SimpleNamespace(policy=SimpleNamespace(sha256=hashlib.sha256(data).digest()))
        self.measurer = Measurer(
            profile=self.profile,
            policy=data,
            package=package,
            memory=self.memory,
            monotonic_s=time.monotonic,
            boot_limit_s=BOOT_LIMIT_S,
            adopted=True,
        )
        self._foreign = self.memory._foreign
        self._xc = self.memory._library
        self._xc.xc_vcpu_setcontext.argtypes = (*(ctypes.c_void_p, ctypes.c_uint32, ctypes.c_uint32, ctypes.c_void_p),)
        for name in ("xc_domain_hvm_getcontext", "xc_domain_hvm_setcontext"):
            getattr(self._xc, name).argtypes = (ctypes.c_void_p, ctypes.c_uint32, ctypes.c_void_p, ctypes.c_uint32)

    @property
    def kernel(self) -> Any:
        """The kernel as the measurer reads it, every page looked up anew."""
        kernel = self.measurer._kernel
        assert kernel is not None
        kernel.space.forget()
        kernel.space.budget = Budget(STEPS, float("inf"), time.monotonic)
        return kernel

    def symbol(self, name: str) -> int:
        """Return the address of a symbol."""
        return self.profile.symbols[name]

    def member(self, base: int, name: str) -> int:
        """Return the address of a member."""
        return base + self.profile.offsets[name]

    def read(self, address: int, size: int) -> bytes:
        """Return bytes of the guest's kernel."""
        return bytes(self.kernel.space.read(address, size))

    def write(self, address: int, data: bytes) -> None:
        """Write into the guest's kernel, whatever its page tables say."""
        self.write_frame(self.kernel.space.frame(address), address & (PAGE_BYTES - 1), data)

    def write_frame(self, frame: int, at: int, data: bytes) -> None:
        """Write into one frame of the guest."""
        library, numbers, errors = self._foreign._library, (ctypes.c_uint64 * 1)(frame), (ctypes.c_int * 1)()
        address = library.xenforeignmemory_map(self._foreign._handle, self.id, READ_WRITE, 1, numbers, errors)
        if not address or errors[0]:
            raise OSError(f"frame {frame:#x} cannot be written: {errors[0]}")
        ctypes.memmove(address + at, data, len(data))
        self._foreign.unmap(address, 1)

    def pv_context(self) -> Any:
        """Return the first processor of a PV guest."""
        buffer = ctypes.create_string_buffer(PV_CONTEXT_BYTES)
        assert self._xc.xc_vcpu_getcontext(self.memory._handle, self.id, 0, buffer) == 0
        return buffer

    def set_pv_context(self, buffer: Any) -> None:
        """Put a processor back."""
        if self._xc.xc_vcpu_setcontext(self.memory._handle, self.id, 0, buffer) != 0:
            raise OSError(ctypes.get_errno(), "Xen does not take the processor's state")

    def hvm_context(self) -> Any:
        """Return the whole context of a PVH guest."""
        size = self._xc.xc_domain_hvm_getcontext(self.memory._handle, self.id, None, 0)
        buffer = ctypes.create_string_buffer(size)
        assert self._xc.xc_domain_hvm_getcontext(self.memory._handle, self.id, buffer, size) >= 0
        return buffer

    def set_hvm_context(self, buffer: Any) -> None:
        """Put a PVH guest's context back."""
        if self._xc.xc_domain_hvm_setcontext(self.memory._handle, self.id, buffer, len(buffer)) != 0:
            raise OSError(ctypes.get_errno(), "Xen does not take the context")


@contextmanager
def bytes_changed(target: Target, address: int, data: bytes) -> Iterator[None]:
    """Write ``data`` at ``address``, and what was there afterwards."""
    before = target.read(address, len(data))
    target.write(address, data)
    try:
        yield
    finally:
        target.write(address, before)


def enforcing(target: Target) -> Any:
    """SELinux stops to enforce."""
    return bytes_changed(target, target.member(target.symbol("selinux_state"), "selinux_state.enforcing"), b"\0")


def text(target: Target) -> Any:
    """One byte of the kernel's code."""
    address = target.symbol("entry_SYSCALL_64") + 0x40
    return bytes_changed(target, address, bytes([target.read(address, 1)[0] ^ 1]))


@contextmanager
def remapped(target: Target) -> Iterator[None]:
    """The code's page table leads to another frame."""
    address = target.symbol("_stext") + 0x5000
    table = target.kernel.space.root
    for shift in SHIFTS:
        at = (address >> shift & 511) * 8
        (entry,) = struct.unpack_from("<Q", bytes(target.measurer._frames.page(table)), at)
        if shift == 12 or (shift < 39 and entry & LARGE):
            break
        table = (entry & FRAME_MASK) >> 12
    target.write_frame(table, at, struct.pack("<Q", entry ^ 1 << shift))
    try:
        yield
    finally:
        target.write_frame(table, at, struct.pack("<Q", entry))


def hook(target: Target) -> Any:
    """A hook of SELinux leads somewhere else: in the table that the kernel's calls are made from."""
    address = target.symbol("selinux_hooks") + target.profile.offsets["security_hook_list.hook"]
    return bytes_changed(target, address, struct.pack("<Q", target.symbol("_stext") + 64))


def gate(target: Target) -> Any:
    """The page fault goes somewhere else."""
    if target.kind == PV:
        place = TRAPS + PAGE_FAULT * TRAP_BYTES + 8
        return context_changed(target.pv_context, target.set_pv_context, place, 16)
    return bytes_changed(target, target.symbol("idt_table") + PAGE_FAULT * 16, b"\x11")


def syscall(target: Target) -> Any:
    """System calls go somewhere else."""
    if target.kind == PV:
        return context_changed(target.pv_context, target.set_pv_context, SYSCALL, 16)
    return context_changed(target.hvm_context, target.set_hvm_context, _cpu_record(target) + LSTAR, 16)


def _cpu_record(target: Target) -> int:
    """Return where the first processor's record begins in a PVH guest's context."""
    data, at = target.hvm_context().raw, 0
    while True:
        kind, _, length = struct.unpack_from("<HHI", data, at)
        if kind == HVM_CPU:
            return at + HVM_HEADER_BYTES
        at += HVM_HEADER_BYTES + length


@contextmanager
def context_changed(take: Callable[[], Any], give: Callable[[Any], None], at: int, distance: int) -> Iterator[None]:
    """Move an address in a processor's state by ``distance`` bytes, and back; the guest stands still both times."""
    moved(take, give, at, distance)
    try:
        yield
    finally:
        # It ran meanwhile: everything else in its state has to stay as it is now.
        moved(take, give, at, -distance)


def moved(take: Callable[[], Any], give: Callable[[Any], None], at: int, distance: int) -> None:
    """Move one address in a processor's state."""
    buffer = take()
    struct.pack_into("<Q", buffer, at, struct.unpack_from("<Q", buffer, at)[0] + distance)
    give(buffer)


def _policy(target: Target) -> int:
    return int(target.kernel.pointer(target.symbol("selinux_state"), "selinux_state.policy"))


def rule(target: Target) -> Any:
    """A rule of the policy allows everything."""
    kernel, policy = target.kernel, _policy(target)
    slots = kernel.value(policy, "selinux_policy.policydb.te_avtab.nslot")
    table = target.read(kernel.pointer(policy, "selinux_policy.policydb.te_avtab.htable"), 8 * slots)
    node = next(node for (node,) in struct.iter_unpack("<Q", table) if node)
    return bytes_changed(target, target.member(node, "avtab_node.datum"), b"\xff" * 4)


def permissive(target: Target) -> Any:
    """A type is permissive: the map gets the bits of another."""
    kernel, policy = target.kernel, _policy(target)
    other = kernel.pointer(kernel.pointer(policy, "selinux_policy.policydb.type_attr_map_array"), "ebitmap.node")
    place = target.member(target.member(policy, "selinux_policy.policydb.permissive_map"), "ebitmap.node")
    return bytes_changed(target, place, struct.pack("<Q", other))


@contextmanager
def hidden_module(target: Target) -> Iterator[None]:
    """A module takes itself off the list of modules."""
    kernel = target.kernel
    module = list(kernel.entries(target.symbol("modules"), "module.list"))[1]
    entry = target.member(module, "module.list")
    after, before = struct.unpack("<QQ", target.read(entry, 16))
    with (
        bytes_changed(target, before, struct.pack("<Q", after)),
        bytes_changed(target, after + 8, struct.pack("<Q", before)),
    ):
        yield


def modprobe(target: Target) -> Any:
    """The kernel would start a program of the attacker's."""
    return bytes_changed(target, target.symbol("modprobe_path"), b"/tmp/x\0")


ATTACKS: tuple[tuple[str, Callable[[Target], Any], str], ...] = (
    ("enforcing", enforcing, LIGHT),
    ("text", text, LIGHT),
    ("remapped", remapped, LIGHT),
    ("hook", hook, LIGHT),
    ("permissive", permissive, LIGHT),
    ("modprobe", modprobe, LIGHT),
    ("rule", rule, HEAVY),
    ("module", hidden_module, HEAVY),
    ("gate", gate, LIGHT),
    ("syscall", syscall, LIGHT),
)


def rest() -> None:
    """Let the guest run between two rounds, as the watcher does: what is looked at twice had the time to change.

    Without it the guest, which shares its processor with this program, may be found twice at one place in the midst
    of execve(2).
    """
    time.sleep(REST_S)


def round_of(target: Target, kind: str) -> Report:
    """Return the report of one round."""
    return target.measurer.heavy() if kind == HEAVY else target.measurer.light()


def attack(target: Target, name: str, how: Callable[[Target], Any], kind: str) -> None:
    """Attack, measure as the watcher does, put it right again, and tell."""
    # Changed while it stands still, so that it does not fall over what was changed before it is looked at.
    target.memory.pause()
    try:
        with how(target):
            target.memory.unpause()
            began_s = time.monotonic()
            report = round_of(target, kind)
            if report.violations:
                # The measurer left it standing; or, where nothing had to stand still for it, the watcher's first act.
                target.memory.pause()
            seconds = (target.memory.paused_at_s or time.monotonic()) - began_s
            target.memory.pause()
    except OSError as error:
        told(attack=name, impossible=str(error))
        return
    finally:
        target.memory.let_go()
    codes = sorted({finding.code for finding in report.violations})
    told(attack=name, kind=kind, codes=codes, seconds=round(seconds, 3), round_s=round(report.seconds, 3))
    for _ in range(2):
        rest()
        clean = round_of(target, HEAVY)
    target.memory.let_go()
    if clean.violations:
        told(attack=name, after=[str(finding) for finding in clean.violations])


def main() -> None:
    """Run the program."""
    domain, kind, profile, policy, rounds = sys.argv[1:]
    target = Target(int(domain), kind, Path(profile), Path(policy))
    until_s = time.monotonic() + BOOT_LIMIT_S
    while target.measurer.phase != RUNNING:
        report = target.measurer.light()
        if report.violations or time.monotonic() > until_s:
            sys.exit(f"{report.phase}: {[str(finding) for finding in report.violations]}")
        time.sleep(0.5)
    told(phase=report.phase, settle_s=round(report.seconds, 3), pause_s=round(report.pause_s, 3))
    # The first service of the guest comes a little after its policy.
    while len({task.sid for task in target.measurer._tasks.all(target.kernel) if task.mm}) < 2:
        if time.monotonic() > until_s:
            sys.exit("no service came up")
        time.sleep(1)
    for number in range(int(rounds)):
        kind_of = HEAVY if number % 10 == 9 else LIGHT
        report = round_of(target, kind_of)
        found = [str(finding) for finding in report.violations]
        seconds, pause_s = round(report.seconds, 3), round(report.pause_s, 3)
        told(round=number, kind=kind_of, violations=found, seconds=seconds, pause_s=pause_s)
        rest()
    for name, how, kind_of in ATTACKS:
        attack(target, name, how, kind_of)


if __name__ == "__main__":
    main()
