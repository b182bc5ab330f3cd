# SPDX-License-Identifier: GPL-3.0-or-later
"""Code as forms: distances become targets, runs of instructions that do nothing become a length.

What the kernel writes to a site is a copy of bytes that stood elsewhere, with its distances corrected and its padding
spelled anew; two copies of one replacement are equal only in this form.

Source: Linux 6.1 and 6.12, arch/x86/kernel/alternative.c (apply_alternatives, recompute_jump, apply_relocation,
optimize_nops).
"""

from __future__ import annotations

from ..errors import ParseError
from ..model.codeform import LITERAL, NOPS, Form, Part, literal, nops, relative
from ..parse.x86insn import Instruction, parse_instruction

CALL, JUMP, JUMP_SHORT, RETURN, TRAP = 0xE8, 0xE9, 0xEB, 0xC3, 0xCC

_NOP, _LONG_NOP = 0x90, 0x11F
_XCHG_PREFIXES = frozenset((0x66,))


def lift(code: bytes, address: int, *, first: int | None = None, last: int | None = None) -> Form:
    """Return code as a form.

    Args:
        code: The bytes.
        address: Where they stand now: distances count from there.
        first, last: A branch into this range, or to its end, stays a distance; by default the code itself is the range.

    Returns:
        The form; where no instruction begins, the rest as it is.
    """
    start = address if first is None else first
    end = address + len(code) if last is None else last
    parts: list[Part] = []
    at = 0
    while at < len(code):
        try:
            found = parse_instruction(code, at)
        except ParseError:
            parts.append(literal(code[at:]))
            break
        raw = code[at : at + found.length]
        if does_nothing(raw, found):
            parts.append(nops(found.length))
        else:
            parts += _instruction(raw, found, address + at, start, end)
        at += found.length
    return joined(parts)


def joined(parts: list[Part]) -> Form:
    """Return the parts with neighbours of one kind made one."""
    out: list[Part] = []
    for part in parts:
        if not part.length:
            continue
        before = out[-1] if out else None
        if before is not None and part.kind == before.kind == LITERAL and before.length + part.length < 256:
            out[-1] = literal(before.data + part.data)
        elif before is not None and part.kind == before.kind == NOPS and before.length + part.length < 256:
            out[-1] = nops(before.length + part.length)
        else:
            out.append(part)
    return tuple(out)


def padded(form: Form, length: int) -> Form:
    """Return the form with what does nothing behind it, up to ``length`` bytes."""
    missing = length - sum(part.length for part in form)
    return joined([*form, *([nops(missing)] if missing > 0 else [])])


def copies(code: bytes, address: int, site: int, length: int) -> list[Form]:
    """Return what stands at a site once a replacement was copied there.

    Args:
        code: The replacement.
        address: Where it stands in the file.
        site: Where it goes.
        length: Bytes of the site.
    """
    form = padded(lift(code, address), length)
    found = [form]
    # A long jump that has become short is written short; what is left over traps (6.12) or does nothing (6.1).
    for index, part in enumerate(form[:-1]):
        target = form[index + 1]
        if part.kind == LITERAL and part.data[-1] == JUMP and target.length == 4 and target.target:
            place = site + sum(item.length for item in form[:index]) + part.length - 1
            if -128 <= target.target - place - 2 <= 127:
                short = [literal(part.data[:-1] + bytes([JUMP_SHORT])), relative(target.target, length=1)]
                for rest in (literal(bytes([TRAP]) * 3), nops(3)):
                    found.append(joined([*form[:index], *short, rest, *form[index + 2 :]]))
    return found


def does_nothing(raw: bytes, found: Instruction) -> bool:
    """Say whether an instruction is one of the spellings of doing nothing: 90, 66 90, 0f 1f /0 and prefixed ones."""
    if found.opcode == _NOP and found.opcode_at == found.length - 1:
        return all(byte in _XCHG_PREFIXES for byte in raw[:-1])
    return found.opcode == _LONG_NOP and found.modrm & 0x38 == 0


def jump_to(target: int, opcode: int = JUMP) -> Form:
    """Return a jump, or another branch with a distance of four bytes."""
    return (literal(bytes([opcode])), relative(target))


def _instruction(raw: bytes, found: Instruction, address: int, start: int, end: int) -> list[Part]:
    if found.branch:
        at, size = found.immediate_at, found.immediate_bytes
    elif found.rip_relative:
        at, size = found.displacement_at, found.displacement_bytes
    else:
        return [literal(raw)]
    distance = int.from_bytes(raw[at : at + size], "little", signed=True)
    target = (address + found.length + distance) & (1 << 64) - 1
    # To the end is inside too (need_reloc).
    if start <= target <= end:
        return [literal(raw)]
    tail = found.length - at - size
    return [literal(raw[:at]), relative(target, length=size, tail=tail), literal(raw[at + size :])]
