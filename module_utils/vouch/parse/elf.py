# SPDX-License-Identifier: GPL-3.0-or-later
"""Sections and segments of a 64-bit little-endian ELF executable, such as the kernel itself (``vmlinux``).

Source: System V ABI, chapters 4 (sections) and 5 (program headers); the AMD64 supplement.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

from ..errors import ParseError

MAX_ELF_BYTES = 256 << 20
MAX_SECTIONS = 4096
MAX_SEGMENTS = 64

NOBITS = 8
ALLOCATED, EXECUTABLE = 2, 4
_LOAD = 1
_X86_64 = 62

_HEADER = struct.Struct("<16sHHIQQQIHHHHHH")
_SECTION = struct.Struct("<IIQQQQIIQQ")
_SEGMENT = struct.Struct("<IIQQQQQQ")


@dataclass(frozen=True, slots=True, kw_only=True)
class Section:
    """One section; ``data`` is empty where it takes no room in the file."""

    name: str
    kind: int
    flags: int
    address: int
    size_bytes: int
    data: memoryview


@dataclass(frozen=True, slots=True, kw_only=True)
class Segment:
    """One segment that is loaded: ``data``, then zeros up to ``size_bytes``."""

    virtual: int
    physical: int
    size_bytes: int
    data: memoryview


@dataclass(frozen=True, slots=True, kw_only=True)
class Elf:
    """An executable.

    Attributes:
        sections: By name; of several of one name the first.
        segments: Those that are loaded, in the order of the file.
        end: Where the section headers end: what stands behind belongs to somebody else.
    """

    sections: Mapping[str, Section]
    segments: tuple[Segment, ...]
    end: int

    def section(self, name: str) -> Section:
        """Return a section; raises ``ParseError`` when there is none of that name."""
        try:
            return self.sections[name]
        except KeyError:
            raise ParseError("ELF.sections", 0, f"there is no section {name}", code="parse.elf.section") from None

    def read(self, address: int, size_bytes: int) -> memoryview:
        """Return bytes of an allocated section at a virtual address.

        Raises:
            ParseError: they are not inside one section's data.
        """
        for section in self.sections.values():
            begin = address - section.address
            if section.flags & ALLOCATED and begin >= 0 and begin + size_bytes <= len(section.data):
                return section.data[begin : begin + size_bytes]
        raise ParseError("ELF.sections", 0, f"no section has {size_bytes} bytes at {address:#x}")


def parse_elf(data: bytes) -> Elf:
    """Return sections and segments.

    Raises:
        ParseError: it is no 64-bit x86 executable, or a table or a section leaves the file.
    """
    if len(data) > MAX_ELF_BYTES:
        raise ParseError("ELF", 0, f"{len(data)} bytes, more than {MAX_ELF_BYTES}", code="parse.too-large")
    if len(data) < _HEADER.size:
        raise ParseError("ELF", 0, "ends within its header", code="parse.truncated")
    ident, _, machine, _, _, segments_at, sections_at, _, _, segment_size, segments, section_size, sections, names = (
        _HEADER.unpack_from(data)
    )
    if ident[:6] != b"\x7fELF\x02\x01" or machine != _X86_64:
        raise ParseError("ELF.e_ident", 0, "is no 64-bit x86 ELF file")
    _table(data, "e_phoff", segments_at, segment_size, _SEGMENT.size, segments, MAX_SEGMENTS)
    _table(data, "e_shoff", sections_at, section_size, _SECTION.size, sections, MAX_SECTIONS)
    if not names < sections:
        raise ParseError("ELF.e_shstrndx", 62, "names no section")
    view = memoryview(data)
    raw = [_SECTION.unpack_from(data, sections_at + index * _SECTION.size) for index in range(sections)]
    strings = _inside(view, "shstrtab", raw[names][4], raw[names][5]).tobytes()
    found: dict[str, Section] = {}
    for name_at, kind, flags, address, offset, size, *_ in raw:
        end = strings.find(b"\0", name_at)
        if name_at > len(strings) or end < 0:
            raise ParseError("ELF.sh_name", name_at, "is outside the table of names")
        name = strings[name_at:end].decode("ascii", "replace")
        body = view[:0] if kind in (0, NOBITS) else _inside(view, f"section {name}", offset, size)
        section = Section(name=name, kind=kind, flags=flags, address=address, size_bytes=size, data=body)
        found.setdefault(name, section)
    return Elf(
        sections=MappingProxyType(found),
        segments=tuple(_segments(view, segments_at, segments)),
        end=sections_at + sections * _SECTION.size,
    )


def _segments(view: memoryview, at: int, count: int) -> list[Segment]:
    found = []
    for index in range(count):
        kind, _, offset, virtual, physical, in_file, in_memory, _ = _SEGMENT.unpack_from(view, at + index * 56)
        if kind == _LOAD:
            if in_memory < in_file or in_memory > MAX_ELF_BYTES:
                raise ParseError(
                    "ELF.p_memsz", at + index * 56, f"{in_memory} bytes of memory for {in_file} in the file"
                )
            body = _inside(view, "segment", offset, in_file)
            found.append(Segment(virtual=virtual, physical=physical, size_bytes=in_memory, data=body))
    return found


def _table(data: bytes, field: str, at: int, size: int, expected: int, count: int, limit: int) -> None:
    if size != expected or not 0 < count <= limit or at + count * size > len(data):
        raise ParseError(f"ELF.{field}", at, f"{count} entries of {size} bytes are no table inside the file")


def _inside(view: memoryview, what: str, offset: int, size: int) -> memoryview:
    if offset > len(view) or size > len(view) - offset:
        raise ParseError(f"ELF.{what}", offset, f"{size} bytes are not inside the file", code="parse.truncated")
    return view[offset : offset + size]
