# SPDX-License-Identifier: GPL-3.0-or-later
"""Who may stand in the kernel's own tables: functions of security modules, handlers of interrupts.

Both are read from the tables in the file from which the kernel fills the live ones.

Source: Linux 6.1 and 6.12, include/linux/lsm_hooks.h (security_hook_list); arch/x86/kernel/idt.c;
arch/x86/xen/enlighten_pv.c (trap_array).
"""

from __future__ import annotations

import itertools
import struct
from collections import defaultdict
from collections.abc import Iterator

from ..errors import ParseError
from ..model.profileparts import Hook
from .kernelimage import KernelImage

VECTORS, EXCEPTIONS = 256, 32
SYSTEM_VECTORS = (0xEC, 0xEB)
"""Where vectors with a handler of their own begin: LOCAL_TIMER_VECTOR, or POSTED_MSI_NOTIFICATION_VECTOR where the
kernel has it (FIRST_SYSTEM_VECTOR, arch/x86/include/asm/irq_vectors.h)."""

ENTRY_BYTES = (8, 16)
"""IDT_ALIGN without and with indirect branch tracking (arch/x86/include/asm/idtentry.h)."""

_IDT_TABLES = ("early_idts", "early_pf_idts", "def_idts", "ia32_idt", "apic_idts")
_KERNEL_CODE = 0x10
_HEADS = (("security_hook_heads", "security_hook_heads"), ("static_calls_table", "lsm_static_calls_table"))


def find_hooks(kernel: KernelImage) -> dict[str, Hook]:
    """Return every hook of the security modules with the functions that they have for it.

    Raises:
        ParseError: the kernel has neither of the two kinds of table.
    """
    for symbol, struct_name in _HEADS:
        table = kernel.find(symbol)
        if table is not None:
            return _hooks_of(kernel, table, struct_name)
    raise ParseError("kernel.hooks", 0, "no table of security hooks", code="parse.kernel.symbol")


def _hooks_of(kernel: KernelImage, table: int, struct_name: str) -> dict[str, Hook]:
    slot = kernel.btf.size("lsm_static_call") if struct_name == "lsm_static_calls_table" else 0
    places = {offset // 8: (name, size) for name, offset, size in kernel.btf.members(struct_name)}
    functions: dict[int, set[int]] = defaultdict(set)
    _, data = kernel.between("__start_ro_after_init", "__end_ro_after_init")
    # Each entry has the place of its hook and, right behind it, its function.
    words = [word for (word,) in struct.iter_unpack("<Q", data[: len(data) & ~7])]
    low, high = kernel.symbol("_stext"), kernel.symbol("_etext")
    for place, function in itertools.pairwise(words):
        if place - table in places and low <= function < high and kernel.functions_at(function):
            functions[place - table].add(function)
    return {
        name: Hook(offset, size // slot if slot else 0, tuple(sorted(functions.get(offset, ()))))
        for offset, (name, size) in sorted(places.items())
    }


def find_gates(kernel: KernelImage) -> dict[int, tuple[int, ...]]:
    """Return the handlers that this kernel may put at each vector, on bare hardware and as a PV guest of Xen."""
    found: dict[int, set[int]] = defaultdict(set)
    for vector, handler in _table_gates(kernel):
        found[vector].add(handler)
    for vector, handler in _entry_gates(kernel):
        found[vector].add(handler)
    for _, handler in kernel.starting("asm_sysvec_"):
        for vector in range(min(SYSTEM_VECTORS), VECTORS):
            found[vector].add(handler)
    translated = dict(_xen_traps(kernel))
    unknown = kernel.find("xen_asm_exc_xen_unknown_trap")
    for vector in range(VECTORS):
        found[vector].update({translated[handler] for handler in found[vector] if handler in translated})
        if unknown is not None:
            found[vector].add(unknown)
    return {vector: tuple(sorted(found[vector])) for vector in range(VECTORS)}


def _table_gates(kernel: KernelImage) -> Iterator[tuple[int, int]]:
    size = kernel.btf.size("idt_data")
    at = kernel.btf.member("idt_data", "addr").offset_bits // 8
    for name in _IDT_TABLES:
        table = kernel.find(name)
        while table is not None:
            raw = kernel.image(table, size)
            vector, segment = struct.unpack_from("<II", raw)
            handler = int.from_bytes(raw[at : at + 8], "little")
            if vector >= VECTORS or segment != _KERNEL_CODE or not kernel.functions_at(handler):
                break
            yield vector, handler
            table += size


def _entry_gates(kernel: KernelImage) -> Iterator[tuple[int, int]]:
    """Yield the entries that stand in a row: one for each vector that has no handler of its own."""
    first, spurious = kernel.symbol("irq_entries_start"), kernel.symbol("spurious_entries_start")
    system, stride = _rows(first, spurious)
    for vector in range(EXCEPTIONS, VECTORS):
        if vector < system:
            yield vector, first + stride * (vector - EXCEPTIONS)
        else:
            yield vector, spurious + stride * (vector - system)
    early = kernel.symbol("early_idt_handler_array")
    stride = (kernel.function_around(early)[1] - early) // EXCEPTIONS
    for vector in range(EXCEPTIONS):
        yield vector, early + stride * vector


def _rows(first: int, spurious: int) -> tuple[int, int]:
    """Return the first system vector and the bytes of an entry, from where the two rows of entries begin.

    Raises:
        ParseError: they begin where they begin in no kernel that we know.
    """
    for system in SYSTEM_VECTORS:
        for stride in ENTRY_BYTES:
            if spurious - first == stride * (system - EXCEPTIONS) or first - spurious == stride * (VECTORS - system):
                return system, stride
    raise ParseError("kernel.gates", first, f"entries at {first:#x} and {spurious:#x}", code="parse.kernel.symbol")


def _xen_traps(kernel: KernelImage) -> Iterator[tuple[int, int]]:
    """Yield the handler on bare hardware and the one that a PV guest gives to Xen in its place."""
    at = kernel.find("trap_array")
    while at is not None:
        plain, ours = struct.unpack("<QQ", kernel.image(at, 16))
        if not kernel.functions_at(plain) or not kernel.functions_at(ours):
            break
        yield plain, ours
        at += 24
