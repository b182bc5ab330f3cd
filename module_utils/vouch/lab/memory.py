# SPDX-License-Identifier: GPL-3.0-or-later
"""The memory of a lab machine that runs, read and written from outside: an attacker who holds the hardware.

QEMU keeps it in a memfd (``machine.qemu_argv``), which whoever owns the process can open. Places are offsets into it:
they are neither the machine's own physical addresses, which have a hole below 4 GiB, nor a guest's.

Source: proc(5), ``/proc/PID/fd``; memfd_create(2).
"""

from __future__ import annotations

import mmap
import os
from pathlib import Path
from types import TracebackType

from ..errors import UnreachableError
from .control import Machine
from .machine import MEMORY_NODE

PAGE_BYTES = 4096


class MachineMemory:
    """All of a machine's memory, as a context.

    Args:
        machine: Which runs.

    Raises:
        UsageError: it is off (``lab.off``).
        UnreachableError: its memory cannot be opened (``lab.memory``).
    """

    def __init__(self, machine: Machine) -> None:
        machine.require_on()
        self._view = _opened(machine.observe().qemu or 0, machine.paths.name)

    def __enter__(self) -> MachineMemory:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._view.close()

    def pages_with(self, content: bytes) -> list[int]:
        """Return where a page begins with ``content``, ascending."""
        found, at = [], self._view.find(content)
        while at >= 0:
            if at % PAGE_BYTES == 0:
                found.append(at)
            at = self._view.find(content, at + 1)
        return found

    def read(self, place: int, size: int) -> bytes:
        """Return what is there."""
        return self._view[place : place + size]

    def write(self, place: int, data: bytes) -> None:
        """Change what is there."""
        self._view[place : place + len(data)] = data


def _opened(pid: int, name: str) -> mmap.mmap:
    folder = Path("/proc") / str(pid) / "fd"
    try:
        for link in folder.iterdir():
            if os.readlink(link).startswith(f"/memfd:{MEMORY_NODE}"):
                with link.open("r+b") as stream:
                    return mmap.mmap(stream.fileno(), 0)
    except OSError as error:
        raise UnreachableError(f"the memory of machine {name}: {error.strerror}", code="lab.memory") from None
    raise UnreachableError(
        f"QEMU keeps the memory of machine {name} to itself", code="lab.memory", hint="Start the machine anew"
    )
