# SPDX-License-Identifier: GPL-3.0-or-later
"""Built images under one folder, each by the digest of everything it was made of."""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import os
import shutil
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, Protocol, TypeVar

from ..errors import ParseError, UnreachableError, UsageError
from ..port.files import make_private_folder, read_bounded, write_atomic
from ..port.progress import report

DESCRIPTION = "image.json"
MAX_DESCRIPTION_BYTES = 4 << 20


class Described(Protocol):
    """What a build leaves beside its files: their digests, and a form that survives as JSON."""

    @property
    def files(self) -> Mapping[str, str]:
        """File name to SHA-256 in hexadecimal."""
        ...

    def to_json(self) -> dict[str, Any]:
        """Return the JSON form."""
        ...


ImageT = TypeVar("ImageT", bound=Described)


@dataclass(frozen=True, slots=True, kw_only=True)
class Cached(Generic[ImageT]):
    """A whole image in the cache."""

    folder: Path
    key: str
    image: ImageT


class BuildCache(Generic[ImageT]):
    """Images of one kind.

    Args:
        folder: Made when missing, private to its owner.
        what: Name of the kind in messages, for instance ``host image``.
        read: Makes the description again from its JSON form; raises what it likes for one that is damaged.
    """

    def __init__(self, folder: Path, *, what: str, read: Callable[[Mapping[str, Any]], ImageT]) -> None:
        self._folder = folder
        self._what = what
        self._read = read

    def find(self, key: str) -> Cached[ImageT] | None:
        """Return the image ``key``, or None when it is not there or its files are not what they should be."""
        folder = self._folder / key
        try:
            description = json.loads(read_bounded(folder / DESCRIPTION, limit_bytes=MAX_DESCRIPTION_BYTES))
            image = self._read(description)
            if any(file_sha256(folder / name) != digest for name, digest in image.files.items()):
                return None
        except (UnreachableError, UsageError, ParseError, OSError, ValueError, KeyError, TypeError):
            return None
        return Cached(folder=folder, key=key, image=image)

    def ensure(
        self, key: str, build: Callable[[Path], ImageT], *, name: str, rebuild: bool = False
    ) -> tuple[Cached[ImageT], bool]:
        """Return the image and whether it was built just now.

        Args:
            key: Digest of all inputs.
            build: Makes the files in the folder ``out`` of a private place and returns their description.
            name: Which image of this kind, for the progress.
            rebuild: Build although it is there.

        Raises:
            UnreachableError: a tool failed, the disk is full, the builder is not root.
            UsageError: the specification does not fit the tree.
        """
        make_private_folder(self._folder)
        with self._locked(key):
            if not rebuild and (found := self.find(key)) is not None:
                report(f"{self._what} {name}: from the cache")
                return found, False
            if os.geteuid() != 0:
                raise UnreachableError(f"a {self._what} is built by root (chroot)", code="image.privilege")
            for stale in self._folder.glob(f".{key}.*"):
                shutil.rmtree(stale, ignore_errors=True)
            place = self._folder / f".{key}.{os.getpid()}"
            try:
                (place / "out").mkdir(parents=True, mode=0o700)
                image = build(place)
                text = json.dumps(image.to_json(), indent=1, sort_keys=True) + "\n"
                write_atomic(place / "out" / DESCRIPTION, text.encode())
                final = self._folder / key
                shutil.rmtree(final, ignore_errors=True)
                os.replace(place / "out", final)
            except OSError as error:
                raise UnreachableError(
                    f"the image cannot be written: {error.strerror or error}: {error.filename}", code="image.write"
                ) from error
            finally:
                shutil.rmtree(place, ignore_errors=True)
            return Cached(folder=final, key=key, image=image), True

    @contextlib.contextmanager
    def _locked(self, key: str) -> Iterator[None]:
        with (self._folder / f"{key}.lock").open("w") as stream:
            fcntl.flock(stream, fcntl.LOCK_EX)
            yield


def file_sha256(path: Path) -> str:
    """Return the SHA-256 of a file in hexadecimal."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
