# SPDX-License-Identifier: GPL-3.0-or-later
"""Signing keys in PEM files: read where they are, made where they are missing."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from ..make.sign import PrivateKey, generate_private_key, load_private_key, private_pem, public_key
from ..model.key import PublicKey
from ..port.files import make_private_folder, read_bounded, write_atomic

MAX_KEY_BYTES = 64 * 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class SigningKey:
    """One signing key.

    Attributes:
        path: Its file.
        private: The key.
        made: Whether it was made just now, and is not in its file before ``keep``.
    """

    path: Path
    private: PrivateKey
    made: bool

    @property
    def public(self) -> PublicKey:
        """The public half."""
        return public_key(self.private)

    def keep(self) -> None:
        """Write the key to its file when it was made just now; readable by its owner only.

        Raises:
            UnreachableError: ``files.unwritable``.
        """
        if self.made:
            make_private_folder(self.path.parent)
            write_atomic(self.path, private_pem(self.private))


def find_or_make(path: Path, scheme: str) -> SigningKey:
    """Return the key of ``path``, or a new one of ``scheme`` when there is no such file.

    Raises:
        UsageError: ``key.private``, ``key.scheme`` for a file that holds no key we sign with.
        UnreachableError: when it cannot be read.
    """
    if not path.exists():
        return SigningKey(path=path, private=generate_private_key(scheme), made=True)
    return SigningKey(path=path, private=load_private_key(read_bounded(path, limit_bytes=MAX_KEY_BYTES)), made=False)
