# SPDX-License-Identifier: GPL-3.0-or-later
"""What a kernel says of itself, built small: a boot image, an ELF file, types (BTF), a table of symbols (kallsyms)."""

from __future__ import annotations

import lzma
import struct

BASE = 0xFFFFFFFF81000000
COUNT = 20_003
"""Symbols of the table: few for a kernel, enough for its reader."""

INT, POINTER, ARRAY, STRUCT, ENUM, TYPEDEF = 1, 2, 3, 4, 6, 8


class Types:
    """Builds a section ``.BTF``."""

    def __init__(self) -> None:
        self.names = bytearray(b"\0")
        self.types: list[bytes] = []

    def name(self, text: str) -> int:
        """Return the place of a name."""
        if not text:
            return 0
        self.names += text.encode() + b"\0"
        return len(self.names) - len(text) - 1

    def add(self, kind: int, name: str, size: int, body: bytes = b"", *, items: int = 0, flag: int = 0) -> int:
        """Add a type and return its number."""
        self.types.append(struct.pack("<III", self.name(name), flag << 31 | kind << 24 | items, size) + body)
        return len(self.types)

    def struct(self, name: str, size: int, members: list[tuple[str, int, int]], *, flag: int = 0) -> int:
        """Add a structure; members are name, type and place in bits."""
        body = b"".join(struct.pack("<III", self.name(text), kind, place) for text, kind, place in members)
        return self.add(STRUCT, name, size, body, items=len(members), flag=flag)

    def to_bytes(self) -> bytes:
        """Return the section."""
        types = b"".join(self.types)
        head = struct.pack("<HBBIIIII", 0xEB9F, 1, 0, 24, 0, len(types), len(types), len(self.names))
        return head + types + bytes(self.names)


def types() -> bytes:
    """Return types of a task with an unnamed part, a bit field, an array and a pointer."""
    made = Types()
    number = made.add(INT, "int", 4, struct.pack("<I", 32))
    char = made.add(INT, "char", 1, struct.pack("<I", 8))
    cred = made.struct("cred", 16, [("uid", number, 0), ("jit", number, 8 << 24 | 35)], flag=1)
    inner = made.struct("", 8, [("a", number, 0), ("b", number, 32)])
    comm = made.add(ARRAY, "", 0, struct.pack("<III", char, number, 16))
    pointer = made.add(POINTER, "", cred)
    made.struct("task_struct", 64, [("pid", number, 32), ("", inner, 64), ("comm", comm, 128), ("cred", pointer, 256)])
    made.add(TYPEDEF, "task_t", len(made.types))
    made.add(ENUM, "states", 4, struct.pack("<IiIi", made.name("UP"), 3, made.name("LOST"), -1), items=2, flag=1)
    return made.to_bytes()


def symbols(*, late: bool) -> bytes:
    """Return read-only data with a table of symbols: ``late`` as from Linux 6.4 on, otherwise as before."""
    texts = [bytes([code]) if 0x21 <= code < 0x7F else b"" for code in range(256)]
    tokens = b"".join(text + b"\0" for text in texts)
    places, at = [], 0
    for text in texts:
        places.append(at)
        at += len(text) + 1
    names, marks, offsets = bytearray(), [], []
    for number in range(COUNT):
        if not number % 256:
            marks.append(len(names))
        text = b"Tsymbol_%d" % number
        names += bytes([len(text)]) + text
        # The first symbol is of a processor: its offset is an address.
        offsets.append(0x1000 if not number else -1 - 16 * number)
    table = struct.pack(f"<{COUNT}i", *offsets)
    table += bytes(-len(table) % 8)
    base = struct.pack("<Q", BASE)
    out = bytearray(b"\1" * 64)
    if not late:
        out += table + base
    out += struct.pack("<Q", COUNT) + names
    out += bytes(-len(out) % 4) + struct.pack(f"<{len(marks)}I", *marks)
    out += bytes(-len(out) % 8) + tokens
    out += bytes(-len(out) % 2) + struct.pack("<256H", *places)
    out += bytes(-len(out) % 8)
    if late:
        out += table + base
    return bytes(out) + b"\1" * 64


def elf(*, code: bytes = b"\x90" * 64) -> bytes:
    """Return a program with one section of code, one of zeros, and one segment."""
    names = b"\0.text\0.bss\0.shstrtab\0"
    begin = 0x1000
    headers = begin + len(code) + len(names)
    rows = [
        (0, 0, 0, 0, 0, 0),
        (1, 1, 6, BASE, begin, len(code)),
        (7, 8, 3, BASE + 0x1000, 0, 0x100),
        (12, 3, 0, 0, begin + len(code), len(names)),
    ]
    sections = b"".join(struct.pack("<IIQQQQIIQQ", *row[:6], 0, 0, 1, 0) for row in rows)
    segment = struct.pack("<IIQQQQQQ", 1, 5, begin, BASE, 0x1000000, len(code), 0x1100, 0x1000)
    ident = b"\x7fELF\x02\x01\x01".ljust(16, b"\0")
    head = struct.pack("<16sHHIQQQIHHHHHH", ident, 2, 62, 1, BASE, 64, headers, 0, 64, 56, 1, 64, 4, 3)
    return (head + segment).ljust(begin, b"\0") + code + names + sections


def boot_image(kernel: bytes) -> bytes:
    """Return a boot image with this kernel in it."""
    payload = lzma.compress(kernel, lzma.FORMAT_XZ) + struct.pack("<I", len(kernel))
    head = bytearray(0x400)
    head[0x1F1] = 1
    head[0x202:0x208] = b"HdrS" + struct.pack("<H", 0x20F)
    struct.pack_into("<II", head, 0x248, 16, len(payload))
    return bytes(head) + bytes(16) + payload
