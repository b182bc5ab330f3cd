# SPDX-License-Identifier: GPL-3.0-or-later
"""Domains through libxenctrl: who runs, paused at once, released. No program is started for it: xl takes half a second.

Layouts are those of Xen 4.20 (public/domctl.h XEN_DOMCTL_getdomaininfo, interface version 0x17; public/sysctl.h
XEN_SYSCTL_physinfo). The library refuses another interface version, so a wrong layout cannot be read by mistake.

``xc_domaininfo_t``, 112 bytes, little-endian:
    offset  size  field
    0       2     domain
    4       4     flags
    8       8     tot_pages
    56      8     cpu_time, nanoseconds
    76      16    handle, the domain's UUID
"""

from __future__ import annotations

import ctypes
from typing import Any, NamedTuple

from ..errors import UnreachableError

LIBRARY = "libxenctrl.so.4.20"

DOMAIN_INFO_BYTES = 112
PHYSINFO_BYTES = 256
"""More than the structure has; the library fills what it knows."""

MAX_DOMAINS = 512
PAGE_BYTES = 4096
DOM0 = 0

# XEN_DOMINF_*: public/domctl.h.
_DYING, _SHUTDOWN, _PAUSED = 1 << 0, 1 << 2, 1 << 3
_REASON_SHIFT, _REASON_MASK = 16, 0xFF

POWEROFF, REBOOT, SUSPEND, CRASH = 0, 1, 2, 3
"""Why a domain was shut down (public/sched.h, SHUTDOWN_*)."""

FAILED = "xen.failed"


class DomainInfo(NamedTuple):
    """One domain as Xen has it. ``reason`` is why it was shut down, -1 when it was not; ``ran_ns`` is for how many
    nanoseconds its processors have run."""

    domain_id: int
    uuid: bytes
    paused: bool
    dying: bool
    reason: int
    memory_bytes: int
    ran_ns: int = 0


class XenControl:
    """The hypervisor. Opened at the first call, so that a process that is forked has its own handle.

    Raises:
        UnreachableError: ``xen.absent``, ``xen.failed``.
    """

    __slots__ = ("_handle", "_library", "_name")

    def __init__(self, name: str = LIBRARY) -> None:
        self._name = name
        self._library: Any = None
        self._handle = 0

    def domains(self) -> dict[int, DomainInfo]:
        """Return every domain but dom0, by its number."""
        return {info.domain_id: info for info in self._list(DOM0 + 1, MAX_DOMAINS)}

    def find(self, uuid: bytes) -> DomainInfo | None:
        """Return the domain with that UUID, or None."""
        return next((info for info in self.domains().values() if info.uuid == uuid), None)

    def look(self, domain_id: int, uuid: bytes) -> DomainInfo | None:
        """Return the domain with that number when its UUID is this one: numbers are used again."""
        found = self._list(domain_id, 1)
        return found[0] if found and found[0][:2] == (domain_id, uuid) else None

    def _list(self, first: int, limit: int) -> list[DomainInfo]:
        library = self._open()
        buffer = ctypes.create_string_buffer(DOMAIN_INFO_BYTES * limit)
        count = library.xc_domain_getinfolist(self._handle, first, limit, buffer)
        if count < 0:
            raise self._failed("listing domains")
        raw = memoryview(buffer)[: count * DOMAIN_INFO_BYTES].tobytes()
        return [_domain(raw[at : at + DOMAIN_INFO_BYTES]) for at in range(0, len(raw), DOMAIN_INFO_BYTES)]

    def pause(self, domain_id: int) -> None:
        """Return when no instruction of the domain runs any more."""
        if self._open().xc_domain_pause(self._handle, domain_id) != 0:
            raise self._failed(f"pausing domain {domain_id}")

    def unpause(self, domain_id: int) -> None:
        """Let the domain run."""
        if self._open().xc_domain_unpause(self._handle, domain_id) != 0:
            raise self._failed(f"unpausing domain {domain_id}")

    def free_bytes(self) -> int:
        """Return the machine's memory that nobody has."""
        buffer = ctypes.create_string_buffer(PHYSINFO_BYTES)
        if self._open().xc_physinfo(self._handle, buffer) != 0:
            raise self._failed("asking for free memory")
        # Nine words of 32 bits and one of padding, total_pages, free_pages.
        return int.from_bytes(buffer.raw[48:56], "little") * PAGE_BYTES

    def _open(self) -> Any:
        if self._library is None:
            try:
                library = ctypes.CDLL(self._name, use_errno=True)
            except OSError as error:
                raise UnreachableError(f"{self._name} cannot be loaded: {error}", code="xen.absent") from None
            handle, number = ctypes.c_void_p, ctypes.c_uint32
            library.xc_interface_open.restype = handle
            library.xc_interface_open.argtypes = (handle, handle, ctypes.c_uint)
            library.xc_domain_getinfolist.argtypes = (handle, number, ctypes.c_uint, ctypes.c_void_p)
            library.xc_domain_pause.argtypes = (handle, number)
            library.xc_domain_unpause.argtypes = (handle, number)
            library.xc_physinfo.argtypes = (handle, ctypes.c_void_p)
            self._handle = library.xc_interface_open(None, None, 0) or 0
            if not self._handle:
                raise UnreachableError("this machine runs no Xen, or not as its dom0", code="xen.absent")
            self._library = library
        return self._library

    def _failed(self, doing: str) -> UnreachableError:
        import os

        return UnreachableError(f"{doing}: {os.strerror(ctypes.get_errno())}", code=FAILED)


def _domain(raw: bytes) -> DomainInfo:
    flags = int.from_bytes(raw[4:8], "little")
    return DomainInfo(
        domain_id=int.from_bytes(raw[0:2], "little"),
        uuid=raw[76:92],
        paused=bool(flags & _PAUSED),
        dying=bool(flags & _DYING),
        reason=flags >> _REASON_SHIFT & _REASON_MASK if flags & _SHUTDOWN else -1,
        memory_bytes=int.from_bytes(raw[8:16], "little") * PAGE_BYTES,
        ran_ns=int.from_bytes(raw[56:64], "little"),
    )
