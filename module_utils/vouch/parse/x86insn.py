# SPDX-License-Identifier: GPL-3.0-or-later
"""Lengths of x86-64 instructions, and where their distances and constants stand. No meaning beyond that.

=============  =====================================================
part           bytes
=============  =====================================================
prefixes       any of 26 2e 36 3e 64 65 66 67 f0 f2 f3
REX            one of 40 to 4f; or VEX (c5, c4) or EVEX (62) with 1, 2 or 3 bytes of their own
opcode         1; behind 0f: 2; behind 0f 38 or 0f 3a: 3
ModRM, SIB     1 and 1, where the opcode has operands in memory
displacement   0, 1 or 4
immediate      0, 1, 2, 3, 4 or 8
=============  =====================================================

Source: Intel SDM, volume 2, chapter 2 and appendix A; AMD64 APM, volume 3, appendix A.
"""

from __future__ import annotations

from typing import NamedTuple

from ..errors import ParseError

MAX_INSTRUCTION_BYTES = 15

_PREFIXES = frozenset((0x26, 0x2E, 0x36, 0x3E, 0x64, 0x65, 0x66, 0x67, 0xF0, 0xF2, 0xF3))
_OPERAND_SIZE, _ADDRESS_SIZE = 0x66, 0x67
_TWO_BYTES = 0x100
_MAP_38, _MAP_3A = 0x200, 0x300


def _ranges(*pairs: int | tuple[int, int]) -> frozenset[int]:
    found: set[int] = set()
    for pair in pairs:
        first, last = pair if isinstance(pair, tuple) else (pair, pair)
        found.update(range(first, last + 1))
    return frozenset(found)


_INVALID = _ranges(
    *(0x06, 0x07, 0x0E, 0x16, 0x17, 0x1E, 0x1F, 0x27, 0x2F, 0x37, 0x3F, 0x60, 0x61, 0x82, 0x9A, 0xCE),
    *((0xD4, 0xD6), 0xEA, 0x104, 0x10A, 0x10C, (0x124, 0x127), 0x136, (0x139, 0x13F), (0x17A, 0x17B)),
)
_MODRM = _ranges(
    *[(base, base + 3) for base in range(0, 0x40, 8)],
    *(0x63, 0x69, 0x6B, (0x80, 0x8F), 0xC0, 0xC1, 0xC6, 0xC7, (0xD0, 0xD3), (0xD8, 0xDF), 0xF6, 0xF7, 0xFE, 0xFF),
    *((0x100, 0x103), 0x10D, (0x10F, 0x12F), (0x140, 0x176), (0x178, 0x17F), (0x190, 0x19F), (0x1A3, 0x1A5)),
    *((0x1AB, 0x1C7), (0x1D0, 0x1FF)),
)
_IMMEDIATE_8 = _ranges(
    *[base + 4 for base in range(0, 0x40, 8)],
    *(0x6A, 0x6B, (0x70, 0x7F), 0x80, 0x83, 0xA8, (0xB0, 0xB7), 0xC0, 0xC1, 0xC6, 0xCD, (0xE0, 0xE7), 0xEB),
    *(0x10F, (0x170, 0x173), 0x1A4, 0x1AC, 0x1BA, 0x1C2, (0x1C4, 0x1C6)),
)
_IMMEDIATE_Z = _ranges(*[base + 5 for base in range(0, 0x40, 8)], 0x68, 0x69, 0x81, 0xA9, 0xC7)
"""Four bytes, or two behind an operand-size prefix."""
_RELATIVE_32 = _ranges(0xE8, 0xE9, (0x180, 0x18F))
_RELATIVE_8 = _ranges((0x70, 0x7F), (0xE0, 0xE3), 0xEB)


class Instruction(NamedTuple):
    """One instruction.

    Attributes:
        length: Its bytes.
        opcode: 0x00 to 0xff; behind 0f 0x100 to 0x1ff; behind 0f 38 0x200, behind 0f 3a 0x300 and more.
        opcode_at: Where its opcode's last byte stands.
        modrm: The byte, or -1.
        displacement_at: Where its displacement begins; 0 where it has none.
        displacement_bytes: 0, 1 or 4.
        immediate_at: Where its constant or its distance begins; 0 where it has none.
        immediate_bytes: How long that is.
        rip_relative: Whether the displacement counts from the end of the instruction.
        branch: Whether the immediate is a distance to another place in the code.
    """

    length: int
    opcode: int
    opcode_at: int
    modrm: int
    displacement_at: int
    displacement_bytes: int
    immediate_at: int
    immediate_bytes: int
    rip_relative: bool
    branch: bool


def parse_instruction(data: bytes, at: int = 0) -> Instruction:
    """Return the instruction that begins at ``data[at]``; its places count from there.

    Raises:
        ParseError: none begins there, or it does not end within ``data``.
    """
    code = data[at : at + MAX_INSTRUCTION_BYTES]
    try:
        found = _decode(code)
    except IndexError:
        raise ParseError("x86", at, "the instruction is cut off", code="parse.truncated") from None
    if found.length > len(code):
        raise ParseError("x86", at, "the instruction is cut off or too long", code="parse.truncated")
    return found


def _decode(code: bytes) -> Instruction:
    pos, small, short_address = 0, False, False
    while code[pos] in _PREFIXES:
        small |= code[pos] == _OPERAND_SIZE
        short_address |= code[pos] == _ADDRESS_SIZE
        pos += 1
    wide = False
    if code[pos] & 0xF0 == 0x40:
        wide = bool(code[pos] & 8)
        pos += 1
    vector = code[pos] in (0xC4, 0xC5, 0x62)
    if vector:
        opcode, pos = _vector(code, pos)
    else:
        opcode, pos = _opcode(code, pos)
        if opcode in _INVALID:
            raise ParseError("x86.opcode", pos, f"{opcode:#x} is no instruction")
    opcode_at = pos
    pos += 1
    modrm, displacement_at, displacement_bytes = -1, 0, 0
    if opcode in _MODRM or opcode >= _MAP_38 or (vector and opcode != _TWO_BYTES + 0x77):
        modrm = code[pos]
        pos, displacement_bytes = _operand(code, pos)
        displacement_at = pos if displacement_bytes else 0
        pos += displacement_bytes
    size = _immediate(opcode, modrm, small=small, wide=wide, short_address=short_address, vector=vector)
    return Instruction(
        length=pos + size,
        opcode=opcode,
        opcode_at=opcode_at,
        modrm=modrm,
        displacement_at=displacement_at,
        displacement_bytes=displacement_bytes,
        immediate_at=pos if size else 0,
        immediate_bytes=size,
        rip_relative=modrm >= 0 and modrm & 0xC7 == 5,
        branch=not vector and (opcode in _RELATIVE_32 or opcode in _RELATIVE_8),
    )


def _opcode(code: bytes, pos: int) -> tuple[int, int]:
    if code[pos] != 0x0F:
        return code[pos], pos
    pos += 1
    if code[pos] == 0x38:
        return _MAP_38 + code[pos + 1], pos + 1
    if code[pos] == 0x3A:
        return _MAP_3A + code[pos + 1], pos + 1
    return _TWO_BYTES + code[pos], pos


def _vector(code: bytes, pos: int) -> tuple[int, int]:
    """Return opcode and place of it behind a VEX or EVEX prefix."""
    if code[pos] == 0xC5:
        return _TWO_BYTES + code[pos + 2], pos + 2
    which = code[pos + 1] & (7 if code[pos] == 0x62 else 0x1F)
    if which not in (1, 2, 3):
        raise ParseError("x86.vex", pos, f"opcode map {which}")
    skip = 4 if code[pos] == 0x62 else 3
    return which * 0x100 + code[pos + skip], pos + skip


def _operand(code: bytes, pos: int) -> tuple[int, int]:
    """Return where the displacement would begin, and its bytes."""
    modrm = code[pos]
    mode, register = modrm >> 6, modrm & 7
    pos += 1
    if mode == 3:
        return pos, 0
    base = register
    if register == 4:
        base = code[pos] & 7
        pos += 1
        if mode == 0:
            return pos, 4 if base == 5 else 0
    if mode == 0:
        return pos, 4 if base == 5 else 0
    return pos, 1 if mode == 1 else 4


def _immediate(opcode: int, modrm: int, *, small: bool, wide: bool, short_address: bool, vector: bool) -> int:
    """Return the bytes of the immediate."""
    if opcode >= _MAP_3A or opcode in _IMMEDIATE_8:
        return 1
    if vector or opcode >= _MAP_38:
        return 0
    if opcode in _RELATIVE_32:
        return 4
    if opcode in _IMMEDIATE_Z:
        return 2 if small else 4
    if 0xB8 <= opcode <= 0xBF:
        return 8 if wide else 2 if small else 4
    if 0xA0 <= opcode <= 0xA3:
        return 4 if short_address else 8
    if opcode in (0xF6, 0xF7) and modrm & 0x38 in (0, 8):
        return 1 if opcode == 0xF6 else 2 if small else 4
    return {0xC2: 2, 0xCA: 2, 0xC8: 3}.get(opcode, 0)
