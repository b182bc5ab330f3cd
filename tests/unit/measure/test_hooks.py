# SPDX-License-Identifier: GPL-3.0-or-later
"""Hooks of the security modules: static calls of Linux 6.12 on the recorded guest, lists of Linux 6.1 on a tiny one."""

from __future__ import annotations

import contextlib
import struct
from array import array
from collections.abc import Callable

import pytest
from ansible.module_utils.vouch.measure.hooks import Hooks
from ansible.module_utils.vouch.measure.kernel import Kernel
from ansible.module_utils.vouch.measure.memory import GuestMemoryError
from ansible.module_utils.vouch.model.kernelprofile import Profile
from ansible.module_utils.vouch.model.profileparts import Hook, Region

from sim.guestattacks import Watched
from sim.recordedguest import recorded_guest
from sim.tinyguest import DATA, TinyGuest


class Slot:
    """The slot of SELinux for one operation, and what belongs to it."""

    def __init__(self, it: Watched, name: str = "file_permission") -> None:
        kernel, profile = it.kernel, it.profile
        self.it, self.hooks = it, Hooks(profile)
        assert list(self.hooks.check(kernel)) == []
        table, step = profile.symbols["static_calls_table"], profile.sizes["lsm_static_call"]
        hook = profile.hooks[name]
        first, size = profile.symbols["selinux_hooks"], profile.sizes["security_hook_list"]
        own = range(first, first + size * profile.constants["selinux_hooks.count"])
        slots = (table + hook.offset + number * step for number in range(hook.slots))
        self.slot = next(slot for slot in slots if kernel.pointer(slot, "lsm_static_call.hl") in own)
        self.hook = kernel.pointer(self.slot, "lsm_static_call.hl")
        self.key = kernel.pointer(self.slot, "lsm_static_call.key")
        self.trampoline = kernel.pointer(self.slot, "lsm_static_call.trampoline")
        self.active = kernel.pointer(self.slot, "lsm_static_call.active")
        assert self.hooks._branches is not None
        self.branches = [site for site, _ in self.hooks._branches[self.active]]
        self.calls = self.hooks._calls[self.key]
        # A function of the kernel that no security module has for anything.
        self.other = it.place("_stext") + 0x40

    def codes(self) -> set[str]:
        """Return what is found now."""
        return {finding.code for finding in self.hooks.check(self.it.kernel)}

    def to_other(self, at: int) -> tuple[int, bytes]:
        """Return the change that lets the branch at an address lead to another function."""
        return at + 1, (self.other - at - 5 & 0xFFFF_FFFF).to_bytes(4, "little")

    def function(self, base: int, member: str) -> tuple[int, bytes]:
        """Return the change that puts another function into a member."""
        return self.it.place(base, member), struct.pack("<Q", self.other)


FAULTS: dict[str, tuple[Callable[[Slot], list[tuple[int, bytes]]], str]] = {
    "passed by": (lambda slot: [(slot.branches[0], b"\x66\x90")], "guest.hook.missing"),
    "not called": (lambda slot: [(slot.calls[0], b"\x0f\x1f\x44\0\0")], "guest.hook.missing"),
    "always yes": (lambda slot: [(slot.calls[0], b"\x2e\x2e\x2e\x31\xc0")], "guest.hook.missing"),
    "another called": (lambda slot: [slot.to_other(slot.calls[0])], "guest.hook.missing"),
    "switched off": (lambda slot: [(slot.active, bytes(4))], "guest.hook.missing"),
    "another trampoline": (lambda slot: [slot.to_other(slot.trampoline)], "guest.hook.changed"),
    "another function of the key": (
        lambda slot: [slot.function(slot.key, "static_call_key.func")],
        "guest.hook.changed",
    ),
    "gone from its slot": (
        lambda slot: [(slot.it.place(slot.slot, "lsm_static_call.hl"), bytes(8))],
        "guest.hook.missing",
    ),
    "another function everywhere": (
        lambda slot: [
            slot.function(slot.hook, "security_hook_list.hook"),
            slot.function(slot.key, "static_call_key.func"),
            *(slot.to_other(at) for at in (slot.trampoline, *slot.calls)),
        ],
        "guest.hook.changed",
    ),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_static_calls(fault: str) -> None:
    slot = Slot(recorded_guest())
    changes, code = FAULTS[fault]
    with contextlib.ExitStack() as stack:
        for place, content in changes(slot):
            stack.enter_context(slot.it.changed(place, content))
        assert slot.codes() == {code}
    assert slot.codes() == set()


TEXT_AT, DATA_AT = 0xFFFFFFFF81000000, 0xFFFFFFFF82000000
FIRST, SECOND = TEXT_AT + 0x100, TEXT_AT + 0x200
HEADS, OWN = DATA_AT, DATA_AT + 0x100
STEP = 40


def listed(*hooks: tuple[int, int]) -> tuple[TinyGuest, Kernel]:
    """Return a kernel with lists: one operation whose list has the hooks (its function, the next one)."""
    profile = Profile(
        release="6.1.0-test",
        banner=b"",
        symbols={"security_hook_heads": HEADS, "selinux_hooks": OWN},
        offsets={"security_hook_list.list": 0, "security_hook_list.head": 16, "security_hook_list.hook": 24},
        sizes={"security_hook_heads": 16, "security_hook_list": STEP},
        constants={"selinux_hooks.count": 2},
        segments=(),
        regions={"text": Region(TEXT_AT, 0x1000, bytes(32), b"", array("I"), array("I"), array("I"))},
        form_sets=(),
        hooks={"file_open": Hook(8, 0, (FIRST, SECOND))},
    )
    guest = TinyGuest()
    frame = guest.place(DATA_AT, DATA, struct.pack("<QQ", 0, OWN))
    for number, (function, after) in enumerate(hooks):
        guest.write(frame, struct.pack("<QQQQ", after, 0, HEADS + 8, function), 0x100 + number * STEP)
    return guest, Kernel(guest.space(), profile)


LISTS: dict[str, tuple[tuple[tuple[int, int], ...], set[str]]] = {
    "as it should be": (((FIRST, OWN + STEP), (SECOND, 0)), set()),
    "a function that no module has": (((FIRST, OWN + STEP), (TEXT_AT + 0x300, 0)), {"guest.hook.changed"}),
    "a function outside": (((FIRST, OWN + STEP), (0xFFFFFFFFC0000000, 0)), {"guest.hook.changed"}),
    "one that is taken off": (((FIRST, 0), (SECOND, 0)), {"guest.hook.missing"}),
}


@pytest.mark.parametrize("fault", LISTS)
def test_lists(fault: str) -> None:
    hooks, codes = LISTS[fault]
    _, kernel = listed(*hooks)
    assert {finding.code for finding in Hooks(kernel.profile).check(kernel)} == codes


def test_a_hook_on_the_list_of_another() -> None:
    guest, kernel = listed((FIRST, OWN + STEP), (SECOND, 0))
    guest.write(kernel.space.frame(DATA_AT), struct.pack("<Q", HEADS), 0x100 + STEP + 16)
    assert {finding.code for finding in Hooks(kernel.profile).check(kernel)} == {"guest.hook.changed"}


def test_a_list_in_a_circle() -> None:
    _, kernel = listed((FIRST, OWN + STEP), (SECOND, OWN))
    with pytest.raises(GuestMemoryError) as error:
        list(Hooks(kernel.profile).check(kernel))
    assert error.value.code in ("guest.list.endless", "guest.memory.limit")
