# SPDX-License-Identifier: GPL-3.0-or-later
"""A guest's memory and processors through Xen's own libraries: ``measure.memory.GuestMemory`` for real.

libxenforeignmemory maps frames of another domain, read-only here; libxenctrl says what the processors hold. Both come
with xl, so dom0 has them anyway. A frame that is mapped stays the guest's until it is let go of: Xen gives it to nobody
else meanwhile.

Layouts of Xen 4.20:

========================================  ===============================================================
``vcpu_guest_context_x86_64`` (PV)        trap_ctxt 720 (256 times vector, flags, selector, address),
                                          ctrlreg 4984, event_callback_eip 5112, failsafe 5120, syscall 5128
``hvm_hw_cpu`` (PVH)                      cr0 656, cr3 672, cr4 680, idtr_limit 800, idtr_base 872,
                                          sysenter_eip 936, msr_lstar 960, msr_cstar 976, msr_efer 992
========================================  ===============================================================

Source: Xen 4.20, public/arch-x86/xen.h, public/arch-x86/hvm/save.h, public/domctl.h.
"""

from __future__ import annotations

import ctypes
import struct
from collections.abc import Sequence
from typing import Any, Protocol

from ..errors import UnreachableError
from ..measure.memory import PAGE_BYTES, PV, DomainState, GuestMemoryError, TrapGate, VcpuState

FOREIGN_LIBRARY = "libxenforeignmemory.so.1"
CONTROL_LIBRARY = "libxenctrl.so.4.20"
PROT_READ = 1
MAX_FRAMES = 65_536
MAX_VCPUS = 128

_PV_CONTEXT_BYTES, _HVM_CONTEXT_BYTES = 8192, 4096
"""More than the structures have; the libraries fill what they know."""

_HVM_CPU = 2
_TRAPS, _TRAP_BYTES, _VECTORS = 720, 16, 256
_CONTROL, _CALLBACKS = 4984, 5112
_CR0, _IDT_LIMIT, _IDT_BASE = 656, 800, 872
_SYSENTER, _LSTAR, _CSTAR, _EFER = 936, 960, 976, 992


_memcmp = ctypes.CDLL(None).memcmp
_memcmp.argtypes = (ctypes.c_void_p, ctypes.c_void_p, ctypes.c_size_t)


class Domains(Protocol):
    """What is needed of ``port.xencontrol.XenControl``."""

    def pause(self, domain_id: int) -> None:
        """Stop a domain."""
        ...

    def unpause(self, domain_id: int) -> None:
        """Let it run."""
        ...

    def domains(self) -> Any:
        """Return every domain by its number, each with ``paused``, ``dying`` and ``reason``."""
        ...


class ForeignPages:
    """Frames of a guest, mapped into this process until ``close``."""

    __slots__ = ("_address", "_count", "_library", "view")

    def __init__(self, library: Any, address: int, count: int) -> None:
        self._library, self._address, self._count = library, address, count
        kind = ctypes.c_char * (count * PAGE_BYTES)
        self.view = memoryview(kind.from_address(address)).cast("B")

    def same(self, copy: bytearray, start: int) -> bool:
        """Say whether the bytes are those of ``copy`` from ``start`` on."""
        size = self._count * PAGE_BYTES
        if not self._address or start < 0 or start + size > len(copy):
            return False
        return bool(_memcmp(self._address, (ctypes.c_char * size).from_buffer(copy, start), size) == 0)

    def close(self) -> None:
        """Unmap them; the view must not be used any more."""
        if self._address:
            self.view = memoryview(b"")
            self._library.unmap(self._address, self._count)
            self._address = 0


class _Foreign:
    """libxenforeignmemory, opened once a process."""

    def __init__(self, name: str = FOREIGN_LIBRARY) -> None:
        self._library = _load(name)
        pointer, size = ctypes.c_void_p, ctypes.c_size_t
        self._library.xenforeignmemory_open.restype = pointer
        self._library.xenforeignmemory_open.argtypes = (pointer, ctypes.c_uint)
        self._library.xenforeignmemory_map.restype = pointer
        self._library.xenforeignmemory_map.argtypes = (pointer, ctypes.c_uint32, ctypes.c_int, size, pointer, pointer)
        self._library.xenforeignmemory_unmap.argtypes = (pointer, pointer, size)
        self._handle = self._library.xenforeignmemory_open(None, 0)
        if not self._handle:
            raise UnreachableError("this machine runs no Xen, or not as its dom0", code="xen.absent")

    def map(self, domain_id: int, frames: Sequence[int]) -> int:
        """Return the address of a read-only mapping of all ``frames``, or 0."""
        count = len(frames)
        numbers, errors = (ctypes.c_uint64 * count)(*frames), (ctypes.c_int * count)()
        address = self._library.xenforeignmemory_map(self._handle, domain_id, PROT_READ, count, numbers, errors)
        if address and any(errors):
            self.unmap(address, count)
            return 0
        return address or 0

    def unmap(self, address: int, count: int) -> None:
        """Take a mapping back."""
        self._library.xenforeignmemory_unmap(self._handle, address, count)


class XenGuest:
    """One domain.

    Args:
        domain_id: Its number.
        kind: ``pv`` or ``pvh``, as it was started.
        control: Pauses it and says how it is.

    Raises:
        UnreachableError: ``xen.absent``, ``xen.failed``.
        GuestMemoryError: ``guest.memory.unmapped``, ``guest.gone``.
    """

    def __init__(self, domain_id: int, kind: str, control: Domains) -> None:
        self.kind = kind
        self._id, self._control = domain_id, control
        self._foreign = _Foreign()
        self._library = _load(CONTROL_LIBRARY)
        pointer, number = ctypes.c_void_p, ctypes.c_uint32
        self._library.xc_interface_open.restype = pointer
        self._library.xc_interface_open.argtypes = (pointer, pointer, ctypes.c_uint)
        self._library.xc_vcpu_getcontext.argtypes = (pointer, number, number, pointer)
        self._library.xc_domain_hvm_getcontext_partial.argtypes = (
            *(pointer, number, ctypes.c_uint16, ctypes.c_uint16, pointer, number),
        )
        self._handle = self._library.xc_interface_open(None, None, 0)
        if not self._handle:
            raise UnreachableError("this machine runs no Xen, or not as its dom0", code="xen.absent")
        self._paused = 0

    def map(self, frames: Sequence[int]) -> ForeignPages:
        """Return a mapping of ``frames``, machine frames of a PV guest, its own of a PVH guest."""
        if not 0 < len(frames) <= MAX_FRAMES:
            raise GuestMemoryError(f"{len(frames)} frames at once", code="guest.memory.limit")
        address = self._foreign.map(self._id, frames)
        if not address:
            raise GuestMemoryError(
                f"frame {frames[0]:#x} or one after it is not the guest's", code="guest.memory.unmapped"
            )
        return ForeignPages(self._foreign, address, len(frames))

    def vcpus(self) -> tuple[VcpuState, ...]:
        """Return the state of each processor that was started."""
        found = []
        for number in range(MAX_VCPUS):
            state = self._pv(number) if self.kind == PV else self._pvh(number)
            if state is None:
                break
            found.append(state)
        if not found:
            raise GuestMemoryError("the guest has no processor any more", code="guest.gone")
        return tuple(found)

    def pause(self) -> None:
        """Return when no instruction of the guest runs; calls are counted."""
        if self._paused == 0:
            self._control.pause(self._id)
        self._paused += 1

    def unpause(self) -> None:
        """Take one ``pause`` back."""
        self._paused -= 1
        if self._paused == 0:
            self._control.unpause(self._id)

    def state(self) -> DomainState:
        """Return how the domain is.

        Raises:
            GuestMemoryError: ``guest.gone``: there is no such domain.
        """
        info = self._control.domains().get(self._id)
        if info is None:
            raise GuestMemoryError(f"there is no domain {self._id} any more", code="guest.gone")
        return DomainState(paused=info.paused, dying=info.dying, reason=info.reason, ran_ns=info.ran_ns)

    def _pv(self, number: int) -> VcpuState | None:
        buffer = ctypes.create_string_buffer(_PV_CONTEXT_BYTES)
        if self._library.xc_vcpu_getcontext(self._handle, self._id, number, buffer) != 0:
            return None
        data = buffer.raw
        control = struct.unpack_from("<8Q", data, _CONTROL)
        event, failsafe, syscall = struct.unpack_from("<3Q", data, _CALLBACKS)
        traps = []
        for vector in range(_VECTORS):
            at = _TRAPS + vector * _TRAP_BYTES
            number_of, flags, selector, _, address = struct.unpack_from("<BBHIQ", data, at)
            if address:
                traps.append(TrapGate(number_of or vector, selector, address, flags & 3))
        return VcpuState(
            cr0=control[0],
            cr3=control[3],
            cr4=control[4],
            efer=0,
            lstar=syscall,
            user_root=control[1] >> 12,
            event=event,
            failsafe=failsafe,
            traps=tuple(traps),
        )

    def _pvh(self, number: int) -> VcpuState | None:
        buffer = ctypes.create_string_buffer(_HVM_CONTEXT_BYTES)
        get = self._library.xc_domain_hvm_getcontext_partial
        if get(self._handle, self._id, _HVM_CPU, number, buffer, _HVM_CONTEXT_BYTES) != 0:
            return None
        data = buffer.raw
        cr0, _, cr3, cr4 = struct.unpack_from("<4Q", data, _CR0)
        (limit,) = struct.unpack_from("<I", data, _IDT_LIMIT)
        (base,) = struct.unpack_from("<Q", data, _IDT_BASE)
        sysenter, lstar, compat, efer = (
            int(struct.unpack_from("<Q", data, at)[0]) for at in (_SYSENTER, _LSTAR, _CSTAR, _EFER)
        )
        return VcpuState(
            cr0=cr0,
            cr3=cr3,
            cr4=cr4,
            efer=efer,
            lstar=lstar,
            sysenter=sysenter,
            compat=compat,
            idt_base=base,
            idt_limit=limit,
        )


def _load(name: str) -> Any:
    try:
        return ctypes.CDLL(name, use_errno=True)
    except OSError as error:
        raise UnreachableError(f"{name} cannot be loaded: {error.strerror or error}", code="xen.absent") from None
