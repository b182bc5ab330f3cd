# SPDX-License-Identifier: GPL-3.0-or-later
"""What Xen's libraries say of a guest, from bytes as they lay them out; the real ones are for the scenario on Xen."""

from __future__ import annotations

import ctypes
import struct
from types import SimpleNamespace
from typing import Any

import pytest
from ansible.module_utils.vouch.errors import UnreachableError
from ansible.module_utils.vouch.measure.memory import PAGE_BYTES, PV, GuestMemoryError
from ansible.module_utils.vouch.port import xenguest
from ansible.module_utils.vouch.port.xenguest import MAX_FRAMES, XenGuest


class Function:
    """A function of a library: what ``ctypes`` wants to set, and a Python function."""

    def __init__(self, what: Any) -> None:
        self._what = what

    def __call__(self, *arguments: Any) -> Any:
        return self._what(*arguments)


class Libraries:
    """Both libraries, over memory and contexts of our own."""

    def __init__(self) -> None:
        self.memory = ctypes.create_string_buffer(b"".join(bytes([page]) * PAGE_BYTES for page in range(8)))
        self.unmapped: list[int] = []
        self.contexts: list[bytes] = []
        self.xenforeignmemory_open = Function(lambda *_: 1)
        self.xenforeignmemory_map = Function(self._map)
        self.xenforeignmemory_unmap = Function(lambda _, address, count: self.unmapped.append(count))
        self.xc_interface_open = Function(lambda *_: 1)
        self.xc_vcpu_getcontext = Function(lambda _, __, number, buffer: self._context(number, buffer))
        self.xc_domain_hvm_getcontext_partial = Function(
            lambda _, __, kind, number, buffer, ___: self._context(number, buffer) if kind == 2 else -1
        )

    def _map(self, _: Any, domain: int, protection: int, count: int, numbers: Any, errors: Any) -> int:
        assert (domain, protection) == (7, 1)
        for at, number in enumerate(numbers):
            errors[at] = -22 if number >= 8 else 0
        return ctypes.addressof(self.memory) + numbers[0] * PAGE_BYTES

    def _context(self, number: int, buffer: Any) -> int:
        if number >= len(self.contexts):
            return -1
        ctypes.memmove(buffer, self.contexts[number], len(self.contexts[number]))
        return 0


@pytest.fixture
def libraries(monkeypatch: pytest.MonkeyPatch) -> Libraries:
    found = Libraries()
    monkeypatch.setattr(xenguest, "_load", lambda name: found)
    return found


class Control:
    def __init__(self) -> None:
        self.calls: list[str] = []

    def pause(self, domain_id: int) -> None:
        self.calls.append(f"pause {domain_id}")

    def unpause(self, domain_id: int) -> None:
        self.calls.append(f"unpause {domain_id}")

    def domains(self) -> Any:
        return {7: SimpleNamespace(paused=True, dying=False, reason=-1, ran_ns=5)}


def test_frames_are_read_and_let_go_of(libraries: Libraries) -> None:
    mapped = XenGuest(7, PV, Control()).map((2, 3))
    assert bytes(mapped.view[PAGE_BYTES - 1 : PAGE_BYTES + 1]) == b"\2\3"
    copy = bytearray(b"x" + bytes([2]) * PAGE_BYTES + bytes([3]) * PAGE_BYTES)
    assert mapped.same(copy, 1)
    assert not mapped.same(copy, 0)
    assert not mapped.same(copy, 2), "the copy is too short for that"
    assert not mapped.same(copy, -1)
    libraries.memory[2 * PAGE_BYTES + 17] = b"y"
    assert not mapped.same(copy, 1)
    mapped.close()
    mapped.close()
    assert libraries.unmapped == [2]
    assert not mapped.same(copy, 1)


@pytest.mark.parametrize("frames", [(9,), (2, 9)])
def test_a_frame_that_is_not_the_guests(libraries: Libraries, frames: tuple[int, ...]) -> None:
    with pytest.raises(GuestMemoryError) as caught:
        XenGuest(7, PV, Control()).map(frames)
    assert caught.value.code == "guest.memory.unmapped"
    assert libraries.unmapped == [len(frames)]


@pytest.mark.parametrize("count", [0, MAX_FRAMES + 1])
def test_how_many_frames(libraries: Libraries, count: int) -> None:
    with pytest.raises(GuestMemoryError) as caught:
        XenGuest(7, PV, Control()).map(range(count))
    assert caught.value.code == "guest.memory.limit"


def test_processors_of_a_pv_guest(libraries: Libraries) -> None:
    context = bytearray(5168)
    struct.pack_into("<BBHIQ", context, 720 + 14 * 16, 14, 4, 0xE033, 0, 0xFFFFFFFF81001000)
    struct.pack_into("<BBHIQ", context, 720 + 3 * 16, 3, 3, 0xE033, 0, 0xFFFFFFFF81002000)
    struct.pack_into("<4Q", context, 4984, 0x8005003B, 0x77000, 0, 0x123000)
    struct.pack_into("<3Q", context, 5112, 0xA, 0xB, 0xC)
    libraries.contexts = [bytes(context)] * 2
    first, second = XenGuest(7, PV, Control()).vcpus()
    assert first == second
    assert (first.cr3, first.user_root, first.event, first.failsafe, first.lstar) == (0x123000, 0x77, 0xA, 0xB, 0xC)
    assert [(trap.vector, trap.selector, trap.address, trap.privilege) for trap in first.traps] == [
        (3, 0xE033, 0xFFFFFFFF81002000, 3),
        (14, 0xE033, 0xFFFFFFFF81001000, 0),
    ]


def test_processors_of_a_pvh_guest(libraries: Libraries) -> None:
    context = bytearray(1032)
    struct.pack_into("<4Q", context, 656, 1, 2, 3, 4)
    struct.pack_into("<I", context, 800, 0xFFF)
    struct.pack_into("<Q", context, 872, 5)
    for at, value in {936: 6, 960: 7, 976: 8, 992: 9}.items():
        struct.pack_into("<Q", context, at, value)
    libraries.contexts = [bytes(context)]
    (vcpu,) = XenGuest(7, "pvh", Control()).vcpus()
    assert (vcpu.cr0, vcpu.cr3, vcpu.cr4, vcpu.idt_limit, vcpu.idt_base) == (1, 3, 4, 0xFFF, 5)
    assert (vcpu.sysenter, vcpu.lstar, vcpu.compat, vcpu.efer) == (6, 7, 8, 9)


@pytest.mark.parametrize("kind", ["pv", "pvh"])
def test_a_guest_without_processors(libraries: Libraries, kind: str) -> None:
    with pytest.raises(GuestMemoryError) as caught:
        XenGuest(7, kind, Control()).vcpus()
    assert caught.value.code == "guest.gone"


def test_pauses_are_counted(libraries: Libraries) -> None:
    control = Control()
    guest = XenGuest(7, PV, control)
    guest.pause()
    guest.pause()
    guest.unpause()
    assert control.calls == ["pause 7"]
    guest.unpause()
    assert control.calls == ["pause 7", "unpause 7"]


def test_a_domain_that_is_gone(libraries: Libraries) -> None:
    assert XenGuest(7, PV, Control()).state().paused
    with pytest.raises(GuestMemoryError) as caught:
        XenGuest(8, PV, Control()).state()
    assert caught.value.code == "guest.gone"


def test_a_machine_without_xen() -> None:
    with pytest.raises(UnreachableError) as caught:
        XenGuest(7, PV, Control())
    assert caught.value.code == "xen.absent"
