# SPDX-License-Identifier: GPL-3.0-or-later
"""PE/COFF images as UEFI loads them: headers, sections, and the Authenticode digest that firmware measures.

Layout (little-endian; offsets from the start of the structure)::

    DOS header      0x00 2 "MZ"         0x3c 4 offset of the PE header
    PE header       0x00 4 "PE\\0\\0"
    COFF header     0x04 2 Machine      0x06 2 NumberOfSections   0x08 4 TimeDateStamp
                    0x0c 4 PointerToSymbolTable  0x10 4 NumberOfSymbols
                    0x14 2 SizeOfOptionalHeader  0x16 2 Characteristics
    optional header 0x00 2 Magic (0x10b PE32, 0x20b PE32+)        0x08 4 SizeOfInitializedData
                    0x10 4 AddressOfEntryPoint   0x20 4 SectionAlignment  0x24 4 FileAlignment
                    0x38 4 SizeOfImage  0x3c 4 SizeOfHeaders      0x40 4 CheckSum
                    PE32: 0x5c, PE32+: 0x6c  4 NumberOfRvaAndSizes, then 8 bytes (address, size) each
    section header  0x00 8 Name  0x08 4 VirtualSize  0x0c 4 VirtualAddress  0x10 4 SizeOfRawData
                    0x14 4 PointerToRawData  0x18 12 relocations, line numbers  0x24 4 Characteristics

Source: Microsoft PE Format, 2024; Windows Authenticode Portable Executable Signature Format, 1.0 (2008), "Calculating
the PE Image Hash"; the order of hashing is that of EDK II, DxeTpm2MeasureBootLib and SecurityPkg Tcg2Dxe.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

from ..errors import ParseError, UsageError
from .cursor import Cursor

MAX_PE_BYTES = 1 << 30
"""A unified image carries a kernel and an initrd; a gigabyte is far above both."""

MAX_SECTIONS = 96
"""Bound of the Windows loader; firmware takes no more either."""

MAX_DIRECTORIES = 16
MAX_SECTION_NAME_BYTES = 64
"""Names longer than 8 bytes stand in the COFF string table; more than this is not a name."""

PE32 = 0x10B
PE32_PLUS = 0x20B
DIRECTORY_CERTIFICATE = 4
DIRECTORY_DEBUG = 6

SECTION_CODE = 0x00000020
SECTION_INITIALIZED_DATA = 0x00000040
SECTION_DISCARDABLE = 0x02000000
SECTION_EXECUTE = 0x20000000
SECTION_READ = 0x40000000

_COFF_HEADER_BYTES = 24
_SECTION_HEADER_BYTES = 40
_SYMBOL_BYTES = 18
_AUTHENTICODE_HASHES = ("sha1", "sha256", "sha384", "sha512")


@dataclass(frozen=True, slots=True, kw_only=True)
class PeSection:
    """One section header; ``name`` is resolved through the COFF string table where it is long."""

    name: str
    virtual_address: int
    virtual_size: int
    raw_offset: int
    raw_size: int
    characteristics: int
    header_offset: int

    @property
    def raw_end(self) -> int:
        """File offset behind the section's data."""
        return self.raw_offset + self.raw_size

    @property
    def virtual_end(self) -> int:
        """Address behind the section in memory."""
        return self.virtual_address + max(self.virtual_size, self.raw_size)


@dataclass(frozen=True, slots=True, kw_only=True)
class PeImage:
    """The headers of one image; offsets are file offsets, addresses are relative to the image base."""

    size_bytes: int
    machine: int
    magic: int
    coff_offset: int
    optional_offset: int
    section_table_offset: int
    entry_point: int
    section_alignment: int
    file_alignment: int
    size_of_image: int
    size_of_headers: int
    symbol_table_offset: int
    symbol_count: int
    directories_offset: int
    directories: tuple[tuple[int, int], ...]
    sections: tuple[PeSection, ...]

    @property
    def checksum_offset(self) -> int:
        """File offset of CheckSum."""
        return self.optional_offset + 0x40

    @property
    def certificate_table(self) -> tuple[int, int]:
        """File offset and size of the attribute certificates; (0, 0) when unsigned."""
        if len(self.directories) <= DIRECTORY_CERTIFICATE or not self.directories[DIRECTORY_CERTIFICATE][1]:
            return (0, 0)
        return self.directories[DIRECTORY_CERTIFICATE]

    @property
    def raw_end(self) -> int:
        """File offset behind the last byte of headers and sections."""
        return max([self.size_of_headers, *(s.raw_end for s in self.sections if s.raw_size)])

    def section(self, name: str) -> PeSection | None:
        """Return the first section called ``name``, or None."""
        return next((s for s in self.sections if s.name == name), None)


def parse_pe(data: bytes) -> PeImage:
    """Return the headers of ``data``, every offset in them held against the file.

    Args:
        data: The whole file.

    Raises:
        ParseError: no PE image; headers, sections or certificates reach outside the file or overlap.

    Trust: ``data`` may be an attacker's; the record says what is written there, not that it is true.
    """
    if len(data) > MAX_PE_BYTES:
        raise ParseError("PE", 0, f"{len(data)} bytes, more than the {MAX_PE_BYTES} allowed", code="parse.too-large")
    dos = Cursor(data[:0x40], limit_bytes=0x40, what="PE.DOS")
    dos.expect(b"MZ", "e_magic")
    dos.take(0x3A, "e_*")
    coff_offset = dos.u32le("e_lfanew")
    if coff_offset + _COFF_HEADER_BYTES > len(data):
        raise ParseError("PE.DOS.e_lfanew", 0x3C, f"{coff_offset} lies outside the file", code="parse.truncated")

    coff = Cursor(
        data[coff_offset:][:_COFF_HEADER_BYTES], limit_bytes=_COFF_HEADER_BYTES, what="PE.COFF", base=coff_offset
    )
    coff.expect(b"PE\0\0", "Signature")
    machine = coff.u16le("Machine")
    section_count = coff.u16le("NumberOfSections")
    if not 1 <= section_count <= MAX_SECTIONS:
        raise coff.fail("NumberOfSections", f"{section_count} is not between 1 and {MAX_SECTIONS}")
    coff.take(4, "TimeDateStamp")
    symbol_table_offset = coff.u32le("PointerToSymbolTable")
    symbol_count = coff.u32le("NumberOfSymbols")
    optional_bytes = coff.u16le("SizeOfOptionalHeader")

    optional_offset = coff_offset + _COFF_HEADER_BYTES
    opt = Cursor(
        data[optional_offset : optional_offset + optional_bytes],
        limit_bytes=optional_bytes,
        what="PE.optional",
        base=optional_offset,
    )
    magic = opt.u16le("Magic")
    if magic not in (PE32, PE32_PLUS):
        raise opt.fail("Magic", f"{magic:#x} is neither PE32 nor PE32+")
    opt.take(14, "SizeOfCode ..")
    entry_point = opt.u32le("AddressOfEntryPoint")
    opt.take(12, "BaseOfCode ..")
    section_alignment = opt.u32le("SectionAlignment")
    file_alignment = opt.u32le("FileAlignment")
    for name, value in (("SectionAlignment", section_alignment), ("FileAlignment", file_alignment)):
        if value == 0 or value & (value - 1):
            raise opt.fail(name, f"{value:#x} is no power of two")
    opt.take(16, "versions")
    size_of_image = opt.u32le("SizeOfImage")
    size_of_headers = opt.u32le("SizeOfHeaders")
    opt.take(4 + 4, "CheckSum ..")
    opt.take(20 if magic == PE32 else 36, "stack and heap")
    directory_count = opt.u32le("NumberOfRvaAndSizes")
    if directory_count > MAX_DIRECTORIES:
        raise opt.fail("NumberOfRvaAndSizes", f"{directory_count} is more than {MAX_DIRECTORIES}")
    directories_offset = opt.offset
    directories = tuple((opt.u32le("directory.address"), opt.u32le("directory.size")) for _ in range(directory_count))

    section_table_offset = optional_offset + optional_bytes
    table_bytes = section_count * _SECTION_HEADER_BYTES
    if not section_table_offset + table_bytes <= size_of_headers <= len(data):
        raise ParseError(
            "PE.optional.SizeOfHeaders", optional_offset + 0x3C, f"{size_of_headers} does not hold the section table"
        )
    table = Cursor(
        data[section_table_offset:][:table_bytes], limit_bytes=table_bytes, what="PE.section", base=section_table_offset
    )
    strings = _string_table_offset(data, symbol_table_offset, symbol_count)
    sections = tuple(_section(table, data, strings) for _ in range(section_count))
    image = PeImage(
        size_bytes=len(data),
        machine=machine,
        magic=magic,
        coff_offset=coff_offset,
        optional_offset=optional_offset,
        section_table_offset=section_table_offset,
        entry_point=entry_point,
        section_alignment=section_alignment,
        file_alignment=file_alignment,
        size_of_image=size_of_image,
        size_of_headers=size_of_headers,
        symbol_table_offset=symbol_table_offset,
        symbol_count=symbol_count,
        directories_offset=directories_offset,
        directories=directories,
        sections=sections,
    )
    _expect_no_overlap(image)
    return image


def _string_table_offset(data: bytes, symbol_table_offset: int, symbol_count: int) -> int | None:
    if symbol_table_offset == 0:
        return None
    offset = symbol_table_offset + symbol_count * _SYMBOL_BYTES
    if offset + 4 > len(data):
        raise ParseError(
            "PE.COFF.PointerToSymbolTable", offset, "the symbol table ends outside the file", code="parse.truncated"
        )
    return offset


def _section(table: Cursor, data: bytes, strings: int | None) -> PeSection:
    header_offset = table.offset
    raw_name = table.take(8, "Name").rstrip(b"\0")
    virtual_size = table.u32le("VirtualSize")
    virtual_address = table.u32le("VirtualAddress")
    raw_size = table.u32le("SizeOfRawData")
    raw_offset = table.u32le("PointerToRawData")
    table.take(12, "relocations, line numbers")
    characteristics = table.u32le("Characteristics")
    if raw_size and raw_offset + raw_size > len(data):
        raise ParseError(
            "PE.section.SizeOfRawData",
            header_offset,
            f"data ends at {raw_offset + raw_size}, outside the file",
            code="parse.truncated",
        )
    return PeSection(
        name=_section_name(raw_name, data, strings, header_offset),
        virtual_address=virtual_address,
        virtual_size=virtual_size,
        raw_offset=raw_offset,
        raw_size=raw_size,
        characteristics=characteristics,
        header_offset=header_offset,
    )


def _section_name(raw: bytes, data: bytes, strings: int | None, header_offset: int) -> str:
    """Return the name; "/123" points into the string table, as GNU ld writes it."""
    if raw[:1] == b"/" and raw[1:].isdigit() and strings is not None:
        start = strings + int(raw[1:])
        field = data[start : start + MAX_SECTION_NAME_BYTES + 1]
        end = field.find(b"\0")
        if start >= len(data) or end < 0:
            raise ParseError("PE.section.Name", header_offset, "the long name does not end inside the string table")
        raw = field[:end]
    return raw.decode("latin-1")


def _expect_no_overlap(image: PeImage) -> None:
    """Refuse sections that share bytes: parsers would disagree about what such a file contains."""
    end = image.size_of_headers
    for section in sorted((s for s in image.sections if s.raw_size), key=lambda s: s.raw_offset):
        if section.raw_offset < end:
            raise ParseError("PE.section.PointerToRawData", section.header_offset, f"data begins before byte {end}")
        end = section.raw_end
    offset, size = image.certificate_table
    if size and (offset < end or offset + size != image.size_bytes):
        raise ParseError(
            "PE.directory.certificate", image.directories_offset + 32, "the certificates are not the end of the file"
        )


def authenticode_digest(data: bytes, algorithm: str = "sha256") -> bytes:
    """Return the digest of the image without its checksum and signatures: what UEFI extends into PCR 4 (or 2).

    Bytes behind the last section (symbol tables, for instance) are covered.

    Args:
        data: The whole file.
        algorithm: "sha1", "sha256", "sha384" or "sha512".

    Raises:
        ParseError: ``data`` is no PE image.
        UsageError: for an unknown algorithm.

    Source: Authenticode PE 1.0, "Calculating the PE Image Hash", steps 1 to 14. Like EDK II this counts the hashed
        bytes, so that a gap between sections moves the start of the trailing data.
    """
    if algorithm not in _AUTHENTICODE_HASHES:
        raise UsageError(f"unknown hash algorithm {algorithm!r}", code="digest.algorithm")
    image = parse_pe(data)
    view = memoryview(data)
    state = hashlib.new(algorithm)
    state.update(view[: image.checksum_offset])
    if len(image.directories) > DIRECTORY_CERTIFICATE:
        entry = image.directories_offset + 8 * DIRECTORY_CERTIFICATE
        state.update(view[image.checksum_offset + 4 : entry])
        state.update(view[entry + 8 : image.size_of_headers])
    else:
        state.update(view[image.checksum_offset + 4 : image.size_of_headers])
    hashed = image.size_of_headers
    for section in sorted((s for s in image.sections if s.raw_size), key=lambda s: s.raw_offset):
        state.update(view[section.raw_offset : section.raw_end])
        hashed += section.raw_size
    state.update(view[hashed : len(data) - image.certificate_table[1]])
    return state.digest()
