# SPDX-License-Identifier: GPL-3.0-or-later
"""Kernel modules: those that were loaded while the guest booted, and none since.

The guest's first program loads them out of the signed initrd, then switches loading off for good. So the list is taken
once, and from then on neither it nor their code changes. A module that is on no list shows in the page tables
(``tables``): its code is executable, and nobody's.

Source: Linux 6.12, include/linux/module.h, kernel/module/main.c.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from typing import NamedTuple

from ..errors import shown
from ..model.finding import Finding
from .kernel import Kernel
from .memory import GuestMemoryError

SOURCE = "docs/introspection.md, modules"
MAX_MODULES = 1024
MAX_TEXT_BYTES = 8 << 20
_TEXT = 0
"""MOD_TEXT, the first kind of a module's memory (enum mod_mem_type)."""


class LoadedModule(NamedTuple):
    """One module: its name, where its code is, and the code itself."""

    name: str
    base: int
    size_bytes: int
    code: bytes

    @property
    def digest(self) -> str:
        """SHA-256 of the code."""
        return hashlib.sha256(self.code).hexdigest()


class Modules:
    """The modules of one guest; ``settle`` takes them, ``check`` compares."""

    __slots__ = ("_known",)

    def __init__(self) -> None:
        self._known: tuple[LoadedModule, ...] = ()

    @property
    def ranges(self) -> list[tuple[int, int]]:
        """Where their code is: first address and the one behind the last page."""
        return [(item.base, item.base + (item.size_bytes + 4095 & ~4095)) for item in self._known]

    def settle(self, kernel: Kernel) -> Iterator[Finding]:
        """Remember the modules; the guest stands still.

        Raises:
            GuestMemoryError: the list or a module cannot be read.
        """
        self._known = tuple(loaded(kernel))
        if kernel.number("modules_disabled") != 1:
            yield _finding("guest.module.enabled", "modules", "loading switched off", "still possible")

    def check(self, kernel: Kernel) -> Iterator[Finding]:
        """Yield findings on the list and the code of each module; the guest stands still.

        Raises:
            GuestMemoryError: the list or a module cannot be read.
        """
        now = {item.name: item for item in loaded(kernel)}
        for item in self._known:
            found = now.pop(item.name, None)
            if found is None:
                yield _finding("guest.module.missing", f"module {item.name}", "on the list", "gone")
            elif found != item:
                yield _finding("guest.module.changed", f"module {item.name}", item.digest, found.digest)
        for item in now.values():
            yield _finding("guest.module.added", f"module {item.name}", "no new module", f"at {item.base:#x}")
        if kernel.number("modules_disabled") != 1:
            yield _finding("guest.module.enabled", "modules", "loading switched off", "possible again")


def loaded(kernel: Kernel) -> Iterator[LoadedModule]:
    """Yield each module on the kernel's list."""
    for module in kernel.entries(kernel.symbol("modules"), "module.list", limit=MAX_MODULES):
        base, size = _text(kernel, module)
        if size > MAX_TEXT_BYTES:
            raise GuestMemoryError(f"a module with {size} bytes of code", code="guest.memory.limit")
        code = kernel.space.read(base, size) if size else b""
        yield LoadedModule(kernel.string(module, "module.name"), base, size, code)


def _text(kernel: Kernel, module: int) -> tuple[int, int]:
    """Return where the code of a module is: ``mem[MOD_TEXT]`` since Linux 6.4, ``core_layout`` before."""
    if kernel.has("module.mem"):
        memory = kernel.place(module, "module.mem") + _TEXT * kernel.profile.sizes["module_memory"]
        return kernel.pointer(memory, "module_memory.base"), kernel.value(memory, "module_memory.size")
    return kernel.pointer(module, "module.core_layout.base"), kernel.value(module, "module.core_layout.text_size")


def _finding(code: str, subject: str, expected: str, actual: str) -> Finding:
    return Finding.deny(code, shown(subject), expected, actual, source=SOURCE)
