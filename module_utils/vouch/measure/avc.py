# SPDX-License-Identifier: GPL-3.0-or-later
"""The access vector cache: what SELinux remembers of its own answers may not be more than the policy gives.

Source: Linux 6.12, security/selinux/avc.c (avc_node, avc_cache), include/avc.h.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import NamedTuple

from ..model.finding import Finding
from ..model.kernelprofile import Profile
from ..parse.sepolicy import PolicyDb
from ..parse.serules import ALLOW
from .classmap import Translation
from .kernel import Kernel
from .memory import GuestMemoryError
from .sids import Sids

SOURCE = "docs/introspection.md, SELinux"
SLOTS = 512
"""AVC_CACHE_SLOTS."""

MAX_NODES = 4096
"""The kernel itself begins to forget at 512 (avc_cache_threshold)."""
_WORD = struct.Struct("<I")
_PERMISSIVE = 1
"""AVD_FLAGS_PERMISSIVE."""


class Answers:
    """What the policy allows at most: constraints take away, and are left out. Prepared once.

    Args:
        policy: The approved policy, its conditional rules included whatever the booleans are.
    """

    __slots__ = ("_kernel", "_known", "_policy", "_rules")

    def __init__(self, policy: PolicyDb) -> None:
        self._policy = policy
        self._known: dict[tuple[int, int, int], int] = {}
        self._kernel: dict[tuple[int, int, int], int] = {}
        self._rules: dict[int, list[tuple[int, int, int]]] = {}
        for table in policy.tables():
            for source, target, tclass, kind, data in table.rules:
                if kind == ALLOW:
                    entry = (policy.members(source), policy.members(target), data)
                    self._rules.setdefault(tclass, []).append(entry)

    def allowed(self, source: int, target: int, tclass: int) -> int:
        """Return the permission bits that some rule gives."""
        key = (source, target, tclass)
        found = self._known.get(key)
        if found is None:
            found = 0
            for sources, targets, bits in self._rules.get(tclass, ()):
                if sources >> source & 1 and targets >> target & 1:
                    found |= bits
            self._known[key] = found
        return found

    def in_kernel(self, source: int, target: int, tclass: int, classes: Translation) -> int:
        """Return the same by the kernel's numbers: ``tclass`` is one of them, and so are the bits."""
        key = (source, target, tclass)
        found = self._kernel.get(key)
        if found is None:
            value, permissions = classes.get(tclass, (0, ()))
            given = self.allowed(source, target, value)
            found = self._kernel[key] = sum(1 << at for at, bit in enumerate(permissions) if given & bit)
        return found


def check_cache(
    kernel: Kernel, sids: Sids, answers: Answers, classes: Translation, *, handle_unknown: str
) -> Iterator[Finding]:
    """Yield findings on every remembered answer; the guest stands still.

    Args:
        kernel: The guest's kernel.
        sids: Of its policy.
        answers: What the policy allows.
        classes: From the kernel's classes and permissions, by which answers are remembered, to the policy's.
        handle_unknown: What the policy says of permissions it does not know.

    Raises:
        GuestMemoryError: the cache cannot be read.
    """
    if handle_unknown == "allow":
        # Permissions that the policy does not know are allowed then, and the cache does not tell which those are.
        return
    space, size = kernel.space, kernel.profile.sizes["avc_node"]
    heads = space.read(kernel.place(kernel.symbol("selinux_avc"), "selinux_avc.avc_cache.slots"), 8 * SLOTS)
    hang = kernel.profile.offsets["avc_node.list"]
    layout = _Layout(kernel.profile)
    count = 0
    for (node,) in struct.iter_unpack("<Q", heads):
        while node:
            count += 1
            if count > MAX_NODES:
                raise GuestMemoryError("the access vector cache has no end", code="guest.list.endless")
            space.budget.spend()
            data = space.read(node - hang, size)
            yield from _check(layout.entry(data), sids, answers, classes)
            (node,) = struct.unpack_from("<Q", data, hang)


class _Entry(NamedTuple):
    source: int
    target: int
    tclass: int
    allowed: int
    flags: int


class _Layout:
    """Where the parts of an entry are in its node."""

    def __init__(self, profile: Profile) -> None:
        first = profile.offsets["avc_node.ae"]
        decision = first + profile.offsets["avc_entry.avd"]
        self._places = (
            *(first + profile.offsets[f"avc_entry.{name}"] for name in ("ssid", "tsid", "tclass")),
            *(decision + profile.offsets[f"av_decision.{name}"] for name in ("allowed", "flags")),
        )

    def entry(self, data: bytes) -> _Entry:
        """Return the entry in a node."""
        source, target, tclass, allowed, flags = self._places
        word = _WORD.unpack_from
        short = int.from_bytes(data[tclass : tclass + 2], "little")
        return _Entry(word(data, source)[0], word(data, target)[0], short, word(data, allowed)[0], word(data, flags)[0])


def _check(entry: _Entry, sids: Sids, answers: Answers, classes: Translation) -> Iterator[Finding]:
    source, target = sids.type_of(entry.source), sids.type_of(entry.target)
    extra = entry.allowed & ~answers.in_kernel(source, target, entry.tclass, classes)
    if entry.flags & _PERMISSIVE or extra:
        yield Finding.deny(
            "guest.selinux.cache",
            "selinux",
            f"what the policy gives type {source} on type {target}, class {entry.tclass}",
            f"permissions {entry.allowed:#x}, flags {entry.flags:#x}",
            source=SOURCE,
        )
