# SPDX-License-Identifier: GPL-3.0-or-later
"""One byte of the image changed: the guest does not come up."""

from __future__ import annotations

import time

from runs import BOOT_LIMIT_S, FLIPPED
from xen_guests import GUESTS, XenHost

from conftest import keep_console

SUPERBLOCK = 1024
"""Where the file system begins (Linux 6.12, fs/erofs/erofs_fs.h, EROFS_SUPER_OFFSET): nothing mounts without it."""

FLIP = """
import pathlib, sys
source, target, at = sys.argv[1:]
data = bytearray(pathlib.Path(source).read_bytes())
data[int(at)] ^= 1
pathlib.Path(target).write_bytes(data)
"""
CRASH_LIMIT_S = 300


def test_one_byte_flipped(dom0: XenHost) -> None:
    folder, changed = f"{GUESTS}/{FLIPPED.image}", "flipped.img"
    dom0.run(f"python3.13 -I - {folder}/root.img {folder}/{changed} {SUPERBLOCK}", stdin=FLIP.encode())
    with dom0.guest(FLIPPED.domain(image=changed)) as guest:
        try:
            guest.wait_for("Kernel panic", BOOT_LIMIT_S)
            deadline = time.monotonic() + CRASH_LIMIT_S
            while "c" not in guest.state():
                assert time.monotonic() < deadline, guest.state()
                time.sleep(1)
            guest.shows_within("---[ end Kernel panic", 5)
        finally:
            keep_console("flipped", guest)
    dom0.run(f"rm {folder}/{changed}")
    assert "dm-verity device corrupted" in guest.console or "data block 0 is corrupted" in guest.console
    assert "vouch-guest: ready" not in guest.console
    assert "systemd" not in guest.console
