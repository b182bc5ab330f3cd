# SPDX-License-Identifier: GPL-3.0-or-later
"""Text and read-only data of a running kernel: the right bytes, behind the page tables that were there at first."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from ansible.module_utils.vouch.measure.memory import GuestMemoryError
from ansible.module_utils.vouch.measure.pages import ACCESSED, Frames
from ansible.module_utils.vouch.measure.regions import Region, executable, writable_and_executable

from sim import kernelprofile as sim
from sim.tinyguest import CODE, DATA, READ_ONLY, TABLE, TinyGuest

PROFILE = sim.profile()


class Kernel:
    """The tiny kernel in a guest's memory, judged once."""

    def __init__(self, kind: str = "pvh", name: str = "text") -> None:
        self.guest = TinyGuest(kind)
        self.start = sim.TEXT_AT if name == "text" else sim.RODATA_AT
        content = bytes(sim.text() if name == "text" else sim.rodata())
        self.pages = [
            self.guest.place(self.start + at, CODE if name == "text" else READ_ONLY, content[at : at + 4096])
            for at in range(0, len(content), 4096)
        ]
        self.frames, self.region = Frames(self.guest), Region(PROFILE, name)
        assert self.region.settle(self.guest.space(), self.frames) == ()

    def put(self, at: int, content: bytes) -> None:
        """Write into the region."""
        self.guest.write(self.pages[at // 4096], content, at % 4096)

    def codes(self) -> set[str]:
        """Return the codes of a round."""
        if not self.region.changed(self.frames):
            assert self.region.check(self.frames) == ()
            return set()
        return {finding.code for finding in self.region.check(self.frames)}


@pytest.mark.parametrize("kind", ["pvh", "pv"])
def test_nothing_changed(kind: str) -> None:
    assert Kernel(kind).codes() == set()


def test_one_byte_of_text() -> None:
    kernel = Kernel()
    kernel.put(0x1234, b"\xcc")
    assert kernel.codes() == {"guest.text.changed"}
    assert kernel.codes() == {"guest.text.changed"}


LATER: dict[str, tuple[int, bytes]] = {
    "a jump label": (sim.LABEL, b"\xeb\x1e"),
    "a static call": (sim.CALL, sim.branch(0xE8, sim.CALL, sim.OTHER)),
}


@pytest.mark.parametrize("site", LATER)
def test_what_a_kernel_that_is_up_may_write(site: str) -> None:
    kernel = Kernel()
    kernel.put(*LATER[site])
    assert kernel.region.changed(kernel.frames)
    assert kernel.codes() == set()
    assert not kernel.region.changed(kernel.frames)


LATE: dict[str, tuple[int, bytes]] = {
    "a lock prefix": (sim.LOCK, b"\x3e"),
    "an alternative": (sim.SPAN, b"\x66\x90" * 6),
    "a return over the end of a page": (sim.CROSSING, sim.branch(0xE9, sim.CROSSING, sim.TARGET)),
}


@pytest.mark.parametrize("site", LATE)
def test_what_only_a_kernel_that_starts_may_write(site: str) -> None:
    """All of it is in a form that the profile allows."""
    kernel = Kernel()
    at, content = LATE[site]
    for number, byte in enumerate(content):
        kernel.put(at + number, bytes([byte]))
    assert kernel.codes() == {"guest.text.changed"}


UNDER_WAY: dict[str, tuple[dict[int, bytes], bool]] = {
    "a trap at a jump label": ({sim.LABEL: b"\xcc"}, True),
    "traps at two sites": ({sim.LABEL: b"\xcc\x1e", sim.CALL: b"\xcc"}, True),
    "a trap at a site of the start": ({sim.LOCK: b"\xcc"}, False),
    "a trap where no site is": ({0x1234: b"\xcc"}, False),
    "a trap at a jump label, and something else": ({sim.LABEL: b"\xcc", 0x1234: b"\xcc"}, False),
    "a trap at a jump label, and a late patch": ({sim.LABEL: b"\xcc", sim.LOCK: b"\x3e"}, False),
}


@pytest.mark.parametrize("change", UNDER_WAY)
def test_a_patch_under_way(change: str) -> None:
    """It is found like everything else, but known for what it may be, and gone when the kernel goes on."""
    kernel = Kernel()
    content = bytes(sim.text())
    writes, unfinished = UNDER_WAY[change]
    for at, data in writes.items():
        kernel.put(at, data)
    assert kernel.codes() == {"guest.text.changed"}
    assert kernel.region.unfinished is unfinished
    for at, data in writes.items():
        kernel.put(at, content[at : at + len(data)])
    assert kernel.codes() == set()
    assert kernel.region.check(kernel.frames) == ()
    assert not kernel.region.unfinished


def test_a_patch_under_way_at_first() -> None:
    kernel = Kernel()
    kernel.put(sim.LABEL, b"\xcc")
    region = Region(PROFILE, "text")
    assert [finding.code for finding in region.settle(kernel.guest.space(), kernel.frames)] == ["guest.text.changed"]
    assert region.unfinished
    kernel.put(0x1234, b"\xcc")
    assert region.settle(kernel.guest.space(), kernel.frames)
    assert not region.unfinished


def test_read_only_data_stay() -> None:
    kernel = Kernel(name="rodata")
    kernel.put(0xC00, b"later")
    assert kernel.codes() == {"guest.rodata.changed"}


def move_page(kernel: Kernel) -> None:
    guest = kernel.guest
    copy = guest.take()
    guest.write(copy, bytes(guest.ram[guest.at(kernel.pages[0]) : guest.at(kernel.pages[0]) + 4096]))
    guest.set_entry(*guest.tables(kernel.start), copy << 12 | CODE)


def make_writable(kernel: Kernel) -> None:
    table, index = kernel.guest.tables(kernel.start)
    kernel.guest.set_entry(table, index, kernel.guest.entry(table, index) | 2)


def move_table(level: int) -> Callable[[Kernel], None]:
    """Return a change of the entry at ``level`` (21, 30, 39): a copy of the table below, the same but for a page."""

    def change(kernel: Kernel) -> None:
        guest = kernel.guest
        table, index = guest.tables(kernel.start, last=level)
        below = (guest.entry(table, index) & 0x000F_FFFF_FFFF_F000) >> 12
        copy = guest.take()
        guest.write(copy, bytes(guest.ram[guest.at(below) : guest.at(below) + 4096]))
        guest.set_entry(table, index, copy << 12 | TABLE)
        guest.place(kernel.start, CODE, b"\xcc" * 4096)

    return change


REMAPPED: dict[str, Callable[[Kernel], None]] = {
    "a page": move_page,
    "a page that can be written": make_writable,
    "the lowest table": move_table(21),
    "the table above": move_table(30),
    "the table below the topmost": move_table(39),
}


@pytest.mark.parametrize("fault", REMAPPED)
def test_other_page_tables(fault: str) -> None:
    kernel = Kernel()
    REMAPPED[fault](kernel)
    assert kernel.codes() == {"guest.text.remapped"}


def test_what_the_processor_writes_into_tables() -> None:
    kernel = Kernel()
    for level in (12, 21, 30, 39):
        table, index = kernel.guest.tables(kernel.start, last=level)
        kernel.guest.set_entry(table, index, kernel.guest.entry(table, index) ^ ACCESSED)
    assert kernel.codes() == set()


def test_a_frame_with_another_meaning() -> None:
    """A guest can give a frame number other memory; ``renew`` looks at what it means now."""
    kernel = Kernel()
    kernel.guest.gone.add(kernel.pages[1])
    with pytest.raises(GuestMemoryError):
        kernel.region.renew(kernel.frames)


def test_text_that_is_not_there() -> None:
    guest = TinyGuest()
    guest.place(sim.TEXT_AT, CODE)
    with pytest.raises(GuestMemoryError) as error:
        Region(PROFILE, "text").settle(guest.space(), Frames(guest))
    assert error.value.code == "guest.memory.unmapped"


def test_bits_of_a_table() -> None:
    table = bytearray(4096)
    for index, entry in {0: CODE, 3: CODE | 2, 5: DATA, 511: CODE | 2 | 0x80}.items():
        table[8 * index : 8 * index + 8] = entry.to_bytes(8, "little")
    view = memoryview(table)
    assert executable(view, leaf=True) == 1 | 1 << 3 * 64 | 1 << 511 * 64
    assert executable(view, leaf=False) == 1 << 511 * 64
    assert writable_and_executable(view, leaf=True) == 1 << 3 * 64 | 1 << 511 * 64
    assert writable_and_executable(view, leaf=False) == 1 << 511 * 64
