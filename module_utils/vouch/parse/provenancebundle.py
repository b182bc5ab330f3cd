# SPDX-License-Identifier: GPL-3.0-or-later
"""The provenance bundle: one tar (``indexedtar``) with all that speaks for what one build is made of.

Every part but the chain is named by its SHA-256, so nothing can stand for something else. ``make.provenance`` says
what the parts are.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from types import MappingProxyType

from ..errors import ParseError, shown
from .indexedtar import INDEX, TarForm, check_index, read_entries

PROVENANCE_BUNDLE_TYPE = "urn:vouch:provenance-bundle:1"
CHAIN = "chain.json"
STATEMENTS, KEYS, CERTIFICATES, ACCEPTANCES, PAPERS = "statements", "keys", "certificates", "acceptances", "papers"

FOLDER_BYTES: Mapping[str, int] = MappingProxyType(
    {
        STATEMENTS: 8 << 20,
        KEYS: 16 << 10,
        CERTIFICATES: 4 << 10,
        ACCEPTANCES: 8 << 10,
        PAPERS: 64 << 20,
    }
)
"""Kinds of parts, and how long one may be."""

MAX_CHAIN_BYTES = 16 << 20
MAX_PARTS = 60_000
MAX_INDEX_BYTES = 16 << 20
MAX_BUNDLE_BYTES = 512 << 20

_NAME = re.compile(r"(%s)/([0-9a-f]{64})\Z" % "|".join(FOLDER_BYTES))  # noqa: UP031  # braces are the pattern's


@dataclass(frozen=True, slots=True, kw_only=True)
class ProvenanceBundle:
    """A bundle whose parts are those of its index, each under its own digest. That says nothing about who made it."""

    parts: Mapping[str, bytes]
    size_bytes: int

    def part(self, folder: str, digest: bytes) -> bytes | None:
        """Return the part of that digest, or None."""
        return self.parts.get(part_name(folder, digest))

    def digests(self, folder: str) -> Iterator[bytes]:
        """Yield the digests of all parts of one kind, ascending."""
        for name in self.parts:
            if name.startswith(f"{folder}/"):
                yield bytes.fromhex(name[len(folder) + 1 :])


def part_name(folder: str, digest: bytes) -> str:
    """Return the name of a part."""
    return f"{folder}/{digest.hex()}"


def part_limit(name: str) -> int | None:
    """Return how long the part of that name may be; None when a bundle has no such part."""
    if match := _NAME.match(name):
        return FOLDER_BYTES[match[1]]
    return {INDEX: MAX_INDEX_BYTES, CHAIN: MAX_CHAIN_BYTES}.get(name)


FORM = TarForm(type=PROVENANCE_BUNDLE_TYPE, part_limit=part_limit, max_parts=MAX_PARTS, max_bytes=MAX_BUNDLE_BYTES)


def parse_provenance_bundle(data: bytes) -> ProvenanceBundle:
    """Return the bundle of its bytes.

    Raises:
        ParseError: a code of family ``bundle``; ``provenance.bundle.name`` for a part under another's digest.

    Trust: ``data`` is anybody's, and afterwards agrees with itself, no more.
    """
    found = read_entries(data, FORM)
    index = found.pop(INDEX)
    if CHAIN not in found:
        raise ParseError(f"bundle.{CHAIN}", 0, "is missing", code="bundle.part.missing")
    for name, content in found.items():
        if name != CHAIN and not name.endswith(hashlib.sha256(content).hexdigest()):
            raise ParseError(f"bundle.{shown(name)}", 0, "is another part", code="provenance.bundle.name")
    check_index(index, found, FORM)
    return ProvenanceBundle(parts=MappingProxyType(found), size_bytes=len(data))


def is_provenance_bundle(data: bytes) -> bool:
    """Say whether the index that ``data`` begins with calls it one; nothing is read by that."""
    return f'"type":"{PROVENANCE_BUNDLE_TYPE}"}}'.encode() in data[: 512 + MAX_INDEX_BYTES]
