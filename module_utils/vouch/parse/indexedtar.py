# SPDX-License-Identifier: GPL-3.0-or-later
"""A tar (ustar) of named parts with an index, in one spelling: the form of every bundle.

The same parts have one tar, byte for byte, and no other bytes are read as that tar: a header is compared with the
only one its name and size can have. So there are no links, no folders, no second entry of a name, and no byte that may
be changed without notice.

======  =====  ========================================================
offset  size   entry
======  =====  ========================================================
0       512    header: name, ``0000644``, owner 0, size, time 0, checksum, type ``0``, ``ustar``; everything else NUL
512     size   content
...     ...    NUL up to the next multiple of 512
======  =====  ========================================================

``bundle.json`` comes first, the others ascend by name; two blocks of NUL end the tar, and NUL fills it up to a multiple
of 10,240 bytes. The index is ``{"type": ..., "parts": {name: {"sha256", "size"}}}``.

Source: POSIX.1-2017, pax, "ustar Interchange Format".
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from ..errors import ParseError, shown
from .canonical import dump_canonical, load_canonical
from .fields import Fields

INDEX = "bundle.json"
BLOCK_BYTES, RECORD_BYTES = 512, 10_240
_SIZE = re.compile(rb"[0-7]{11}\0")


@dataclass(frozen=True, slots=True, kw_only=True)
class TarForm:
    """One kind of bundle.

    Attributes:
        type: Of its index.
        part_limit: How long the part of a name may be; None when this kind has no such part. The index has a limit too.
        max_parts: Parts besides the index.
        max_bytes: Length of the whole.
    """

    type: str
    part_limit: Callable[[str], int | None]
    max_parts: int
    max_bytes: int


def index_of(form_type: str, parts: Mapping[str, bytes]) -> bytes:
    """Return the one index that ``parts`` have."""
    return dump_canonical(
        {
            "type": form_type,
            "parts": {
                name: {"sha256": hashlib.sha256(data).hexdigest(), "size": len(data)} for name, data in parts.items()
            },
        }
    )


def read_entries(data: bytes, form: TarForm) -> dict[str, bytes]:
    """Return the entries of a tar, its index among them and first; ``check_index`` is what the caller still owes.

    Raises:
        ParseError: a code of family ``bundle``, for anything else than the one spelling of what it holds.

    Trust: ``data`` is anybody's.
    """
    if len(data) > form.max_bytes:
        raise _fail("bundle.too-large", "", 0, f"{len(data)} bytes, more than the {form.max_bytes} allowed")
    found: dict[str, bytes] = {}
    at = 0
    while data[at : at + BLOCK_BYTES] != bytes(BLOCK_BYTES):
        name, size = _header(data, at, form)
        _check_place(name, found, at, form)
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
    return found


def check_index(index: bytes, found: Mapping[str, bytes], form: TarForm) -> None:
    """Return when ``index`` is that of the parts that were found; raises as ``read_entries``."""
    try:
        listed = _read_index(index, form)
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


def header(name: str, size: int) -> bytes:
    """Return the header of an entry; ``name`` is ASCII and shorter than 100 characters."""
    number = b"0000000\0"
    before = (
        name.encode("ascii").ljust(100, b"\0") + b"0000644\0" + number + number + b"%011o\0" % size + b"%011o\0" % 0
    )
    after = b"0" + bytes(100) + b"ustar\x0000" + bytes(247)
    checksum = sum(before) + 8 * ord(" ") + sum(after)
    return before + b"%06o\0 " % checksum + after


def _header(data: bytes, at: int, form: TarForm) -> tuple[str, int]:
    """Return name and size of the entry at ``at``."""
    raw = data[at : at + BLOCK_BYTES]
    if len(raw) < BLOCK_BYTES:
        raise _fail("bundle.truncated", "header", at, f"needs {BLOCK_BYTES} bytes, {len(raw)} left")
    if raw[257:263] != b"ustar\0":
        raise _fail("bundle.malformed", "header", at, "no ustar header stands here")
    name = raw[:100].split(b"\0", 1)[0].decode("latin-1")
    if raw[156:157] != b"0" or raw[157:257].strip(b"\0"):
        raise _fail("bundle.link", name, at, "is no plain file")
    limit = form.part_limit(name)
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


def _check_place(name: str, found: dict[str, bytes], at: int, form: TarForm) -> None:
    """Return when an entry of that name may follow those before it."""
    if name in found:
        raise _fail("bundle.part.duplicate", name, at, "stands twice")
    if (name == INDEX) != (not found) or (len(found) > 1 and name < next(reversed(found))):
        raise _fail("bundle.part.order", name, at, f"{INDEX} comes first, the others ascend by name")
    if len(found) > form.max_parts:
        raise _fail("bundle.too-many", name, at, "more parts than a bundle can have")


def _check_end(data: bytes, at: int) -> None:
    wanted = _rounded(at + 2 * BLOCK_BYTES, RECORD_BYTES)
    if len(data) < wanted:
        raise _fail("bundle.truncated", "end", at, f"{len(data)} bytes, expected {wanted}")
    if len(data) > wanted or data[at:].strip(b"\0"):
        raise _fail("bundle.trailing", "end", at, "something follows the last part")


def _read_index(index: bytes, form: TarForm) -> dict[str, tuple[bytes, int]]:
    fields = Fields(load_canonical(index, limit_bytes=form.part_limit(INDEX) or 0), "index")
    fields.literal("type", form.type)
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
