# SPDX-License-Identifier: GPL-3.0-or-later
"""Page tables of the guest's kernel half: nothing both writable and executable, nothing executable that is unknown.

That is where a hidden module shows, whatever lists it was taken out of: its code is executable, and nobody's.

1. No page of the kernel's half is writable and executable.
2. Each executable page is of the kernel's text, of a listed module, or of what the kernel itself makes: BPF programs
   (in their packs) and the code that starts other processors. In the entry area and among the fixed mappings (one of
   them is the page of old system calls) there may be more when the guest is settled, but none that comes later.
3. The kernel's half is the same for every processor and every process: the kernel shares it among all address spaces.

Source: Intel SDM, volume 3, 4.5; Linux 6.12, Documentation/arch/x86/x86_64/mm.rst.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator

from ..model.finding import Finding
from ..model.kernelprofile import Profile
from .kernel import Kernel
from .memory import PAGE_BYTES, PV, GuestMemoryError
from .pages import ACCESSED, DIRTY, ENTRIES, FRAME_MASK, PRESENT, AddressSpace, Frames
from .regions import executable, ones, writable_and_executable

SOURCE = "docs/introspection.md, page tables"
KERNEL_HALF = 256
TEXT_SLOT = 511
"""Of the topmost table: the kernel image and its modules."""

XEN_SLOTS = range(256, 272)
"""Xen's own part of a PV guest's tables (public/arch-x86/xen-x86_64.h, HYPERVISOR_VIRT_START to _END)."""

LDT_SLOT = 272
"""The local descriptor table, which each process has of its own."""

ENTRY_AREA = (0xFFFF_FE00_0000_0000, 0xFFFF_FE80_0000_0000)
FIXMAP = (0xFFFF_FFFF_FF00_0000, 1 << 64)
DIRECT_MAP = 0xFFFF_8880_0000_0000
"""Where a kernel that does not move itself maps all memory (Documentation/arch/x86/x86_64/mm.rst)."""

BUILDER_EXTRA_BYTES = 1 << 19
MAX_TABLES = 65_536
MAX_SHOWN = 4
MAX_PACKS = 64
PACK_BYTES = 2 << 20
"""BPF_PROG_PACK_SIZE on a machine of one node (kernel/bpf/core.c)."""

Range = tuple[int, int]
"""First address, and the one behind the last."""


class Executables:
    """Ranges of addresses that may be executable, and what else was executable when the guest was settled.

    Xen's builder maps what it gives to a PV guest both writable and executable, and Linux keeps that mapping as the
    lowest part of its map of all memory. So there such pages exist; they may become fewer, never more.

    Args:
        builder: Where the builder's own mapping may have left such pages; empty for a PVH guest.
    """

    __slots__ = ("_builder", "_first", "_ranges", "_settled", "_settling")

    def __init__(self, builder: Range = (0, 0)) -> None:
        self._ranges: list[Range] = []
        self._builder = builder
        self._settled: dict[tuple[int, int], int] = {}
        self._first: dict[tuple[int, int], int] = {}
        self._settling = True

    def settle(self) -> None:
        """From now on no page may become executable outside of the ranges, nor writable besides."""
        self._settling = False

    def allow(self, ranges: Iterable[Range]) -> None:
        """Set what may be executable."""
        self._ranges = sorted((*ranges, self._builder))

    def unknown(self, bits: int, shift: int, base: int) -> int:
        """Return those of a table's executable entries that are outside every range, and were not there at first."""
        for first, last in self._ranges:
            bits &= ~_span(first, last, shift, base)
        if not bits:
            return 0
        at_first = bits & (_span(*ENTRY_AREA, shift, base) | _span(*FIXMAP, shift, base))
        if self._settling and at_first:
            self._first[base, shift] = at_first
        return bits & ~(at_first & self._first.get((base, shift), 0))

    def new(self, bits: int, shift: int, base: int) -> int:
        """Return those of a table's writable and executable entries that nothing excuses."""
        excused = bits & _span(*self._builder, shift, base)
        if self._settling and excused:
            self._settled[base, shift] = excused
        return bits & ~(excused & self._settled.get((base, shift), 0))


def _span(first: int, last: int, shift: int, base: int) -> int:
    """Return bit 64*n set for each entry n of a table that maps pages within a range only."""
    begin = max(0, -(-(first - base) >> shift))
    end = min(ENTRIES, last - base >> shift)
    return _ONES & ((1 << 64 * end) - (1 << 64 * begin)) if begin < end else 0


def builder_range(profile: Profile) -> tuple[int, int]:
    """Return where the mapping of Xen's builder lies in the kernel's map of all memory.

    It holds the kernel and, behind it, half a MiB of other things, rounded up to 4 MiB (public/xen.h, "Start-of-day
    memory layout").
    """
    end = max(segment.physical + segment.size_bytes for segment in profile.segments)
    return DIRECT_MAP, DIRECT_MAP + (end + BUILDER_EXTRA_BYTES + 0x3F_FFFF & ~0x3F_FFFF)


def generated(kernel: Kernel) -> Iterator[Range]:
    """Yield where the kernel keeps code that it made itself: compiled BPF programs, and what starts other processors.

    Raises:
        GuestMemoryError: a list cannot be read.
    """
    if kernel.has("pack_list"):
        for pack in kernel.entries(kernel.symbol("pack_list"), "bpf_prog_pack.list", limit=MAX_PACKS):
            first = kernel.pointer(pack, "bpf_prog_pack.ptr")
            yield first, first + PACK_BYTES
    if kernel.has("real_mode_header"):
        first = kernel.space.u64(kernel.symbol("real_mode_header"))
        size = kernel.symbol("real_mode_blob_end") - kernel.symbol("real_mode_blob")
        if first:
            yield first, first + (size + PAGE_BYTES - 1 & ~(PAGE_BYTES - 1))


def check_tables(space: AddressSpace, frames: Frames, kind: str, known: Executables) -> Iterator[Finding]:
    """Yield findings on every table of the kernel's half (rules 1 and 2); the guest stands still.

    Raises:
        GuestMemoryError: a table cannot be read, or there are too many of them.
    """
    tables = _Tables(space, frames, kind)
    told = 0
    # (frame, shift of its entries, first address): a table with code is looked at wherever it is mapped.
    waiting = [(space.root, 39, 0)]
    while waiting:
        frame, shift, base = waiting.pop()
        own, below = tables.look(frame, shift)
        space.budget.spend()
        if own:
            writable = writable_and_executable(frames.page(frame), leaf=shift == 12)
            both, other = known.new(writable, shift, base), known.unknown(own, shift, base)
            if both or other:
                # One of a table is enough to know, and a few tables: a guest could have us tell of millions.
                if told == MAX_SHOWN:
                    return
                told += 1
                if both:
                    yield _finding("guest.page.writable-executable", "no such page", _told(both, shift, base))
                else:
                    yield _finding("guest.page.executable", "a page of known code", _told(other, shift, base))
        high = 0xFFFF_0000_0000_0000 if shift == 39 else 0
        waiting += [(table, shift - 9, base | index << shift | high) for index, table in below]


class _Tables:
    """Which tables lead to code. Each is read once for each level that it is used at, however often it is mapped."""

    def __init__(self, space: AddressSpace, frames: Frames, kind: str) -> None:
        self._space, self._frames = space, frames
        self._skipped = frozenset((*range(KERNEL_HALF), *(XEN_SLOTS if kind == PV else ())))
        self._known: dict[tuple[int, int], tuple[int, tuple[tuple[int, int], ...]]] = {}

    def look(self, frame: int, shift: int) -> tuple[int, tuple[tuple[int, int], ...]]:
        """Return the executable entries of a table (bit 64*n), and index and frame of those below that lead to some."""
        found = self._known.get((frame, shift))
        if found is not None:
            return found
        if len(self._known) >= MAX_TABLES:
            raise GuestMemoryError("the page tables have no end", code="guest.list.endless")
        self._space.budget.spend(4)
        page = self._frames.page(frame)
        if shift == 12:
            found = (executable(page, leaf=True), ())
        else:
            own = 0 if shift == 39 else executable(page, leaf=False)
            found = (own, tuple(item for item in self._below(page, shift) if any(self.look(item[1], shift - 9))))
        self._known[frame, shift] = found
        return found

    def _below(self, page: memoryview, shift: int) -> Iterator[tuple[int, int]]:
        table = int.from_bytes(page, "little")
        # Most tables of the last but one level map large pages only.
        found = table & _ONES if shift == 39 else table & _ONES & ~(table >> 7)
        words = memoryview(page).cast("Q")
        while found:
            low = found & -found
            index = low.bit_length() - 1 >> 6
            found ^= low
            if shift != 39 or index not in self._skipped:
                yield index, (words[index] & FRAME_MASK) >> 12


def check_roots(frames: Frames, reference: int, roots: Iterable[int], kind: str) -> Iterator[Finding]:
    """Yield findings on topmost tables (rule 3).

    Args:
        frames: The guest's memory.
        reference: Frame of the kernel's own topmost table.
        roots: Frames of those of processors or processes.
        kind: ``pv`` or ``pvh``.
    """
    wanted = _entries(frames, reference)
    for root in roots:
        entries = wanted if root == reference else _entries(frames, root)
        if entries == wanted:
            continue
        for index, (expected, found) in enumerate(zip(wanted, entries, strict=True), KERNEL_HALF):
            if index == LDT_SLOT or (kind == PV and index in XEN_SLOTS):
                continue
            # What the kernel added since this address space was made may be missing, but never be another.
            if found != expected and (found & PRESENT or index == TEXT_SLOT):
                yield _finding("guest.page.root", f"slot {index}: {expected:#x}", f"{found:#x}")
                break


def _entries(frames: Frames, root: int) -> tuple[int, ...]:
    data = bytes(frames.page(root)[8 * KERNEL_HALF :])
    return tuple(entry & ~(ACCESSED | DIRTY) for (entry,) in struct.iter_unpack("<Q", data))


def _told(bits: int, shift: int, base: int) -> str:
    first = (bits & -bits).bit_length() - 1 >> 6
    return f"{base | first << shift:#x}, one of {bits.bit_count()} of {1 << shift} bytes"


def _finding(code: str, expected: str, actual: str) -> Finding:
    return Finding.deny(code, "page tables", expected, actual, source=SOURCE)


_ONES = ones()
assert ENTRIES == 2 * KERNEL_HALF
