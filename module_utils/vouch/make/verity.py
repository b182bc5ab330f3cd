# SPDX-License-Identifier: GPL-3.0-or-later
"""The dm-verity hash tree of a root image.

Levels of the tree, topmost first, stand right behind the data; there is no superblock, because every parameter is on
the measured kernel command line. Each block holds 128 digests, the last one of a level is filled with zeros::

    digest = SHA-256(salt || block)

Source: Linux, Documentation/admin-guide/device-mapper/verity.rst, hash format version 1.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

from ..errors import UsageError
from ..model.image import VERITY_BLOCK_BYTES, Verity

_SALT_LABEL = b"vouch root image salt\n"


@dataclass(frozen=True, slots=True, kw_only=True)
class HashTree:
    """A tree and what the kernel needs to use it."""

    verity: Verity
    tree: bytes


def padded(data: bytes) -> bytes:
    """Return ``data`` filled with zeros to whole blocks."""
    return data + bytes(-len(data) % VERITY_BLOCK_BYTES)


def content_salt(data: bytes) -> bytes:
    """Return a salt that depends on the content alone, so that equal builds are equal files.

    A salt only keeps blocks of different images from sharing digests; it is no secret.
    """
    return hashlib.sha256(_SALT_LABEL + hashlib.sha256(data).digest()).digest()


def hash_tree(data: bytes, salt: bytes) -> HashTree:
    """Return the tree over ``data``.

    Args:
        data: Whole blocks of 4096 bytes (use ``padded``).
        salt: Put in front of every block.

    Raises:
        UsageError: nothing to protect, or no whole blocks.
    """
    if not data or len(data) % VERITY_BLOCK_BYTES:
        raise UsageError(f"dm-verity covers whole blocks, not {len(data)} bytes", code="verity.size")
    levels: list[bytes] = []
    below = data
    while len(below) > VERITY_BLOCK_BYTES:
        below = padded(b"".join(_digests(below, salt)))
        levels.append(below)
    verity = Verity(
        root_hash=hashlib.sha256(salt + below).digest(), salt=salt, data_blocks=len(data) // VERITY_BLOCK_BYTES
    )
    return HashTree(verity=verity, tree=b"".join(reversed(levels)))


def verity_argument(verity: Verity) -> str:
    """Return the word of the kernel command line that the initrd reads."""
    return verity.word


def _digests(blocks: bytes, salt: bytes) -> list[bytes]:
    salted = hashlib.sha256(salt)
    view = memoryview(blocks)
    digests = []
    for offset in range(0, len(blocks), VERITY_BLOCK_BYTES):
        state = salted.copy()
        state.update(view[offset : offset + VERITY_BLOCK_BYTES])
        digests.append(state.digest())
    return digests
