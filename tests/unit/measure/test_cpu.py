# SPDX-License-Identifier: GPL-3.0-or-later
"""Registers, gates and callbacks: what Xen says of the processors of a PVH and of a PV guest."""

from __future__ import annotations

from typing import Any

import pytest
from ansible.module_utils.vouch.measure.cpu import Processors
from ansible.module_utils.vouch.measure.memory import PV, TrapGate, VcpuState

from sim.guestattacks import Watched
from sim.recordedguest import recorded_guest


@pytest.fixture(scope="module")
def it() -> Watched:
    return recorded_guest()


def codes(it: Watched, processors: Processors, kind: str, *vcpus: VcpuState) -> set[str]:
    return {finding.code for finding in processors.check(it.kernel, kind, vcpus)}


PVH_FAULTS: dict[str, tuple[dict[str, Any], str]] = {
    "write protection off": ({"cr0": 0x80000001}, "guest.cpu.control"),
    "paging off": ({"cr0": 0x10001}, "guest.cpu.control"),
    "every page executable": ({"efer": 0x501}, "guest.cpu.control"),
    "programs' pages executable": ({"cr4": 0x20}, "guest.cpu.control"),
    "entry of system calls": ({"lstar": 0xFFFFFFFF81000000}, "guest.syscall.entry"),
    "entry of 32-bit programs": ({"compat": 0xFFFFFFFFC0000000}, "guest.syscall.entry"),
    "another entry of 32-bit programs": ({"sysenter": 0xFFFFFFFF81000100}, "guest.syscall.entry"),
    "a table of one's own": ({"idt_base": 0xFFFF888001000000}, "guest.idt.base"),
    "a short table": ({"idt_limit": 0xFF}, "guest.idt.base"),
}


@pytest.mark.parametrize("fault", PVH_FAULTS)
def test_pvh(it: Watched, fault: str) -> None:
    change, code = PVH_FAULTS[fault]
    processors, (vcpu,) = Processors(), it.guest.vcpus()
    assert codes(it, processors, "pvh", vcpu) == set()
    assert code in codes(it, processors, "pvh", vcpu._replace(**change))
    assert code in codes(it, processors, "pvh", vcpu, vcpu._replace(**change)), "the second processor counts as well"


@pytest.mark.parametrize("vector", [0, 14, 33, 128, 255])
def test_a_gate_to_another_place_in_the_text(it: Watched, vector: int) -> None:
    """Met at first, so there is nothing to compare with: the kernel does not have this handler for this vector."""
    place = it.place("idt_table") + 16 * vector
    address = it.place("_stext") + 0x40
    low, high = (address & 0xFFFF).to_bytes(2, "little"), (address >> 16 & 0xFFFF).to_bytes(2, "little")
    with it.changed(place, low), it.changed(place + 6, high):
        assert codes(it, Processors(), "pvh", *it.guest.vcpus()) == {"guest.idt.gate"}


def test_a_gate_that_was_open_to_programs_later(it: Watched) -> None:
    processors = Processors()
    assert codes(it, processors, "pvh", *it.guest.vcpus()) == set()
    place = it.place("idt_table") + 16 * 14 + 5
    with it.changed(place, bytes([it.kernel.space.read(place, 1)[0] | 0x60])):
        assert codes(it, processors, "pvh", *it.guest.vcpus()) == {"guest.idt.gate"}


def pv_vcpu(it: Watched) -> VcpuState:
    """Return what an honest PV guest of this kernel gave to Xen."""
    traps = []
    for vector in (0, 1, 6, 13, 14, 128):
        handler = next(at for at in it.profile.gates[vector] if it.kernel.inside_text(at))
        traps.append(TrapGate(vector, 0xE033, handler, 3 if vector == 128 else 0))
    # One that the kernel left as it was while it booted.
    traps.append(TrapGate(21, 0xE033, it.place("early_idt_handler_array"), 0))
    return VcpuState(
        cr0=0x8005003B,
        cr3=0x1000,
        cr4=0x2660,
        efer=0,
        lstar=it.place("xen_entry_SYSCALL_64"),
        event=it.place("xen_asm_exc_xen_hypervisor_callback"),
        failsafe=it.place("xen_failsafe_callback"),
        traps=tuple(traps),
    )


def test_an_honest_pv_guest(it: Watched) -> None:
    processors, vcpu = Processors(), pv_vcpu(it)
    assert codes(it, processors, PV, vcpu, vcpu) == set()
    assert codes(it, processors, PV, vcpu, vcpu) == set()


PV_FAULTS: dict[str, tuple[str, str]] = {
    "system calls": ("lstar", "guest.syscall.entry"),
    "events": ("event", "guest.idt.gate"),
    "failsafe": ("failsafe", "guest.idt.gate"),
}


@pytest.mark.parametrize("fault", PV_FAULTS)
@pytest.mark.parametrize("number", [0, 1])
@pytest.mark.parametrize("known", [False, True])
def test_callbacks_of_a_pv_guest(it: Watched, fault: str, number: int, known: bool) -> None:
    """Another place in the kernel's text is none of them either, and the first look is enough to know."""
    member, code = PV_FAULTS[fault]
    processors, vcpus = Processors(), [pv_vcpu(it), pv_vcpu(it)]
    if known:
        assert codes(it, processors, PV, *vcpus) == set()
    vcpus[number] = vcpus[number]._replace(**{member: it.place("_stext") + 0x40})
    assert code in codes(it, processors, PV, *vcpus)


@pytest.mark.parametrize("number", [0, 1])
def test_traps_of_a_pv_guest(it: Watched, number: int) -> None:
    processors, vcpus = Processors(), [pv_vcpu(it), pv_vcpu(it)]
    other = vcpus[number].traps[4]._replace(address=it.place("_stext") + 0x40)
    vcpus[number] = vcpus[number]._replace(traps=(*vcpus[number].traps[:4], other, *vcpus[number].traps[5:]))
    assert codes(it, processors, PV, *vcpus) == {"guest.idt.gate"}


def test_a_trap_that_programs_may_raise_later(it: Watched) -> None:
    processors, vcpu = Processors(), pv_vcpu(it)
    assert codes(it, processors, PV, vcpu) == set()
    opened = vcpu.traps[4]._replace(privilege=3)
    vcpu = vcpu._replace(traps=(*vcpu.traps[:4], opened, *vcpu.traps[5:]))
    assert codes(it, processors, PV, vcpu) == {"guest.idt.gate"}
