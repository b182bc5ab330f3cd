# SPDX-License-Identifier: GPL-3.0-or-later
"""Evidence bundles, kept by digest: each part once, however many bundles hold it.

Hosts share releases, file lists, packages and policies; only evidence and results are each one's own. So a bundle is
kept as its index, which names the parts by digest, and the id of a bundle is the digest of that index. What is read
back is checked against it.

::

    <folder>/ab/abcd…      a part or an index, under its SHA-256
"""

from __future__ import annotations

import os
import pathlib
import re
from collections.abc import Iterator, Mapping

from ..errors import ParseError, UnreachableError, UsageError
from ..make.bundle import check_parts, write_bundle
from ..model.digest import sha256
from ..parse.bundle import bundle_index
from ..parse.canonical import load_json
from ..port.files import make_private_folder, read_bounded, write_atomic

MAX_PART_BYTES = 128 << 20
MAX_INDEX_BYTES = 1 << 20
YOUNG_S = 3600
"""What is younger may belong to a bundle that is being written; it is never removed."""

_ID = re.compile(r"[0-9a-f]{64}\Z")


class BundleStore:
    """The bundles in ``folder``; made when something is first written."""

    def __init__(self, folder: str | os.PathLike[str]) -> None:
        self._folder = pathlib.Path(folder)

    def put(self, parts: Mapping[str, bytes]) -> str:
        """Keep a bundle; return its id. What is there already is not written again.

        Raises:
            UsageError: ``bundle.part``.
            UnreachableError: ``files.unwritable``; a bundle that lacks a part has no index then.
        """
        check_parts(parts)
        index = bundle_index(parts)
        for data in (*parts.values(), index):
            self._keep(data)
        return sha256(index).hex()

    def read(self, bundle: str) -> bytes:
        """Return the bundle as one file, the same bytes as ``make.bundle.write_bundle`` gave.

        Raises:
            UsageError: ``bundle.id``.
            UnreachableError: ``bundle.missing`` or ``bundle.damaged``.
        """
        return write_bundle({name: self._get(digest) for name, digest in self._index(bundle).items()})

    def prune(self, keep: set[str], *, now_s: float) -> int:
        """Remove every bundle whose id is not in ``keep``, and the parts that only it had; return the bytes gained."""
        needed = set(keep)
        for bundle in keep:
            try:
                needed |= set(self._index(bundle).values())
            except UnreachableError:
                continue
        gained = 0
        for path in self._files():
            entry = path.stat()
            if path.name not in needed and entry.st_mtime < now_s - YOUNG_S:
                path.unlink(missing_ok=True)
                gained += entry.st_size
        return gained

    def _files(self) -> Iterator[pathlib.Path]:
        return (path for path in sorted(self._folder.glob("??/*")) if _ID.match(path.name))

    def _index(self, bundle: str) -> dict[str, str]:
        try:
            parts = load_json(self._get(bundle), limit_bytes=MAX_INDEX_BYTES)["parts"]
            return {name: part["sha256"] for name, part in parts.items()}
        except (ParseError, KeyError, TypeError, AttributeError):
            raise UnreachableError(f"{bundle} is no index of a bundle", code="bundle.damaged") from None

    def _get(self, digest: str) -> bytes:
        path = self._path(digest)
        if not path.exists():
            raise UnreachableError(f"{path} is not there", code="bundle.missing", hint="its retention may be over")
        data = read_bounded(path, limit_bytes=MAX_PART_BYTES)
        if sha256(data).hex() != digest:
            raise UnreachableError(f"{path} was altered", code="bundle.damaged", hint="restore it from a backup")
        return data

    def _keep(self, data: bytes) -> None:
        path = self._path(sha256(data).hex())
        try:
            # Young again, so that no pruning between this and the index takes it away.
            os.utime(path)
        except FileNotFoundError:
            make_private_folder(self._folder)
            make_private_folder(path.parent)
            write_atomic(path, data)
        except OSError as error:
            raise UnreachableError(f"{path} cannot be written: {error.strerror}", code="files.unwritable") from None

    def _path(self, digest: str) -> pathlib.Path:
        if not isinstance(digest, str) or not _ID.match(digest):
            raise UsageError("a bundle's id is a SHA-256 in hexadecimal", code="bundle.id")
        return self._folder / digest[:2] / digest
