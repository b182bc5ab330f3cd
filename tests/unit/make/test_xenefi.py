# SPDX-License-Identifier: GPL-3.0-or-later
"""Sections appended to PE images."""

from __future__ import annotations

import struct

import pytest
from ansible.module_utils.vouch.errors import UsageError
from ansible.module_utils.vouch.make import xenefi
from ansible.module_utils.vouch.parse.pe import PeImage, authenticode_digest, parse_pe

from sim.image import SimImage, SimSection

DEBUG = 0x42100040
CONFIG = b"[global]\ndefault=dom0\n[dom0]\nkernel=vmlinuz\n"


def xen_like() -> SimImage:
    """An image as ld makes xen.efi: 2 MiB sections, small file alignment, debug sections with long names, symbols."""
    sim = SimImage(
        sections=[
            SimSection(".text", b"\x90" * 1000, 0x60000020),
            SimSection(".buildid", b"", 0x40000040),
            SimSection(".data.read_mostly", b"rm" * 50, 0xC0000040),
            SimSection(".bss", b"", 0xC0000080, 0x131248),
            SimSection(".reloc", b"\0" * 64, 0x42000040),
            SimSection(".debug_info", b"d" * 5000, DEBUG),
            SimSection(".debug_line_str", b"l" * 300, DEBUG),
        ],
        file_alignment=32,
        section_alignment=1 << 21,
        symbols=bytes(18 * 7),
    )
    # IMAGE_DEBUG_DIRECTORY: its last two fields are the address and the file offset of the build id behind it.
    address = sim.address_of(".buildid")
    sim.sections[1].data = bytes(28) + b"build-id"
    offset = next(s for s in parse_pe(sim.to_bytes()).sections if s.name == ".buildid").raw_offset
    sim.sections[1].data = struct.pack("<IIHHIIII", 0, 0, 0, 0, 2, 8, address + 28, offset + 28) + b"build-id"
    sim.directories = {5: (sim.address_of(".reloc"), 64), 6: (address, 28)}
    return sim


def content(data: bytes, image: PeImage, name: str) -> bytes:
    section = image.section(name)
    assert section is not None
    return data[section.raw_offset :][: section.virtual_size]


def expect_sound(data: bytes) -> PeImage:
    """Check the invariants a loader relies on; ``parse_pe`` has checked files and overlap."""
    image = parse_pe(data)
    at = image.size_of_headers
    address = 0
    for section in image.sections:
        if section.raw_size:
            assert section.raw_offset == at
            at = section.raw_end
        assert section.raw_offset % image.file_alignment == 0
        assert section.virtual_address >= address
        address = section.virtual_address + max(section.virtual_size, section.raw_size)
    assert image.size_of_image % image.section_alignment == 0
    assert image.size_of_image >= address
    assert image.size_of_headers <= image.sections[0].virtual_address
    assert struct.unpack_from("<I", data, image.checksum_offset) == (0,)
    return image


def test_unified_xen_efi_holds_its_parts() -> None:
    xen = xen_like().to_bytes()
    data = xenefi.unified_xen_efi(xen, CONFIG, b"K" * 70001, b"I" * 333)
    image = expect_sound(data)
    names = [s.name for s in image.sections]
    assert names == [".text", ".buildid", ".data.re", ".bss", ".reloc", ".config", ".kernel", ".ramdisk"]
    for name, part in ((".config", CONFIG), (".kernel", b"K" * 70001), (".ramdisk", b"I" * 333)):
        assert content(data, image, name) == part
        assert image.section(name).virtual_address % xenefi.XEN_SECTION_ALIGNMENT == 0
    assert (image.symbol_table_offset, image.symbol_count) == (0, 0)
    assert len(data) == image.raw_end
    initialized = sum(s.raw_size for s in image.sections if s.characteristics & 0x40)
    assert struct.unpack_from("<I", data, image.optional_offset + 8) == (initialized,)


def test_kept_sections_stay_where_they_are_in_memory() -> None:
    xen = xen_like().to_bytes()
    before = parse_pe(xen)
    data = xenefi.unified_xen_efi(xen, CONFIG, b"K", b"I")
    after = parse_pe(data)
    assert after.entry_point == before.entry_point
    for old, new in zip(before.sections[:5], after.sections[:5], strict=True):
        assert (old.virtual_address, old.virtual_size) == (new.virtual_address, new.virtual_size)
        if old.name != ".buildid":
            assert xen[old.raw_offset : old.raw_end] == data[new.raw_offset : new.raw_end]


@pytest.mark.parametrize("strip", [True, False])
def test_debug_directory_follows_its_data(strip: bool) -> None:
    data = xenefi.append_sections(xen_like().to_bytes(), [(".x", b"x")], strip_debug=strip)
    section = parse_pe(data).section(".buildid")
    assert section is not None
    (pointer,) = struct.unpack_from("<I", data, section.raw_offset + 24)
    assert data[pointer : pointer + 8] == b"build-id"


def test_optional_parts() -> None:
    data = xenefi.unified_xen_efi(xen_like().to_bytes(), CONFIG, b"K", b"I", xsm=b"policy", microcode=b"ucode")
    image = parse_pe(data)
    assert content(data, image, ".xsm") == b"policy"
    assert content(data, image, ".ucode") == b"ucode"


def test_same_input_same_bytes() -> None:
    xen = xen_like().to_bytes()
    assert xenefi.unified_xen_efi(xen, CONFIG, b"K", b"I") == xenefi.unified_xen_efi(xen, CONFIG, b"K", b"I")


def test_debug_information_does_not_change_the_result() -> None:
    """What is dropped must not leave a trace, or equal builds would differ by their debug packages."""
    sim, other = xen_like(), xen_like()
    other.sections[5].data = b"e" * 9000
    other.tail = b"some tool's trailer"
    make = [xenefi.append_sections(s.to_bytes(), [(".x", b"x")]) for s in (sim, other)]
    assert make[0] == make[1]


def test_symbols_can_be_kept() -> None:
    xen = xen_like().to_bytes()
    data = xenefi.append_sections(xen, [(".config", CONFIG)], strip_debug=False)
    image = expect_sound(data)
    assert [s.name for s in image.sections][-3:] == [".debug_info", ".debug_line_str", ".config"]
    assert image.section(".data.read_mostly") is not None
    assert image.symbol_count == 7
    assert data[image.raw_end :] == xen[parse_pe(xen).raw_end :]


def test_more_headers_move_the_data() -> None:
    """Twenty new headers do not fit below the first section's bytes: everything moves up, nothing is lost."""
    sim = SimImage(tail=b"gone")
    parts = [(f".s{i}", bytes([i]) * (i + 1)) for i in range(20)]
    data = xenefi.append_sections(sim.to_bytes(), parts)
    image = expect_sound(data)
    assert image.size_of_headers > parse_pe(sim.to_bytes()).size_of_headers
    assert content(data, image, ".text") == sim.sections[0].data
    for name, part in parts:
        assert content(data, image, name) == part


def test_uki() -> None:
    stub = SimImage(sections=[SimSection(".text", b"stub", 0x60000020), SimSection(".sbat", b"sbat,1\n")]).to_bytes()
    data = xenefi.uki(stub, b"kernel", b"initrd", "console=ttyS0", b"ID=vouch\n", uname="6.12.0")
    image = expect_sound(data)
    expected = {
        ".sbat": b"sbat,1\n",
        ".osrel": b"ID=vouch\n",
        ".cmdline": b"console=ttyS0",
        ".uname": b"6.12.0",
        ".initrd": b"initrd",
        ".linux": b"kernel",
    }
    assert {name: content(data, image, name) for name in expected} == expected
    assert image.section(".linux").characteristics == 0x60000020
    assert image.section(".linux").virtual_address % 0x1000 == 0


def test_digest_of_the_result_has_one_reading() -> None:
    """EDK II counts hashed bytes, signing tools hash the flat file: without gaps both say the same."""
    import hashlib

    data = xenefi.unified_xen_efi(xen_like().to_bytes(), CONFIG, b"K" * 99, b"I")
    image = parse_pe(data)
    entry = image.directories_offset + 32
    flat = data[: image.checksum_offset] + data[image.checksum_offset + 4 : entry] + data[entry + 8 :]
    assert authenticode_digest(data) == hashlib.sha256(flat).digest()


def signed() -> bytes:
    return SimImage(certificates=bytes(8)).to_bytes()


def directory_in_debug() -> bytes:
    sim = xen_like()
    sim.directories[2] = (sim.address_of(".debug_info"), 16)
    return sim.to_bytes()


def low_section() -> bytes:
    sections = [SimSection(name, b"x") for name in (".a", ".b", ".c")]
    return SimImage(section_alignment=0x200, file_alignment=0x200, sections=sections).to_bytes()


def debug_only() -> bytes:
    return SimImage(sections=[SimSection(".debug_x", b"x")]).to_bytes()


@pytest.mark.parametrize(
    ("pe", "sections", "alignment", "code"),
    [
        (b"MZ", [(".x", b"x")], None, "image.pe"),
        (debug_only(), [(".x", b"x")], None, "image.pe"),
        (signed(), [(".x", b"x")], None, "image.signed"),
        (directory_in_debug(), [(".x", b"x")], None, "image.directory"),
        (low_section(), [(".x", b"x")], None, "image.headers"),
        (SimImage().to_bytes(), [], None, "image.sections"),
        (SimImage().to_bytes(), [(".x", b"")], None, "image.sections"),
        (SimImage().to_bytes(), [("", b"x")], None, "image.sections"),
        (SimImage().to_bytes(), [(".too.long", b"x")], None, "image.sections"),
        (SimImage().to_bytes(), [(".text", b"x")], None, "image.sections"),
        (SimImage().to_bytes(), [(".x", b"x"), (".x", b"y")], None, "image.sections"),
        (SimImage().to_bytes(), [(".x", b"x")], 0x3000, "image.alignment"),
        (SimImage().to_bytes(), [(".x", b"x"), (".y", b"y")], 1 << 31, "image.size"),
    ],
)
def test_refusals(pe: bytes, sections: list[tuple[str, bytes]], alignment: int | None, code: str) -> None:
    with pytest.raises(UsageError) as error:
        xenefi.append_sections(pe, sections, alignment=alignment)
    assert error.value.code == code


def test_an_unfinished_configuration_is_refused() -> None:
    with pytest.raises(UsageError) as error:
        xenefi.unified_xen_efi(xen_like().to_bytes(), CONFIG.rstrip(), b"K", b"I")
    assert error.value.code == "image.config"
