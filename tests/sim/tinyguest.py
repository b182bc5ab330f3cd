# SPDX-License-Identifier: GPL-3.0-or-later
"""A guest of a few dozen frames with page tables of our own making, for the checks that need no whole kernel."""

from __future__ import annotations

import struct
from collections.abc import Sequence

from ansible.module_utils.vouch.measure.memory import PAGE_BYTES, DomainState, GuestMemoryError, VcpuState
from ansible.module_utils.vouch.measure.pages import NO_EXECUTE, PRESENT, SHIFTS, WRITABLE, AddressSpace, Budget, Frames

from sim.ramguest import FileMapped

TABLE = PRESENT | WRITABLE | 0x20
CODE, DATA, READ_ONLY = PRESENT, PRESENT | WRITABLE | NO_EXECUTE, PRESENT | NO_EXECUTE


class TinyGuest:
    """Frames, page tables and registers.

    Args:
        kind: ``pv`` or ``pvh``; PV frames are numbers that begin somewhere else.
        frames: How many there are.
    """

    def __init__(self, kind: str = "pvh", frames: int = 128) -> None:
        self.kind = kind
        self.base = 0x5000 if kind == "pv" else 0
        self.ram = bytearray(frames * PAGE_BYTES)
        self._next = 1
        self.root = self.take()
        self.processors = (VcpuState(cr0=0x80010001, cr3=self.root << 12, cr4=0x300020, efer=0xD01, lstar=0),)
        self.mappings = 0
        self.gone: set[int] = set()
        self.paused = 0

    def take(self) -> int:
        """Return the number of an unused frame of zeros."""
        self._next += 1
        return self.base + self._next - 1

    def at(self, frame: int) -> int:
        """Return where in ``ram`` a frame is."""
        return (frame - self.base) * PAGE_BYTES

    def write(self, frame: int, content: bytes, offset: int = 0) -> None:
        """Write into a frame."""
        at = self.at(frame) + offset
        self.ram[at : at + len(content)] = content

    def entry(self, table: int, index: int) -> int:
        """Return an entry of a page table."""
        return int(struct.unpack_from("<Q", self.ram, self.at(table) + index * 8)[0])

    def set_entry(self, table: int, index: int, value: int) -> None:
        """Write an entry of a page table."""
        struct.pack_into("<Q", self.ram, self.at(table) + index * 8, value)

    def tables(self, address: int, *, last: int = 12) -> tuple[int, int]:
        """Return table and index of the entry that maps ``address``; tables on the way are made."""
        table = self.root
        for shift in SHIFTS:
            index = address >> shift & 511
            if shift == last:
                return table, index
            if not self.entry(table, index) & PRESENT:
                self.set_entry(table, index, self.take() << 12 | TABLE)
            table = (self.entry(table, index) & 0x000F_FFFF_FFFF_F000) >> 12
        raise AssertionError(last)

    def place(self, address: int, flags: int, content: bytes = b"", *, frame: int | None = None) -> int:
        """Map a page at ``address``, and return its frame."""
        frame = self.take() if frame is None else frame
        self.set_entry(*self.tables(address), frame << 12 | flags)
        self.write(frame, content)
        return frame

    def space(self, steps: int = 10_000) -> AddressSpace:
        """Return its address space as a reader sees it."""
        return AddressSpace(Frames(self), self.root, Budget(steps, 1.0, lambda: 0.0))

    def map(self, frames: Sequence[int]) -> FileMapped:
        """Return frames."""
        self.mappings += 1
        view, parts = memoryview(self.ram), []
        for frame in frames:
            if not 0 <= self.at(frame) < len(self.ram) or frame in self.gone:
                raise GuestMemoryError(f"frame {frame:#x} is not the guest's", code="guest.memory.unmapped")
            parts.append(view[self.at(frame) : self.at(frame) + PAGE_BYTES])
        return FileMapped(parts)

    def vcpus(self) -> tuple[VcpuState, ...]:
        """Return its processors."""
        return self.processors

    def pause(self) -> None:
        """Count."""
        self.paused += 1

    def unpause(self) -> None:
        """Count."""
        self.paused -= 1

    def state(self) -> DomainState:
        """Return that it lives."""
        return DomainState(paused=self.paused > 0, dying=False, reason=-1, ran_ns=0)
