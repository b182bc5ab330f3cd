# SPDX-License-Identifier: GPL-3.0-or-later
"""The parts of an introspection profile: regions, segments, values, hooks, gates; their JSON forms."""

from __future__ import annotations

import sys
from array import array
from typing import Any, NamedTuple

from ..errors import ParseError, shown
from ..parse.cursor import Cursor
from ..parse.fields import Fields

PAGE_BYTES = 4096
DIGEST_BYTES = 32
LINE_BYTES = 256

MAX_REGION_BYTES = 256 << 20
MAX_SITES = 2_000_000
MAX_SEGMENT_BYTES = 512 << 20
MAX_ITEMS = 4096


class Region(NamedTuple):
    """A stretch of the kernel that must stay what the file says, but for its sites.

    Attributes:
        start: Virtual address of the first byte.
        size_bytes: How long it is.
        sha256: Of the file's content.
        page_digests: 32 bytes a page of 4 KiB: SHA-256 of the file's content with every byte of a site as zero. The
            last page may be short.
        line_sums: CRC-32 of each 256 bytes of the same: says where a page that differs does, and decides nothing.
        site_offsets: Where each site begins, from ``start``; in order, none overlaps the next.
        site_sets: Form set of each site.
    """

    start: int
    size_bytes: int
    sha256: bytes
    page_digests: bytes
    line_sums: array[int]
    site_offsets: array[int]
    site_sets: array[int]

    @property
    def pages(self) -> int:
        """Number of pages, the last one perhaps short."""
        return -(-self.size_bytes // PAGE_BYTES)


class Segment(NamedTuple):
    """What the domain builder loads: the file's bytes, then zeros."""

    virtual: int
    physical: int
    size_bytes: int
    file_bytes: int
    sha256: bytes
    """Of the ``file_bytes`` bytes that are in the file."""


class Value(NamedTuple):
    """A number that the kernel writes into its code once it knows it, the same at each site.

    Attributes:
        name: The variable it stands for, such as ``dentry_hashtable``.
        size_bytes: 8 or 1.
        file: What stands in the file.
        allowed: What may stand there later; empty when only the variable itself can tell.
    """

    name: str
    size_bytes: int
    file: int
    allowed: tuple[int, ...]


class Hook(NamedTuple):
    """Where the kernel keeps who is asked about one operation, and who may be.

    Attributes:
        offset: Up to Linux 6.11: of the list's head in ``security_hook_heads``. From 6.12 on: of the first slot in
            ``static_calls_table``.
        slots: From Linux 6.12 on: how many slots there are; 0 before.
        functions: Every function that a security module of this kernel has for it.
    """

    offset: int
    slots: int
    functions: tuple[int, ...]


def read_numbers(cursor: Cursor, count: int, field: str) -> array[int]:
    """Take ``count`` numbers of four bytes."""
    found = array("I")
    found.frombytes(cursor.take(4 * count, field))
    if sys.byteorder != "little":
        found.byteswap()
    return found


def read_region(cursor: Cursor, fields: Fields, name: str) -> Region:
    """Take one region: its head from the header, its tables from the file."""
    start = read_address("start", fields.take("start"))
    size = fields.integer("size_bytes", minimum=1, maximum=MAX_REGION_BYTES)
    digest = fields.hex("sha256", DIGEST_BYTES)
    sites = fields.integer("sites", maximum=MAX_SITES)
    fields.done()
    if start + size > 1 << 64:
        raise fields.fail("size_bytes", "leads out of the address space")
    pages = cursor.take(-(-size // PAGE_BYTES) * DIGEST_BYTES, f"{name}.pages")
    lines = read_numbers(cursor, -(-size // LINE_BYTES), f"{name}.lines")
    offsets = read_numbers(cursor, sites, f"{name}.site_offsets")
    return Region(start, size, digest, pages, lines, offsets, read_numbers(cursor, sites, f"{name}.site_sets"))


def region_json(region: Region) -> dict[str, Any]:
    """Return the head of a region."""
    return {
        "start": f"{region.start:x}",
        "size_bytes": region.size_bytes,
        "sha256": region.sha256.hex(),
        "sites": len(region.site_offsets),
    }


def read_segments(fields: Fields) -> list[Segment]:
    """Take the member ``segments``."""
    return [_segment(Fields(item, "profile.segments")) for item in fields.array("segments", maximum=MAX_ITEMS)]


def _segment(fields: Fields) -> Segment:
    found = Segment(
        virtual=read_address("virtual", fields.take("virtual")),
        physical=fields.integer("physical"),
        size_bytes=fields.integer("size_bytes", minimum=1, maximum=MAX_SEGMENT_BYTES),
        file_bytes=fields.integer("file_bytes", maximum=MAX_SEGMENT_BYTES),
        sha256=fields.hex("sha256", DIGEST_BYTES),
    )
    fields.done()
    if found.file_bytes > found.size_bytes:
        raise fields.fail("file_bytes", "more than are loaded")
    return found


def segment_json(segment: Segment) -> dict[str, Any]:
    """Return the JSON form of a segment."""
    return {**segment._asdict(), "virtual": f"{segment.virtual:x}", "sha256": segment.sha256.hex()}


def read_values(fields: Fields) -> list[Value]:
    """Take the member ``values``."""
    found = []
    for item in fields.array("values", maximum=256):
        value = Fields(item, "profile.values")
        found.append(
            Value(
                name=value.text("name"),
                size_bytes=value.integer("size_bytes", minimum=1, maximum=8),
                file=read_address("file", value.take("file")),
                allowed=_addresses("allowed", value.array("allowed", maximum=MAX_ITEMS)),
            )
        )
        value.done()
    return found


def value_json(value: Value) -> dict[str, Any]:
    """Return the JSON form of a value."""
    return {**value._asdict(), "file": f"{value.file:x}", "allowed": [f"{item:x}" for item in value.allowed]}


def read_hooks(fields: Fields) -> dict[str, Hook]:
    """Take every hook of ``fields``."""
    found = {}
    for name, value in fields.rest().items():
        item = Fields(value, "profile.hooks")
        functions = item.array("functions", maximum=MAX_ITEMS)
        found[name] = Hook(item.integer("offset"), item.integer("slots"), _addresses("functions", functions))
        item.done()
    return found


def hook_json(hook: Hook) -> dict[str, Any]:
    """Return the JSON form of a hook."""
    return {**hook._asdict(), "functions": [f"{at:x}" for at in hook.functions]}


def read_gates(fields: Fields) -> dict[int, tuple[int, ...]]:
    """Take every vector of ``fields``."""
    found = {}
    for name, value in fields.rest().items():
        if not name.isdecimal() or len(name) > 3 or int(name) > 255 or str(int(name)) != name:
            raise fields.fail(shown(name), "is no vector")
        if not isinstance(value, list) or len(value) > MAX_ITEMS:
            raise fields.fail(name, "is no list of handlers")
        found[int(name)] = _addresses("gates", value)
    return found


def read_counts(fields: Fields, *, negative: bool = False) -> dict[str, int]:
    """Take every member of ``fields`` as a number."""
    found = {}
    for name, value in fields.rest().items():
        if type(value) is not int or (value < 0 and not negative):
            raise fields.fail(shown(name), "is no count")
        found[name] = value
    return found


def read_address(field: str, value: object) -> int:
    """Return a number from its hexadecimal text, which has one spelling."""
    if isinstance(value, str) and 0 < len(value) <= 16:
        try:
            number = int(value, 16)
        except ValueError:
            number = -1
        if f"{number:x}" == value:
            return number
    raise ParseError(f"profile.{field}", 0, f"{shown(value)} is no address")


def _addresses(field: str, values: list[Any]) -> tuple[int, ...]:
    return tuple(read_address(field, value) for value in values)
