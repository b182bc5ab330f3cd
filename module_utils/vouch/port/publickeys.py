# SPDX-License-Identifier: GPL-3.0-or-later
"""Public keys in PEM files: who may sign what."""

from __future__ import annotations

import os
from collections.abc import Iterable

from ..model.key import PublicKey
from .files import read_bounded

MAX_KEY_FILE_BYTES = 64 * 1024


def read_public_keys(paths: Iterable[str | os.PathLike[str]]) -> list[PublicKey]:
    """Return the key of each file, in their order.

    Raises:
        ParseError: for a file that is not one PEM block of a key that we know.
        UnreachableError: for one that cannot be read, or is longer than ``MAX_KEY_FILE_BYTES``.
    """
    return [PublicKey.from_pem(read_bounded(path, limit_bytes=MAX_KEY_FILE_BYTES)) for path in paths]
