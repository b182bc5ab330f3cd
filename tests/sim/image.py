# SPDX-License-Identifier: GPL-3.0-or-later
"""Small PE images made here, byte by byte: sections, a debug directory, symbols, long names, a certificate table."""

from __future__ import annotations

import struct
from dataclasses import dataclass, field

OPTIONAL_FIXED_BYTES = 112
COFF_OFFSET = 0x80


@dataclass
class SimSection:
    """One section to be; ``virtual_size`` defaults to the data's length."""

    name: str
    data: bytes
    characteristics: int = 0x40000040
    virtual_size: int | None = None


@dataclass
class SimImage:
    """A PE32+ image to be; assign a field, take ``to_bytes()``."""

    sections: list[SimSection] = field(
        default_factory=lambda: [
            SimSection(".text", b"\xc3" * 700, 0x60000020),
            SimSection(".data", b"data" * 20, 0xC0000040),
            SimSection(".bss", b"", 0xC0000080, 0x3000),
        ]
    )
    file_alignment: int = 0x200
    section_alignment: int = 0x1000
    header_room: int = 0
    directory_count: int = 16
    symbols: bytes = b""
    tail: bytes = b""
    certificates: bytes = b""
    directories: dict[int, tuple[int, int]] = field(default_factory=dict)

    def address_of(self, name: str) -> int:
        """Return the virtual address that section ``name`` gets."""
        address = self.section_alignment
        for section in self.sections:
            if section.name == name:
                return address
            address = self._next_address(address, section)
        raise KeyError(name)

    def to_bytes(self) -> bytes:
        """Return the file."""
        optional_bytes = OPTIONAL_FIXED_BYTES + 8 * self.directory_count
        table_offset = COFF_OFFSET + 24 + optional_bytes
        headers = _up(table_offset + 40 * (len(self.sections) + self.header_room), self.file_alignment)
        strings, names = self._names()
        table, body = b"", b""
        address = self.section_alignment
        for section, name in zip(self.sections, names, strict=True):
            raw = section.data + bytes(_up(len(section.data), self.file_alignment) - len(section.data))
            size = len(section.data) if section.virtual_size is None else section.virtual_size
            offset = headers + len(body) if raw else 0
            table += struct.pack(
                "<8sIIIIIIHHI", name, size, address, len(raw), offset, 0, 0, 0, 0, section.characteristics
            )
            body += raw
            address = self._next_address(address, section)
        has_symbols = bool(self.symbols or strings)
        symbol_offset = headers + len(body) if has_symbols else 0
        symbols = self.symbols + struct.pack("<I", 4 + len(strings)) + strings if has_symbols else b""
        unsigned_bytes = headers + len(body) + len(symbols) + len(self.tail)
        directories = dict(self.directories)
        if self.certificates:
            directories[4] = (unsigned_bytes, len(self.certificates))
        head = b"MZ".ljust(0x3C, b"\0") + struct.pack("<I", COFF_OFFSET)
        head = head.ljust(COFF_OFFSET, b"\0")
        head += b"PE\0\0" + struct.pack(
            "<HHIIIHH",
            0x8664,
            len(self.sections),
            0x5EED,
            symbol_offset,
            len(self.symbols) // 18,
            optional_bytes,
            0x22,
        )
        head += struct.pack("<HBBIIIII", 0x20B, 2, 44, 0x400, 0x400, 0, 0x1000, 0x1000)
        head += struct.pack("<QII", 0x140000000, self.section_alignment, self.file_alignment)
        head += struct.pack("<HHHHHHI", 0, 0, 0, 0, 2, 0, 0)
        head += struct.pack("<IIIHH", _up(address, self.section_alignment), headers, 0xC0FFEE, 10, 0x160)
        head += struct.pack("<QQQQII", 0, 0, 0, 0, 0, self.directory_count)
        head += b"".join(struct.pack("<II", *directories.get(i, (0, 0))) for i in range(self.directory_count))
        assert len(head) == table_offset
        return (head + table).ljust(headers, b"\0") + body + symbols + self.tail + self.certificates

    def _next_address(self, address: int, section: SimSection) -> int:
        size = max(len(section.data), section.virtual_size or 0, 1)
        return _up(address + size, self.section_alignment)

    def _names(self) -> tuple[bytes, list[bytes]]:
        strings, names = b"", []
        for section in self.sections:
            name = section.name.encode()
            if len(name) > 8:
                names.append(f"/{4 + len(strings)}".encode())
                strings += name + b"\0"
            else:
                names.append(name)
        return strings, names


def _up(value: int, alignment: int) -> int:
    return -(-value // alignment) * alignment
