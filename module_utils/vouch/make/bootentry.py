# SPDX-License-Identifier: GPL-3.0-or-later
"""The firmware's boot entry of a slot: EFI_LOAD_OPTION and BootOrder, written byte by byte.

EFI_LOAD_OPTION (UEFI 2.10, 3.1.3), little-endian:

======  ======  =====================================================
offset  size    field
======  ======  =====================================================
0       4       Attributes (LOAD_OPTION_ACTIVE = 1)
4       2       FilePathListLength, bytes
6       n       Description, UTF-16LE, NUL ended
...     m       FilePathList: HD(...), File(...), End (UEFI 2.10, 10.3)
...     rest    OptionalData (none: it would be measured into PCR 1 for nothing)
======  ======  =====================================================
"""

from __future__ import annotations

import struct
import uuid
from collections.abc import Mapping
from dataclasses import dataclass

from ..errors import UsageError

LOAD_OPTION_ACTIVE = 0x00000001

VARIABLE_ATTRIBUTES = 0x7
"""NON_VOLATILE | BOOTSERVICE_ACCESS | RUNTIME_ACCESS, as 3.3 demands of Boot#### and BootOrder."""

GLOBAL_VARIABLE_GUID = uuid.UUID("8be4df61-93ca-11d2-aa0d-00e098032b8c")

MAX_BOOT_NUMBER = 0xFFFF

SPARE_NUMBER = 0x1FFF
"""First number tried for an entry outside BootOrder. Firmware that adds an entry of its own takes the lowest number
that BootOrder does not name, and would take that of ours with it (edk2, UefiBootManagerLib)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BootTarget:
    """Which file on which partition the firmware shall start."""

    description: str
    partition_number: int
    partition_guid: uuid.UUID
    start: int
    size: int
    path: str

    def text(self) -> str:
        """Return the usual text form of the device path (UEFI 2.10, 10.6)."""
        return f"HD({self.partition_number},GPT,{self.partition_guid},{self.start:#x},{self.size:#x})/{self.path}"


@dataclass(frozen=True, slots=True, kw_only=True)
class BootPlan:
    """The variables to write so that the target is tried first; empty when nothing is to do.

    ``variables`` maps variable name to its new value (without the attributes of efivarfs), the
    entry before the order: an order never names an entry that is not there.
    """

    number: int
    variables: Mapping[str, bytes]


def encode_load_option(target: BootTarget) -> bytes:
    """Return the EFI_LOAD_OPTION of ``target``.

    Raises:
        UsageError: for a path that is not absolute in FAT form, or a text that UCS-2 cannot hold.
    """
    if not target.path.startswith("\\") or "/" in target.path:
        raise UsageError(f"{target.path!r} is not an absolute path with backslashes")
    paths = _hard_drive(target) + _file_path(target.path) + b"\x7f\xff\x04\x00"
    return struct.pack("<IH", LOAD_OPTION_ACTIVE, len(paths)) + _ucs2(target.description) + paths


def boot_variable(number: int) -> str:
    """Return the variable's name: ``Boot`` and four upper-case hex digits (UEFI 2.10, 3.1.2)."""
    if not 0 <= number <= MAX_BOOT_NUMBER:
        raise UsageError(f"boot option number {number} does not exist")
    return f"Boot{number:04X}"


def plan_boot(target: BootTarget, entries: Mapping[int, bytes], order: bytes) -> BootPlan:
    """Return what to write so that ``target`` is the first boot option.

    An entry with the same description is ours from an earlier run and is reused, so runs do not pile up entries.

    Args:
        target: What shall be started.
        entries: Boot#### number to its value, as the firmware has them now.
        order: BootOrder now, little-endian 16-bit numbers; empty when the variable is absent.

    Raises:
        UsageError: when ``order`` has an odd length.
    """
    if len(order) % 2:
        raise UsageError(f"BootOrder has {len(order)} bytes, an odd number")
    wanted = encode_load_option(target)
    number = _number_for(wanted, _ucs2(target.description), entries)
    variables: dict[str, bytes] = {}
    if entries.get(number) != wanted:
        variables[boot_variable(number)] = wanted
    now = list(struct.unpack(f"<{len(order) // 2}H", order))
    then = [number, *(n for n in now if n != number)]
    if now != then:
        variables["BootOrder"] = struct.pack(f"<{len(then)}H", *then)
    return BootPlan(number=number, variables=variables)


def plan_spare(target: BootTarget, entries: Mapping[int, bytes], order: bytes) -> BootPlan:
    """Return what to write so that ``target`` is a boot option that only BootNext starts.

    It is no part of BootOrder, so firmware does not measure it into PCR 1, and never tries it by itself.

    Args:
        target: What BootNext shall start.
        entries: Boot#### number to its value, as the firmware has them now.
        order: BootOrder now.
    """
    wanted, description = encode_load_option(target), _ucs2(target.description)
    named = set(struct.unpack(f"<{len(order) // 2}H", order[: len(order) // 2 * 2]))
    ours = [n for n, value in sorted(entries.items()) if value[6 : 6 + len(description)] == description]
    number = next(
        (n for n in (*ours, *range(SPARE_NUMBER, -1, -1)) if n not in named and (n in ours or n not in entries)), None
    )
    if number is None:
        raise UsageError("no boot option number is free")
    variables = {} if entries.get(number) == wanted else {boot_variable(number): wanted}
    return BootPlan(number=number, variables=variables)


def _number_for(wanted: bytes, description: bytes, entries: Mapping[int, bytes]) -> int:
    for number in sorted(entries):
        if entries[number] == wanted:
            return number
    for number in sorted(entries):
        if entries[number][6 : 6 + len(description)] == description:
            return number
    return next(n for n in range(MAX_BOOT_NUMBER + 1) if n not in entries)


def _hard_drive(target: BootTarget) -> bytes:
    """Return a Media/Hard Drive node (UEFI 2.10, 10.3.5.1): format GPT (2), signature type GUID (2)."""
    body = struct.pack("<IQQ", target.partition_number, target.start, target.size)
    return _node(4, 1, body + target.partition_guid.bytes_le + b"\x02\x02")


def _file_path(path: str) -> bytes:
    return _node(4, 4, _ucs2(path))


def _node(kind: int, subtype: int, body: bytes) -> bytes:
    return struct.pack("<BBH", kind, subtype, 4 + len(body)) + body


def _ucs2(text: str) -> bytes:
    if not text or any(ord(c) > 0xFFFF or c == "\0" for c in text):
        raise UsageError(f"{text!r} cannot be written as UCS-2 text")
    return text.encode("utf-16-le") + b"\0\0"
