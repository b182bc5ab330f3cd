# SPDX-License-Identifier: GPL-3.0-or-later
"""The evidence bundle: one tar (ustar) that holds everything one appraisal was made from, in one spelling.

The same parts have one bundle, byte for byte, and no other bytes are read as that bundle: a header is compared with the
only one its name and size can have. So there are no links, no folders, no paths, no second entry of a name, and no byte
that may be changed without notice.

======  =====  ========================================================
offset  size   entry
======  =====  ========================================================
0       512    header: name, ``0000644``, owner 0, size, time 0, checksum, type ``0``, ``ustar``; everything else NUL
512     size   content
...     ...    NUL up to the next multiple of 512
======  =====  ========================================================

``bundle.json`` comes first, the others ascend by name; two blocks of NUL end the tar, and NUL fills it up to a multiple
of 10,240 bytes. ``make.bundle`` says what the parts are.

Source: POSIX.1-2017, pax, "ustar Interchange Format".
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

from ..errors import ParseError, shown
from .canonical import dump_canonical, load_canonical
from .fields import Fields

BUNDLE_TYPE = "urn:vouch:bundle:1"
INDEX = "bundle.json"
TOKEN = "result.jwt"  # noqa: S105  # the name of a part
"""The signed result: the one part that says something about the others."""

PART_BYTES: Mapping[str, int] = MappingProxyType(
    {
        "context.json": 64 << 10,
        "evidence.json": 64 << 20,
        "enrolment.json": 64 << 10,
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

BLOCK_BYTES, RECORD_BYTES = 512, 10_240
_SIZE = re.compile(rb"[0-7]{11}\0")


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
    return dump_canonical(
        {
            "type": BUNDLE_TYPE,
            "parts": {
                name: {"sha256": hashlib.sha256(data).hexdigest(), "size": len(data)} for name, data in parts.items()
            },
        }
    )


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


def parse_bundle(data: bytes) -> Bundle:
    """Return the bundle of its bytes.

    Raises:
        ParseError: a code of family ``bundle``, for anything else than the one spelling of the parts it lists.

    Trust: ``data`` is anybody's, and afterwards agrees with itself, no more.
    """
    if len(data) > MAX_BUNDLE_BYTES:
        raise _fail("bundle.too-large", "", 0, f"{len(data)} bytes, more than the {MAX_BUNDLE_BYTES} allowed")
    found: dict[str, bytes] = {}
    at = 0
    while data[at : at + BLOCK_BYTES] != bytes(BLOCK_BYTES):
        name, size = _header(data, at)
        _check_place(name, found, at)
        begin = at + BLOCK_BYTES
        at = begin + _rounded(size, BLOCK_BYTES)
        if at > len(data):
            raise _fail("bundle.truncated", name, begin, f"needs {size} bytes, {len(data) - begin} left")
        content, padding = data[begin : begin + size], data[begin + size : at]
        if padding.strip(b"\0"):
            raise _fail("bundle.malformed", name, begin + size, "something stands between the parts")
        found[name] = content
    _check_end(data, at)
    if not found:
        raise _fail("bundle.part.missing", INDEX, 0, "is missing")
    index = found.pop(INDEX)
    _check_parts(found)
    _check_index(index, found)
    return Bundle(parts=MappingProxyType(found), size_bytes=len(data))


def _header(data: bytes, at: int) -> tuple[str, int]:
    """Return name and size of the entry at ``at``."""
    raw = data[at : at + BLOCK_BYTES]
    if len(raw) < BLOCK_BYTES:
        raise _fail("bundle.truncated", "header", at, f"needs {BLOCK_BYTES} bytes, {len(raw)} left")
    if raw[257:263] != b"ustar\0":
        raise _fail("bundle.malformed", "header", at, "no ustar header stands here")
    name = raw[:100].split(b"\0", 1)[0].decode("latin-1")
    if raw[156:157] != b"0" or raw[157:257].strip(b"\0"):
        raise _fail("bundle.link", name, at, "is no plain file")
    limit = part_limit(name)
    if limit is None:
        raise _fail("bundle.part.unknown", name, at, "a bundle has no such part")
    if not _SIZE.fullmatch(raw, 124, 136):
        raise _fail("bundle.malformed", name, at + 124, "the size is no octal number")
    size = int(raw[124:135], 8)
    if size > limit:
        raise _fail("bundle.too-large", name, at + 124, f"{size} bytes, more than the {limit} allowed")
    if raw != header(name, size):
        raise _fail("bundle.malformed", name, at, "the header is not the one this name and size have")
    return name, size


def header(name: str, size: int) -> bytes:
    """Return the header of an entry; ``name`` is ASCII and shorter than 100 characters."""
    number = b"0000000\0"
    before = (
        name.encode("ascii").ljust(100, b"\0") + b"0000644\0" + number + number + b"%011o\0" % size + b"%011o\0" % 0
    )
    after = b"0" + bytes(100) + b"ustar\x0000" + bytes(247)
    checksum = sum(before) + 8 * ord(" ") + sum(after)
    return before + b"%06o\0 " % checksum + after


def _check_place(name: str, found: dict[str, bytes], at: int) -> None:
    """Return when an entry of that name may follow those before it."""
    if name in found:
        raise _fail("bundle.part.duplicate", name, at, "stands twice")
    if (name == INDEX) != (not found) or (len(found) > 1 and name < next(reversed(found))):
        raise _fail("bundle.part.order", name, at, f"{INDEX} comes first, the others ascend by name")
    if len(found) > len(PART_BYTES) + MAX_PACKAGES + MAX_FORMER:
        raise _fail("bundle.too-many", name, at, "more parts than a bundle can have")


def _check_end(data: bytes, at: int) -> None:
    wanted = _rounded(at + 2 * BLOCK_BYTES, RECORD_BYTES)
    if len(data) < wanted:
        raise _fail("bundle.truncated", "end", at, f"{len(data)} bytes, expected {wanted}")
    if len(data) > wanted or data[at:].strip(b"\0"):
        raise _fail("bundle.trailing", "end", at, "something follows the last part")


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


def _check_index(index: bytes, found: Mapping[str, bytes]) -> None:
    try:
        listed = _read_index(index)
    except ParseError as error:
        raise _fail("bundle.index.malformed", INDEX, error.offset_bytes, f"{error.field}: {error.problem}") from None
    for name in sorted(listed.keys() | found.keys()):
        if name not in listed:
            raise _fail("bundle.part.unlisted", name, 0, "is not in the index")
        if name not in found:
            raise _fail("bundle.part.missing", name, 0, "is in the index alone")
        digest, size = listed[name]
        if size != len(found[name]) or digest != hashlib.sha256(found[name]).digest():
            raise _fail("bundle.digest.mismatch", name, 0, "is not the part that the index names")


def _read_index(index: bytes) -> dict[str, tuple[bytes, int]]:
    fields = Fields(load_canonical(index, limit_bytes=MAX_INDEX_BYTES), "index")
    fields.literal("type", BUNDLE_TYPE)
    items: Mapping[str, Any] = fields.object("parts").rest()
    fields.done()
    listed: dict[str, tuple[bytes, int]] = {}
    for name, item in items.items():
        entry = Fields(item, f"index.parts.{shown(name)}")
        listed[name] = (entry.hex("sha256", 32), entry.integer("size"))
        entry.done()
    return listed


def _rounded(size: int, step: int) -> int:
    return -(-size // step) * step


def _fail(code: str, name: str, at: int, problem: str) -> ParseError:
    return ParseError(f"bundle.{shown(name)}" if name else "bundle", at, problem, code=code)
