# SPDX-License-Identifier: GPL-3.0-or-later
"""Walks through page tables that a guest wrote: each within bounds of the guest, of steps and of time."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from ansible.module_utils.vouch.measure.memory import GuestMemoryError
from ansible.module_utils.vouch.measure.pages import (
    LARGE,
    MAX_KEPT_PAGES,
    MAX_READ_BYTES,
    PRESENT,
    AddressSpace,
    Budget,
    Frames,
)

from sim.tinyguest import CODE, DATA, TABLE, TinyGuest

HERE = 0xFFFFFFFF81000000


def code_of(error: pytest.ExceptionInfo[GuestMemoryError]) -> str:
    return error.value.code


@pytest.mark.parametrize("kind", ["pvh", "pv"])
def test_reads_over_the_end_of_a_page(kind: str) -> None:
    guest = TinyGuest(kind)
    guest.place(HERE, DATA, b"a" * 4096)
    guest.place(HERE + 4096, DATA, b"b" * 4096)
    assert guest.space().read(HERE + 4090, 12) == b"aaaaaabbbbbb"
    assert guest.space().u64(HERE + 4092) == int.from_bytes(b"aaaabbbb", "little")
    assert guest.space().read(HERE, 0) == b""


def test_a_large_page_has_the_frames_behind_its_first() -> None:
    guest = TinyGuest(frames=1200)
    guest.set_entry(*guest.tables(HERE, last=21), 512 << 12 | PRESENT | LARGE | 1 << 12)
    assert guest.space().frame(HERE + 5 * 4096) == 512 + 5


def test_a_page_of_1_gib() -> None:
    guest = TinyGuest()
    guest.set_entry(*guest.tables(HERE, last=30), PRESENT | LARGE)
    assert guest.space().frame(HERE + 4096) == (HERE >> 12 & 0x3FFFF) + 1


def test_many_frames_in_a_row_are_those_of_each_page() -> None:
    guest = TinyGuest(frames=2048)
    # Small pages over the end of their table, then a large one.
    begin = HERE + (1 << 21) - 3 * 4096
    for page in range(3):
        guest.place(begin + page * 4096, DATA, b"x")
    guest.set_entry(*guest.tables(HERE + (1 << 21), last=21), 512 << 12 | PRESENT | LARGE)
    space = guest.space()
    expected = [space.frame(begin + page * 4096) for page in range(5)]
    assert guest.space().frames(begin, 5) == expected
    assert expected[3:] == [512, 513]
    assert guest.space().frames(begin, 0) == []


def test_a_gap_in_a_row() -> None:
    guest = TinyGuest()
    for page in (0, 1, 3):
        guest.place(HERE + page * 4096, DATA, b"x")
    with pytest.raises(GuestMemoryError, match=f"{HERE + 2 * 4096:#x}") as caught:
        guest.space().frames(HERE, 4)
    assert code_of(caught) == "guest.memory.unmapped"


def test_a_row_costs_steps() -> None:
    guest = TinyGuest(frames=1200)
    guest.set_entry(*guest.tables(HERE, last=21), 512 << 12 | PRESENT | LARGE)
    space = guest.space()
    space.budget = Budget(100, float("inf"), lambda: 0.0)
    with pytest.raises(GuestMemoryError) as caught:
        space.frames(HERE, 512)
    assert code_of(caught) == "guest.memory.limit"


BROKEN = {
    "an address of programs": 0x400000,
    "an address that is none": 0x0000_9000_0000_0000,
    "an address behind the last": 1 << 64,
    "a page that is not there": HERE + 4096,
    "a table that is not there": HERE + (1 << 30),
}


@pytest.mark.parametrize("fault", BROKEN)
def test_unmapped(fault: str) -> None:
    guest = TinyGuest()
    guest.place(HERE, DATA)
    with pytest.raises(GuestMemoryError) as error:
        guest.space().read(BROKEN[fault], 8)
    assert code_of(error) == "guest.memory.unmapped"


def test_a_read_must_not_leave_the_address_space() -> None:
    guest = TinyGuest()
    guest.place((1 << 64) - 4096, DATA)
    with pytest.raises(GuestMemoryError) as error:
        guest.space().read((1 << 64) - 4, 8)
    assert code_of(error) == "guest.memory.unmapped"


def test_a_table_outside_of_the_guest() -> None:
    guest = TinyGuest()
    guest.set_entry(guest.root, HERE >> 39 & 511, 0xFFFF_FFFF << 12 | TABLE)
    with pytest.raises(GuestMemoryError) as error:
        guest.space().read(HERE, 8)
    assert code_of(error) == "guest.memory.unmapped"


def test_tables_that_are_each_other() -> None:
    """Four levels are four levels."""
    guest = TinyGuest()
    for index in range(512):
        guest.set_entry(guest.root, index, guest.root << 12 | TABLE)
    assert guest.space().frame(HERE) == guest.root


@pytest.mark.parametrize("size", [-1, MAX_READ_BYTES + 1, 4 << 30, 1 << 64])
def test_sizes_that_no_kernel_has(size: int) -> None:
    guest = TinyGuest()
    guest.place(HERE, DATA)
    with pytest.raises(GuestMemoryError) as error:
        guest.space().read(HERE, size)
    assert code_of(error) == "guest.memory.limit"


def test_a_string_without_end() -> None:
    guest = TinyGuest()
    guest.place(HERE, DATA, b"x" * 4096)
    guest.place(HERE + 4096, DATA, b"x" * 4096)
    with pytest.raises(GuestMemoryError) as error:
        guest.space().text(HERE, 5000)
    assert code_of(error) == "guest.memory.limit"


def test_a_string_over_the_end_of_a_page() -> None:
    guest = TinyGuest()
    guest.place(HERE, DATA, b"x" * 4096)
    guest.place(HERE + 4096, DATA, b"yz\0")
    assert guest.space().text(HERE + 4093, 100) == "xxxyz"


def test_steps_come_to_an_end() -> None:
    guest = TinyGuest()
    guest.place(HERE, DATA)
    space = guest.space(steps=3)
    with pytest.raises(GuestMemoryError) as error:
        space.read(HERE, 8)
    assert code_of(error) == "guest.memory.limit"


def test_reading_the_same_again_and_again_costs_steps() -> None:
    guest = TinyGuest()
    for page in range(4):
        guest.place(HERE + page * 4096, DATA)
    space = guest.space(steps=100)
    with pytest.raises(GuestMemoryError) as error:
        forever(lambda: space.read(HERE, 4 * 4096))
    assert code_of(error) == "guest.memory.limit"


def test_time_comes_to_an_end() -> None:
    clock = iter(range(1000))
    budget = Budget(100_000, 10.0, lambda: float(next(clock)))
    with pytest.raises(GuestMemoryError) as error:
        forever(budget.spend)
    assert code_of(error) == "guest.memory.limit"
    assert next(clock) < 20


def test_a_walk_is_done_anew_each_round() -> None:
    guest = TinyGuest()
    guest.place(HERE, DATA, b"old")
    space = guest.space()
    assert space.read(HERE, 3) == b"old"
    guest.place(HERE, DATA, b"new")
    assert space.read(HERE, 3) == b"old"
    space.forget()
    assert space.read(HERE, 3) == b"new"


def test_pages_stay_mapped_but_not_without_number() -> None:
    guest = TinyGuest()
    frame = guest.place(HERE, CODE)
    frames = Frames(guest)
    for _ in range(10):
        frames.page(frame)
    assert guest.mappings == 1
    many = Frames(Endless())
    for number in range(MAX_KEPT_PAGES + 10):
        many.page(number)
    assert len(many._kept) <= MAX_KEPT_PAGES


def test_a_page_that_vanishes() -> None:
    guest = TinyGuest()
    frame = guest.place(HERE, DATA)
    frames = Frames(guest)
    space = AddressSpace(frames, guest.root, Budget(100, 1.0, lambda: 0.0))
    space.read(HERE, 8)
    guest.gone.add(frame)
    frames.renew()
    space.forget()
    with pytest.raises(GuestMemoryError) as error:
        space.read(HERE, 8)
    assert code_of(error) == "guest.memory.unmapped"


def forever(what: Callable[[], object]) -> None:
    for _ in range(100_000):
        what()


class Endless(TinyGuest):
    """A guest that has every frame."""

    def at(self, frame: int) -> int:
        return 0
