# SPDX-License-Identifier: GPL-3.0-or-later
"""A kernel of three pages with one site of each kind, and its profile: text and read-only data in memory."""

from __future__ import annotations

import hashlib
import zlib
from array import array

from ansible.module_utils.vouch.model.codeform import (
    REASONS,
    VALUE,
    FormSet,
    Part,
    anything,
    literal,
    nops,
    relative,
)
from ansible.module_utils.vouch.model.kernelprofile import Profile, encoded_sets
from ansible.module_utils.vouch.model.profileparts import LINE_BYTES, PAGE_BYTES, Hook, Region, Segment, Value

TEXT_AT, RODATA_AT = 0xFFFFFFFF81000000, 0xFFFFFFFF82000000
TARGET, OTHER = TEXT_AT + 0x1800, TEXT_AT + 0x1900
FILE_VALUE = 0x0123456789ABCDEF

CALL, LOCK, SPAN, CONSTANT_1, CONSTANT_2, LABEL, CROSSING = 0x40, 0x80, 0xC0, 0x100, 0x200, 0x300, 0xFFE
"""Offsets of the sites in the text; the last reaches over the end of a page."""


def reason(name: str) -> int:
    """Return the number of a reason."""
    return REASONS.index(name)


def branch(opcode: int, at: int, target: int) -> bytes:
    """Return a branch of five bytes at an offset of the text."""
    return bytes([opcode]) + ((target - TEXT_AT - at - 5) & 0xFFFFFFFF).to_bytes(4, "little")


def sets() -> dict[int, FormSet]:
    """Return the sites of the text."""
    constant = FormSet(8, reason("run-time constant"), ((Part(VALUE, 8, value=0),),))
    call = ((literal(b"\xe8"), relative(TARGET)), (nops(5),), (literal(b"\xe8"), relative(OTHER)))
    back = ((literal(b"\xc3\xcc\xcc\xcc\xcc"),), (literal(b"\xe9"), relative(TARGET)))
    label = ((nops(2),), (literal(b"\xeb"), relative(TEXT_AT + LABEL + 0x20, length=1)))
    return {
        CALL: FormSet(5, reason("static call"), call),
        LOCK: FormSet(1, reason("lock prefix"), ((literal(b"\xf0"),), (literal(b"\x3e"),))),
        SPAN: FormSet(12, reason("alternative"), ((literal(b"\x0f\x01\xca"), nops(9)), (nops(12),))),
        CONSTANT_1: constant,
        CONSTANT_2: constant,
        LABEL: FormSet(2, reason("jump label"), label),
        CROSSING: FormSet(5, reason("return"), back),
    }


def text() -> bytearray:
    """Return the text as the file has it."""
    data = bytearray(hashlib.shake_128(b"text").digest(2 * PAGE_BYTES + 100))
    data[CALL : CALL + 5] = branch(0xE8, CALL, TARGET)
    data[LOCK] = 0xF0
    data[SPAN : SPAN + 12] = b"\x0f\x01\xca" + b"\x90" * 9
    for at in (CONSTANT_1, CONSTANT_2):
        data[at : at + 8] = FILE_VALUE.to_bytes(8, "little")
    data[LABEL : LABEL + 2] = b"\x66\x90"
    data[CROSSING : CROSSING + 5] = b"\xc3\xcc\xcc\xcc\xcc"
    return data


def rodata() -> bytearray:
    """Return the read-only data as the file has them; the second half is filled while the kernel starts."""
    return bytearray(hashlib.shake_128(b"rodata").digest(PAGE_BYTES))


def region(start: int, data: bytes, sites: dict[int, FormSet], known: dict[FormSet, int]) -> Region:
    """Return the region of ``data``."""
    blank = bytearray(data)
    for at, allowed in sites.items():
        blank[at : at + allowed.length] = bytes(allowed.length)
    return Region(
        start=start,
        size_bytes=len(data),
        sha256=hashlib.sha256(data).digest(),
        page_digests=b"".join(
            hashlib.sha256(blank[at : at + PAGE_BYTES]).digest() for at in range(0, len(blank), PAGE_BYTES)
        ),
        line_sums=array("I", [zlib.crc32(blank[at : at + LINE_BYTES]) for at in range(0, len(blank), LINE_BYTES)]),
        site_offsets=array("I", sorted(sites)),
        site_sets=array("I", [known.setdefault(sites[at], len(known)) for at in sorted(sites)]),
    )


def profile(release: str = "6.12.1-test") -> Profile:
    """Return the profile of this kernel."""
    known: dict[FormSet, int] = {}
    half = PAGE_BYTES // 2
    later = {half: FormSet(half, reason("read-only after start"), ((anything(half),),))}
    regions = {
        "text": region(TEXT_AT, bytes(text()), sets(), known),
        "rodata": region(RODATA_AT, bytes(rodata()), later, known),
    }
    return Profile(
        release=release,
        banner=f"Linux version {release} (test) #1".encode(),
        symbols={"_stext": TEXT_AT, "linux_banner": RODATA_AT},
        offsets={"task_struct.cred": 2960, "cred.jit:bit": 3},
        sizes={"task_struct": 9000, "task_struct.cred": 8},
        constants={"SYSTEM_RUNNING": 3, "LOWEST": -1},
        segments=[Segment(TEXT_AT, 0x1000000, 0x2000, 0x1000, bytes(32))],
        regions=regions,
        form_sets=encoded_sets(list(known)),
        values=[Value("dentry_hashtable", 8, FILE_VALUE, ())],
        hooks={"file_open": Hook(16, 0, (TARGET, OTHER))},
        gates={14: (TARGET,)},
        names=[(TEXT_AT, "_stext"), (TEXT_AT + 0x1800, "selinux_file_permission"), (RODATA_AT, "linux_banner")],
    )
