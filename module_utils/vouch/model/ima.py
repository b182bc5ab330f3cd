# SPDX-License-Identifier: GPL-3.0-or-later
"""IMA reference values, and the place from which a growing measurement list is judged next time."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from ..errors import ParseError, UsageError
from ..parse.fields import Fields
from .digest import sha256

MAX_MANIFEST_BYTES = 64 << 20
"""Longest manifest that is read; a dom0 image has some ten thousand files."""

IMA_PCR = 10
"""CONFIG_IMA_MEASURE_PCR_IDX of every distribution kernel."""

BOOT_AGGREGATE = b"boot_aggregate"
"""Name of the first entry of every list (ima_init.c)."""

_LINE = re.compile(rb"([0-9a-f]{64})  (/[^\n\0]*)\Z")


@dataclass(frozen=True, slots=True, kw_only=True)
class ImaResume:
    """Everything before this place was judged and accepted.

    Attributes:
        offset_bytes: Where the next entry begins in the binary list.
        entries: How many entries lie before it.
        pcr10: PCR 10 (SHA-256 bank) after them.
        reset_count: Boot of the TPM the list belongs to; another boot starts another list.
        restart_count: As ``reset_count``, for resumes.
    """

    offset_bytes: int
    entries: int
    pcr10: bytes
    reset_count: int
    restart_count: int

    def __post_init__(self) -> None:
        if self.offset_bytes < 0 or self.entries < 0 or len(self.pcr10) != 32:
            raise UsageError("a resume point has an offset, a count and a 32-byte register")
        if (self.offset_bytes == 0) != (self.entries == 0) or (self.entries == 0 and any(self.pcr10)):
            raise UsageError("a list begins with no byte, no entry and PCR 10 all zero")

    @classmethod
    def start(cls, *, reset_count: int, restart_count: int) -> ImaResume:
        """Return the beginning of the list of one boot."""
        return cls(offset_bytes=0, entries=0, pcr10=bytes(32), reset_count=reset_count, restart_count=restart_count)

    def same_boot(self, *, reset_count: int, restart_count: int) -> bool:
        """Say whether the list that this place is in is the list of that boot."""
        return (self.reset_count, self.restart_count) == (reset_count, restart_count)

    def to_json(self) -> dict[str, Any]:
        """Return the JSON form."""
        return {
            "offset_bytes": self.offset_bytes,
            "entries": self.entries,
            "pcr10": self.pcr10.hex(),
            "reset_count": self.reset_count,
            "restart_count": self.restart_count,
        }

    @classmethod
    def read(cls, fields: Fields) -> ImaResume:
        """Take the members of ``fields``."""
        resume = cls(
            offset_bytes=fields.integer("offset_bytes"),
            entries=fields.integer("entries"),
            pcr10=fields.hex("pcr10", 32),
            reset_count=fields.integer("reset_count"),
            restart_count=fields.integer("restart_count"),
        )
        fields.done()
        return resume


@dataclass(frozen=True, slots=True)
class FileManifest:
    """Which files a release contains: (path as IMA writes it, SHA-256). A path may have several digests.

    The initrd and the root tree are two file systems with the same names, hence the several digests.

    Attributes:
        sha256: Digest of the blob the manifest was read from; the release binds it.
        files: The pairs. Spaces of a path are ``_``: the kernel writes them so, hence nothing else can be compared.
    """

    sha256: bytes
    files: frozenset[tuple[bytes, bytes]]

    @classmethod
    def from_bytes(cls, data: bytes) -> FileManifest:
        """Return the manifest of a blob of lines ``sha256hex  /path``.

        Raises:
            ParseError: code ``manifest.malformed`` for any other line, a line twice, an unended last line, or
                no line at all.

        Trust: the caller compares ``sha256`` with a verified release.
        """
        if len(data) > MAX_MANIFEST_BYTES:
            raise ParseError("manifest", 0, f"{len(data)} bytes, more than allowed", code="parse.too-large")
        if not data.endswith(b"\n"):
            raise ParseError("manifest", len(data), "does not end with a line", code="manifest.malformed")
        lines = data[:-1].split(b"\n")
        if len(set(lines)) != len(lines):
            raise ParseError("manifest", 0, "has a line twice", code="manifest.malformed")
        return cls(sha256(data), frozenset(_pairs(lines)))

    def digests_of(self, path: bytes) -> tuple[bytes, ...]:
        """Return the accepted digests of ``path``, ascending; none when the release has no such file."""
        return tuple(sorted(digest for name, digest in self.files if name == path))


def _pairs(lines: Iterable[bytes]) -> Iterable[tuple[bytes, bytes]]:
    match = _LINE.match
    at = 0
    for line in lines:
        found = match(line)
        if found is None:
            raise ParseError("manifest", at, "is no line 'sha256hex  /path'", code="manifest.malformed")
        yield found[2].replace(b" ", b"_"), bytes.fromhex(found[1].decode("ascii"))
        at += len(line) + 1
