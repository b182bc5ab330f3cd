# SPDX-License-Identifier: GPL-3.0-or-later
"""The object files of a build, and one digest for all of them.

The digest is SHA-256 over the SHA-256 of each object, ascending, in hexadecimal, a line each. It does not depend on
names, places or order, so two builds of the same sources at different places can be compared.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from ..model.digest import sha256


def objects_below(folder: Path) -> tuple[Path, ...]:
    """Return the object files below a folder, ascending by path."""
    return tuple(sorted(folder.rglob("*.o")))


def objects_digest(objects: Iterable[Path]) -> bytes:
    """Return the digest of all of them, 32 bytes.

    Raises:
        OSError: one cannot be read.
    """
    digests = sorted(sha256(path.read_bytes()).hex() for path in objects)
    return sha256("".join(f"{digest}\n" for digest in digests).encode())
