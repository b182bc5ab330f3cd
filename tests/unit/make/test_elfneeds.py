# SPDX-License-Identifier: GPL-3.0-or-later
"""Needed libraries, held against a real program and against damaged ones."""

from __future__ import annotations

import pathlib
import re
import struct
import subprocess
import sys

import pytest
from ansible.module_utils.vouch.errors import ParseError
from ansible.module_utils.vouch.make.elfneeds import closure, is_elf, needed

PROGRAM = pathlib.Path("/bin/ls")


def elf(names: list[str]) -> bytes:
    """Return a small ELF file that needs ``names``: one segment holds all of it, one the dynamic section."""
    strings = b"\0" + b"".join(name.encode() + b"\0" for name in names)
    dynamic_at = 64 + 2 * 56
    entries = b""
    offset = 1
    for name in names:
        entries += struct.pack("<QQ", 1, offset)
        offset += len(name) + 1
    strings_at = dynamic_at + len(entries) + 32
    entries += struct.pack("<QQ", 5, 0x1000 + strings_at) + bytes(16)
    size = strings_at + len(strings)
    header = b"\x7fELF\x02\x01".ljust(32, b"\0") + struct.pack("<Q", 64) + bytes(14) + struct.pack("<HH", 56, 2)
    load = struct.pack("<IIQQQQQQ", 1, 5, 0, 0x1000, 0, size, size, 4096)
    dynamic = struct.pack("<IIQQQQQQ", 2, 6, dynamic_at, 0x1000 + dynamic_at, 0, len(entries), len(entries), 8)
    return header.ljust(64, b"\0") + load + dynamic + entries + strings


def test_objects_for_the_linker_need_nothing() -> None:
    header = b"\x7fELF\x02\x01".ljust(16, b"\0") + struct.pack("<HHI", 1, 62, 1)
    assert needed(header.ljust(64, b"\0")) == ()


def test_made_file() -> None:
    assert needed(elf(["liba.so.1", "libb.so.2"])) == ("liba.so.1", "libb.so.2")
    assert needed(elf([])) == ()


def test_other_files_need_nothing() -> None:
    assert needed(b"#!/bin/sh\n") == ()
    assert not is_elf(b"")


@pytest.mark.skipif(not PROGRAM.is_file() or sys.platform != "linux", reason="no /bin/ls")
def test_agrees_with_the_dynamic_linker() -> None:
    listed = subprocess.run(["ldd", str(PROGRAM)], capture_output=True, text=True, check=False)
    loaded = set(re.findall(r"^\s*(\S+\.so[.\d]*) =>", listed.stdout, re.MULTILINE))
    assert loaded, "ldd shows no library"
    names = set(needed(PROGRAM.read_bytes()))
    assert names
    assert names <= loaded


def test_closure_follows_libraries() -> None:
    files = {
        "bin/x": elf(["liba.so"]),
        "lib/a": elf(["libb.so", "libgone.so"]),
        "lib/b": elf(["liba.so"]),
        "lib/c": b"",
    }
    libraries = {"liba.so": "lib/a", "libb.so": "lib/b", "libc.so": "lib/c"}
    assert closure(["bin/x"], read=files.get, libraries=libraries) == {"bin/x", "lib/a", "lib/b"}


@pytest.mark.parametrize("length", range(6, 64, 7))
def test_truncated_header(length: int) -> None:
    with pytest.raises(ParseError):
        needed(elf(["liba.so"])[:length])


def test_every_truncation_and_every_flip_ends() -> None:
    whole = elf(["liba.so", "libb.so"])
    for position in range(len(whole)):
        for data in (whole[:position], whole[:position] + bytes([whole[position] ^ 0xFF]) + whole[position + 1 :]):
            try:
                assert isinstance(needed(data), tuple)
            except ParseError:
                continue
