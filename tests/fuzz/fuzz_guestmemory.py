# SPDX-License-Identifier: GPL-3.0-or-later
"""Fuzz target: whatever a guest has in its memory, a round of checks gives a report, soon, and nothing else.

The input says what to write over the recorded guest: six bytes for each change, of which two choose the page, two the
word in it, and two what it becomes. Some of that is of the kind that leads a reader astray: pointers to other places
that are read, to itself, to nowhere, and large numbers.

Run ``python tests/fuzz/fuzz_guestmemory.py CORPUS_FOLDER`` where the package ``atheris`` is installed; without it, the
same property runs on random changes in tests/property/test_guestmemory.py. Each crash becomes a unit test.
"""

from __future__ import annotations

import pathlib
import struct
import sys
import time
from typing import Any

import ansible.module_utils as module_utils

ROOT = pathlib.Path(__file__).resolve().parents[2]
module_utils.__path__.append(str(ROOT / "module_utils"))
sys.path[:0] = [str(ROOT / "tests")]

from ansible.module_utils.vouch.errors import VouchError  # noqa: E402

from sim.guestattacks import Watched  # noqa: E402
from sim.recordedguest import PAGE_BYTES, recorded_guest, stand_in  # noqa: E402

LIMIT_S = 10.0
DIRECT_MAP = 0xFFFF_8880_0000_0000
WORDS = PAGE_BYTES // 8
MAX_CHANGES = 64

_guests: list[Watched] = []


def guest() -> Watched:
    """Return the guest, read once."""
    if not _guests:
        _guests.append(recorded_guest())
    return _guests[0]


def word(kind: int, page: int, at: int, before: int) -> int:
    """Return what a word becomes: ``kind`` chooses how, ``page`` is a frame that was recorded."""
    value = kind >> 3
    return (
        before ^ 1 << (value & 63),
        DIRECT_MAP + page * PAGE_BYTES + (value & 511) * 8,
        DIRECT_MAP + at,
        (1 << 64) - 1 - value,
        before + (value - 4096) * 8 & (1 << 64) - 1,
        page << 12 | 0x63,
        value,
        before & ~0xFFFF_FFFF | 0xFFFF_FFFF - value,
    )[kind & 7]


def one_input(data: bytes) -> None:
    """Change the guest, check it as one that was up and as one that is met for the first time, put it right."""
    it = guest()
    ram, frames = it.guest.ram, it.guest.frames
    before: list[tuple[int, bytes]] = []
    for page, place, kind in struct.iter_unpack("<HHH", data[: min(len(data), 6 * MAX_CHANGES) // 6 * 6]):
        at = frames[page % len(frames)] * PAGE_BYTES + place % WORDS * 8
        before.append((at, bytes(ram[at : at + 8])))
        new = word(kind, frames[(page + kind) % len(frames)], at, int.from_bytes(before[-1][1], "little"))
        ram[at : at + 8] = new.to_bytes(8, "little")
    try:
        newcomer = Watched(it.guest, it.policy_file, it.profile)
        stand_in(newcomer)
        for measurer in (it.measurer, newcomer.measurer):
            run(measurer)
    finally:
        for at, content in reversed(before):
            ram[at : at + 8] = content


def run(measurer: Any) -> None:
    """Run each kind of round; nothing but our own errors may come out, and not late."""
    began_s = time.monotonic()
    for check in (measurer.light, measurer.heavy):
        try:
            check()
        except VouchError:
            continue
    assert time.monotonic() - began_s < LIMIT_S, "a round took too long"


def main() -> None:
    """Hand the target to libFuzzer."""
    import atheris  # type: ignore[import-not-found]

    atheris.instrument_all()
    atheris.Setup(sys.argv, one_input)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
