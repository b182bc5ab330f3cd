# SPDX-License-Identifier: GPL-3.0-or-later
"""Boot entries: bytes of EFI_LOAD_OPTION, and which variables to write."""

from __future__ import annotations

import struct
import uuid

import pytest
from ansible.module_utils.vouch.errors import UsageError
from ansible.module_utils.vouch.make import bootentry

TARGET = bootentry.BootTarget(
    description="Vouch a",
    partition_number=1,
    partition_guid=uuid.UUID("00112233-4455-6677-8899-aabbccddeeff"),
    start=2048,
    size=524288,
    path="\\EFI\\vouch\\a.efi",
)


def test_the_bytes_are_those_of_the_specification() -> None:
    path = "\\EFI\\vouch\\a.efi".encode("utf-16-le") + b"\0\0"
    drive = (
        bytes.fromhex("04012a00 01000000 0008000000000000 0000080000000000")
        + bytes.fromhex("33221100 5544 7766 8899aabbccddeeff 0202")
    )  # fmt: skip
    node = b"\x04\x04" + struct.pack("<H", 4 + len(path)) + path
    paths = drive + node + bytes.fromhex("7fff0400")
    assert bootentry.encode_load_option(TARGET) == (
        struct.pack("<IH", 1, len(paths)) + "Vouch a\0".encode("utf-16-le") + paths
    )
    assert TARGET.text() == "HD(1,GPT,00112233-4455-6677-8899-aabbccddeeff,0x800,0x80000)/\\EFI\\vouch\\a.efi"


def test_nothing_to_do_is_an_empty_plan() -> None:
    wanted = bootentry.encode_load_option(TARGET)
    plan = bootentry.plan_boot(TARGET, {3: wanted, 0: b"x"}, b"\x03\0\0\0")
    assert (plan.number, dict(plan.variables)) == (3, {})


def test_a_fresh_entry_takes_the_first_free_number_and_goes_first() -> None:
    plan = bootentry.plan_boot(TARGET, {0: b"x", 1: b"y"}, b"\x01\0\0\0")
    assert plan.number == 2
    assert list(plan.variables) == ["Boot0002", "BootOrder"]
    assert plan.variables["BootOrder"] == b"\x02\0\x01\0\0\0"


def test_our_old_entry_is_reused() -> None:
    from dataclasses import replace

    old = bootentry.encode_load_option(replace(TARGET, partition_guid=uuid.uuid4()))
    plan = bootentry.plan_boot(TARGET, {5: old, 0: b"x"}, b"\0\0\x05\0")
    assert plan.number == 5
    assert plan.variables["BootOrder"] == b"\x05\0\0\0"


def test_no_boot_order_at_all() -> None:
    assert bootentry.plan_boot(TARGET, {}, b"").variables["BootOrder"] == b"\0\0"


@pytest.mark.parametrize("path", ["EFI\\a.efi", "/EFI/a.efi", "\\EFI/a.efi"])
def test_a_wrong_path_is_our_mistake(path: str) -> None:
    from dataclasses import replace

    with pytest.raises(UsageError):
        bootentry.encode_load_option(replace(TARGET, path=path))


def test_an_odd_boot_order_is_refused() -> None:
    with pytest.raises(UsageError):
        bootentry.plan_boot(TARGET, {}, b"\0")


def test_a_spare_entry_stays_out_of_the_order_and_of_low_numbers() -> None:
    plan = bootentry.plan_spare(TARGET, {0: b"firmware"}, b"\0\0")
    assert plan.variables == {"Boot1FFF": bootentry.encode_load_option(TARGET)}
    assert bootentry.plan_spare(TARGET, {0x1FFF: bootentry.encode_load_option(TARGET)}, b"\0\0").variables == {}


def test_a_spare_entry_takes_no_number_that_another_has() -> None:
    taken = {0x1FFF: b"another", 0x1FFE: b"another"}
    assert bootentry.plan_spare(TARGET, taken, b"").number == 0x1FFD
    # Ours, but somebody put it into the order: it would be measured and tried there, so another one is made.
    ours = {7: bootentry.encode_load_option(TARGET)}
    assert bootentry.plan_spare(TARGET, ours, b"\x07\0").number == 0x1FFF
    changed = {7: bootentry.encode_load_option(TARGET) + b"options"}
    assert bootentry.plan_spare(TARGET, changed, b"").variables == {"Boot0007": bootentry.encode_load_option(TARGET)}
