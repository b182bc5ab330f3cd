# SPDX-License-Identifier: GPL-3.0-or-later
"""A kernel in memory before its first instruction: each segment as the domain builder should have put it there.

The domain builder of Xen unpacks the verified ``vmlinuz`` and places its segments; nothing has patched anything yet, so
one digest for each segment is enough. What had the digest once since the host started is compared byte by byte, which
is much faster. PV: frames are machine frames, found by the page tables that the builder made.
PVH: frames are the guest's own, and a segment lies at its physical address.

Source: docs/introspection.md; Xen 4.20, tools/libs/guest/xg_dom_elfloader.c.
"""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Iterable, Iterator, Sequence
from typing import Protocol

from ..errors import shown
from ..model.finding import Finding
from ..model.kernelprofile import Profile
from .memory import PAGE_BYTES, PV, GuestMemory, GuestMemoryError
from .pages import AddressSpace, Budget, Frames

CHUNK_PAGES = 1024
STEPS = 200_000


class Stream(Protocol):
    """What a copy is read by, as far as it is needed here."""

    def readinto(self, buffer: memoryview, /) -> int | None:
        """Fill the buffer, or less of it at the end; return how many bytes were read."""
        ...

    def close(self) -> None:
        """End it."""
        ...


class Copies(Protocol):
    """What was compared with its digest since the host started; ``port.kept.Kept`` is the real form."""

    def get(self, digest: bytes) -> Stream | None:
        """Return the content with this digest from its beginning, or None where it is not kept."""
        ...

    def keep(self, digest: bytes, parts: Iterable[bytes | bytearray | memoryview]) -> None:
        """Keep what has this digest."""
        ...


def check_loaded(memory: GuestMemory, profile: Profile, copies: Copies | None = None) -> Iterator[Finding]:
    """Yield findings on the text and the read-only data of a guest that has not run.

    Args:
        memory: The guest.
        profile: Of its kernel.
        copies: What was compared before.

    Raises:
        GuestMemoryError: a page is not where the builder puts it.
    """
    frames = Frames(memory)
    try:
        for name, region in profile.regions.items():
            pages = -(-region.size_bytes // PAGE_BYTES)
            if memory.kind == PV:
                root = memory.vcpus()[0].cr3 >> 12
                space = AddressSpace(frames, root, Budget(STEPS, float("inf"), _no_time))
                numbers = space.frames(region.start, pages)
            else:
                first = _physical(profile, region.start) // PAGE_BYTES
                numbers = list(range(first, first + pages))
            if copies is not None and _same(memory, numbers, copies.get(region.sha256)):
                continue
            content: list[bytes] = []
            digest = _digest(memory, numbers, region.size_bytes, None if copies is None else content)
            if digest == region.sha256:
                if copies is not None:
                    copies.keep(region.sha256, content)
            else:
                yield Finding.deny(
                    "guest.load.changed",
                    shown(f"kernel {name}"),
                    region.sha256.hex(),
                    digest.hex(),
                    source="docs/introspection.md, launch",
                )
    finally:
        frames.renew()


def _physical(profile: Profile, address: int) -> int:
    """Return where the builder puts what is to be at a virtual address."""
    for segment in profile.segments:
        if segment.virtual <= address < segment.virtual + segment.size_bytes:
            return segment.physical + address - segment.virtual
    raise GuestMemoryError(f"no segment has {address:#x}", code="guest.memory.unmapped")


def _same(memory: GuestMemory, numbers: Sequence[int], copy: Stream | None) -> bool:
    """Say whether the frames hold what was kept; where they do not, the digest decides.

    Part by part through one buffer: fresh memory for all of it would take longer than the comparison, page by page.
    """
    if copy is None:
        return False
    with contextlib.closing(copy):
        buffer = bytearray(CHUNK_PAGES * PAGE_BYTES)
        for at in range(0, len(numbers), CHUNK_PAGES):
            frames = numbers[at : at + CHUNK_PAGES]
            part = memoryview(buffer)[: len(frames) * PAGE_BYTES]
            if copy.readinto(part) != len(part):
                return False
            mapped = memory.map(frames)
            try:
                if not mapped.same(buffer, 0):
                    return False
            finally:
                mapped.close()
    return True


def _digest(memory: GuestMemory, numbers: Sequence[int], size_bytes: int, content: list[bytes] | None) -> bytes:
    """Return the digest of what the frames hold; ``content`` gets the very bytes that it is of."""
    state = hashlib.sha256()
    left = size_bytes
    for at in range(0, len(numbers), CHUNK_PAGES):
        mapped = memory.map(numbers[at : at + CHUNK_PAGES])
        try:
            # Copied first: what is kept has to be what was hashed.
            part = bytes(mapped.view)
            state.update(part[:left] if left < len(part) else part)
            left -= len(part)
            if content is not None:
                content.append(part)
        finally:
            mapped.close()
    return state.digest()


def _no_time() -> float:
    return 0.0
