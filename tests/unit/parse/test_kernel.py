# SPDX-License-Identifier: GPL-3.0-or-later
"""What a kernel says of itself is read, or refused: boot image, ELF, BTF, kallsyms."""

from __future__ import annotations

import struct
from collections.abc import Callable

import pytest
from ansible.module_utils.vouch.errors import ParseError
from ansible.module_utils.vouch.make.kernelimage import unpack
from ansible.module_utils.vouch.parse.btf import Btf
from ansible.module_utils.vouch.parse.bzimage import parse_bzimage
from ansible.module_utils.vouch.parse.elf import parse_elf
from ansible.module_utils.vouch.parse.kallsyms import parse_kallsyms

from sim import tinykernel as tiny

IMAGE = tiny.boot_image(tiny.elf())
ELF = tiny.elf()
TYPES = tiny.types()
SYMBOLS = tiny.symbols(late=True)


def changed(data: bytes, at: int, value: bytes) -> bytes:
    return data[:at] + value + data[at + len(value) :]


def number(value: int, size: int = 4) -> bytes:
    return value.to_bytes(size, "little")


def test_a_boot_image() -> None:
    payload = parse_bzimage(IMAGE)
    assert (payload.compression, payload.size_bytes) == ("xz", len(ELF))
    assert unpack(payload) == ELF


def test_an_elf_file() -> None:
    elf = parse_elf(ELF)
    assert bytes(elf.read(tiny.BASE + 8, 4)) == b"\x90" * 4
    assert elf.sections[".bss"].size_bytes == 0x100
    assert (elf.segments[0].physical, elf.segments[0].size_bytes) == (0x1000000, 0x1100)
    for address, size in ((tiny.BASE - 1, 4), (tiny.BASE + 62, 4), (tiny.BASE + 0x1000, 4)):
        with pytest.raises(ParseError):
            elf.read(address, size)


def test_types() -> None:
    btf = Btf(TYPES)
    assert btf.size("task_struct") == btf.size("task_t") == 64
    assert btf.member("task_struct", "b").offset_bits == 96
    assert btf.member("task_struct", "comm").size_bytes == 16
    assert btf.elements("task_struct", "comm") == 16
    assert btf.member("task_struct", "cred").struct == "cred"
    jit = btf.member("cred", "jit")
    assert (jit.offset_bits, jit.bit_field) == (35, 8)
    assert (btf.enumerator("UP"), btf.enumerator("LOST")) == (3, -1)
    for name in ("nosuch", "cred.uid", "pid.x"):
        with pytest.raises(ParseError):
            btf.member("task_struct", name)


@pytest.mark.parametrize("late", [False, True])
def test_symbols(late: bool) -> None:
    found = parse_kallsyms(tiny.symbols(late=late))
    assert len(found) == tiny.COUNT
    assert found["symbol_0"][0].address == 0x1000
    assert found["symbol_20000"][0] == (tiny.BASE + 16 * 20000, "T")


BAD: dict[str, tuple[Callable[[bytes], object], bytes]] = {
    "image: empty": (parse_bzimage, b""),
    "image: no magic": (parse_bzimage, changed(IMAGE, 0x202, b"HdrX")),
    "image: old": (parse_bzimage, changed(IMAGE, 0x206, number(0x207, 2))),
    "image: payload beyond the end": (parse_bzimage, changed(IMAGE, 0x24C, number(1 << 30))),
    "image: payload too short": (parse_bzimage, changed(IMAGE, 0x24C, number(4))),
    "image: another compression": (parse_bzimage, changed(IMAGE, 0x410, b"LZ4!")),
    "image: unpacks to too much": (parse_bzimage, IMAGE[:-4] + number(1 << 31)),
    "image: unpacks to nothing": (parse_bzimage, IMAGE[:-4] + number(0)),
    "payload: another size": (lambda data: unpack(parse_bzimage(data)), IMAGE[:-4] + number(len(ELF) - 1)),
    "payload: damaged": (lambda data: unpack(parse_bzimage(data)), changed(IMAGE, 0x430, b"\xff" * 8)),
    "elf: empty": (parse_elf, b""),
    "elf: 32 bits": (parse_elf, changed(ELF, 4, b"\1")),
    "elf: another machine": (parse_elf, changed(ELF, 18, number(3, 2))),
    "elf: sections beyond the end": (parse_elf, changed(ELF, 40, number(1 << 20, 8))),
    "elf: too many sections": (parse_elf, changed(ELF, 60, number(65535, 2))),
    "elf: names that are no section": (parse_elf, changed(ELF, 62, number(9, 2))),
    "elf: a section beyond the end": (parse_elf, changed(ELF, len(ELF) - 3 * 64 + 24, number(1 << 20, 8))),
    "elf: a segment smaller than its file": (parse_elf, changed(ELF, 64 + 40, number(1, 8))),
    "elf: a segment beyond the end": (parse_elf, changed(ELF, 64 + 8, number(1 << 40, 8))),
    "types: empty": (Btf, b""),
    "types: another magic": (Btf, changed(TYPES, 0, b"\0\0")),
    "types: names beyond the end": (Btf, changed(TYPES, 20, number(1 << 20))),
    "types: an unknown kind": (Btf, changed(TYPES, 24 + 7, b"\x1f")),
    "types: cut off": (Btf, changed(TYPES, 12, number(20))),
    "symbols: none": (parse_kallsyms, b"\0" * 4096),
    "symbols: cut off": (parse_kallsyms, SYMBOLS[: -4 * tiny.COUNT]),
    "symbols: another count": (parse_kallsyms, SYMBOLS.replace(number(tiny.COUNT, 8), number(20_900, 8))),
}


@pytest.mark.parametrize("fault", BAD)
def test_what_is_not_as_it_says(fault: str) -> None:
    read, data = BAD[fault]
    with pytest.raises(ParseError):
        read(data)


def test_types_that_lead_in_a_circle() -> None:
    made = tiny.Types()
    made.add(tiny.TYPEDEF, "a", 2)
    made.add(tiny.TYPEDEF, "b", 1)
    made.struct("s", 8, [("x", 1, 0), ("", 3, 0)])
    for member in ("x", "y"):
        with pytest.raises(ParseError):
            Btf(made.to_bytes()).member("s", member)
    made = tiny.Types()
    made.add(tiny.ARRAY, "", 0, struct.pack("<III", 1, 1, 2))
    made.struct("s", 8, [("x", 1, 0)])
    with pytest.raises(ParseError):
        Btf(made.to_bytes()).member("s", "x")
