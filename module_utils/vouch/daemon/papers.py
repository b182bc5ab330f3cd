# SPDX-License-Identifier: GPL-3.0-or-later
"""What the host shows to strangers beside its evidence: credential, releases, manifest, and the keys that signed them.

The controller delivers them over SSH, part by part. Nothing on the host decides by them and nobody has to believe them:
each is what its signature or its digest says, wherever it was kept. So they are taken from anybody whom the image lets
in, bounded, and written whole or not at all.

Source: docs/channels.md, "Papers".
"""

from __future__ import annotations

import hashlib
import os
from typing import Any

from ..errors import ParseError, VouchError
from ..parse.canonical import load_canonical
from ..parse.fields import Fields

CREDENTIAL, RELEASE, MANIFEST, KEYS, FORMER = "credential", "release", "manifest", "keys", "former"
LIMITS = {CREDENTIAL: 2 << 20, RELEASE: 2 << 20, MANIFEST: 16 << 20, KEYS: 64 << 10, FORMER: 16 << 20}
"""Bytes of each paper."""

PART_BYTES = 40 * 1024
"""Of one request, whose frame holds it in base64."""

LISTS = {KEYS: (16, 1024), FORMER: (128, 1 << 20)}
"""Papers that are lists: most items, most bytes of each."""


class HostPapers:
    """The papers in ``folder``, made when missing.

    Raises:
        VouchError: ``papers.size``, ``papers.offset``, ``papers.digest``, ``papers.malformed``, ``papers.storage``.
    """

    __slots__ = ("_folder", "_parts")

    def __init__(self, folder: str) -> None:
        self._folder = folder
        self._parts: dict[str, bytearray] = {}

    def status(self) -> dict[str, Any]:
        """Return the answer to ``host.papers.status``: the digest of each paper, empty for one that is not here."""
        found = self.read_all()
        return {"papers": {name: hashlib.sha256(data).hexdigest() if data else "" for name, data in found.items()}}

    def put(self, name: str, digest: bytes, size: int, offset: int, data: bytes) -> dict[str, Any]:
        """Take a part of a paper; return the answer to ``host.papers``.

        Parts come in order. The last one has the whole compared and written.
        """
        if not 0 < size <= LIMITS[name] or len(data) > PART_BYTES or offset + len(data) > size:
            raise VouchError(f"{name} is at most {LIMITS[name]} bytes, a part {PART_BYTES}", code="papers.size")
        if offset == 0:
            self._parts[name] = bytearray()
        have = self._parts.get(name, bytearray())
        if offset != len(have):
            raise VouchError(f"of {name} {len(have)} bytes are here, not {offset}", code="papers.offset")
        have += data
        if len(have) < size:
            return {"paper": name, "have": len(have), "complete": False}
        whole = bytes(self._parts.pop(name))
        if hashlib.sha256(whole).digest() != digest:
            raise VouchError(f"{name} is another one than its digest says", code="papers.digest")
        if name in LISTS:
            read_list(name, whole)
        self._write(name, whole)
        return {"paper": name, "have": size, "complete": True}

    def read_all(self) -> dict[str, bytes]:
        """Return every paper by its name, empty where it is not here."""
        return {name: self._read(name) for name in LIMITS}

    def items(self, name: str) -> tuple[bytes, ...]:
        """Return what a paper lists, keys (SubjectPublicKeyInfo) or former releases; nothing where it is not here."""
        data = self._read(name)
        return read_list(name, data) if data else ()

    def _read(self, name: str) -> bytes:
        try:
            with open(os.path.join(self._folder, name), "rb", buffering=0) as stream:
                data = stream.read(LIMITS[name] + 1) or b""
        except OSError:
            return b""
        return data if len(data) <= LIMITS[name] else b""

    def _write(self, name: str, data: bytes) -> None:
        path = os.path.join(self._folder, name)
        try:
            os.makedirs(self._folder, 0o700, exist_ok=True)
            fd = os.open(path + ".new", os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
            try:
                view = memoryview(data)
                while view:
                    view = view[os.write(fd, view) :]
                os.fsync(fd)
            finally:
                os.close(fd)
            os.rename(path + ".new", path)
        except OSError as error:
            raise VouchError(f"{path}: {error.strerror}", code="papers.storage") from None


def read_list(name: str, data: bytes) -> tuple[bytes, ...]:
    """Return what a paper of ``LISTS`` holds: a canonical JSON list of base64.

    Raises:
        VouchError: ``papers.malformed``.
    """
    most, limit_bytes = LISTS[name]
    try:
        fields = Fields({name: load_canonical(data, limit_bytes=LIMITS[name])}, "papers")
        found = fields.array(name, maximum=most)
        return tuple(Fields({"item": item}, name).blob("item", limit_bytes=limit_bytes) for item in found)
    except ParseError as error:
        raise VouchError(f"{name}: {error}", code="papers.malformed") from None
