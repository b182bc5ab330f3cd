# SPDX-License-Identifier: GPL-3.0-or-later
"""Public keys in PEM files: who may sign what."""

from __future__ import annotations

import os
from collections.abc import Iterable

from ..errors import ParseError, UsageError
from ..model.key import MAX_PEM_BYTES, PublicKey
from .files import read_bounded


def read_public_keys(paths: Iterable[str | os.PathLike[str]]) -> list[PublicKey]:
    """Return the key of each file, in their order.

    Raises:
        UsageError: for a file that is not one PEM block of a key that we know; names it, and has the code that
            ``PublicKey.from_pem`` gives.
        UnreachableError: for one that cannot be read, or is longer than ``MAX_PEM_BYTES``.
    """
    return [_read(path) for path in paths]


def _read(path: str | os.PathLike[str]) -> PublicKey:
    pem = read_bounded(path, limit_bytes=MAX_PEM_BYTES)
    try:
        return PublicKey.from_pem(pem)
    except ParseError as error:
        raise UsageError(f"{path}: {error.message}", code=error.code, hint="Give the public key, PEM") from None
