# SPDX-License-Identifier: GPL-3.0-or-later
"""Logs against registers: what replays, what is refused, and real machines."""

from __future__ import annotations

import hashlib
import json
import pathlib
import struct
from collections.abc import Callable

import pytest
from ansible.module_utils.vouch.check.bootpath import check_applications, explain_pcr4
from ansible.module_utils.vouch.check.replay import read_event_log, replay, verify_event_log
from ansible.module_utils.vouch.errors import EvidenceError, UsageError
from ansible.module_utils.vouch.model.digest import PcrBank
from ansible.module_utils.vouch.parse import tcglog

from sim.firmware import SimFirmware

XEN = hashlib.sha256(b"xen").digest()
SHELL = hashlib.sha256(b"shell").digest()


def booted(**kwargs: object) -> SimFirmware:
    firmware = SimFirmware(**kwargs)  # type: ignore[arg-type]
    firmware.boot([XEN])
    return firmware


def codes(error: pytest.ExceptionInfo[EvidenceError]) -> list[tuple[str, str]]:
    return [(f.code, f.subject) for f in error.value.findings]


@pytest.mark.parametrize(
    "kwargs",
    [
        {},
        {"locality": 3},
        {"locality": 4},
        {"algorithms": ("sha256", "sha384", "sha512"), "extra_algorithms": ((0x0041, 17),)},
    ],
)
def test_a_boot_replays(kwargs: dict[str, object]) -> None:
    firmware = booted(**kwargs)
    log = read_event_log(firmware.log)
    for algorithm in firmware.algorithms:
        assert replay(log, algorithm).values == firmware.registers[algorithm]
        verified = verify_event_log(log, firmware.bank(algorithm))
        assert verified.findings == ()
        assert all(e.event_type != tcglog.EV_NO_ACTION for e in verified.events)


def test_a_legacy_boot_replays() -> None:
    firmware = booted(algorithms=())
    assert verify_event_log(read_event_log(firmware.log), firmware.bank("sha1")).bank.algorithm == "sha1"


def test_h_crtm_starts_register_0_at_4() -> None:
    firmware = SimFirmware()
    firmware.locality = 4
    firmware.measure(0, tcglog.EV_EFI_HCRTM_EVENT, b"HCRTM")
    firmware.measure(0, tcglog.EV_SEPARATOR, bytes(4))
    verify_event_log(read_event_log(firmware.log), firmware.bank())


def test_each_wrong_register_is_named() -> None:
    firmware = booted()
    values = {**firmware.bank().values, 2: bytes(32), 7: b"\x01" * 32}
    with pytest.raises(EvidenceError) as error:
        verify_event_log(read_event_log(firmware.log), PcrBank("sha256", values))
    assert codes(error) == [("eventlog.replay.mismatch", "pcr:2"), ("eventlog.replay.mismatch", "pcr:7")]
    assert error.value.findings[0].expected == bytes(32).hex()
    assert error.value.findings[0].actual == firmware.bank()[2].hex()


def test_a_register_without_events_accepts_no_value() -> None:
    firmware = booted()
    values = {**firmware.bank().values, 8: b"\x01" * 32}
    with pytest.raises(EvidenceError) as error:
        verify_event_log(read_event_log(firmware.log), PcrBank("sha256", values))
    assert codes(error) == [("eventlog.replay.mismatch", "pcr:8")]


def test_only_the_registers_asked_for_are_proven() -> None:
    firmware = booted()
    values = {**firmware.bank().values, 9: b"\x01" * 32}
    verified = verify_event_log(read_event_log(firmware.log), PcrBank("sha256", values), indices=[4, 7])
    assert list(verified.bank) == [4, 7]
    assert {e.pcr for e in verified.events} == {4, 7}
    assert {c.pcr for c in verified.claims()} == {4, 7}
    assert {c.pcr for c in verified.claims(4)} == {4}


@pytest.mark.parametrize("cut", ["first", "middle", "last"])
def test_a_removed_event_is_noticed(cut: str) -> None:
    firmware = booted()
    index = {"first": 1, "middle": len(firmware.records) // 2, "last": -1}[cut]
    del firmware.records[index]
    with pytest.raises(EvidenceError):
        verify_event_log(read_event_log(firmware.log), firmware.bank())


def test_swapped_events_are_noticed() -> None:
    firmware = SimFirmware()
    firmware.boot([XEN, SHELL])
    at = [i for i, r in enumerate(firmware.records) if XEN in r or SHELL in r]
    firmware.records[at[0]], firmware.records[at[1]] = firmware.records[at[1]], firmware.records[at[0]]
    with pytest.raises(EvidenceError) as error:
        verify_event_log(read_event_log(firmware.log), firmware.bank())
    assert codes(error) == [("eventlog.replay.mismatch", "pcr:4")]


def late_locality() -> SimFirmware:
    firmware = booted()
    firmware.note(0, b"StartupLocality\0\x03")
    return firmware


def two_localities() -> SimFirmware:
    firmware = SimFirmware(locality=3)
    firmware.note(0, b"StartupLocality\0\x04")
    return firmware


def impossible_locality() -> SimFirmware:
    return SimFirmware(locality=7)


def register_24() -> SimFirmware:
    firmware = booted()
    firmware.records.append(struct.pack("<III", 24, tcglog.EV_IPL, 0) + bytes(4))
    return firmware


@pytest.mark.parametrize(
    ("make", "code"),
    [
        (late_locality, "eventlog.locality.invalid"),
        (two_localities, "eventlog.locality.invalid"),
        (impossible_locality, "eventlog.locality.invalid"),
        (register_24, "eventlog.pcr.range"),
    ],
)
def test_logs_that_cannot_be(make: Callable[[], SimFirmware], code: str) -> None:
    with pytest.raises(EvidenceError) as error:
        replay(read_event_log(make().log))
    assert error.value.code == code


def test_no_action_at_an_impossible_register_is_skipped() -> None:
    firmware = booted()
    firmware.note(0xFFFFFFFF, b"SIPA")
    verify_event_log(read_event_log(firmware.log), firmware.bank())


def test_a_bank_that_is_not_in_the_log() -> None:
    with pytest.raises(EvidenceError) as error:
        replay(read_event_log(booted().log), "sha384")
    assert error.value.code == "eventlog.bank.missing"
    with pytest.raises(UsageError):
        replay(read_event_log(booted().log), "md5")


def test_nothing_to_prove_is_our_own_fault() -> None:
    firmware = booted()
    log = read_event_log(firmware.log)
    for bank, indices in ((PcrBank("sha256", {}), None), (firmware.bank(), []), (firmware.bank(), [23])):
        with pytest.raises(UsageError):
            verify_event_log(log, bank, indices=indices)


def test_a_malformed_log_is_the_attesters_fault() -> None:
    with pytest.raises(EvidenceError) as error:
        read_event_log(booted().log[:-1])
    assert error.value.code == "eventlog.malformed"


def test_bytes_behind_the_log_are_reported() -> None:
    firmware = booted()
    verified = verify_event_log(read_event_log(firmware.log + bytes(40)), firmware.bank())
    assert [(f.code, f.actual) for f in verified.findings] == [("eventlog.trailing", "40 bytes that are no record")]


def test_boot_path() -> None:
    firmware = SimFirmware()
    firmware.boot([SHELL, XEN], failed_attempts=2)
    path = explain_pcr4(verify_event_log(read_event_log(firmware.log), firmware.bank()))
    assert path.failed_attempts == 2
    assert [a.digest for a in path.applications] == [SHELL, XEN]
    assert path.steps[:3] == ("boot option called", "separator", "boot option returned")
    assert path.steps[-1] == f"started {XEN.hex()} (firmware says: \\EFI\\BOOT\\BOOTX64.EFI)"
    findings = check_applications(path, {XEN: "xen.efi of release 1"})
    assert [f.code for f in findings] == ["boot.application.unexpected"]
    assert findings[0].expected == f"xen.efi of release 1 {XEN.hex()}"
    assert findings[0].actual == f"\\EFI\\BOOT\\BOOTX64.EFI {SHELL.hex()}"
    assert check_applications(path, {XEN: "xen.efi", SHELL: "shell"}) == ()


def test_boot_path_refuses() -> None:
    firmware = booted()
    log = read_event_log(firmware.log)
    with pytest.raises(UsageError) as error:
        explain_pcr4(verify_event_log(log, firmware.bank(), indices=[7]))
    assert error.value.code == "pcr.missing"
    path = explain_pcr4(verify_event_log(log, firmware.bank()))
    with pytest.raises(UsageError) as error:
        check_applications(path, {})
    assert error.value.code == "boot.approved.empty"


def test_a_boot_of_nothing_is_not_approved() -> None:
    firmware = SimFirmware()
    firmware.boot([])
    path = explain_pcr4(verify_event_log(read_event_log(firmware.log), firmware.bank()))
    assert [f.actual for f in check_applications(path, {XEN: "xen.efi"})] == ["no application was started"]


def test_a_forged_action_is_not_believed() -> None:
    """The text says "returned", the digest says otherwise: it must not count as a failed attempt."""
    firmware = SimFirmware()
    firmware.measure(4, tcglog.EV_EFI_ACTION, b"Returning from EFI Application from Boot Option", measured=b"x")
    path = explain_pcr4(verify_event_log(read_event_log(firmware.log), firmware.bank()))
    assert path.failed_attempts == 0
    assert path.steps == (f"EV_EFI_ACTION {hashlib.sha256(b'x').hexdigest()}",)


EVIL = b"the bytes of an image that nobody approved"


@pytest.mark.parametrize(
    ("event_type", "data"),
    [
        (tcglog.EV_EFI_ACTION, b"Calling EFI Application from Boot Option"),
        (tcglog.EV_EFI_ACTION, EVIL),
        (tcglog.EV_SEPARATOR, bytes(4)),
        (tcglog.EV_SEPARATOR, EVIL),
        (tcglog.EV_IPL, EVIL),
        (tcglog.EV_EFI_BOOT_SERVICES_DRIVER, struct.pack("<QQQQ", 0, 0, 0, 0)),
        (tcglog.EV_EFI_BOOT_SERVICES_APPLICATION, b"short"),
        (0x8000BEEF, EVIL),
    ],
)
def test_a_retyped_image_does_not_hide(event_type: int, data: bytes) -> None:
    """No digest covers the type: the evil image beside the approved one is found whatever the log calls it."""
    firmware = booted()
    firmware.measure(4, event_type, data, measured=EVIL)
    path = explain_pcr4(verify_event_log(read_event_log(firmware.log), firmware.bank()))
    findings = check_applications(path, {XEN: "xen.efi"})
    assert [f.code for f in findings] == ["boot.application.unexpected"]
    assert hashlib.sha256(EVIL).hexdigest() in str(findings[0].actual)


def test_foreign_logs(shared_data: Callable[[str], pathlib.Path]) -> None:
    folder = shared_data("eventlog")
    wrong, values = [], 0
    for entry in json.loads((folder / "expected.json").read_text())["files"]:
        name, expect = entry["file"], entry["expect"]
        if not expect.get("verdict", "").startswith("accept"):
            continue
        log = read_event_log((folder / name).read_bytes())
        for algorithm, registers in (expect.get("pcrs") or expect["measurement_registers"]).items():
            found = replay(log, algorithm).hex()
            values += len(registers)
            if found != registers:
                wrong.append((name, algorithm))
    assert not wrong
    assert values > 500


def bank_of(path: pathlib.Path) -> PcrBank:
    values = json.loads(path.read_text())["sha256"]
    return PcrBank("sha256", {int(i): bytes.fromhex(v) for i, v in values.items() if int(i) < 8})


@pytest.mark.parametrize("name", ["guard-elitebook-baseline", "guard-good-1", "guard-imn-dell-wbcl", "guard-x1carbon"])
def test_foreign_logs_lead_to_the_registers_of_their_tpm(shared_data: Callable[[str], pathlib.Path], name: str) -> None:
    folder = shared_data("eventlog")
    log = read_event_log((folder / f"{name}.bin").read_bytes())
    verify_event_log(log, bank_of(folder / f"{name}.pcrs.json"))


def test_foreign_log_with_other_registers(shared_data: Callable[[str], pathlib.Path]) -> None:
    folder = shared_data("eventlog")
    log = read_event_log((folder / "guard-good-1.bin").read_bytes())
    with pytest.raises(EvidenceError) as error:
        verify_event_log(log, bank_of(folder / "guard-failed-1.pcrs.json"))
    assert codes(error) == [("eventlog.replay.mismatch", "pcr:0")]


def test_foreign_altered_log(shared_data: Callable[[str], pathlib.Path]) -> None:
    folder = shared_data("eventlog")
    good = replay(read_event_log((folder / "hirs-TpmLog.bin").read_bytes()))
    altered = read_event_log((folder / "hirs-TPMLog_Altered.bin").read_bytes())
    with pytest.raises(EvidenceError) as error:
        verify_event_log(altered, good)
    assert codes(error) == [("eventlog.replay.mismatch", "pcr:0"), ("eventlog.replay.mismatch", "pcr:1")]
