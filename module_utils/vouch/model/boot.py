# SPDX-License-Identifier: GPL-3.0-or-later
"""Boot events as claims: what each event of a log says, and how much of that a replay proves.

A replay proves digests, never data. A claim therefore carries its ``Coverage``: whether the digest is one of the data
it was read from. The digest of an application *is* its claim; the device path beside it is only what the firmware
wrote. No digest covers the event's type or its register's meaning: an attacker may retype an event, so a decision must
account for every event of a register, never pick the ones of a kind.

Source: TCG PC Client Platform Firmware Profile 1.06, 3.3.4 (what each PCR holds) and 10.4 (events).
"""

from __future__ import annotations

import enum
import hashlib
import uuid
from dataclasses import dataclass

from ..errors import ParseError, UsageError
from ..parse.efivar import GptData, device_path_text, parse_gpt, parse_image_load, parse_variable
from ..parse.tcglog import (
    EV_ACTION,
    EV_EFI_ACTION,
    EV_EFI_BOOT_SERVICES_APPLICATION,
    EV_EFI_BOOT_SERVICES_DRIVER,
    EV_EFI_GPT_EVENT,
    EV_EFI_RUNTIME_SERVICES_DRIVER,
    EV_EFI_VARIABLE_AUTHORITY,
    EV_EFI_VARIABLE_BOOT,
    EV_EFI_VARIABLE_BOOT2,
    EV_EFI_VARIABLE_DRIVER_CONFIG,
    EV_NO_ACTION,
    EV_SEPARATOR,
    TcgEvent,
)
from .digest import HASH_SIZE_BYTES, PcrBank

EXIT_BOOT_SERVICES_INVOCATION = "Exit Boot Services Invocation"
EXIT_BOOT_SERVICES_SUCCESS = "Exit Boot Services Returned with Success"

SEPARATORS_NORMAL = (b"\x00\x00\x00\x00", b"\xff\xff\xff\xff")
"""Both end the pre-boot phase; the second is the one of Windows' own PCRs and of older firmware (profile 10.4.1)."""

_VARIABLES = (
    EV_EFI_VARIABLE_DRIVER_CONFIG,
    EV_EFI_VARIABLE_BOOT,
    EV_EFI_VARIABLE_BOOT2,
    EV_EFI_VARIABLE_AUTHORITY,
)
_IMAGES = (EV_EFI_BOOT_SERVICES_APPLICATION, EV_EFI_BOOT_SERVICES_DRIVER, EV_EFI_RUNTIME_SERVICES_DRIVER)


class Coverage(enum.Enum):
    """How much of a claim the event's digest covers."""

    WHOLE = "whole"
    """The digest is that of the event data (or, of an image, is the claim itself)."""
    VALUE = "value"
    """The digest is that of the variable's value; its name is not covered (old EV_EFI_VARIABLE_BOOT)."""
    NONE = "none"
    """The data could be anything."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BootClaim:
    """What one event says. ``digest`` is that of the bank it was read for; the replay proves just this."""

    event_index: int
    pcr: int
    type_name: str
    digest: bytes
    coverage: Coverage


@dataclass(frozen=True, slots=True, kw_only=True)
class BootApplication(BootClaim):
    """The firmware loaded an image with this Authenticode digest. ``device_path`` is never covered by a digest."""

    device_path: str
    driver: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class BootAction(BootClaim):
    """The firmware did something that the profile gives a sentence."""

    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class BootVariable(BootClaim):
    """A UEFI variable had this value; ``authority`` when it is the entry that authorised an image (PCR 7)."""

    vendor: uuid.UUID
    name: str
    data: bytes
    authority: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class SeparatorSeen(BootClaim):
    """The pre-boot phase of this PCR ended; ``error`` when the firmware said that something had failed."""

    error: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class PartitionTable(BootClaim):
    """The disk that was booted from had this GPT."""

    gpt: GptData


@dataclass(frozen=True, slots=True, kw_only=True)
class OtherMeasurement(BootClaim):
    """Something that has no claim of its own here, or data that do not follow their format."""


def claim_of(event: TcgEvent, algorithm: str = "sha256") -> BootClaim | None:
    """Return what ``event`` says in bank ``algorithm``; None when it extends nothing there.

    Trust: the result is only as good as the replay that ``event`` went through; take events from a ``VerifiedLog``.
    """
    digest = event.digests.get(algorithm)
    if event.event_type == EV_NO_ACTION or digest is None:
        return None
    whole = hashlib.new(algorithm, event.data).digest() == digest
    coverage = Coverage.WHOLE if whole else Coverage.NONE
    try:
        return _typed_claim(event, algorithm, digest, coverage)
    except ParseError:
        return OtherMeasurement(
            event_index=event.index, pcr=event.pcr, type_name=event.type_name, digest=digest, coverage=coverage
        )


def boot_aggregate(bank: PcrBank) -> bytes:
    """Return the first digest of an IMA log: the bank's hash over the boot PCRs.

    PCRs 0 to 9 since Linux 5.8; 0 to 7 in the SHA-1 bank, whose value must not change for old verifiers.

    Raises:
        UsageError: one of the PCRs is not in ``bank``.

    Source: Linux security/integrity/ima/ima_crypto.c, ima_calc_boot_aggregate_tfm().
    """
    count = 8 if bank.algorithm == "sha1" else 10
    return hashlib.new(bank.algorithm, b"".join(bank[i] for i in range(count))).digest()


def _typed_claim(event: TcgEvent, algorithm: str, digest: bytes, coverage: Coverage) -> BootClaim:
    index, pcr, name = event.index, event.pcr, event.type_name
    kind = event.event_type
    if kind in _IMAGES:
        path = device_path_text(parse_image_load(event.data).path)
        driver = kind != EV_EFI_BOOT_SERVICES_APPLICATION
        return BootApplication(
            event_index=index,
            pcr=pcr,
            type_name=name,
            digest=digest,
            coverage=Coverage.WHOLE,
            device_path=path,
            driver=driver,
        )
    if kind in _VARIABLES:
        variable = parse_variable(event.data)
        if variable.slack and hashlib.new(algorithm, event.data[:-1]).digest() == digest:
            # shim before 15.4 hashes one byte less than it logs; that byte is slack, so every field is covered.
            coverage = Coverage.WHOLE
        if coverage is Coverage.NONE and hashlib.new(algorithm, variable.data).digest() == digest:
            coverage = Coverage.VALUE
        return BootVariable(
            event_index=index,
            pcr=pcr,
            type_name=name,
            digest=digest,
            coverage=coverage,
            vendor=variable.vendor,
            name=variable.name,
            data=variable.data,
            authority=kind == EV_EFI_VARIABLE_AUTHORITY,
        )
    if kind in (EV_EFI_ACTION, EV_ACTION):
        text = event.data.rstrip(b"\0").decode("ascii", errors="backslashreplace")
        return BootAction(event_index=index, pcr=pcr, type_name=name, digest=digest, coverage=coverage, text=text)
    if kind == EV_SEPARATOR:
        error = event.data not in SEPARATORS_NORMAL or coverage is not Coverage.WHOLE
        return SeparatorSeen(event_index=index, pcr=pcr, type_name=name, digest=digest, coverage=coverage, error=error)
    if kind == EV_EFI_GPT_EVENT:
        gpt = parse_gpt(event.data)
        return PartitionTable(event_index=index, pcr=pcr, type_name=name, digest=digest, coverage=coverage, gpt=gpt)
    return OtherMeasurement(event_index=index, pcr=pcr, type_name=name, digest=digest, coverage=coverage)


def initial_value(pcr: int, algorithm: str, locality: int = 0) -> bytes:
    """Return the value of a register after power-on: zeros; ones for the DRTM registers; PCR 0 ends in the locality.

    Source: TCG PC Client Platform TPM Profile 1.05, 4.6.2 (PCR initial values), TPM 2.0 Part 3, 9.3 (TPM2_Startup).
    """
    size = HASH_SIZE_BYTES.get(algorithm)
    if size is None:
        raise UsageError(f"unknown hash algorithm {algorithm!r}", code="digest.algorithm")
    if pcr == 0:
        return bytes(size - 1) + bytes([locality])
    return b"\xff" * size if 17 <= pcr <= 22 else bytes(size)
