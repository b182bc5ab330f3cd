# SPDX-License-Identifier: GPL-3.0-or-later
"""The object files of a build, and one digest for all of them.

The digest is SHA-256 over the SHA-256s of the objects, ascending, each once, in hexadecimal, a line each. It does not
depend on names, places or order, so two builds of the same sources at different places can be compared. Two objects
that are the same count as one, because the signed statement about a build names each object by its digest: the digest
of all of them follows from that statement, too.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path

from ..model.digest import sha256


def objects_below(folder: Path) -> tuple[Path, ...]:
    """Return the object files below a folder, ascending by path."""
    found = (Path(root, name) for root, _, names in os.walk(folder) for name in names if name.endswith(".o"))
    return tuple(sorted(found))


def objects_digest(objects: Iterable[Path]) -> bytes:
    """Return the digest of all of them, 32 bytes.

    Raises:
        OSError: one cannot be read.
    """
    return digest_of(sha256(path.read_bytes()) for path in objects)


def digest_of(digests: Iterable[bytes]) -> bytes:
    """Return the digest of all objects that have these SHA-256s, 32 bytes."""
    return sha256("".join(f"{digest}\n" for digest in sorted({digest.hex() for digest in digests})).encode())
