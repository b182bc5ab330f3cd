# SPDX-License-Identifier: GPL-3.0-or-later
"""Which shared libraries a set of programs needs, from the dynamic sections of their files.

Only 64-bit little-endian ELF files are read; anything else needs nothing.

Source: System V ABI, chapter 5 (dynamic linking); the AMD64 supplement.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

from ..errors import ParseError

_MAGIC = b"\x7fELF\x02\x01"
_ET_REL = 1
_PT_LOAD = 1
_PT_DYNAMIC = 2
_DT_NULL = 0
_DT_NEEDED = 1
_DT_STRTAB = 5
_PROGRAM_HEADER = struct.Struct("<IIQQQQQQ")
_DYNAMIC_ENTRY = struct.Struct("<QQ")
_MAX_HEADERS = 256
_MAX_DYNAMIC = 4096
_MAX_NAME_BYTES = 256


@dataclass(frozen=True, slots=True)
class _Segment:
    kind: int
    offset: int
    address: int
    size: int


def is_elf(data: bytes) -> bool:
    """Return whether ``data`` begins as a 64-bit little-endian ELF file."""
    return data.startswith(_MAGIC)


def needed(data: bytes) -> tuple[str, ...]:
    """Return the names (DT_NEEDED) that the dynamic linker loads for this file; empty for static and other files.

    Raises:
        ParseError: an ELF file whose tables leave the file.
    """
    if not is_elf(data):
        return ()
    if len(data) < 64:
        raise ParseError("ELF.header", 0, "truncated", code="parse.truncated")
    if struct.unpack_from("<H", data, 16) == (_ET_REL,):
        # An object for the linker: it has no program headers.
        return ()
    (table,) = struct.unpack_from("<Q", data, 32)
    entry_size, count = struct.unpack_from("<HH", data, 54)
    if count > _MAX_HEADERS or entry_size != _PROGRAM_HEADER.size or table + count * entry_size > len(data):
        raise ParseError("ELF.e_phoff", 32, "the program headers are not inside the file")
    segments = []
    for index in range(count):
        kind, _, offset, address, _, size, _, _ = _PROGRAM_HEADER.unpack_from(data, table + index * entry_size)
        segments.append(_Segment(kind, offset, address, size))
    dynamic = next((s for s in segments if s.kind == _PT_DYNAMIC), None)
    if dynamic is None:
        return ()
    entries = _dynamic_entries(data, dynamic)
    strings = next((value for tag, value in entries if tag == _DT_STRTAB), None)
    offsets = [value for tag, value in entries if tag == _DT_NEEDED]
    if not offsets:
        return ()
    if strings is None:
        raise ParseError("ELF.DT_STRTAB", dynamic.offset, "missing")
    base = _file_offset(segments, strings)
    return tuple(_string(data, base + offset) for offset in offsets)


def closure(
    roots: Iterable[str], *, read: Callable[[str], bytes | None], libraries: Mapping[str, str]
) -> frozenset[str]:
    """Return ``roots`` and the paths of all libraries that they need, directly or not.

    Args:
        roots: Paths of programs and of libraries that are loaded by name at run time.
        read: Returns the content of a path, None when there is no such file.
        libraries: Library name (``libc.so.6``) to the path of its file.
    """
    queue = list(roots)
    seen: set[str] = set()
    while queue:
        path = queue.pop()
        if path in seen:
            continue
        seen.add(path)
        data = read(path)
        if data is not None:
            queue += [libraries[name] for name in needed(data) if name in libraries]
    return frozenset(seen)


def _dynamic_entries(data: bytes, segment: _Segment) -> list[tuple[int, int]]:
    if segment.offset + segment.size > len(data) or segment.size // _DYNAMIC_ENTRY.size > _MAX_DYNAMIC:
        raise ParseError("ELF.PT_DYNAMIC", segment.offset, "the dynamic section is not inside the file")
    entries = []
    for position in range(segment.offset, segment.offset + segment.size - 15, _DYNAMIC_ENTRY.size):
        tag, value = _DYNAMIC_ENTRY.unpack_from(data, position)
        if tag == _DT_NULL:
            break
        entries.append((tag, value))
    return entries


def _file_offset(segments: Iterable[_Segment], address: int) -> int:
    for segment in segments:
        if segment.kind == _PT_LOAD and segment.address <= address < segment.address + segment.size:
            return segment.offset + address - segment.address
    raise ParseError("ELF.DT_STRTAB", 0, f"address {address:#x} is in no segment")


def _string(data: bytes, offset: int) -> str:
    end = data.find(b"\0", offset, offset + _MAX_NAME_BYTES)
    if end < 0:
        raise ParseError("ELF.DT_NEEDED", offset, "a name without end")
    return data[offset:end].decode("utf-8", "replace")
