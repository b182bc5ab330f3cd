# SPDX-License-Identifier: GPL-3.0-or-later
"""UEFI structures inside event data."""

from __future__ import annotations

import json
import pathlib
import struct
import uuid
from collections.abc import Callable

import pytest
from ansible.module_utils.vouch.errors import ParseError
from ansible.module_utils.vouch.parse import efivar, tcglog

from sim.firmware import EFI_GLOBAL, OWNER, X509, file_path, signature_list, variable_data

END = b"\x7f\xff\x04\0"


def node(kind: int, subtype: int, body: bytes) -> bytes:
    return struct.pack("<BBH", kind, subtype, 4 + len(body)) + body


def test_variable() -> None:
    variable = efivar.parse_variable(variable_data(EFI_GLOBAL, "SecureBoot", b"\x01"))
    assert (variable.vendor, variable.name, variable.data, variable.slack) == (EFI_GLOBAL, "SecureBoot", b"\x01", b"")
    assert efivar.parse_variable(variable_data(EFI_GLOBAL, "X", b"v") + bytes(6)).slack == bytes(6)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        variable_data(EFI_GLOBAL, "Name", b"value")[:-1],
        variable_data(EFI_GLOBAL, "Name", b"value") + bytes(17),
        EFI_GLOBAL.bytes_le + struct.pack("<QQ", 1 << 63, 0),
        EFI_GLOBAL.bytes_le + struct.pack("<QQ", 0, 1 << 63),
        EFI_GLOBAL.bytes_le + struct.pack("<QQ", efivar.MAX_NAME_CHARS + 1, 0) + bytes(4096),
    ],
)
def test_bad_variable(data: bytes) -> None:
    with pytest.raises(ParseError):
        efivar.parse_variable(data)


def test_load_option_with_two_paths() -> None:
    paths = file_path("\\EFI\\vouch\\a.efi") + node(4, 6, OWNER.bytes_le) + END
    data = struct.pack("<IH", 1, len(paths)) + "Vouch a\0".encode("utf-16-le") + paths + b"opt"
    option = efivar.parse_load_option(data)
    assert (option.attributes, option.description, option.optional_data) == (1, "Vouch a", b"opt")
    assert option.path == f"\\EFI\\vouch\\a.efi, FvFile({OWNER})"


@pytest.mark.parametrize(
    "data",
    [
        b"",
        struct.pack("<IH", 1, 0) + b"a\0" * 20,
        struct.pack("<IH", 1, 9) + b"\0\0",
        struct.pack("<IH", 1, 4) + b"\0" * 6,
    ],
)
def test_bad_load_option(data: bytes) -> None:
    with pytest.raises(ParseError):
        efivar.parse_load_option(data)


def test_image_load() -> None:
    path = file_path("\\x.efi")
    image = efivar.parse_image_load(struct.pack("<QQQQ", 1, 2, 3, len(path)) + path)
    assert (image.location, image.length, image.link_address, image.path) == (1, 2, 3, path)
    with pytest.raises(ParseError):
        efivar.parse_image_load(struct.pack("<QQQQ", 1, 2, 3, 1 << 40) + path)


@pytest.mark.parametrize(
    ("raw", "text"),
    [
        (b"", ""),
        (node(2, 1, struct.pack("<II", 0x0A0341D0, 0)) + node(1, 1, b"\x00\x02") + END, "PciRoot(0x0)/Pci(0x2,0x0)"),
        (node(2, 1, struct.pack("<II", 1, 2)), "Acpi(0x00000001,0x2)"),
        (node(3, 2, struct.pack("<HH", 1, 2)), "Scsi(0x1,0x2)"),
        (node(3, 5, b"\x01\x02"), "USB(0x1,0x2)"),
        (node(3, 18, struct.pack("<HHH", 0, 0xFFFF, 0)), "Sata(0x0,0xffff,0x0)"),
        (node(3, 23, struct.pack("<I8s", 1, bytes(range(8)))), "NVMe(0x1,07-06-05-04-03-02-01-00)"),
        (node(4, 3, OWNER.bytes_le + b"x"), f"VenMedia({OWNER})"),
        (node(4, 7, OWNER.bytes_le), f"Fv({OWNER})"),
        (node(4, 8, struct.pack("<4xQQ", 1, 2)), "Offset(0x1,0x2)"),
        (node(1, 3, struct.pack("<IQQ", 11, 1, 2)), "MemoryMapped(0xb,0x1,0x2)"),
        (node(3, 11, bytes(32) + b"\x01"), "MAC(000000000000,0x1)"),
        (
            node(4, 1, struct.pack("<IQQ16sBB", 1, 2048, 4096, OWNER.bytes_le, 2, 2)),
            f"HD(1,GPT,{OWNER},0x800,0x1000)",
        ),
        (node(9, 9, b"\x01"), "Path(9,9,01)"),
        (node(1, 1, b"\x00"), "Path(1,1,00)"),
        (node(3, 11, bytes(10)), "Path(3,11,00000000000000000000)"),
    ],
)
def test_device_path_text(raw: bytes, text: str) -> None:
    assert efivar.device_path_text(raw) == text


def test_device_path_file() -> None:
    raw = node(4, 4, "\\EFI\0".encode("utf-16-le")) + node(4, 4, "\\BOOT\\X.EFI\0".encode("utf-16-le")) + END
    assert efivar.device_path_file(raw) == "EFI\\BOOT\\X.EFI"
    assert efivar.device_path_file(END) == ""


@pytest.mark.parametrize("raw", [b"\x01", b"\x01\x01\x03\x00", b"\x01\x01\x00\x00", node(1, 1, b"") * 300])
def test_bad_device_path(raw: bytes) -> None:
    with pytest.raises(ParseError):
        efivar.device_path_text(raw)


def gpt(count: int, entries: int) -> bytes:
    header = b"EFI PART" + bytes(48) + OWNER.bytes_le + bytes(20)
    entry = (
        X509.bytes_le
        + OWNER.bytes_le
        + struct.pack("<QQQ", 2048, 4095, 0)
        + "vouch-esp".encode("utf-16-le").ljust(72, b"\0")
    )
    return header + struct.pack("<Q", count) + entry * entries


def test_gpt() -> None:
    found = efivar.parse_gpt(gpt(2, 2))
    assert found.disk_id == OWNER
    assert [(p.name, p.type_id, p.first_lba, p.last_lba) for p in found.partitions] == [
        ("vouch-esp", X509, 2048, 4095)
    ] * 2


@pytest.mark.parametrize("data", [b"", gpt(3, 2), gpt(1, 2), gpt(1 << 60, 1), b"X" + gpt(1, 1)[1:]])
def test_bad_gpt(data: bytes) -> None:
    with pytest.raises(ParseError):
        efivar.parse_gpt(data)


def test_signature_lists() -> None:
    found = efivar.parse_signature_lists(signature_list(b"one") + signature_list(b"two", kind=efivar.CERT_SHA256))
    assert [(s.kind, s.owner, s.data) for s in found] == [
        (X509, OWNER, b"one"),
        (efivar.CERT_SHA256, OWNER, b"two"),
    ]
    assert efivar.parse_signature_lists(b"") == ()


@pytest.mark.parametrize(
    "data",
    [
        b"\0",
        signature_list(b"x")[:-1],
        X509.bytes_le + struct.pack("<III", 28, 0, 0),
        X509.bytes_le + struct.pack("<III", 27, 0, 17),
        X509.bytes_le + struct.pack("<III", 28 + 17, 0, 16) + bytes(17),
        X509.bytes_le + struct.pack("<III", 0xFFFFFFFF, 0, 16),
    ],
)
def test_bad_signature_lists(data: bytes) -> None:
    with pytest.raises(ParseError):
        efivar.parse_signature_lists(data)


def test_signature_count_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(efivar, "MAX_SIGNATURES", 1)
    with pytest.raises(ParseError) as error:
        efivar.parse_signature_lists(signature_list(b"x") * 2)
    assert error.value.code == "parse.too-many"


def test_foreign_events_are_readable(shared_data: Callable[[str], pathlib.Path]) -> None:
    """Every variable, image and partition table that real firmware logged follows its format."""
    folder = shared_data("eventlog")
    readers: dict[int, Callable[[bytes], object]] = {
        tcglog.EV_EFI_VARIABLE_DRIVER_CONFIG: efivar.parse_variable,
        tcglog.EV_EFI_VARIABLE_BOOT: efivar.parse_variable,
        tcglog.EV_EFI_VARIABLE_AUTHORITY: efivar.parse_variable,
        tcglog.EV_EFI_BOOT_SERVICES_APPLICATION: lambda d: efivar.device_path_text(efivar.parse_image_load(d).path),
        tcglog.EV_EFI_BOOT_SERVICES_DRIVER: lambda d: efivar.device_path_text(efivar.parse_image_load(d).path),
        tcglog.EV_EFI_GPT_EVENT: efivar.parse_gpt,
    }
    read = 0
    for entry in json.loads((folder / "expected.json").read_text())["files"]:
        if not entry["expect"].get("verdict", "").startswith("accept"):
            continue
        for event in tcglog.parse_event_log((folder / entry["file"]).read_bytes()).events:
            if event.event_type not in readers:
                continue
            value = readers[event.event_type](event.data)
            read += 1
            if isinstance(value, efivar.UefiVariable) and value.name.startswith("Boot0"):
                assert value.vendor == uuid.UUID("8be4df61-93ca-11d2-aa0d-00e098032b8c")
                efivar.parse_load_option(value.data)
            if isinstance(value, efivar.UefiVariable) and value.name in {"PK", "KEK", "dbx"}:
                efivar.parse_signature_lists(value.data)
    assert read > 500
