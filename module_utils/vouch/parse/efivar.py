# SPDX-License-Identifier: GPL-3.0-or-later
"""What UEFI puts into event data: variables, load options, image load events, partition tables, device paths, keys.

Layout (little-endian)::

    UEFI_VARIABLE_DATA      0 16 VariableName (GUID)  16 8 UnicodeNameLength (characters)  24 8 VariableDataLength
                            32 2n UnicodeName  n VariableData
    EFI_LOAD_OPTION         0 4 Attributes  4 2 FilePathListLength  6 2n Description (ends with 0)  n FilePathList
                            n OptionalData
    UEFI_IMAGE_LOAD_EVENT   0 8 ImageLocationInMemory  8 8 ImageLengthInMemory  16 8 ImageLinkTimeAddress
                            24 8 LengthOfDevicePath  32 n DevicePath
    UEFI_GPT_DATA           0 92 UEFIPartitionHeader  92 8 NumberOfPartitions  then 128 each
    EFI_SIGNATURE_LIST      0 16 SignatureType (GUID)  16 4 SignatureListSize  20 4 SignatureHeaderSize
                            24 4 SignatureSize  n header  then SignatureSize each: 16 SignatureOwner (GUID), n data
    EFI_DEVICE_PATH         0 1 Type  1 1 SubType  2 2 Length (with these four bytes)  n data; ends with 7f ff 04 00

Source: TCG PC Client Platform Firmware Profile 1.06, 10.2; UEFI 2.10, 3.1.3 (load options), 5.3.1 (GPT header),
chapter 10 (device paths), 32.4.1 (signature lists).
"""

from __future__ import annotations

import struct
import uuid
from collections.abc import Iterator
from dataclasses import dataclass

from ..errors import ParseError
from .cursor import Cursor

MAX_VARIABLE_BYTES = 4 << 20
"""dbx, the largest known, is near 32 KiB."""

MAX_NAME_CHARS = 1024
MAX_PATH_NODES = 256
MAX_PARTITIONS = 1024
MAX_SIGNATURES = 65536
MAX_SLACK_BYTES = 16
"""shim takes the C size of a structure, padding and all, so its events end in a few bytes that mean nothing."""

GLOBAL_VARIABLE = uuid.UUID("8be4df61-93ca-11d2-aa0d-00e098032b8c")
IMAGE_SECURITY_DATABASE = uuid.UUID("d719b2cb-3d3a-4596-a3bc-dad00e67656f")
SHIM_LOCK = uuid.UUID("605dab50-e046-4300-abb6-3dd810dd8b23")
CERT_X509 = uuid.UUID("a5c059a1-94e4-4aa7-87b5-ab155c2bf072")
CERT_SHA256 = uuid.UUID("c1c41626-504c-4092-aca9-41f936934328")

_GPT_HEADER_BYTES = 92
_GPT_ENTRY_BYTES = 128
_END = 0x7F


@dataclass(frozen=True, slots=True, kw_only=True)
class UefiVariable:
    """UEFI_VARIABLE_DATA; ``slack`` are the bytes behind it, see ``MAX_SLACK_BYTES``."""

    vendor: uuid.UUID
    name: str
    data: bytes
    slack: bytes = b""


@dataclass(frozen=True, slots=True, kw_only=True)
class LoadOption:
    """EFI_LOAD_OPTION, the content of a Boot#### variable. ``path`` is text, see ``device_path_text``."""

    attributes: int
    description: str
    path: str
    optional_data: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class ImageLoad:
    """UEFI_IMAGE_LOAD_EVENT. The addresses differ from boot to boot; ``path`` is the raw device path."""

    location: int
    length: int
    link_address: int
    path: bytes
    slack: bytes = b""


@dataclass(frozen=True, slots=True, kw_only=True)
class Partition:
    """One GPT entry."""

    type_id: uuid.UUID
    part_id: uuid.UUID
    first_lba: int
    last_lba: int
    name: str


@dataclass(frozen=True, slots=True, kw_only=True)
class GptData:
    """UEFI_GPT_DATA: the disk's id and its used entries."""

    disk_id: uuid.UUID
    partitions: tuple[Partition, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Signature:
    """One entry of a signature database: who put it there, and a certificate (DER) or a digest."""

    kind: uuid.UUID
    owner: uuid.UUID
    data: bytes


def parse_variable(data: bytes, *, base: int = 0) -> UefiVariable:
    """Return the variable in the data of a variable event.

    Raises:
        ParseError: lengths that reach outside ``data`` or leave more than ``MAX_SLACK_BYTES`` of it.
    """
    cursor = Cursor(data, limit_bytes=MAX_VARIABLE_BYTES, what="UEFI_VARIABLE_DATA", base=base)
    vendor = uuid.UUID(bytes_le=cursor.take(16, "VariableName"))
    name_chars = cursor.u64le("UnicodeNameLength")
    data_bytes = cursor.u64le("VariableDataLength")
    if name_chars > MAX_NAME_CHARS:
        raise cursor.fail("UnicodeNameLength", f"{name_chars} characters, more than {MAX_NAME_CHARS}")
    name = _utf16(cursor.take(2 * name_chars, "UnicodeName"))
    value = cursor.take(data_bytes, "VariableData")
    return UefiVariable(vendor=vendor, name=name.rstrip("\0"), data=value, slack=_slack(cursor))


def parse_load_option(data: bytes, *, base: int = 0) -> LoadOption:
    """Return the boot option in the value of a Boot#### variable."""
    cursor = Cursor(data, limit_bytes=MAX_VARIABLE_BYTES, what="EFI_LOAD_OPTION", base=base)
    attributes = cursor.u32le("Attributes")
    path_bytes = cursor.u16le("FilePathListLength")
    description = bytearray()
    while (char := cursor.take(2, "Description")) != b"\0\0":
        description += char
        if len(description) > 2 * MAX_NAME_CHARS:
            raise cursor.fail("Description", f"more than {MAX_NAME_CHARS} characters")
    path = cursor.take(path_bytes, "FilePathList")
    return LoadOption(
        attributes=attributes,
        description=_utf16(bytes(description)),
        path=device_path_text(path),
        optional_data=cursor.take(cursor.remaining, "OptionalData"),
    )


def parse_image_load(data: bytes, *, base: int = 0) -> ImageLoad:
    """Return the record of an EV_EFI_BOOT_SERVICES_APPLICATION (or driver) event."""
    cursor = Cursor(data, limit_bytes=MAX_VARIABLE_BYTES, what="UEFI_IMAGE_LOAD_EVENT", base=base)
    location = cursor.u64le("ImageLocationInMemory")
    length = cursor.u64le("ImageLengthInMemory")
    link_address = cursor.u64le("ImageLinkTimeAddress")
    path = cursor.take(cursor.u64le("LengthOfDevicePath"), "DevicePath")
    return ImageLoad(location=location, length=length, link_address=link_address, path=path, slack=_slack(cursor))


def parse_gpt(data: bytes, *, base: int = 0) -> GptData:
    """Return the partitions in the data of an EV_EFI_GPT_EVENT."""
    cursor = Cursor(data, limit_bytes=MAX_VARIABLE_BYTES, what="UEFI_GPT_DATA", base=base)
    header = cursor.sub(_GPT_HEADER_BYTES, "UEFIPartitionHeader")
    header.expect(b"EFI PART", "Signature")
    header.take(48, "Revision ..")
    disk_id = uuid.UUID(bytes_le=header.take(16, "DiskGUID"))
    count = cursor.u64le("NumberOfPartitions")
    if count > MAX_PARTITIONS:
        raise cursor.fail("NumberOfPartitions", f"{count} is more than {MAX_PARTITIONS}")
    partitions = []
    for _ in range(count):
        entry = cursor.sub(_GPT_ENTRY_BYTES, "Partition")
        type_id = uuid.UUID(bytes_le=entry.take(16, "PartitionTypeGUID"))
        part_id = uuid.UUID(bytes_le=entry.take(16, "UniquePartitionGUID"))
        first, last = entry.u64le("StartingLBA"), entry.u64le("EndingLBA")
        entry.take(8, "Attributes")
        name = _utf16(entry.take(72, "PartitionName")).split("\0", 1)[0]
        partitions.append(Partition(type_id=type_id, part_id=part_id, first_lba=first, last_lba=last, name=name))
    cursor.done()
    return GptData(disk_id=disk_id, partitions=tuple(partitions))


def parse_signature_lists(data: bytes, *, base: int = 0) -> tuple[Signature, ...]:
    """Return the entries of PK, KEK, db or dbx, in order.

    Raises:
        ParseError: list or entry sizes that do not add up, or more than ``MAX_SIGNATURES`` entries.
    """
    cursor = Cursor(data, limit_bytes=MAX_VARIABLE_BYTES, what="EFI_SIGNATURE_LIST", base=base)
    out: list[Signature] = []
    while cursor.remaining:
        kind = uuid.UUID(bytes_le=cursor.take(16, "SignatureType"))
        list_bytes = cursor.u32le("SignatureListSize")
        header_bytes = cursor.u32le("SignatureHeaderSize")
        entry_bytes = cursor.u32le("SignatureSize")
        if list_bytes < 28 + header_bytes or entry_bytes < 16 or (list_bytes - 28 - header_bytes) % entry_bytes:
            raise cursor.fail("SignatureListSize", "sizes of list, header and entries do not add up")
        body = cursor.sub(list_bytes - 28, "signatures")
        body.take(header_bytes, "SignatureHeader")
        while body.remaining:
            if len(out) >= MAX_SIGNATURES:
                raise body.fail("signatures", f"more than {MAX_SIGNATURES} entries", code="parse.too-many")
            owner = uuid.UUID(bytes_le=body.take(16, "SignatureOwner"))
            out.append(Signature(kind=kind, owner=owner, data=body.take(entry_bytes - 16, "SignatureData")))
    return tuple(out)


def device_path_text(data: bytes) -> str:
    """Return a device path as text, close to UEFI 2.10, 10.6; nodes not known here as ``Path(type,subtype,hex)``.

    Several paths behind one another, as in a load option, are separated by ", ".

    Raises:
        ParseError: a node that is shorter than its header or reaches outside ``data``, or too many nodes.
    """
    paths: list[list[str]] = [[]]
    for kind, subtype, body in _iter_nodes(data):
        if kind == _END:
            paths.append([])
        else:
            paths[-1].append(_node_text(kind, subtype, body))
    return ", ".join("/".join(nodes) for nodes in paths if nodes)


def device_path_file(data: bytes) -> str:
    """Return the file name in a device path (its file path nodes, joined), or "" when it names none."""
    names = [_utf16(body).rstrip("\0") for kind, subtype, body in _iter_nodes(data) if (kind, subtype) == (4, 4)]
    return "\\".join(name.strip("\\") for name in names if name)


def _slack(cursor: Cursor) -> bytes:
    if cursor.remaining > MAX_SLACK_BYTES:
        cursor.done()
    return cursor.take(cursor.remaining, "slack")


def _iter_nodes(data: bytes) -> Iterator[tuple[int, int, bytes]]:
    cursor = Cursor(data, limit_bytes=MAX_VARIABLE_BYTES, what="EFI_DEVICE_PATH")
    for _ in range(MAX_PATH_NODES):
        if not cursor.remaining:
            return
        kind, subtype, length = cursor.u8("Type"), cursor.u8("SubType"), cursor.u16le("Length")
        if length < 4:
            raise cursor.fail("Length", f"{length} is less than a node's header")
        yield kind, subtype, cursor.take(length - 4, "node")
    if cursor.remaining:
        raise ParseError("EFI_DEVICE_PATH", cursor.offset, f"more than {MAX_PATH_NODES} nodes", code="parse.too-many")


def _node_text(kind: int, subtype: int, body: bytes) -> str:
    text = f"Path({kind},{subtype},{body.hex()})"
    try:
        match kind, subtype:
            case 1, 1:
                function, device = struct.unpack("<BB", body)
                text = f"Pci({device:#x},{function:#x})"
            case 1, 3:
                text = "MemoryMapped({:#x},{:#x},{:#x})".format(*struct.unpack("<IQQ", body))
            case 2, 1:
                hid, uid = struct.unpack("<II", body)
                text = f"PciRoot({uid:#x})" if hid in (0x0A0341D0, 0x0A0841D0) else f"Acpi({hid:#010x},{uid:#x})"
            case 3, 2:
                target, lun = struct.unpack("<HH", body)
                text = f"Scsi({target:#x},{lun:#x})"
            case 3, 5:
                port, interface = struct.unpack("<BB", body)
                text = f"USB({port:#x},{interface:#x})"
            case 3, 11:
                text = f"MAC({body[:6].hex()},{body[32]:#x})"
            case 3, 18:
                text = "Sata({:#x},{:#x},{:#x})".format(*struct.unpack("<HHH", body))
            case 3, 23:
                namespace, eui = struct.unpack("<I8s", body)
                text = f"NVMe({namespace:#x},{eui[::-1].hex('-')})"
            case 4, 1:
                number, start, size, identity, _, _ = struct.unpack("<IQQ16sBB", body)
                text = f"HD({number},GPT,{uuid.UUID(bytes_le=identity)},{start:#x},{size:#x})"
            case 4, 4:
                text = _utf16(body).rstrip("\0")
            case 4, 3:
                text = f"VenMedia({uuid.UUID(bytes_le=body[:16])})"
            case 4, 6:
                text = f"FvFile({uuid.UUID(bytes_le=body)})"
            case 4, 8:
                text = "Offset({:#x},{:#x})".format(*struct.unpack("<4xQQ", body))
            case 4, 7:
                text = f"Fv({uuid.UUID(bytes_le=body)})"
    except (struct.error, ValueError, IndexError):
        return text
    return text


def _utf16(raw: bytes) -> str:
    """Decode UTF-16LE; lone surrogates become U+FFFD, since firmware does not check names."""
    return raw.decode("utf-16-le", errors="replace")
