# SPDX-License-Identifier: GPL-3.0-or-later
"""The hooks that the kernel asks SELinux through: all of them there, each leading to SELinux's own function.

Linux 6.1 walks lists (``security_hook_heads``); Linux 6.12 has a static call for each hook and each security module,
behind a jump label that lets it pass by the unused ones. Tables and lists are written while the kernel boots and
read-only afterwards, so what is judged here once is held by the comparison of the read-only data from then on
(``regions``). The code is not: a jump label that is off and a static call that does nothing are forms that the profile
allows, so here each of the hooks in force must have both.

1. Every hook that SELinux defines (``selinux_hooks``) is in force.
2. Every hook in force leads to a function that a security module of this kernel has for it.
3. Linux 6.12: key, trampoline and each place in the code call that function, and the jump label lets them.

Source: Linux 6.12, security/security.c, include/linux/lsm_hooks.h, jump_label.h, static_call_types.h; Linux 6.1, the
same files.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator

from ..model.finding import Finding
from ..model.kernelprofile import Profile
from .kernel import Kernel
from .memory import GuestMemoryError

SOURCE = "docs/introspection.md, hooks"
MAX_HOOKS = 4096
MAX_TABLE_BYTES = 4 << 20
_CALL, _JUMP, _SHORT_JUMP = 0xE8, 0xE9, 0xEB
_BRANCH_BYTES = 5
_ENTRY = struct.Struct("<iiq")
_SITE = struct.Struct("<ii")
_INVERTED = 1
"""Of a jump label's key: the jump is there when the key is off."""


class Hooks:
    """The hooks of one guest.

    Args:
        profile: Of its kernel.
    """

    __slots__ = ("_branches", "_calls", "_functions")

    def __init__(self, profile: Profile) -> None:
        # By the place in the table: of each list's head, or of each slot.
        step = profile.sizes.get("lsm_static_call", 0)
        self._functions = {
            hook.offset + number * step: frozenset(hook.functions)
            for hook in profile.hooks.values()
            for number in range(hook.slots or 1)
        }
        self._branches: dict[int, list[tuple[int, bool]]] | None = None
        self._calls: dict[int, list[int]] = {}

    def check(self, kernel: Kernel) -> Iterator[Finding]:
        """Yield findings on every hook; the guest stands still.

        Raises:
            GuestMemoryError: a table or a hook cannot be read.
        """
        found = self._static_calls(kernel) if kernel.has("static_calls_table") else _lists(kernel)
        active: set[int] = set()
        for place, hook, function, finding in found:
            active.add(hook)
            if finding is not None:
                yield finding
            elif function not in self._functions.get(place, ()):
                yield _finding("guest.hook.changed", "a function that a security module has for it", f"{function:#x}")
        missing = [hook for hook in _own(kernel) if hook not in active]
        if missing:
            yield _finding("guest.hook.missing", "every hook of SELinux", f"{len(missing)} of them are not asked")

    def _static_calls(self, kernel: Kernel) -> Iterator[tuple[int, int, int, Finding | None]]:
        if self._branches is None:
            # Read-only data, and compared as such from before the first look.
            self._branches, self._calls = _branches(kernel), _calls(kernel)
        table, step = kernel.symbol("static_calls_table"), kernel.profile.sizes["lsm_static_call"]
        for place in range(0, kernel.profile.sizes["lsm_static_calls_table"], step):
            hook = kernel.pointer(table + place, "lsm_static_call.hl")
            if hook:
                function = kernel.pointer(hook, "security_hook_list.hook")
                yield place, hook, function, self._slot(kernel, table + place, function)

    def _slot(self, kernel: Kernel, slot: int, function: int) -> Finding | None:
        key = kernel.pointer(slot, "lsm_static_call.key")
        called = kernel.pointer(key, "static_call_key.func")
        target = _target(kernel, kernel.pointer(slot, "lsm_static_call.trampoline"), (_JUMP,))
        if called != function or target != function:
            return _finding(
                "guest.hook.changed", f"a call of {function:#x}", f"key {called:#x}, trampoline {target:#x}"
            )
        active = kernel.pointer(slot, "lsm_static_call.active")
        if kernel.space.unsigned(active, 4) != 1:
            return _finding("guest.hook.missing", "a hook that is asked", f"slot {slot:#x} is off")
        for site, inverted in (self._branches or {}).get(active, ()):
            if (kernel.space.unsigned(site, 1) in (_JUMP, _SHORT_JUMP)) is inverted:
                return _finding("guest.hook.missing", "a hook that is asked", f"it is passed by at {site:#x}")
        for site in self._calls.get(key, ()):
            target = _target(kernel, site, (_CALL, _JUMP))
            if target != function:
                return _finding("guest.hook.missing", f"a call of {function:#x}", f"{target:#x} at {site:#x}")
        return None


def _own(kernel: Kernel) -> Iterator[int]:
    """Yield the addresses of SELinux's hooks; the array ends where the next symbol begins, which the profile knows."""
    first, size = kernel.symbol("selinux_hooks"), kernel.profile.sizes["security_hook_list"]
    count = kernel.profile.constants["selinux_hooks.count"]
    for number in range(count):
        yield first + number * size


def _lists(kernel: Kernel) -> Iterator[tuple[int, int, int, Finding | None]]:
    heads, size = kernel.symbol("security_hook_heads"), kernel.profile.sizes["security_hook_heads"]
    count = 0
    for offset in range(0, size, 8):
        node = kernel.space.u64(heads + offset)
        while node:
            count += 1
            if count > MAX_HOOKS:
                raise GuestMemoryError("the hooks have no end", code="guest.list.endless")
            kernel.space.budget.spend()
            hook = node - kernel.profile.offsets["security_hook_list.list"]
            finding = None
            if kernel.pointer(hook, "security_hook_list.head") != heads + offset:
                finding = _finding("guest.hook.changed", "a hook of its own list", f"{hook:#x}")
            yield offset, hook, kernel.pointer(hook, "security_hook_list.hook"), finding
            node = kernel.space.u64(node)


def _branches(kernel: Kernel) -> dict[int, list[tuple[int, bool]]]:
    """Return, for each key, the places in the text where it decides, and whether the other way round."""
    found: dict[int, list[tuple[int, bool]]] = {}
    for at, (code, _, key) in _table(kernel, "__start___jump_table", "__stop___jump_table", _ENTRY):
        site, key_at = at + code, at + 8 + key
        if kernel.inside_text(site):
            found.setdefault(key_at & ~3, []).append((site, bool(key_at & _INVERTED)))
    return found


def _calls(kernel: Kernel) -> dict[int, list[int]]:
    """Return, for the key of each static call, the places in the text where it is made."""
    found: dict[int, list[int]] = {}
    for at, (code, key) in _table(kernel, "__start_static_call_sites", "__stop_static_call_sites", _SITE):
        if kernel.inside_text(at + code):
            found.setdefault(at + 4 + key & ~3, []).append(at + code)
    return found


def _table(kernel: Kernel, first: str, last: str, entry: struct.Struct) -> Iterator[tuple[int, tuple[int, ...]]]:
    """Yield address and content of each entry between two symbols; nothing in a kernel that lacks them."""
    if not (kernel.has(first) and kernel.has(last)):
        return
    start = kernel.symbol(first)
    size = kernel.symbol(last) - start
    if not 0 <= size <= MAX_TABLE_BYTES:
        raise GuestMemoryError(f"a table of {size} bytes", code="guest.memory.limit")
    data = kernel.space.read(start, size - size % entry.size)
    for number, content in enumerate(entry.iter_unpack(data)):
        yield start + number * entry.size, content


def _target(kernel: Kernel, address: int, opcodes: tuple[int, ...]) -> int:
    """Return where the branch at an address leads; 0 when there is none."""
    if not kernel.inside_text(address):
        return 0
    code = kernel.space.read(address, _BRANCH_BYTES)
    if code[0] not in opcodes:
        return 0
    return address + _BRANCH_BYTES + int.from_bytes(code[1:], "little", signed=True) & (1 << 64) - 1


def _finding(code: str, expected: str, actual: str) -> Finding:
    return Finding.deny(code, "security hooks", expected, actual, source=SOURCE)
