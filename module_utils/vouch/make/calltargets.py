# SPDX-License-Identifier: GPL-3.0-or-later
"""Whom the kernel may call where it chooses when it starts: slots of ``pv_ops`` and static calls.

Both begin with a function in the file, and are changed by the kernel's own code. That code names the others: it stores
their addresses as constants, copies them from constant tables, or hands them to ``__static_call_update``. So the answer
is read from the kernel's instructions, not from one start of it.

Source: Linux 6.1 and 6.12, include/linux/static_call.h; arch/x86/xen/enlighten_pv.c (xen_start_kernel).
"""

from __future__ import annotations

import re
import struct
from collections import defaultdict
from collections.abc import Iterator

from ..errors import ParseError
from ..parse.elf import EXECUTABLE
from .kernelimage import KernelImage

_STORE = re.compile(rb"\x48\xc7\x05(....)(....)", re.DOTALL)
"""movq $constant, distance(%rip)"""
_UPDATES = ("__static_call_update", "__static_call_update_early")
_SETTERS = {"pv_sched_clock": ("paravirt_set_sched_clock", "__paravirt_set_sched_clock")}
"""Static calls that a function changes to what it is given."""
_BACK_BYTES = 96
"""How far in front of a call its arguments are looked for."""
_SHORT_FUNCTION_BYTES = 2048

_BRANCH = re.compile(rb"[\xe8\xe9](?=(....))", re.DOTALL)

_KEY = re.compile(rb"\x48\xc7\xc7(....)", re.DOTALL)
"""mov $constant, %rdi"""
_FUNCTION = re.compile(rb"\x48\xc7\xc2(....)", re.DOTALL)
"""mov $constant, %rdx"""
_OTHER_FUNCTION = re.compile(rb"[\x48\x49]\xc7[\xc0\xc1\xc3-\xc7](....)", re.DOTALL)
"""mov $constant to another register, from which a conditional move may take it"""
_LOADED = re.compile(rb"\x48\x8b\x15(....)", re.DOTALL)
"""mov distance(%rip), %rdx"""

PV_TEMPLATES = ("xen_cpu_ops", "xen_irq_ops", "xen_mmu_ops")
PMU_TEMPLATES = ("amd_pmu", "intel_pmu", "core_pmu", "p4_pmu", "p6_pmu", "knc_pmu")


class CallTargets:
    """The functions that may be called at the places that are filled in at run time.

    Args:
        kernel: The kernel.
    """

    def __init__(self, kernel: KernelImage) -> None:
        self._kernel = kernel
        self._code = [
            (section.address, section.data.tobytes())
            for section in kernel.elf.sections.values()
            if section.flags & EXECUTABLE
        ]
        self._text = (kernel.symbol("_stext"), kernel.symbol("_etext"))
        self._stores: dict[int, set[int]] = defaultdict(set)
        for address, value in self._all_stores():
            self._stores[address].add(value)
        self._updates: dict[int, set[int]] = defaultdict(set)
        for key, function in self._all_updates():
            self._updates[key].add(function)
        self._pv_ops = kernel.find("pv_ops")

    def of_variable(self, address: int) -> tuple[int, ...]:
        """Return what a variable that holds a function may hold: what the file has, and each constant stored there."""
        found = {self._word(address), *self._stores.get(address, ())}
        return tuple(sorted(value for value in found if self._is_code(value)))

    def of_pv_slot(self, slot: int) -> tuple[int, ...]:
        """Return whom the ``slot``-th pointer of ``pv_ops`` may name.

        0 and what does nothing are the caller's to know.
        """
        assert self._pv_ops is not None
        place = self._pv_ops + 8 * slot
        found = set(self.of_variable(place))
        for template in PV_TEMPLATES:
            start = self._kernel.find(template)
            if start is not None and self._is_code(value := self._word(start + 8 * slot)):
                found.add(value)
        return tuple(sorted(found))

    def of_static_call(self, key: int) -> tuple[int, ...]:
        """Return whom a static call may call; the first word of a key is the function it begins with."""
        found = {self._word(key), *self._updates.get(key, ())}
        return tuple(sorted(value for value in found if self._is_code(value)))

    def of_apic(self, member: str) -> tuple[int, ...]:
        """Return whom a static call of the interrupt controller may call: what any of its drivers has for it."""
        _, data = self._kernel.between("__apicdrivers", "__apicdrivers_end")
        drivers = [address for (address,) in struct.iter_unpack("<Q", data)]
        found: set[int] = set()
        # A driver without native_eoi is given its eoi for it (arch/x86/kernel/apic/init.c).
        for name in (member, *(("eoi",) if member == "native_eoi" else ())):
            try:
                at = self._kernel.btf.member("apic", name).offset_bits // 8
            except ParseError:
                continue
            for driver in drivers:
                found.update((self._word(driver + at), *self._stores.get(driver + at, ())))
        return tuple(sorted(value for value in found if self._is_code(value)))

    def _all_stores(self) -> Iterator[tuple[int, int]]:
        for base, code in self._code:
            for match in _STORE.finditer(code):
                distance, value = struct.unpack("<ii", match[1] + match[2])
                if self._is_code(value & (1 << 64) - 1):
                    yield base + match.end() + distance, value & (1 << 64) - 1

    def _all_updates(self) -> Iterator[tuple[int, int]]:
        calls = self._calls(_UPDATES)
        for number, (base, code, at) in enumerate(calls):
            start = at - _BACK_BYTES
            if number and calls[number - 1][0] == base:
                start = max(start, calls[number - 1][2])
            keys = _KEY.findall(code[max(0, start) : at])
            if not keys:
                continue
            key = _unsigned(keys[-1])
            first, last = self._kernel.function_around(base + at)
            inside = [call for call in calls if first <= call[0] + call[2] - 5 < last]
            # Where a function changes this one alone, whatever it loads may come to the call by some branch.
            if len(inside) == 1 and last - first <= _SHORT_FUNCTION_BYTES:
                start, at = max(0, first - base), last - base
            yield from ((key, function) for function in self._functions(code[max(0, start) : at], base + at))
        for name, setters in _SETTERS.items():
            clock = self._kernel.find(f"__SCK__{name}")
            for _, code, at in self._calls(setters) if clock is not None else ():
                found = _KEY.findall(code[max(0, at - _BACK_BYTES) : at])
                if clock is not None and found and self._is_code(_unsigned(found[-1])):
                    yield clock, _unsigned(found[-1])

    def _calls(self, names: tuple[str, ...]) -> list[tuple[int, bytes, int]]:
        """Return (address of a section, its bytes, offset behind the call) of each call and jump to one of these."""
        wanted = {address for name in names if (address := self._kernel.find(name)) is not None}
        found = []
        for base, code in self._code if wanted else ():
            for match in _BRANCH.finditer(code):
                if base + match.end() + 4 + int.from_bytes(match[1], "little", signed=True) in wanted:
                    found.append((base, code, match.end() + 4))
        return found

    def _functions(self, before: bytes, call: int) -> Iterator[int]:
        """Yield what the code in front of an update may have in %rdx."""
        for pattern in (_FUNCTION, _OTHER_FUNCTION):
            for raw in pattern.findall(before):
                value = _unsigned(raw)
                names = self._kernel.functions_at(value) if self._is_code(value) else []
                if names and not any(name.startswith("__SCT__") for name in names):
                    yield value
        for match in _LOADED.finditer(before):
            distance = int.from_bytes(match[1], "little", signed=True)
            yield from self._loaded(call - len(before) + match.end() + distance)

    def _loaded(self, address: int) -> Iterator[int]:
        yield from self.of_variable(address)
        start = self._kernel.find("x86_pmu")
        if start is not None and 0 <= address - start < 1024:
            for name in PMU_TEMPLATES:
                template = self._kernel.find(name)
                if template is not None:
                    yield self._word(template + address - start)

    def _word(self, address: int) -> int:
        return int.from_bytes(self._kernel.image(address, 8), "little")

    def _is_code(self, value: int) -> bool:
        return self._text[0] <= value < self._text[1]


def _unsigned(raw: bytes) -> int:
    """Return a constant of four bytes as the processor extends it to eight."""
    return int.from_bytes(raw, "little", signed=True) & (1 << 64) - 1
