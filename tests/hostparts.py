# SPDX-License-Identifier: GPL-3.0-or-later
"""A host image of a few kilobytes, and the wish to install it."""

from __future__ import annotations

import uuid
from collections.abc import Iterator

from ansible.module_utils.vouch.install.slot import SlotWish, image_bytes
from ansible.module_utils.vouch.model.digest import sha256
from ansible.module_utils.vouch.model.image import Verity
from ansible.module_utils.vouch.model.release import HostRelease

HOST = uuid.UUID("3d9a6f5e-0c0e-4c53-9d0e-0c1d5f5c8a11")
BLOCKS = 3
ROOT = bytes(range(256)) * (image_bytes(BLOCKS) // 256)
XEN = b"MZ" + bytes(5000)
BLOBS = {sha256(ROOT): ROOT, sha256(XEN): XEN}


def fetch(digest: bytes, limit_bytes: int) -> Iterator[bytes]:
    blob = BLOBS[digest]
    assert len(blob) <= limit_bytes
    for start in range(0, len(blob), 4096):
        yield blob[start : start + 4096]


def release(root_hash: bytes = bytes(range(32))) -> HostRelease:
    return HostRelease(
        subjects={"xen.efi": sha256(XEN), "root.img": sha256(ROOT)},
        name="test",
        variant="production",
        authenticode_sha256=bytes(32),
        pcr4=bytes(32),
        verity=Verity(root_hash=root_hash, salt=b"s", data_blocks=BLOCKS),
        manifest_sha256=bytes(32),
        manifest_files=1,
        ssh_user="vouch",
        packages=(),
        xen="4.20",
        kernel="6.12",
        source_date_epoch=0,
    )


WISH = SlotWish(host_id=HOST, slot="a", release=release(), release_id=bytes(32))
