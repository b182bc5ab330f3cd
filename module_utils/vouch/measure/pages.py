# SPDX-License-Identifier: GPL-3.0-or-later
"""Virtual addresses of a guest: page walks and reads, each within bounds.

Pages stay mapped for the rounds to come, since mapping one costs more than reading it. A mapping is of a frame: the
walk that leads to the frame is done anew in every round, so a page that the guest moved is read where it is now. The
frames of a PVH guest are numbers that the guest itself can give another meaning (by its physmap), so there ``renew``
drops every mapping, and the measurer calls it often.

Source: Intel SDM, volume 3, 4.5 (4-level paging); Linux 6.12, Documentation/arch/x86/x86_64/mm.rst.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Sequence

from .memory import PAGE_BYTES, GuestMemory, GuestMemoryError, Mapped

PRESENT, WRITABLE, LARGE = 1, 2, 1 << 7
ACCESSED, DIRTY = 1 << 5, 1 << 6
NO_EXECUTE = 1 << 63
FRAME_MASK = 0x000F_FFFF_FFFF_F000
ENTRIES = 512
SHIFTS = (39, 30, 21, 12)

LOWEST_KERNEL = 0xFFFF_8000_0000_0000
HIGHEST = 0xFFFF_FFFF_FFFF_FFFF
MAX_KEPT_PAGES = 8192
"""32 MiB of address space in the watcher, no memory: the pages are the guest's."""

MAX_READ_BYTES = 4 << 20
LIMIT = "guest.memory.limit"


class Budget:
    """How much one round may do. A guest that wants more than an honest one ever needs is refused.

    Args:
        steps: Pages looked up and list items walked.
        deadline_s: On the clock of ``monotonic_s``.
    """

    __slots__ = ("_deadline_s", "_left", "_monotonic_s")

    def __init__(self, steps: int, deadline_s: float, monotonic_s: Callable[[], float]) -> None:
        self._left = steps
        self._deadline_s = deadline_s
        self._monotonic_s = monotonic_s

    def spend(self, steps: int = 1) -> None:
        """Take ``steps``.

        Raises:
            GuestMemoryError: ``guest.memory.limit``: none is left, or the time is over.
        """
        self._left -= steps
        if self._left < 0:
            raise GuestMemoryError("the guest's data lead on without end", code=LIMIT)
        if self._left % 256 < steps and self._monotonic_s() > self._deadline_s:
            raise GuestMemoryError("the guest's data take too long to read", code=LIMIT)


class Frames:
    """Frames of the guest, mapped when they are first asked for, and kept.

    Args:
        memory: The guest.
    """

    __slots__ = ("_kept", "_memory")

    def __init__(self, memory: GuestMemory) -> None:
        self._memory = memory
        self._kept: dict[int, tuple[Mapped, memoryview]] = {}

    def page(self, frame: int) -> memoryview:
        """Return the 4,096 bytes of a frame."""
        kept = self._kept.get(frame)
        if kept is None:
            if len(self._kept) >= MAX_KEPT_PAGES:
                self.renew()
            mapped = self._memory.map((frame,))
            kept = self._kept[frame] = (mapped, mapped.view)
        return kept[1]

    def region(self, frames: Sequence[int]) -> Mapped:
        """Return one mapping of many frames; the caller closes it."""
        return self._memory.map(frames)

    def renew(self) -> None:
        """Let go of every page: each is mapped anew when it is asked for."""
        for mapped, _ in self._kept.values():
            mapped.close()
        self._kept.clear()


class AddressSpace:
    """The guest's kernel as its page tables show it.

    Args:
        frames: Its memory.
        root: Frame of the topmost table.
        budget: Of this round; assign another for the next.
    """

    __slots__ = ("_entries", "_frames", "_pages", "budget", "root")

    def __init__(self, frames: Frames, root: int, budget: Budget) -> None:
        self._frames = frames
        self.root = root
        self.budget = budget
        self._pages: dict[int, memoryview] = {}
        self._entries: dict[tuple[int, int], int] = {}

    def forget(self) -> None:
        """Forget every walk: the next read does it anew."""
        self._pages.clear()
        self._entries.clear()

    def entry(self, address: int) -> tuple[int, int]:
        """Return the last page-table entry on the way to ``address``, and the shift of its level (12, 21 or 30).

        Raises:
            GuestMemoryError: ``guest.memory.unmapped``, ``guest.memory.limit``.
        """
        _, found, shift = self._walk(address)
        return found, shift

    def _walk(self, address: int) -> tuple[int, int, int]:
        """Return the frame of the last table on the way to ``address``, the entry in it, and the shift of its level."""
        if not LOWEST_KERNEL <= address <= HIGHEST:
            raise GuestMemoryError(f"{address:#x} is no address of a kernel", code="guest.memory.unmapped")
        frame = self.root
        for shift in SHIFTS:
            key = (frame, address >> shift & (ENTRIES - 1))
            found = self._entries.get(key)
            if found is None:
                self.budget.spend()
                (found,) = struct.unpack_from("<Q", self._frames.page(frame), key[1] * 8)
                self._entries[key] = found
            if not found & PRESENT:
                raise GuestMemoryError(f"{address:#x} is not mapped", code="guest.memory.unmapped")
            if shift == 12 or (shift < 39 and found & LARGE):
                return frame, found, shift
            frame = (found & FRAME_MASK) >> 12
        raise AssertionError("a walk has four levels")

    def frame(self, address: int) -> int:
        """Return the frame behind ``address``; raises as ``entry``."""
        entry, shift = self.entry(address)
        inside = (address & ((1 << shift) - 1)) >> 12
        return ((entry & FRAME_MASK) >> 12 & ~((1 << shift - 12) - 1)) + inside

    def frames(self, address: int, pages: int) -> list[int]:
        """Return the frames behind so many pages in a row, each table read once; raises as ``entry``."""
        numbers: list[int] = []
        while len(numbers) < pages:
            at = address + len(numbers) * PAGE_BYTES
            left = pages - len(numbers)
            table, _, shift = self._walk(at)
            index = at >> 12 & ((1 << shift - 12) - 1 if shift > 12 else ENTRIES - 1)
            if shift > 12:
                count = min((1 << shift - 12) - index, left)
                first = self.frame(at)
                numbers += range(first, first + count)
            else:
                count = min(ENTRIES - index, left)
                entries = struct.unpack_from(f"<{count}Q", self._frames.page(table), index * 8)
                if not all(found & PRESENT for found in entries):
                    missing = next(number for number, found in enumerate(entries) if not found & PRESENT)
                    raise GuestMemoryError(
                        f"{at + missing * PAGE_BYTES:#x} is not mapped", code="guest.memory.unmapped"
                    )
                numbers += [(found & FRAME_MASK) >> 12 for found in entries]
            self.budget.spend(count)
        return numbers

    def page(self, address: int) -> memoryview:
        """Return the page that ``address`` is in; raises as ``entry``."""
        number = address >> 12
        page = self._pages.get(number)
        if page is None:
            page = self._pages[number] = self._frames.page(self.frame(address))
        return page

    def read(self, address: int, size_bytes: int) -> bytes:
        """Return ``size_bytes`` at ``address``; raises as ``entry``."""
        inside = address & (PAGE_BYTES - 1)
        if 0 <= size_bytes <= PAGE_BYTES - inside:
            return bytes(self.page(address)[inside : inside + size_bytes])
        if not 0 <= size_bytes <= MAX_READ_BYTES:
            raise GuestMemoryError(f"{size_bytes} bytes at {address:#x} are too many", code=LIMIT)
        # What is read again costs no walk, but time.
        self.budget.spend(size_bytes // PAGE_BYTES)
        parts = []
        while size_bytes:
            inside = address & (PAGE_BYTES - 1)
            count = min(size_bytes, PAGE_BYTES - inside)
            parts.append(self.page(address)[inside : inside + count])
            address, size_bytes = address + count, size_bytes - count
        return b"".join(parts)

    def u64(self, address: int) -> int:
        """Return a word; raises as ``entry``."""
        inside = address & (PAGE_BYTES - 1)
        if inside > PAGE_BYTES - 8:
            return int.from_bytes(self.read(address, 8), "little")
        return int(struct.unpack_from("<Q", self.page(address), inside)[0])

    def unsigned(self, address: int, size_bytes: int) -> int:
        """Return an unsigned number of 1, 2, 4 or 8 bytes; raises as ``entry``."""
        return int.from_bytes(self.read(address, size_bytes), "little")

    def text(self, address: int, limit_bytes: int) -> str:
        """Return the string at ``address`` up to its NUL, at most ``limit_bytes`` long; raises as ``entry``."""
        parts = []
        while limit_bytes > 0:
            count = min(limit_bytes, PAGE_BYTES - (address & (PAGE_BYTES - 1)))
            piece = self.read(address, count)
            end = piece.find(b"\0")
            parts.append(piece if end < 0 else piece[:end])
            if end >= 0:
                return b"".join(parts).decode("ascii", "replace")
            address, limit_bytes = address + count, limit_bytes - count
        raise GuestMemoryError("a string without end", code=LIMIT)
