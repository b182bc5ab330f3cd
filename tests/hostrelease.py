# SPDX-License-Identifier: GPL-3.0-or-later
"""A signed host release of a few kilobytes, as a host that is updated fetches it."""

from __future__ import annotations

from typing import Any

from ansible.module_utils.vouch.make.sign import generate_private_key
from ansible.module_utils.vouch.make.statements import sign_host_release
from ansible.module_utils.vouch.model.digest import sha256
from ansible.module_utils.vouch.model.image import Verity
from ansible.module_utils.vouch.model.release import HostRelease, release_id

RELEASE_KEY = generate_private_key()
BLOCKS = 3


class NewRelease:
    """A release with its two files.

    Args:
        seed: Tells releases apart.
        variant: ``production`` or ``debug``.
        key: Who signs it.
        blocks: Of the root image.
    """

    def __init__(
        self, seed: int = 1, *, variant: str = "production", key: Any = RELEASE_KEY, blocks: int = BLOCKS
    ) -> None:
        self.verity = Verity(root_hash=bytes([seed]) * 32, salt=b"s", data_blocks=blocks)
        self.root = bytes([seed]) * self.verity.image_bytes
        self.xen_efi = b"xen.efi of release %d" % seed
        self.release = HostRelease(
            subjects={"xen.efi": sha256(self.xen_efi), "root.img": sha256(self.root)},
            name=f"host-{seed}",
            variant=variant,
            authenticode_sha256=sha256(b"authenticode" + self.xen_efi),
            pcr4=bytes(32),
            verity=self.verity,
            manifest_sha256=bytes(32),
            manifest_files=1,
            ssh_user="vouch",
            packages=(),
            xen="4.20",
            kernel="6.12",
            source_date_epoch=0,
        )
        self.envelope = sign_host_release(self.release, key)
        self.id = release_id(self.envelope)

    @property
    def blobs(self) -> tuple[bytes, bytes, bytes]:
        """What the image store has of it."""
        return self.envelope, self.root, self.xen_efi
