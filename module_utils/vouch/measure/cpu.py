# SPDX-License-Identifier: GPL-3.0-or-later
"""Where the guest's processors go by themselves: interrupts, system calls, and the protections that are switched on.

All of it comes from Xen, which the guest cannot fool: control registers and the descriptor table's register of a PVH
guest, the trap table and the callbacks of a PV guest.

1. PVH: CR0.WP, CR4.SMEP and SMAP where the kernel switched them on, EFER.NXE; LSTAR is the kernel's entry, those of
   32-bit programs are in its text.
2. PVH: the interrupt descriptor table is the kernel's, and each gate leads to a handler that the kernel has for it.
3. PV: every trap leads to a handler that the kernel has for it, every callback to the kernel's function for it.
4. Whatever was found at first stays so.

Source: Intel SDM, volume 3, 2.5, 6.10; Xen 4.20, public/arch-x86/xen.h (vcpu_guest_context, trap_info).
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Sequence

from ..model.finding import Finding
from .kernel import Kernel
from .memory import PV, VcpuState

SOURCE = "docs/introspection.md, control flow"
WRITE_PROTECT = 1 << 16
PAGING = 1 << 31
NXE = 1 << 11
UMIP, SMEP, SMAP = 1 << 11, 1 << 20, 1 << 21
KEPT_CR4 = UMIP | SMEP | SMAP
GATES, GATE_BYTES = 256, 16
_GATE = struct.Struct("<HHHHII")
_PRESENT = 0x8000
EARLY = range(20, 32)
"""Vectors that the kernel may leave as they were while it booted: they lead to memory that was given back since, and
the processor raises none of them."""

CALLBACKS = (
    ("event", "xen_asm_exc_xen_hypervisor_callback", "guest.idt.gate"),
    ("failsafe", "xen_failsafe_callback", "guest.idt.gate"),
    ("syscall", "xen_entry_SYSCALL_64", "guest.syscall.entry"),
    ("sysenter", "xen_entry_SYSENTER_compat", "guest.syscall.entry"),
)
"""What Xen calls in a PV guest, the kernel's function for it, and the code when it is another."""


class Processors:
    """What was found of the processors at first, to hold later rounds against."""

    __slots__ = ("_cr4", "_entries", "_gates", "_traps")

    def __init__(self) -> None:
        self._cr4: int | None = None
        self._gates = b""
        self._traps: dict[int, tuple[object, ...]] = {}
        self._entries: tuple[int, ...] = ()

    def check(self, kernel: Kernel, kind: str, vcpus: Sequence[VcpuState]) -> Iterator[Finding]:
        """Yield findings on every processor.

        Raises:
            GuestMemoryError: the descriptor table cannot be read.
        """
        for number, vcpu in enumerate(vcpus):
            yield from self._traps_of(kernel, number, vcpu) if kind == PV else self._registers(kernel, number, vcpu)
        if kind != PV:
            yield from self._table(kernel, vcpus)

    def _registers(self, kernel: Kernel, number: int, vcpu: VcpuState) -> Iterator[Finding]:
        subject = f"processor {number}"
        if not vcpu.cr0 & WRITE_PROTECT or not vcpu.cr0 & PAGING:
            yield _finding("guest.cpu.control", subject, "CR0 with WP and PG", f"CR0 {vcpu.cr0:#x}")
        if not vcpu.efer & NXE:
            yield _finding("guest.cpu.control", subject, "EFER with NXE", f"EFER {vcpu.efer:#x}")
        if self._cr4 is None:
            self._cr4 = vcpu.cr4 & KEPT_CR4
        if vcpu.cr4 & self._cr4 != self._cr4:
            yield _finding("guest.cpu.control", subject, f"CR4 with {self._cr4:#x}", f"CR4 {vcpu.cr4:#x}")
        if vcpu.lstar != kernel.symbol("entry_SYSCALL_64"):
            entry = f"{kernel.symbol('entry_SYSCALL_64'):#x}"
            yield _finding("guest.syscall.entry", subject, f"LSTAR {entry}", f"{vcpu.lstar:#x}")
        entries = (vcpu.sysenter, vcpu.compat)
        if any(address and not kernel.inside_text(address) for address in entries):
            actual = f"{vcpu.sysenter:#x}, {vcpu.compat:#x}"
            yield _finding("guest.syscall.entry", subject, "entries of 32-bit programs in the kernel's text", actual)
        elif self._entries not in ((), entries):
            actual = f"{vcpu.sysenter:#x}, {vcpu.compat:#x}"
            yield _finding("guest.syscall.entry", subject, "entries of 32-bit programs as at first", actual)
        else:
            self._entries = entries

    def _table(self, kernel: Kernel, vcpus: Sequence[VcpuState]) -> Iterator[Finding]:
        table = kernel.symbol("idt_table")
        for number, vcpu in enumerate(vcpus):
            subject = f"processor {number}"
            same = vcpu.idt_base == table or kernel.space.frame(vcpu.idt_base) == kernel.space.frame(table)
            if not same or vcpu.idt_limit != GATES * GATE_BYTES - 1:
                actual = f"{vcpu.idt_base:#x}, limit {vcpu.idt_limit:#x}"
                yield _finding("guest.idt.base", subject, f"the kernel's table {table:#x}", actual)
        gates = kernel.space.read(table, GATES * GATE_BYTES)
        if gates == self._gates:
            return
        changed = bool(self._gates)
        for vector, (low, selector, flags, middle, high, _) in enumerate(_GATE.iter_unpack(gates)):
            address = low | middle << 16 | high << 32
            wrong = flags & _PRESENT and not _right(kernel, vector, address)
            if wrong or (
                changed and gates[vector * 16 : vector * 16 + 16] != self._gates[vector * 16 : vector * 16 + 16]
            ):
                expected = "a handler that the kernel has for it" if wrong else "as at first"
                yield _finding("guest.idt.gate", f"vector {vector}", expected, f"{selector:#x}:{address:#x}")
                return
        self._gates = gates

    def _traps_of(self, kernel: Kernel, number: int, vcpu: VcpuState) -> Iterator[Finding]:
        subject = f"processor {number}"
        for trap in vcpu.traps:
            if trap.address and not _right(kernel, trap.vector, trap.address):
                actual = f"{trap.address:#x}"
                yield _finding(
                    "guest.idt.gate", f"vector {trap.vector}", "a handler that the kernel has for it", actual
                )
        addresses = {"event": vcpu.event, "failsafe": vcpu.failsafe, "syscall": vcpu.lstar, "sysenter": vcpu.sysenter}
        for what, symbol, code in CALLBACKS:
            address = addresses[what]
            right = address == kernel.symbol(symbol) if kernel.has(symbol) else kernel.inside_text(address)
            if address and not right:
                yield _finding(code, subject, f"{symbol} as {what} callback", f"{address:#x}")
        found = (vcpu.traps, vcpu.lstar, vcpu.sysenter, vcpu.event, vcpu.failsafe)
        before = self._traps.setdefault(number, found)
        if before != found:
            code = "guest.idt.gate" if found[0] != before[0] else "guest.syscall.entry"
            yield _finding(code, subject, "traps and callbacks as at first", f"syscall {vcpu.lstar:#x}")


def _right(kernel: Kernel, vector: int, address: int) -> bool:
    """Say whether a handler is one of those that the kernel has for a vector."""
    if not kernel.inside_text(address):
        return vector in EARLY
    return address in kernel.profile.gates.get(vector, ())


def _finding(code: str, subject: str, expected: str, actual: str) -> Finding:
    return Finding.deny(code, subject, expected, actual, source=SOURCE)
