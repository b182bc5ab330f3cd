# SPDX-License-Identifier: GPL-3.0-or-later
"""What the measurer needs of a guest: its frames, the state of its processors, a way to stop it.

``port.xenguest.XenGuest`` is the real one. Whatever comes through it was written by the guest, and is hostile.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, Protocol

from ..errors import VouchError

PAGE_BYTES = 4096
PV, PVH = "pv", "pvh"


class GuestMemoryError(VouchError):
    """A part of the guest cannot be read as it would have to be: unmapped, out of bounds, without end.

    ``code`` is that of the finding it becomes.
    """

    code = "guest.memory.unmapped"


class Mapped(Protocol):
    """Some frames of the guest, readable through one view, in the order they were asked for."""

    @property
    def view(self) -> memoryview:
        """The bytes; they change while the guest runs."""
        ...

    def same(self, copy: bytearray, start: int) -> bool:
        """Say whether the bytes are those of ``copy`` from ``start`` on; nothing is copied for it."""
        ...

    def close(self) -> None:
        """Let go of the frames."""
        ...


class TrapGate(NamedTuple):
    """One entry of a trap table that a PV guest gave to Xen; ``privilege`` is the ring that may use it."""

    vector: int
    selector: int
    address: int
    privilege: int


class VcpuState(NamedTuple):
    """One virtual processor, as Xen has it.

    Attributes:
        cr0, cr3, cr4, efer: Control registers; ``cr3`` as an address whose frame is the root of the page tables. For a
            PV guest ``efer`` is 0: Xen's own counts.
        user_root: Frame of the page tables of a PV guest's user mode; 0 where there is none.
        idt_base, idt_limit: PVH: the interrupt descriptor table; a PV guest has none.
        lstar: PVH: where SYSCALL goes; PV: what Xen calls instead (the syscall callback).
        sysenter: PVH: where SYSENTER goes; PV: 0.
        compat: PVH: where SYSCALL goes from 32-bit programs (CSTAR).
        event: PV: the event callback, which stands for interrupts.
        failsafe: PV: the failsafe callback.
        traps: PV: the trap table.
    """

    cr0: int
    cr3: int
    cr4: int
    efer: int
    lstar: int
    user_root: int = 0
    idt_base: int = 0
    idt_limit: int = 0
    sysenter: int = 0
    compat: int = 0
    event: int = 0
    failsafe: int = 0
    traps: tuple[TrapGate, ...] = ()


class DomainState(NamedTuple):
    """How the domain is.

    Attributes:
        paused: Whether none of its instructions runs.
        dying: Whether its end has begun.
        reason: Why it was shut down (public/sched.h), -1 when it was not.
        ran_ns: Nanoseconds that its processors have run, all together, by the hypervisor's own account.
    """

    paused: bool
    dying: bool
    reason: int
    ran_ns: int


class GuestMemory(Protocol):
    """One guest. Every method raises ``GuestMemoryError`` or ``UnreachableError``."""

    @property
    def kind(self) -> str:
        """``pv``: page tables hold machine frames; ``pvh``: guest frames. ``map`` takes what they hold."""
        ...

    def map(self, frames: Sequence[int]) -> Mapped:
        """Return a read-only mapping of ``frames``.

        Raises:
            GuestMemoryError: one of them is not the guest's.
        """
        ...

    def vcpus(self) -> tuple[VcpuState, ...]:
        """Return the state of each processor that was started."""
        ...

    def pause(self) -> None:
        """Return when the guest stands still; calls are counted, each needs its ``unpause``."""
        ...

    def unpause(self) -> None:
        """Take one ``pause`` back."""
        ...

    def state(self) -> DomainState:
        """Return how the domain is."""
        ...
