#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-3.0-or-later
"""Make ``guest.tar.xz`` anew, on a machine that has built the guest ``base``: start it, stop it when it is up, record.

python tests/data/record_guest.py tests/data/guest.tar.xz
"""

from __future__ import annotations

import io
import json
import sys
import tarfile
import tempfile
import time
from array import array
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import ansible.module_utils as module_utils

ROOT = Path(__file__).resolve().parents[2]
module_utils.__path__.append(str(ROOT / "module_utils"))
sys.path[:0] = [str(ROOT / "tests")]

from ansible.module_utils.vouch.make.introspection import make_profile  # noqa: E402
from ansible.module_utils.vouch.measure.measurer import RUNNING  # noqa: E402
from ansible.module_utils.vouch.measure.pages import AddressSpace, Frames  # noqa: E402
from ansible.module_utils.vouch.model.kernelprofile import Profile  # noqa: E402

from sim.guestattacks import Watched  # noqa: E402
from sim.ramguest import RamGuest, built_guest, running_guest  # noqa: E402
from sim.recordedguest import PAGE_BYTES, stand_in  # noqa: E402

SETTLING_S = 8


def written_profile(profile: Profile) -> dict[str, Any]:
    """Return what ``read_profile`` takes."""
    return {
        "release": profile.release,
        "banner": profile.banner.decode(),
        "symbols": dict(profile.symbols),
        "offsets": dict(profile.offsets),
        "sizes": dict(profile.sizes),
        "constants": dict(profile.constants),
        "regions": {name: [region.start, region.size_bytes] for name, region in profile.regions.items()},
        "hooks": {name: list(hook) for name, hook in profile.hooks.items()},
        "gates": {str(vector): list(found) for vector, found in profile.gates.items()},
    }


class Recorder:
    """Notes which bytes of which frames are read."""

    def __init__(self, guest: RamGuest) -> None:
        self._guest = guest
        self._read: dict[int, bytearray] = {}
        self._whole: set[int] = set()

    def note(self, frame: int, start: int, size: int) -> None:
        """Note bytes of a frame."""
        self._read.setdefault(frame, bytearray(PAGE_BYTES))[start : start + size] = b"\1" * size

    def watch(self, run: Callable[[], None], profile: Profile) -> None:
        """Run the measurer; code of modules is left out, since it is only hashed."""
        read, u64, page = AddressSpace.read, AddressSpace.u64, Frames.page
        modules = range(profile.regions["text"].start + (1 << 29), 0xFFFF_FFFF_FF00_0000)

        def noted_read(space: AddressSpace, address: int, size_bytes: int) -> bytes:
            at, left = address, 0 if size_bytes > PAGE_BYTES and address in modules else size_bytes
            while left > 0:
                count = min(left, PAGE_BYTES - (at & 4095))
                self.note(space.frame(at), at & 4095, count)
                at, left = at + count, left - count
            return read(space, address, size_bytes)

        def noted_u64(space: AddressSpace, address: int) -> int:
            noted_read(space, address, 8)
            return u64(space, address)

        def noted_page(frames: Frames, frame: int) -> memoryview:
            self._whole.add(frame)
            return page(frames, frame)

        AddressSpace.read, AddressSpace.u64, Frames.page = noted_read, noted_u64, noted_page  # type: ignore[method-assign]
        try:
            run()
        finally:
            AddressSpace.read, AddressSpace.u64, Frames.page = read, u64, page  # type: ignore[method-assign]

    def pages(self, tables: set[int]) -> Iterator[tuple[int, bytes]]:
        """Yield each frame with what was read of it: page tables whole, of others the bytes that were noted."""
        for frame in sorted(self._whole):
            content = self._guest.ram[frame * PAGE_BYTES : (frame + 1) * PAGE_BYTES]
            if frame not in tables:
                mask = self._read.get(frame, bytes(PAGE_BYTES))
                content = bytes(byte if used else 0 for byte, used in zip(content, mask, strict=True))
            if any(content):
                yield frame, content


def record(guest: RamGuest, policy: bytes, profile: Profile, path: Path) -> None:
    """Write a recording of a guest that is up."""
    recorder = Recorder(guest)
    it = Watched(guest, policy, profile)
    stand_in(it)

    def run() -> None:
        for _ in range(2):
            assert it.measurer.light().violations == ()
            assert it.measurer.heavy().violations == ()

    recorder.watch(run, profile)
    read = {frame for frame, _ in it.kernel.space._entries}
    pages = list(recorder.pages(read | tables_of(it)))
    vcpus = [list(vcpu) for vcpu in guest.vcpus()]
    facts = {"memory_bytes": len(guest.ram), "vcpus": vcpus, "profile": written_profile(profile)}
    parts = {
        "facts.json": json.dumps(facts, sort_keys=True).encode(),
        "frames": array("I", [frame for frame, _ in pages]).tobytes(),
        "pages": b"".join(content for _, content in pages),
        "policy": policy,
    }
    with tarfile.open(path, "w:xz", preset=9) as archive:
        for name, content in parts.items():
            item = tarfile.TarInfo(name)
            item.size = len(content)
            archive.addfile(item, io.BytesIO(content))
    print(f"{len(pages)} pages, {path.stat().st_size} bytes")


def tables_of(it: Watched) -> set[int]:
    """Return the frames of all page tables of the kernel's half."""
    found, waiting = set(), [(it.kernel.space.root, 39), *((root, 39) for root in it.measurer._tasks.roots(it.kernel))]
    while waiting:
        frame, shift = waiting.pop()
        if frame in found:
            continue
        found.add(frame)
        if shift > 12:
            table = memoryview(bytes(it.guest.ram[frame * PAGE_BYTES : (frame + 1) * PAGE_BYTES])).cast("Q")
            for entry in table[256 if shift == 39 else 0 :]:
                if entry & 1 and not entry & 0x80:
                    waiting.append(((entry & 0x000F_FFFF_FFFF_F000) >> 12, shift - 9))
    return found


def main() -> None:
    """Start the guest, and record it."""
    files = built_guest()
    profile = Profile.from_bytes(make_profile((files / "vmlinuz").read_bytes()).to_bytes())
    policy = (files / "policy").read_bytes()
    with tempfile.TemporaryDirectory() as folder, running_guest(Path(folder), files, ready="") as guest:
        it = Watched(guest, policy, profile)
        while it.measurer.phase != RUNNING:
            it.measurer.light()
            time.sleep(0.2)
        time.sleep(SETTLING_S)
        guest.pause()
        record(guest, policy, profile, Path(sys.argv[1]))


if __name__ == "__main__":
    main()
