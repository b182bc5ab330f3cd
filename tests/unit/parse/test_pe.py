# SPDX-License-Identifier: GPL-3.0-or-later
"""PE headers and the Authenticode digest."""

from __future__ import annotations

import hashlib
import json
import pathlib
import struct
from collections.abc import Callable

import pytest
from ansible.module_utils.vouch.errors import ParseError, UsageError
from ansible.module_utils.vouch.parse import pe

from sim.image import COFF_OFFSET, SimImage, SimSection

OPTIONAL = COFF_OFFSET + 24


def flat_authenticode(data: bytes, *, directories: int = 16, certificates: int = 0) -> bytes:
    """Return the digest as signing tools define it: the file without checksum, certificate entry and certificates."""
    checksum, entry = OPTIONAL + 64, OPTIONAL + 112 + 32
    end = len(data) - certificates
    if directories <= 4:
        return hashlib.sha256(data[:checksum] + data[checksum + 4 : end]).digest()
    return hashlib.sha256(data[:checksum] + data[checksum + 4 : entry] + data[entry + 8 : end]).digest()


def patched(data: bytes, offset: int, form: str, value: int) -> bytes:
    out = bytearray(data)
    struct.pack_into(form, out, offset, value)
    return bytes(out)


def test_sections_are_read() -> None:
    image = pe.parse_pe(SimImage().to_bytes())
    assert [s.name for s in image.sections] == [".text", ".data", ".bss"]
    text = image.section(".text")
    assert text is not None
    assert (text.virtual_address, text.virtual_size, text.raw_size) == (0x1000, 700, 0x400)
    assert image.section(".nothing") is None
    assert image.certificate_table == (0, 0)
    assert (image.magic, image.section_alignment, image.file_alignment) == (pe.PE32_PLUS, 0x1000, 0x200)


def test_long_names_come_from_the_string_table() -> None:
    sim = SimImage(sections=[SimSection(".a.long.section.name", b"x"), SimSection(".data", b"y")], symbols=bytes(36))
    image = pe.parse_pe(sim.to_bytes())
    assert [s.name for s in image.sections] == [".a.long.section.name", ".data"]
    assert image.symbol_count == 2


@pytest.mark.parametrize(
    "sim",
    [
        SimImage(),
        SimImage(tail=b"behind the last section"),
        SimImage(symbols=bytes(18)),
        SimImage(file_alignment=32, section_alignment=1 << 21),
        SimImage(directory_count=4),
        SimImage(directory_count=0, tail=b"x"),
    ],
    ids=["plain", "tail", "symbols", "xen-like", "no-certificate-entry", "no-directories"],
)
def test_digest_is_that_of_the_flat_file(sim: SimImage) -> None:
    data = sim.to_bytes()
    assert pe.authenticode_digest(data) == flat_authenticode(data, directories=sim.directory_count)


def test_checksum_and_signature_do_not_count() -> None:
    plain = SimImage().to_bytes()
    signed = SimImage(certificates=b"c" * 24).to_bytes()
    digest = pe.authenticode_digest(plain)
    assert pe.authenticode_digest(signed) == digest
    assert pe.authenticode_digest(patched(plain, OPTIONAL + 64, "<I", 7)) == digest
    assert pe.parse_pe(signed).certificate_table == (len(signed) - 24, 24)


def test_every_other_byte_counts() -> None:
    data = SimImage(tail=b"tail").to_bytes()
    digest = pe.authenticode_digest(data)
    for offset in (0x30, len(data) - 1, 0x400 + 5, 0x3F0):
        assert pe.authenticode_digest(patched(data, offset, "<B", data[offset] ^ 1)) != digest


@pytest.mark.parametrize(
    ("offset", "form", "value", "field"),
    [
        (0x00, "<H", 0, "PE.DOS.e_magic"),
        (0x3C, "<I", 0x7FFFFFFF, "PE.DOS.e_lfanew"),
        (COFF_OFFSET, "<I", 0, "PE.COFF.Signature"),
        (COFF_OFFSET + 6, "<H", 0, "PE.COFF.NumberOfSections"),
        (COFF_OFFSET + 6, "<H", 97, "PE.COFF.NumberOfSections"),
        (COFF_OFFSET + 6, "<H", 40, "PE.optional.SizeOfHeaders"),
        (COFF_OFFSET + 12, "<I", 0x7FFFFFFF, "PE.COFF.PointerToSymbolTable"),
        (COFF_OFFSET + 20, "<H", 60, "PE.optional.SizeOfHeaders"),
        (OPTIONAL, "<H", 0x107, "PE.optional.Magic"),
        (OPTIONAL + 32, "<I", 0x1001, "PE.optional.SectionAlignment"),
        (OPTIONAL + 36, "<I", 0, "PE.optional.FileAlignment"),
        (OPTIONAL + 60, "<I", 0x100000, "PE.optional.SizeOfHeaders"),
        (OPTIONAL + 60, "<I", 0x100, "PE.optional.SizeOfHeaders"),
        (OPTIONAL + 108, "<I", 17, "PE.optional.NumberOfRvaAndSizes"),
        (OPTIONAL + 240 + 16, "<I", 0x100000, "PE.section.SizeOfRawData"),
        (OPTIONAL + 240 + 20, "<I", 0x10, "PE.section.PointerToRawData"),
        (OPTIONAL + 280 + 20, "<I", 0x400, "PE.section.PointerToRawData"),
        (OPTIONAL + 112 + 36, "<I", 8, "PE.directory.certificate"),
    ],
)
def test_a_broken_header_is_refused(offset: int, form: str, value: int, field: str) -> None:
    data = patched(SimImage().to_bytes(), offset, form, value)
    with pytest.raises(ParseError) as error:
        pe.authenticode_digest(data)
    assert error.value.field.startswith(field)


def test_an_unending_long_name_is_refused() -> None:
    data = SimImage(sections=[SimSection(".a.long.section.name", b"x")]).to_bytes()
    with pytest.raises(ParseError) as error:
        pe.parse_pe(data[:-1] + b"x" * 80)
    assert error.value.field == "PE.section.Name"


def test_truncation_is_refused_until_the_tail() -> None:
    data = SimImage().to_bytes()
    for length in range(0, len(data), 37):
        with pytest.raises(ParseError):
            pe.parse_pe(data[:length])


def test_an_unknown_hash_is_our_own_fault() -> None:
    with pytest.raises(UsageError):
        pe.authenticode_digest(SimImage().to_bytes(), "md5")


def test_foreign_images(shared_data: Callable[[str], pathlib.Path]) -> None:
    folder = shared_data("authenticode")
    wrong = []
    for entry in json.loads((folder / "expected.json").read_text())["files"]:
        data = (folder / entry["file"]).read_bytes()
        for algorithm, value in entry["expect"]["authenticode"].items():
            if pe.authenticode_digest(data, algorithm).hex() != value:
                wrong.append((entry["file"], algorithm))
        padded = entry["expect"].get("sha256_padded_to_8")
        if padded and pe.authenticode_digest(data + bytes(-len(data) % 8)).hex() != padded:
            wrong.append((entry["file"], "padded"))
        has_certificates = pe.parse_pe(data).certificate_table != (0, 0)
        if has_certificates != bool(entry["expect"]["certificates"]):
            wrong.append((entry["file"], "certificates"))
    assert not wrong
