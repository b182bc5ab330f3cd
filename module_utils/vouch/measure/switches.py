# SPDX-License-Identifier: GPL-3.0-or-later
"""Variables that let the kernel start programs or other kernels, or measure: as the first program left them, for good.

Source: Linux 6.12, kernel/module/kmod.c, fs/coredump.c, kernel/reboot.c, kernel/kexec_core.c; security/lockdown.
"""

from __future__ import annotations

from collections.abc import Iterator

from ..model.finding import Finding
from .kernel import Kernel

SOURCE = "docs/introspection.md, switches"
PATHS: tuple[tuple[str, int], ...] = (
    ("modprobe_path", 256),
    ("core_pattern", 128),
    ("poweroff_cmd", 256),
    ("uevent_helper", 256),
)
"""Programs that the kernel itself starts as root: variable, and bytes of it."""

HARMLESS = frozenset({"core", "|/bin/false"})
"""Values of ``core_pattern`` that start nothing: the kernel's own, and what systemd makes of it when it begins."""

NUMBERS: tuple[tuple[str, int | None], ...] = (
    ("modules_disabled", 1),
    ("kexec_load_disabled", 1),
    ("kernel_locked_down", None),
    ("usermodehelper_disabled", None),
    ("ima_policy_flag", None),
)
"""Variable, and the one value it must have; None: whatever it had at first."""


class Switches:
    """The variables of one guest; ``settle`` takes them, ``check`` compares."""

    __slots__ = ("_known",)

    def __init__(self) -> None:
        self._known: dict[str, object] = {}

    def settle(self, kernel: Kernel) -> Iterator[Finding]:
        """Remember the variables, and yield findings on those with one right value."""
        self._known = dict(_found(kernel))
        if self._known["modprobe_path"]:
            yield _finding("modprobe_path", "empty", self._known["modprobe_path"])
        if self._known["core_pattern"] not in HARMLESS:
            yield _finding("core_pattern", " or ".join(sorted(HARMLESS)), self._known["core_pattern"])
        for name, wanted in NUMBERS:
            if wanted is not None and self._known.get(name) != wanted:
                yield _finding(name, wanted, self._known.get(name))

    def check(self, kernel: Kernel) -> Iterator[Finding]:
        """Yield a finding on each variable that is another now."""
        for name, value in _found(kernel):
            if value != self._known.get(name) and not (name == "core_pattern" and value in HARMLESS):
                yield _finding(name, self._known.get(name), value)


def _found(kernel: Kernel) -> Iterator[tuple[str, object]]:
    for name, size in PATHS:
        if kernel.has(name):
            yield name, kernel.space.text(kernel.symbol(name), size)
    for name, _ in NUMBERS:
        if kernel.has(name):
            yield name, kernel.number(name)


def _finding(name: str, expected: object, actual: object) -> Finding:
    return Finding.deny("guest.kernel.switch", name, expected, actual, source=SOURCE)
