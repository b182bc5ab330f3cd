# SPDX-License-Identifier: GPL-3.0-or-later
"""A guest as it was in one moment: what the measurer reads of its memory, and nothing else, in a small file.

``tests/data/guest.tar.xz`` holds a guest ``base`` (Linux 6.12 of Debian 13, GPL-2.0) a few seconds after its start: the
bytes that the checks read, all others as zeros; of the kernel's text the places where security hooks are called, of
modules nothing. Its measurer runs every check but that of the text and the read-only data, which have tests of their
own. ``tests/data/record_guest.py`` makes it anew.
"""

from __future__ import annotations

import json
import mmap
import tarfile
from array import array
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ansible.module_utils.vouch.measure.measurer import RUNNING
from ansible.module_utils.vouch.measure.memory import DomainState, GuestMemoryError, VcpuState
from ansible.module_utils.vouch.model.kernelprofile import Profile
from ansible.module_utils.vouch.model.profileparts import Hook, Region

from sim.guestattacks import Watched
from sim.ramguest import FileMapped

RECORDING = Path(__file__).resolve().parents[1] / "data" / "guest.tar.xz"
PAGE_BYTES = 4096


class RecordedGuest:
    """A guest of which some pages were recorded; the others are zeros. Write ``ram`` to change it.

    Args:
        size_bytes: Of its memory.
        pages: Frame to content.
        vcpus: Its processors.
    """

    kind = "pvh"

    def __init__(self, size_bytes: int, pages: dict[int, bytes], vcpus: tuple[VcpuState, ...]) -> None:
        self.ram = mmap.mmap(-1, size_bytes)
        self._view = memoryview(self.ram)
        for frame, content in pages.items():
            self.ram[frame * PAGE_BYTES : (frame + 1) * PAGE_BYTES] = content
        self.frames = sorted(pages)
        self.processors = vcpus
        self._paused = 0

    @property
    def lstar(self) -> int:
        """Where system calls go."""
        return self.processors[0].lstar

    @lstar.setter
    def lstar(self, address: int) -> None:
        self.processors = tuple(vcpu._replace(lstar=address) for vcpu in self.processors)

    def map(self, frames: Sequence[int]) -> FileMapped:
        """Return frames."""
        parts = []
        for frame in frames:
            if not 0 <= frame < len(self.ram) // PAGE_BYTES:
                raise GuestMemoryError(f"frame {frame:#x} is not the guest's", code="guest.memory.unmapped")
            parts.append(self._view[frame * PAGE_BYTES : (frame + 1) * PAGE_BYTES])
        return FileMapped(parts)

    def vcpus(self) -> tuple[VcpuState, ...]:
        """Return its processors."""
        return self.processors

    def pause(self) -> None:
        """It stands still anyway."""
        self._paused += 1

    def unpause(self) -> None:
        """It stands still anyway."""
        self._paused -= 1

    def state(self) -> DomainState:
        """Return that it lives."""
        return DomainState(paused=self._paused > 0, dying=False, reason=-1, ran_ns=0)


class Unjudged:
    """In the place of a region: no content was recorded."""

    unfinished = False

    def settle(self, *_: Any) -> tuple[()]:
        """Find nothing."""
        return ()

    check = settle

    def renew(self, *_: Any) -> None:
        """Map nothing."""

    def changed(self, *_: Any) -> bool:
        """Say that nothing changed."""
        return False


def recorded_guest(path: Path = RECORDING) -> Watched:
    """Return the recorded guest with a measurer that has seen it up; each call gives a new one."""
    with tarfile.open(path) as archive:
        parts = {item.name: archive.extractfile(item).read() for item in archive}  # type: ignore[union-attr]
    facts = json.loads(parts["facts.json"])
    frames = array("I")
    frames.frombytes(parts["frames"])
    pages = {frame: parts["pages"][at * PAGE_BYTES : (at + 1) * PAGE_BYTES] for at, frame in enumerate(frames)}
    guest = RecordedGuest(facts["memory_bytes"], pages, tuple(VcpuState(*item) for item in facts["vcpus"]))
    it = Watched(guest, parts["policy"], read_profile(facts["profile"]))
    stand_in(it)
    report = it.measurer.light()
    assert (report.violations, report.phase) == ((), RUNNING)
    return it


def stand_in(it: Watched) -> None:
    """Leave text and read-only data out."""
    it.measurer._text = it.measurer._rodata = Unjudged()  # type: ignore[assignment]


def read_profile(facts: dict[str, Any]) -> Profile:
    """Return a profile without its regions' contents."""
    return Profile(
        release=facts["release"],
        banner=facts["banner"].encode(),
        symbols=facts["symbols"],
        offsets=facts["offsets"],
        sizes=facts["sizes"],
        constants=facts["constants"],
        segments=(),
        regions={
            name: Region(start, size, bytes(32), b"", array("I"), array("I"), array("I"))
            for name, (start, size) in facts["regions"].items()
        },
        form_sets=(),
        hooks={name: Hook(offset, slots, tuple(found)) for name, (offset, slots, found) in facts["hooks"].items()},
        gates={int(vector): tuple(found) for vector, found in facts["gates"].items()},
    )
