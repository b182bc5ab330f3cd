# SPDX-License-Identifier: GPL-3.0-or-later
"""One bootable file from its parts: sections appended to a PE image, for Xen and for systemd's stub alike.

The output depends on the input bytes alone: no time, no random value, no tool version. Its raw data has no gaps, so
every way to compute the Authenticode digest agrees.

Source: xen docs/misc/efi.pandoc, "Unified Xen kernel image"; UAPI.5 Unified Kernel Image (UKI).
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import dataclass

from ..errors import ParseError, UsageError
from ..parse.pe import (
    DIRECTORY_CERTIFICATE,
    DIRECTORY_DEBUG,
    SECTION_CODE,
    SECTION_EXECUTE,
    SECTION_INITIALIZED_DATA,
    SECTION_READ,
    PeImage,
    PeSection,
    parse_pe,
)

XEN_SECTION_ALIGNMENT = 1 << 21
"""Xen is linked with 2 MiB sections; what is appended keeps to that."""

_DEBUG_PREFIXES = (".debug", ".zdebug", ".stab", ".gnu_debug")
_DATA = SECTION_INITIALIZED_DATA | SECTION_READ
_KERNEL = SECTION_CODE | SECTION_EXECUTE | SECTION_READ
_SECTION_HEADER = struct.Struct("<8sIIIIIIHHI")
_DEBUG_ENTRY_BYTES = 28
_COFF_LOCAL_SYMS_STRIPPED = 0x0008
_COFF_LINE_NUMS_STRIPPED = 0x0004
_COFF_DEBUG_STRIPPED = 0x0200


@dataclass(frozen=True, slots=True)
class _Placed:
    """A section of the new file."""

    name: bytes
    virtual_size: int
    virtual_address: int
    raw_offset: int
    raw: bytes
    characteristics: int

    @property
    def header(self) -> bytes:
        offset = self.raw_offset if self.raw else 0
        return _SECTION_HEADER.pack(
            self.name, self.virtual_size, self.virtual_address, len(self.raw), offset, 0, 0, 0, 0, self.characteristics
        )


def unified_xen_efi(
    xen: bytes, config: bytes, kernel: bytes, initrd: bytes, *, xsm: bytes = b"", microcode: bytes = b""
) -> bytes:
    """Return one xen.efi that holds its configuration, the dom0 kernel and its initrd.

    Args:
        xen: The distribution's xen.efi, unsigned.
        config: Text of xen.cfg. Of its ``kernel=`` and ``ramdisk=`` only the arguments still count.
        kernel: The dom0 kernel.
        initrd: Its initrd.
        xsm: FLASK policy, or empty.
        microcode: CPU microcode, or empty.

    Raises:
        UsageError: ``xen`` is no unsigned PE image, a part is empty, or the last line of ``config`` does not end.

    Source: xen common/efi/boot.c: a line without its newline is ignored by the loader.
    """
    if not config.endswith(b"\n"):
        raise UsageError("xen.cfg must end with a newline: Xen ignores an unfinished last line", code="image.config")
    parts = [(".config", config), (".kernel", kernel), (".ramdisk", initrd)]
    parts += [(name, data) for name, data in ((".xsm", xsm), (".ucode", microcode)) if data]
    return append_sections(xen, parts, alignment=XEN_SECTION_ALIGNMENT)


def uki(stub: bytes, kernel: bytes, initrd: bytes, cmdline: str, os_release: bytes, *, uname: str = "") -> bytes:
    """Return a unified kernel image: systemd's ``linuxx64.efi.stub`` with a kernel, its initrd and command line.

    Raises:
        UsageError: ``stub`` is no unsigned PE image, or a part is empty.
    """
    parts = [(".osrel", os_release, _DATA), (".cmdline", cmdline.encode(), _DATA)]
    if uname:
        parts.append((".uname", uname.encode(), _DATA))
    parts += [(".initrd", initrd, _DATA), (".linux", kernel, _KERNEL)]
    return _append(stub, parts, alignment=None, strip_debug=True)


def append_sections(
    pe: bytes, sections: Sequence[tuple[str, bytes]], *, alignment: int | None = None, strip_debug: bool = True
) -> bytes:
    """Return ``pe`` with ``sections`` behind its own, in this order.

    Args:
        pe: An unsigned PE image; a signature would not survive.
        sections: Name (at most 8 bytes) and content of each.
        alignment: Of the new sections in memory; the image's own when None, never less than that.
        strip_debug: Drop debug sections, COFF symbols and strings. Long names of kept sections are then cut to 8 bytes.

    Returns:
        A file whose headers describe it exactly; CheckSum is zero, which UEFI does not look at.

    Raises:
        UsageError: no image, a signed one, a name that is there already, empty content, or no address left.
    """
    return _append(pe, [(name, data, _DATA) for name, data in sections], alignment=alignment, strip_debug=strip_debug)


def _append(
    pe: bytes, sections: Sequence[tuple[str, bytes, int]], *, alignment: int | None, strip_debug: bool
) -> bytes:
    try:
        image = parse_pe(pe)
    except ParseError as error:
        raise UsageError(f"not a PE image that can be extended: {error}", code="image.pe") from error
    if image.certificate_table[1]:
        raise UsageError("the image is signed; sections cannot be added under a signature", code="image.signed")
    alignment = max(image.section_alignment, alignment or 0)
    if alignment & (alignment - 1):
        raise UsageError(f"section alignment {alignment:#x} is no power of two", code="image.alignment")
    kept = [s for s in image.sections if not (strip_debug and s.name.startswith(_DEBUG_PREFIXES))]
    if not kept:
        raise UsageError("the image has debug sections only", code="image.pe")
    _expect_directories_kept(image, kept)
    _expect_new_names([s.name for s in kept], sections)

    table_end = image.section_table_offset + _SECTION_HEADER.size * (len(kept) + len(sections))
    headers_bytes = _up(table_end, image.file_alignment)
    if headers_bytes > min(s.virtual_address for s in kept):
        raise UsageError("no room for more section headers below the first section", code="image.headers")
    placed = _place_kept(pe, image, kept, headers_bytes, strip_debug)
    placed += _place_new(
        image, sections, placed, alignment, max([headers_bytes, *(p.raw_offset + len(p.raw) for p in placed)])
    )
    tail = b"" if strip_debug else pe[image.raw_end :]
    header = _headers(pe, image, placed, headers_bytes, strip_debug)
    out = bytearray(b"".join([header, *(p.raw for p in placed), tail]))
    _repair_debug_directory(out, image, kept, placed)
    return bytes(out)


def _up(value: int, alignment: int) -> int:
    return (value + alignment - 1) // alignment * alignment


def _expect_directories_kept(image: PeImage, kept: Sequence[PeSection]) -> None:
    for index, (address, size) in enumerate(image.directories):
        if not size or index == DIRECTORY_CERTIFICATE:
            continue
        if not any(s.virtual_address <= address and address + size <= s.virtual_end for s in kept):
            raise UsageError(f"data directory {index} points to no section that is kept", code="image.directory")


def _expect_new_names(present: Sequence[str], sections: Sequence[tuple[str, bytes, int]]) -> None:
    if not sections:
        raise UsageError("no sections to append", code="image.sections")
    names = list(present)
    for name, data, _ in sections:
        if not 1 <= len(name.encode()) <= 8:
            raise UsageError(f"section name {name!r} is not 1 to 8 bytes long", code="image.sections")
        if name in names:
            raise UsageError(f"the image already has a section {name}", code="image.sections")
        if not data:
            raise UsageError(f"section {name} would be empty", code="image.sections")
        names.append(name)


def _place_kept(pe: bytes, image: PeImage, kept: Sequence[PeSection], offset: int, strip_debug: bool) -> list[_Placed]:
    """Lay the old sections behind the new headers, in file order of their headers, without gaps."""
    placed = []
    for section in kept:
        raw = pe[section.raw_offset : section.raw_end] if section.raw_size else b""
        raw += bytes(_up(len(raw), image.file_alignment) - len(raw))
        name = pe[section.header_offset : section.header_offset + 8]
        if strip_debug and name.startswith(b"/"):
            name = section.name.encode("latin-1")[:8]
        placed.append(
            _Placed(name, section.virtual_size, section.virtual_address, offset, raw, section.characteristics)
        )
        offset += len(raw)
    return placed


def _place_new(
    image: PeImage, sections: Sequence[tuple[str, bytes, int]], kept: Sequence[_Placed], alignment: int, offset: int
) -> list[_Placed]:
    placed = []
    address = _up(max(p.virtual_address + max(p.virtual_size, len(p.raw)) for p in kept), alignment)
    for name, data, characteristics in sections:
        raw = data + bytes(_up(len(data), image.file_alignment) - len(data))
        placed.append(_Placed(name.encode(), len(data), address, offset, raw, characteristics))
        offset += len(raw)
        address = _up(address + len(raw), alignment)
        if max(address, offset) >= 1 << 32:
            raise UsageError(f"section {name} does not fit below 4 GiB", code="image.size")
    return placed


def _headers(pe: bytes, image: PeImage, placed: Sequence[_Placed], headers_bytes: int, strip_debug: bool) -> bytes:
    """Return the new headers: the old ones with counts, sizes and the section table replaced."""
    header = bytearray(pe[: image.section_table_offset])
    coff, opt = image.coff_offset, image.optional_offset
    struct.pack_into("<H", header, coff + 6, len(placed))
    if strip_debug:
        struct.pack_into("<II", header, coff + 12, 0, 0)
        (flags,) = struct.unpack_from("<H", header, coff + 22)
        flags |= _COFF_LINE_NUMS_STRIPPED | _COFF_LOCAL_SYMS_STRIPPED | _COFF_DEBUG_STRIPPED
        struct.pack_into("<H", header, coff + 22, flags)
    elif image.symbol_table_offset:
        if image.symbol_table_offset < image.raw_end:
            raise UsageError("the symbol table lies inside the sections", code="image.pe")
        moved = placed[-1].raw_offset + len(placed[-1].raw) - image.raw_end
        struct.pack_into("<I", header, coff + 12, image.symbol_table_offset + moved)
    initialized = sum(len(p.raw) for p in placed if p.characteristics & SECTION_INITIALIZED_DATA)
    code = sum(len(p.raw) for p in placed if p.characteristics & SECTION_CODE)
    size_of_image = _up(
        max(p.virtual_address + max(p.virtual_size, len(p.raw)) for p in placed), image.section_alignment
    )
    struct.pack_into("<II", header, opt + 4, code, initialized)
    struct.pack_into("<III", header, opt + 56, size_of_image, headers_bytes, 0)
    header += b"".join(p.header for p in placed)
    return bytes(header) + bytes(headers_bytes - len(header))


def _repair_debug_directory(
    out: bytearray, image: PeImage, kept: Sequence[PeSection], placed: Sequence[_Placed]
) -> None:
    """Point the debug directory's file offsets (build id) to where the sections are now."""
    if len(image.directories) <= DIRECTORY_DEBUG or not image.directories[DIRECTORY_DEBUG][1]:
        return
    address, size = image.directories[DIRECTORY_DEBUG]
    moves = list(zip(kept, placed, strict=False))
    for old, new in moves:
        if not (old.virtual_address <= address and address + size <= old.virtual_address + len(new.raw)):
            continue
        start = new.raw_offset + address - old.virtual_address
        for entry in range(start, start + size - _DEBUG_ENTRY_BYTES + 1, _DEBUG_ENTRY_BYTES):
            (pointer,) = struct.unpack_from("<I", out, entry + 24)
            for source, target in moves:
                if source.raw_size and source.raw_offset <= pointer < source.raw_end:
                    struct.pack_into("<I", out, entry + 24, pointer - source.raw_offset + target.raw_offset)
        return
