# SPDX-License-Identifier: GPL-3.0-or-later
"""A kernel that was loaded and has not run: by its digest the first time, byte by byte afterwards."""

from __future__ import annotations

import hashlib
import io
import os
from collections.abc import Iterable
from types import SimpleNamespace
from typing import Any

import pytest
from ansible.module_utils.vouch.measure import loaded as loaded_module
from ansible.module_utils.vouch.measure.loaded import check_loaded
from ansible.module_utils.vouch.measure.memory import PAGE_BYTES, GuestMemoryError

from sim.tinyguest import CODE, READ_ONLY, TinyGuest

TEXT, RODATA = 0xFFFFFFFF81000000, 0xFFFFFFFF81800000
CONTENT = {"text": os.urandom(3 * PAGE_BYTES), "rodata": os.urandom(2 * PAGE_BYTES - 100)}


class Copies:
    """What was kept, and what was asked for."""

    def __init__(self) -> None:
        self.kept: dict[bytes, bytes] = {}

    def get(self, digest: bytes) -> io.BytesIO | None:
        return io.BytesIO(self.kept[digest]) if digest in self.kept else None

    def keep(self, digest: bytes, parts: Iterable[bytes | bytearray | memoryview]) -> None:
        self.kept[digest] = b"".join(parts)


def loaded(kind: str) -> tuple[TinyGuest, Any]:
    """Return a guest and its profile."""
    guest = TinyGuest(kind)
    segments, regions = [], {}
    for name, start, flags in (("text", TEXT, CODE), ("rodata", RODATA, READ_ONLY)):
        content = CONTENT[name]
        frames = [
            guest.place(start + at, flags, content[at : at + PAGE_BYTES]) for at in range(0, len(content), PAGE_BYTES)
        ]
        regions[name] = SimpleNamespace(start=start, size_bytes=len(content), sha256=hashlib.sha256(content).digest())
        if kind == "pvh":
            # As a domain builder puts it: one frame after the other.
            first = guest.take()
            for at in range(1, len(frames)):
                assert guest.take() == first + at
            for at in range(len(frames)):
                guest.write(first + at, content[at * PAGE_BYTES : (at + 1) * PAGE_BYTES])
            segments.append(SimpleNamespace(virtual=start, physical=first * PAGE_BYTES, size_bytes=len(content)))
    return guest, SimpleNamespace(regions=regions, segments=segments)


@pytest.mark.parametrize("kind", ["pv", "pvh"])
def test_as_packaged(kind: str) -> None:
    guest, profile = loaded(kind)
    copies = Copies()
    assert list(check_loaded(guest, profile)) == []
    for _ in range(2):
        assert list(check_loaded(guest, profile, copies)) == []
    assert {digest: len(content) for digest, content in copies.kept.items()} == {
        profile.regions["text"].sha256: 3 * PAGE_BYTES,
        profile.regions["rodata"].sha256: 2 * PAGE_BYTES,
    }


@pytest.mark.parametrize("known", [False, True])
@pytest.mark.parametrize("kind", ["pv", "pvh"])
def test_one_byte_changed(kind: str, known: bool) -> None:
    guest, profile = loaded(kind)
    copies = Copies()
    if known:
        assert list(check_loaded(guest, profile, copies)) == []
    where = bytes(guest.ram).rindex(CONTENT["text"][PAGE_BYTES : PAGE_BYTES + 64])
    guest.ram[where] ^= 1
    (found,) = check_loaded(guest, profile, copies)
    assert (found.code, found.subject) == ("guest.load.changed", "kernel text")
    assert (profile.regions["text"].sha256 in copies.kept) == known


def test_a_copy_that_is_cut_does_not_count(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nor does it matter in how many parts a region is compared."""
    monkeypatch.setattr(loaded_module, "CHUNK_PAGES", 2)
    guest, profile = loaded("pv")
    copies, digest = Copies(), profile.regions["text"].sha256
    for _ in range(2):
        assert list(check_loaded(guest, profile, copies)) == []
    copies.kept[digest] = copies.kept[digest][:-1]
    guest.ram[bytes(guest.ram).rindex(CONTENT["text"][-64:]) + 63] ^= 1
    assert [found.subject for found in check_loaded(guest, profile, copies)] == ["kernel text"]


def test_bytes_behind_the_last_are_nobodys() -> None:
    guest, profile = loaded("pv")
    copies = Copies()
    assert list(check_loaded(guest, profile, copies)) == []
    guest.ram[bytes(guest.ram).rindex(CONTENT["rodata"][PAGE_BYTES : PAGE_BYTES + 64]) + PAGE_BYTES - 100] ^= 1
    assert list(check_loaded(guest, profile, copies)) == []


def test_a_region_without_a_segment() -> None:
    guest, profile = loaded("pvh")
    profile.segments = []
    with pytest.raises(GuestMemoryError) as caught:
        list(check_loaded(guest, profile))
    assert caught.value.code == "guest.memory.unmapped"
