# SPDX-License-Identifier: GPL-3.0-or-later
"""Just enough of an object file to say whether a compiler made it.

Source: System V ABI, chapter 4 (ELF header, sections, symbols); x86-64 psABI.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping

RELOCATABLE, X86_64 = 1, 62


def sections(data: bytes) -> Mapping[str, bytes]:
    """Return name to content of the sections of an x86-64 object file.

    Raises:
        ValueError: it is none.
    """
    if data[:6] != b"\x7fELF\x02\x01" or struct.unpack_from("<HH", data, 16) != (RELOCATABLE, X86_64):
        raise ValueError(f"no x86-64 object file: {data[:20].hex()}")
    (table,) = struct.unpack_from("<Q", data, 40)
    size, count, names_at = struct.unpack_from("<HHH", data, 58)
    heads = [struct.unpack_from("<IIQQQQIIQQ", data, table + size * number) for number in range(count)]
    bodies = [data[head[4] : head[4] + head[5]] for head in heads]
    return {_text(bodies[names_at], head[0]): body for head, body in zip(heads, bodies, strict=True)}


def symbols(data: bytes) -> list[str]:
    """Return the names in the symbol table of an object file."""
    found = sections(data)
    entries = struct.iter_unpack("<IBBHQQ", found[".symtab"])
    return [_text(found[".strtab"], entry[0]) for entry in entries if entry[0]]


def _text(table: bytes, at: int) -> str:
    return table[at : table.index(b"\0", at)].decode()
