# SPDX-License-Identifier: GPL-3.0-or-later
"""What a build in a guest gives out: one tar (``indexedtar``) with the built files and their provenance bundle.

==================  ====================================================================
``bundle.json``     the index, of type ``urn:vouch:build-result:1``
``files/NAME``      a built file
``provenance.tar``  the provenance bundle about these files (``parse.provenancebundle``)
==================  ====================================================================

A build that failed gives out one line in its place: ``vouch-build: failed CODE``.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

from ..errors import ParseError
from .indexedtar import INDEX, TarForm, check_index, read_entries

BUILD_RESULT_TYPE = "urn:vouch:build-result:1"
FILES, PROVENANCE = "files", "provenance.tar"
MAX_FILE_BYTES = 256 << 20
MAX_PROVENANCE_BYTES = 512 << 20
MAX_INDEX_BYTES = 1 << 20
MAX_FILES = 64

# Whoever takes a result over has the bundle beside the files, by its name.
FAILED = b"vouch-build: failed "
_FAILURE = re.compile(FAILED + rb"([a-z0-9.-]{1,64})\n\Z")
_FILE = re.compile(r"files/(?!provenance\.tar\Z)[A-Za-z0-9][A-Za-z0-9._+~-]{0,90}\Z")


@dataclass(frozen=True, slots=True, kw_only=True)
class BuildResult:
    """A result that agrees with its index. Whether ``provenance`` speaks for ``files`` is not said by that."""

    files: Mapping[str, bytes]
    provenance: bytes


def part_limit(name: str) -> int | None:
    """Return how long the part of that name may be; None when a result has no such part."""
    if _FILE.match(name):
        return MAX_FILE_BYTES
    return {INDEX: MAX_INDEX_BYTES, PROVENANCE: MAX_PROVENANCE_BYTES}.get(name)


FORM = TarForm(
    type=BUILD_RESULT_TYPE,
    part_limit=part_limit,
    max_parts=MAX_FILES + 1,
    max_bytes=MAX_PROVENANCE_BYTES + MAX_FILE_BYTES,
)


def parse_build_result(data: bytes) -> BuildResult:
    """Return the result of its bytes.

    Raises:
        ParseError: a code of family ``bundle``; ``build.failed`` where the guest says that there is no result.

    Trust: ``data`` is anybody's, and afterwards agrees with itself, no more. Names of files are safe to write below a
    folder of one's own.
    """
    if failure := _FAILURE.match(data):
        raise ParseError("result", 0, f"the build failed in its guest: {failure[1].decode()}", code="build.failed")
    found = read_entries(data, FORM)
    check_index(found.pop(INDEX), found, FORM)
    if PROVENANCE not in found:
        raise ParseError(f"bundle.{PROVENANCE}", 0, "is missing", code="bundle.part.missing")
    provenance = found.pop(PROVENANCE)
    files = {name.partition("/")[2]: data for name, data in found.items()}
    return BuildResult(files=MappingProxyType(files), provenance=provenance)
