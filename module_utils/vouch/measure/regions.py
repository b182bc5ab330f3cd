# SPDX-License-Identifier: GPL-3.0-or-later
"""The kernel's text and read-only data: the right bytes, in the same frames, behind the same page tables.

At first everything is explained by the profile, patch site by patch site (``check.kerneltext``). What was explained is
kept as a copy, and each later round compares bytes with it, which costs a tenth; only pages that differ are explained
anew, since the kernel patches itself while it runs. Most patch sites are written once, while it boots; of those only
jump labels and static calls may change later. Those the kernel writes in steps, a trap first, and may be stopped in the
midst of it: ``unfinished`` says when that alone explains what was found. A copy of the page tables that lead there,
from the topmost down, shows that what the processor executes is what was compared.

Source: docs/introspection.md, "Text"; Intel SDM, volume 3, 4.5.
"""

from __future__ import annotations

import struct
from bisect import bisect_left
from collections.abc import Iterator, Sequence

from ..check.kerneltext import RegionCheck, changed_pages
from ..model.codeform import REASONS
from ..model.finding import Finding
from ..model.kernelprofile import RODATA, Profile
from .memory import PAGE_BYTES, GuestMemoryError, Mapped
from .pages import ACCESSED, DIRTY, ENTRIES, FRAME_MASK, LARGE, NO_EXECUTE, PRESENT, WRITABLE, AddressSpace, Frames

SOURCE = "docs/introspection.md, text"
CHUNK_PAGES = 512
TABLE_MASK = int.from_bytes(struct.pack("<Q", ~(ACCESSED | DIRTY) & (1 << 64) - 1) * ENTRIES, "little")
"""Clears what the processor itself writes into page tables."""

LATER = frozenset(REASONS.index(name) for name in ("jump label", "static call", "trampoline", "several"))
"""Why a kernel that is up still writes into its code; "several" are trampolines of static calls, with their return."""


def masked(page: memoryview) -> int:
    """Return a page table as one number, accessed and dirty bits cleared."""
    return int.from_bytes(page, "little") & TABLE_MASK


TRAP = 0xCC
NOTHING = {2: b"\x66\x90", 5: b"\x0f\x1f\x44\0\0"}
"""What stands at a site that does nothing, by its length."""


class Region:
    """One region of the kernel image.

    Args:
        profile: What it must hold.
        name: ``text`` or ``rodata``.
    """

    __slots__ = (
        "_chunks", "_frames", "_made", "_path", "_profile", "_region", "_snapshot", "_tables", "name", "unfinished",
    )  # fmt: skip

    def __init__(self, profile: Profile, name: str) -> None:
        self._profile = profile
        self._region = profile.regions[name]
        self._made: RegionCheck | None = None
        self._chunks: list[Mapped] = []
        self._frames: list[int] = []
        self._snapshot = bytearray()
        self._tables: dict[int, int] = {}
        self._path: dict[tuple[int, int], int] = {}
        self.name = name
        self.unfinished = False
        """Whether what was found last is as it is while the kernel writes a patch; it has to be gone soon."""

    @property
    def _check(self) -> RegionCheck:
        """What explains it; made when it is needed, since a launch does not and making it takes an emulated second."""
        if self._made is None:
            self._made = RegionCheck(self._profile, self.name, live=True)
        return self._made

    def settle(self, space: AddressSpace, frames: Frames) -> tuple[Finding, ...]:
        """Explain everything, and remember it; ``check`` holds later rounds against it.

        This takes a second, or many on an emulated processor, so the guest may run meanwhile: what it changes in that
        time is found by the next ``check``.

        Args:
            space: The kernel's address space.
            frames: Its memory.

        Raises:
            GuestMemoryError: a page is not mapped.
        """
        start, pages = self._region.start, self._region.pages
        self._frames = space.frames(start, pages)
        self._path, tables = _way(space, frames, start, pages)
        self._tables = {frame: masked(frames.page(frame)) for frame in tables}
        self.renew(frames)
        self._snapshot = bytearray(b"".join(bytes(chunk.view) for chunk in self._chunks))
        findings = self._check.check(memoryview(self._snapshot)[: self._region.size_bytes])
        self.unfinished = bool(findings) and self._under_way(self._snapshot, None)
        return findings

    def renew(self, frames: Frames) -> None:
        """Map the frames anew: a guest could give their numbers another meaning."""
        for chunk in self._chunks:
            chunk.close()
        self._chunks = []
        for at in range(0, len(self._frames), CHUNK_PAGES):
            self._chunks.append(frames.region(self._frames[at : at + CHUNK_PAGES]))

    def changed(self, frames: Frames) -> bool:
        """Say whether page tables or bytes are others than in the last round, whatever the reason."""
        if any(True for _ in self._remapped(frames)):
            return True
        size = CHUNK_PAGES * PAGE_BYTES
        return not all(chunk.same(self._snapshot, number * size) for number, chunk in enumerate(self._chunks))

    def check(self, frames: Frames) -> tuple[Finding, ...]:
        """Return findings on the page tables, and on what changed since the last round; the guest stands still."""
        found = [
            self._finding("guest.text.remapped", f"the page tables of {self.name}", f"table {frame:#x} changed")
            for frame in self._remapped(frames)
        ]
        self.unfinished = False
        now = bytearray(b"".join(bytes(chunk.view) for chunk in self._chunks))
        pages = list(changed_pages(self._snapshot, now))
        explained = self._explain(now, pages) if pages else ()
        self.unfinished = self.unfinished and not found
        return (*found, *explained)

    def _explain(self, now: bytearray, pages: Sequence[int]) -> tuple[Finding, ...]:
        """Return what the profile does not explain of some pages; keep them when all of it is explained."""
        if self.name == RODATA:
            # It was written while the kernel booted; nothing writes it afterwards.
            address = self._region.start + pages[0] * PAGE_BYTES
            what = f"{len(pages)} pages changed, the first at {address:#x}"
            return (self._finding("guest.rodata.changed", "data as they were", what),)
        findings = self._check.check(memoryview(now)[: self._region.size_bytes], pages)
        self.unfinished = bool(findings) and self._under_way(now, pages)
        late = [] if findings else [page for page in pages if self._written_late(now, page)]
        if late:
            address = self._region.start + late[0] * PAGE_BYTES
            what = f"{len(late)} pages with others, the first at {address:#x}"
            return (self._finding("guest.text.changed", "patches as they were once the kernel was up", what),)
        if not findings:
            self._snapshot = now
        return findings

    def _under_way(self, content: bytearray, pages: Sequence[int] | None) -> bool:
        """Say whether all that is wrong are sites that begin with a trap, as the kernel writes it there at first.

        Source: Linux 6.12, arch/x86/kernel/alternative.c (text_poke_bp_batch).
        """
        mended = bytearray(content)
        region, wanted = self._region, None if pages is None else set(pages)
        for offset, index in zip(region.site_offsets, region.site_sets, strict=True):
            if content[offset] != TRAP or self._profile.reason(index) not in LATER:
                continue
            if wanted is None or offset // PAGE_BYTES in wanted:
                length = self._profile.form_set(index).length
                end = offset + length
                known = self._snapshot[offset] != TRAP
                mended[offset:end] = self._snapshot[offset:end] if known else NOTHING.get(length, b"\x90" * length)
        if mended == content or (pages and any(self._written_late(mended, page) for page in pages)):
            return False
        return not self._check.check(memoryview(mended)[: region.size_bytes], pages)

    def _written_late(self, now: bytearray, page: int) -> bool:
        """Say whether a page changed anywhere but at the sites that a kernel that is up may still write."""
        start, end = page * PAGE_BYTES, min((page + 1) * PAGE_BYTES, self._region.size_bytes)
        before, after = self._snapshot[start:end], now[start:end]
        offsets, sets = self._region.site_offsets, self._region.site_sets
        # A site may reach in from the page before.
        for site in range(max(bisect_left(offsets, start) - 1, 0), bisect_left(offsets, end)):
            if self._profile.reason(sets[site]) in LATER:
                low = max(offsets[site] - start, 0)
                high = min(offsets[site] + self._profile.form_set(sets[site]).length - start, end - start)
                if low < high:
                    before[low:high] = after[low:high]
        return before != after

    def _remapped(self, frames: Frames) -> Iterator[int]:
        """Yield the frame of each page table that leads elsewhere now."""
        for (frame, index), entry in self._path.items():
            if _entry(frames, frame, index) != entry:
                yield frame
        for frame, table in self._tables.items():
            if masked(frames.page(frame)) != table:
                yield frame

    def _finding(self, code: str, expected: str, actual: str) -> Finding:
        return Finding.deny(code, f"kernel {self.name}", expected, actual, source=SOURCE)


def _way(space: AddressSpace, frames: Frames, start: int, pages: int) -> tuple[dict[tuple[int, int], int], set[int]]:
    """Return how the processor gets to a region: entries of the two upper levels, frames of the tables below them.

    Of the upper tables only those entries count, since the kernel adds others; the lower ones hold nothing but the
    kernel's image.
    """
    path: dict[tuple[int, int], int] = {}
    tables: set[int] = set()
    for at in range(0, pages, ENTRIES):
        address = start + at * PAGE_BYTES
        table = space.root
        for shift in (39, 30, 21):
            index = address >> shift & (ENTRIES - 1)
            entry = _entry(frames, table, index)
            if not entry & PRESENT:
                raise GuestMemoryError(f"{address:#x} is not mapped", code="guest.memory.unmapped")
            if shift == 21:
                tables.add(table)
            else:
                path[table, index] = entry
            if shift < 39 and entry & LARGE:
                break
            table = (entry & FRAME_MASK) >> 12
        else:
            tables.add(table)
    return path, tables


def _entry(frames: Frames, frame: int, index: int) -> int:
    (entry,) = struct.unpack_from("<Q", frames.page(frame), index * 8)
    return int(entry) & ~(ACCESSED | DIRTY)


def writable_and_executable(page: memoryview, *, leaf: bool) -> int:
    """Return a number with bit 64*n set for each entry n of a table that maps a page both writable and executable.

    Args:
        page: A page table.
        leaf: Whether every present entry maps a page; else only those that are large.
    """
    table = int.from_bytes(page, "little")
    found = table & table >> _bit(WRITABLE) & _ONES & ~(table >> _bit(NO_EXECUTE))
    return found if leaf else found & table >> _bit(LARGE)


def executable(page: memoryview, *, leaf: bool) -> int:
    """Return a number with bit 64*n set for each entry n of a table that maps an executable page."""
    table = int.from_bytes(page, "little")
    found = table & _ONES & ~(table >> _bit(NO_EXECUTE))
    return found if leaf else found & table >> _bit(LARGE)


_ONES = int.from_bytes(struct.pack("<Q", 1) * ENTRIES, "little")


def ones() -> int:
    """Return the number with bit 64*n set for each entry n of a table."""
    return _ONES


def _bit(flag: int) -> int:
    return flag.bit_length() - 1
