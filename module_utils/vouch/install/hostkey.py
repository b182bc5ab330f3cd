# SPDX-License-Identifier: GPL-3.0-or-later
"""The SSH host key of a measured host: made on its own disk, never seen elsewhere."""

from __future__ import annotations

import os
import pathlib

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from ..port.files import PUBLIC_MODE, read_bounded, write_atomic

FILE_NAME = "ssh_host_ed25519_key"
MAX_KEY_BYTES = 16 * 1024


def read_host_key(folder: pathlib.Path) -> str | None:
    """Return the public key (``ssh-ed25519 AAAA...``) of a whole, private key pair; None for anything less."""
    path = folder / FILE_NAME
    if not path.is_file() or path.stat().st_mode & 0o077:
        return None
    try:
        key = serialization.load_ssh_private_key(read_bounded(path, limit_bytes=MAX_KEY_BYTES), password=None)
    except (ValueError, TypeError, UnsupportedAlgorithm):
        return None
    if not isinstance(key, Ed25519PrivateKey):
        return None
    public = _public_text(key)
    public_path = path.with_suffix(".pub")
    if not public_path.is_file() or read_bounded(public_path, limit_bytes=MAX_KEY_BYTES) != public.encode() + b"\n":
        return None
    return public


def ensure_host_key(folder: pathlib.Path) -> str:
    """Return the public key of ``folder``, made now where there was no whole one.

    Raises:
        UnreachableError: ``files.unwritable``.
    """
    found = read_host_key(folder)
    if found is not None:
        return found
    folder.mkdir(mode=0o700, exist_ok=True)
    os.chmod(folder, 0o700)
    key = Ed25519PrivateKey.generate()
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.OpenSSH, serialization.NoEncryption()
    )
    public = _public_text(key)
    write_atomic(folder / FILE_NAME, private)
    # Last: a reader that sees the public half finds the private one beside it.
    write_atomic((folder / FILE_NAME).with_suffix(".pub"), public.encode() + b"\n", mode=PUBLIC_MODE)
    return public


def _public_text(key: Ed25519PrivateKey) -> str:
    return key.public_key().public_bytes(serialization.Encoding.OpenSSH, serialization.PublicFormat.OpenSSH).decode()
