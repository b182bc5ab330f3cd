# SPDX-License-Identifier: GPL-3.0-or-later
"""The evidence bundle: one tar (``indexedtar``) that holds everything one appraisal was made from.

``make.bundle`` says what the parts are.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

from ..errors import ParseError, shown
from .indexedtar import INDEX, TarForm, check_index, index_of, read_entries

BUNDLE_TYPE = "urn:vouch:bundle:1"
TOKEN = "result.jwt"  # noqa: S105  # the name of a part
"""The signed result: the one part that says something about the others."""

PART_BYTES: Mapping[str, int] = MappingProxyType(
    {
        "context.json": 64 << 10,
        "evidence.json": 64 << 20,
        "enrolment.json": 1 << 20,
        "policy.json": 1 << 20,
        "release.json": 16 << 20,
        "manifest": 64 << 20,
        "result.json": 4 << 20,
        TOKEN: 1 << 20,
    }
)
"""Each part with a name of its own, and how long it may be."""

PACKAGE = re.compile(r"packages/([0-9a-f]{64})\.json\Z")
MAX_PACKAGE_BYTES = 16 << 20
MAX_PACKAGES = 512
"""Twice as many as guests can be stated: the log may name others."""

FORMER = re.compile(r"former/([0-9a-f]{64})\.json\Z")
MAX_FORMER = 256
"""Releases that a host ran before: more than it can prove to have been updated to."""

MAX_INDEX_BYTES = 256 << 10
MAX_BUNDLE_BYTES = 256 << 20

REQUIRED = ("context.json", "policy.json", "result.json")
BOTH_OR_NONE = ("release.json", "manifest")


@dataclass(frozen=True, slots=True, kw_only=True)
class Bundle:
    """A bundle whose parts are those of its index. That says nothing about who made it.

    Attributes:
        parts: Name to content; the index itself is not among them.
        size_bytes: Length of the whole.
    """

    parts: Mapping[str, bytes]
    size_bytes: int


def bundle_index(parts: Mapping[str, bytes]) -> bytes:
    """Return the one index that ``parts`` have."""
    return index_of(BUNDLE_TYPE, parts)


def parts_digest(parts: Mapping[str, bytes]) -> bytes:
    """Return what a signed result names its bundle by: SHA-256 of the index of every part but the signed result."""
    return hashlib.sha256(bundle_index({name: data for name, data in parts.items() if name != TOKEN})).digest()


def part_limit(name: str) -> int | None:
    """Return how long the part of that name may be; None when a bundle has no such part."""
    if PACKAGE.match(name):
        return MAX_PACKAGE_BYTES
    if FORMER.match(name):
        return PART_BYTES["release.json"]
    return MAX_INDEX_BYTES if name == INDEX else PART_BYTES.get(name)


def former_name(release: bytes) -> str:
    """Return the part that holds a release which a host ran before, by its id."""
    return f"former/{release.hex()}.json"


FORM = TarForm(
    type=BUNDLE_TYPE,
    part_limit=part_limit,
    max_parts=len(PART_BYTES) + MAX_PACKAGES + MAX_FORMER,
    max_bytes=MAX_BUNDLE_BYTES,
)


def parse_bundle(data: bytes) -> Bundle:
    """Return the bundle of its bytes.

    Raises:
        ParseError: a code of family ``bundle``, for anything else than the one spelling of the parts it lists.

    Trust: ``data`` is anybody's, and afterwards agrees with itself, no more.
    """
    found = read_entries(data, FORM)
    index = found.pop(INDEX)
    _check_parts(found)
    check_index(index, found, FORM)
    return Bundle(parts=MappingProxyType(found), size_bytes=len(data))


def _check_parts(found: Mapping[str, bytes]) -> None:
    for name in REQUIRED:
        if name not in found:
            raise _fail("bundle.part.missing", name, 0, "is missing")
    for name, other in (BOTH_OR_NONE, BOTH_OR_NONE[::-1]):
        if name in found and other not in found:
            raise _fail("bundle.part.missing", other, 0, f"is missing, and {name} is there")
    for name, data in found.items():
        match = PACKAGE.match(name) or FORMER.match(name)
        if match and match[1] != hashlib.sha256(data).hexdigest():
            raise _fail("bundle.digest.mismatch", name, 0, "is another one than its name says")


def _fail(code: str, name: str, at: int, problem: str) -> ParseError:
    return ParseError(f"bundle.{shown(name)}" if name else "bundle", at, problem, code=code)
