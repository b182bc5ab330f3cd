# SPDX-License-Identifier: GPL-3.0-or-later
"""The TCG firmware event log, in its SHA-1 form and its crypto-agile form.

Layout (little-endian)::

    TCG_PCR_EVENT   0 4 pcrIndex  4 4 eventType  8 20 digest (SHA-1)  28 4 eventSize  32 n event
    TCG_PCR_EVENT2  0 4 pcrIndex  4 4 eventType  8 4 count  then count times: 2 algorithm, n digest
                    then 4 eventSize  n event

    The first record is always a TCG_PCR_EVENT. When it is EV_NO_ACTION and its data begin with "Spec ID Event03", the
    log is crypto-agile, every later record is a TCG_PCR_EVENT2, and the data of the first are TCG_EfiSpecIdEvent:
    0 16 signature  16 4 platformClass  20 1 minor  21 1 major  22 1 errata  23 1 uintnSize  24 4 numberOfAlgorithms
    then that many times: 2 algorithm, 2 digestSize; 1 vendorInfoSize  n vendorInfo

Nothing in this log is proven: only a replay against quoted registers proves digests, and only a digest that covers the
event's data proves those (check/replay.py, model/boot.py).

Source: TCG PC Client Platform Firmware Profile 1.06, chapter 10.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

from ..errors import ParseError
from .cursor import Cursor

MAX_LOG_BYTES = 16 << 20
"""Firmware reserves 64 KiB; Windows and GRUB logs reach a few hundred. Sixteen MiB is no log any more."""

MAX_EVENTS = 65536
MAX_EVENT_BYTES = 4 << 20
MAX_ALGORITHMS = 16
MAX_DIGEST_BYTES = 128
"""Largest digest size believed of an algorithm that we do not know."""

EV_PREBOOT_CERT = 0x00000000
EV_POST_CODE = 0x00000001
EV_NO_ACTION = 0x00000003
EV_SEPARATOR = 0x00000004
EV_ACTION = 0x00000005
EV_EVENT_TAG = 0x00000006
EV_S_CRTM_CONTENTS = 0x00000007
EV_S_CRTM_VERSION = 0x00000008
EV_CPU_MICROCODE = 0x00000009
EV_PLATFORM_CONFIG_FLAGS = 0x0000000A
EV_TABLE_OF_DEVICES = 0x0000000B
EV_COMPACT_HASH = 0x0000000C
EV_IPL = 0x0000000D
EV_IPL_PARTITION_DATA = 0x0000000E
EV_NONHOST_CODE = 0x0000000F
EV_NONHOST_CONFIG = 0x00000010
EV_NONHOST_INFO = 0x00000011
EV_OMIT_BOOT_DEVICE_EVENTS = 0x00000012
EV_POST_CODE2 = 0x00000013
EV_EFI_VARIABLE_DRIVER_CONFIG = 0x80000001
EV_EFI_VARIABLE_BOOT = 0x80000002
EV_EFI_BOOT_SERVICES_APPLICATION = 0x80000003
EV_EFI_BOOT_SERVICES_DRIVER = 0x80000004
EV_EFI_RUNTIME_SERVICES_DRIVER = 0x80000005
EV_EFI_GPT_EVENT = 0x80000006
EV_EFI_ACTION = 0x80000007
EV_EFI_PLATFORM_FIRMWARE_BLOB = 0x80000008
EV_EFI_HANDOFF_TABLES = 0x80000009
EV_EFI_PLATFORM_FIRMWARE_BLOB2 = 0x8000000A
EV_EFI_HANDOFF_TABLES2 = 0x8000000B
EV_EFI_VARIABLE_BOOT2 = 0x8000000C
EV_EFI_GPT_EVENT2 = 0x8000000D
EV_EFI_HCRTM_EVENT = 0x80000010
EV_EFI_VARIABLE_AUTHORITY = 0x800000E0
EV_EFI_SPDM_FIRMWARE_BLOB = 0x800000E1
EV_EFI_SPDM_FIRMWARE_CONFIG = 0x800000E2

EVENT_NAMES: Mapping[int, str] = MappingProxyType(
    {value: name for name, value in list(globals().items()) if name.startswith("EV_") and isinstance(value, int)}
)
"""Event type to its name in the profile."""

SPEC_ID_SIGNATURE = b"Spec ID Event03\0"
LEGACY_SPEC_ID_SIGNATURES = (b"Spec ID Event00\0", b"Spec ID Event02\0")
STARTUP_LOCALITY_SIGNATURE = b"StartupLocality\0"

_ALGORITHMS: Mapping[int, tuple[str, int]] = MappingProxyType(
    {
        0x0004: ("sha1", 20),
        0x000B: ("sha256", 32),
        0x000C: ("sha384", 48),
        0x000D: ("sha512", 64),
        0x0012: ("sm3_256", 32),
        0x0027: ("sha3_256", 32),
        0x0028: ("sha3_384", 48),
        0x0029: ("sha3_512", 64),
    }
)
_EVENT_HEADER_BYTES = 32
_EVENT2_HEADER_BYTES = 16


@dataclass(frozen=True, slots=True, kw_only=True)
class SpecId:
    """TCG_EfiSpecIdEvent: which banks a crypto-agile log carries. It is measured nowhere."""

    platform_class: int
    major: int
    minor: int
    errata: int
    uintn_size: int
    digest_sizes: Mapping[str, int]
    vendor_info: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class TcgEvent:
    """One record.

    Attributes:
        index: Position in the log, from 0; the Spec ID event counts.
        pcr: As written; 0xffffffff stands in some EV_NO_ACTION records.
        event_type: One of the ``EV_`` constants, or unknown.
        digests: Algorithm name to digest; algorithms that we cannot compute are called "alg-0x0012".
        data: The event field; unproven even when the digest is.
        offset_bytes: Where the record begins in the log.
    """

    index: int
    pcr: int
    event_type: int
    digests: Mapping[str, bytes]
    data: bytes
    offset_bytes: int

    @property
    def type_name(self) -> str:
        """Name of the event type, or its number in hexadecimal."""
        return EVENT_NAMES.get(self.event_type, f"{self.event_type:#010x}")


@dataclass(frozen=True, slots=True, kw_only=True)
class TcgLog:
    """A whole log. ``spec`` is None for the SHA-1 form; ``trailing`` are bytes that are no event."""

    spec: SpecId | None
    algorithms: tuple[str, ...]
    events: tuple[TcgEvent, ...]
    trailing: bytes


def parse_event_log(data: bytes) -> TcgLog:
    """Return the records of a firmware event log.

    Bytes after the last record are handed out as ``trailing`` in two cases only: they are fewer than the smallest
    record, or all 00 or all ff, as reserved log areas are. Everything else that is no record fails.

    Args:
        data: ``binary_bios_measurements``, or the ACPI log area.

    Raises:
        ParseError: empty, too large, truncated within a record, a digest of an undeclared algorithm, or counts and
            sizes above the limits of this file.

    Trust: written by an attacker until it is replayed.
    """
    cursor = Cursor(data, limit_bytes=MAX_LOG_BYTES, what="log")
    if not data:
        raise cursor.fail("TCG_PCR_EVENT", "the log is empty", code="parse.truncated")
    first = _legacy_event(cursor, 0)
    spec = _spec_id(first) if first.event_type == EV_NO_ACTION and first.data.startswith(SPEC_ID_SIGNATURE) else None
    if spec is None and first.pcr >= 24 and first.event_type != EV_NO_ACTION:
        raise ParseError("log.TCG_PCR_EVENT.pcrIndex", 0, f"{first.pcr:#x} in the first record: not an event log")

    events = [first]
    smallest = _EVENT_HEADER_BYTES if spec is None else _EVENT2_HEADER_BYTES
    padding_start = min(len(data.rstrip(b"\0")), len(data.rstrip(b"\xff")))
    while cursor.remaining >= smallest and cursor.offset < padding_start:
        if len(events) >= MAX_EVENTS:
            raise cursor.fail("events", f"more than {MAX_EVENTS} records", code="parse.too-many")
        index = len(events)
        events.append(_legacy_event(cursor, index) if spec is None else _agile_event(cursor, index, spec))
    trailing = cursor.take(cursor.remaining, "trailing")
    algorithms = ("sha1",) if spec is None else tuple(spec.digest_sizes)
    return TcgLog(spec=spec, algorithms=algorithms, events=tuple(events), trailing=trailing)


def algorithm_name(algorithm: int) -> str:
    """Return the name of a TPM_ALG_ID of a hash: "sha256", or "alg-0x0041" when it is unknown here."""
    known = _ALGORITHMS.get(algorithm)
    return known[0] if known else f"alg-{algorithm:#06x}"


def _legacy_event(cursor: Cursor, index: int) -> TcgEvent:
    offset = cursor.offset
    pcr = cursor.u32le("TCG_PCR_EVENT.pcrIndex")
    event_type = cursor.u32le("TCG_PCR_EVENT.eventType")
    digest = cursor.take(20, "TCG_PCR_EVENT.digest")
    data = _event_data(cursor, "TCG_PCR_EVENT.eventSize")
    return TcgEvent(
        index=index,
        pcr=pcr,
        event_type=event_type,
        digests=MappingProxyType({"sha1": digest}),
        data=data,
        offset_bytes=offset,
    )


def _agile_event(cursor: Cursor, index: int, spec: SpecId) -> TcgEvent:
    offset = cursor.offset
    pcr = cursor.u32le("TCG_PCR_EVENT2.pcrIndex")
    event_type = cursor.u32le("TCG_PCR_EVENT2.eventType")
    count = cursor.u32le("TCG_PCR_EVENT2.digests.count")
    if count > len(spec.digest_sizes):
        raise cursor.fail(
            "TCG_PCR_EVENT2.digests.count", f"{count} digests, {len(spec.digest_sizes)} algorithms declared"
        )
    digests: dict[str, bytes] = {}
    for _ in range(count):
        name = algorithm_name(cursor.u16le("TCG_PCR_EVENT2.digests.hashAlg"))
        size = spec.digest_sizes.get(name)
        if size is None or name in digests:
            problem = "is not declared by the Spec ID event" if size is None else "stands twice"
            raise cursor.fail("TCG_PCR_EVENT2.digests.hashAlg", f"{name} {problem}")
        digests[name] = cursor.take(size, "TCG_PCR_EVENT2.digests.digest")
    data = _event_data(cursor, "TCG_PCR_EVENT2.eventSize")
    return TcgEvent(
        index=index,
        pcr=pcr,
        event_type=event_type,
        digests=MappingProxyType(digests),
        data=data,
        offset_bytes=offset,
    )


def _event_data(cursor: Cursor, field: str) -> bytes:
    size = cursor.u32le(field)
    if size > MAX_EVENT_BYTES:
        raise cursor.fail(field, f"{size} bytes, more than the {MAX_EVENT_BYTES} allowed", code="parse.too-large")
    return cursor.take(size, field.replace("eventSize", "event"))


def _spec_id(event: TcgEvent) -> SpecId:
    """Read TCG_EfiSpecIdEvent; known algorithms must have their size, unknown ones a bounded one."""
    base = event.offset_bytes + _EVENT_HEADER_BYTES
    cursor = Cursor(event.data, limit_bytes=len(event.data), what="log.TCG_EfiSpecIdEvent", base=base)
    cursor.expect(SPEC_ID_SIGNATURE, "signature")
    platform_class = cursor.u32le("platformClass")
    minor, major = cursor.u8("specVersionMinor"), cursor.u8("specVersionMajor")
    errata, uintn_size = cursor.u8("specErrata"), cursor.u8("uintnSize")
    count = cursor.u32le("numberOfAlgorithms")
    if not 1 <= count <= MAX_ALGORITHMS:
        raise cursor.fail("numberOfAlgorithms", f"{count} is not between 1 and {MAX_ALGORITHMS}")
    sizes: dict[str, int] = {}
    for _ in range(count):
        algorithm = cursor.u16le("algorithmId")
        size = cursor.u16le("digestSize")
        name = algorithm_name(algorithm)
        expected = _ALGORITHMS[algorithm][1] if algorithm in _ALGORITHMS else size
        if size != expected or not 1 <= size <= MAX_DIGEST_BYTES or name in sizes:
            raise cursor.fail("digestSize", f"{size} bytes for {name}, or {name} stands twice")
        sizes[name] = size
    # Some firmware counts the vendor's bytes but leaves them out of eventSize; nothing measures them, so the bytes that
    # are there are kept and the count is not believed (a fixture of tpm2-tools has this shape).
    if cursor.remaining:
        cursor.u8("vendorInfoSize")
    return SpecId(
        platform_class=platform_class,
        major=major,
        minor=minor,
        errata=errata,
        uintn_size=uintn_size,
        digest_sizes=MappingProxyType(sizes),
        vendor_info=cursor.take(cursor.remaining, "vendorInfo"),
    )
