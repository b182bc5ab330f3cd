# SPDX-License-Identifier: GPL-3.0-or-later
"""Secure Boot from PCR 7: one failing test per numbered check."""

from __future__ import annotations

import json
import pathlib
from collections.abc import Callable

import pytest
from ansible.module_utils.vouch.check.replay import read_event_log, replay, verify_event_log
from ansible.module_utils.vouch.check.secureboot import SecureBootState, verify_secure_boot
from ansible.module_utils.vouch.errors import EvidenceError, UsageError
from ansible.module_utils.vouch.parse import tcglog

from sim.firmware import EFI_GLOBAL, OWNER, SECURITY_DATABASE, SimFirmware, signature_list, variable_data

AUTHORITY = tcglog.EV_EFI_VARIABLE_AUTHORITY
ENTRY = OWNER.bytes_le + b"certificate"


def state(firmware: SimFirmware) -> SecureBootState:
    return verify_secure_boot(verify_event_log(read_event_log(firmware.log), firmware.bank()))


def firmware(*, enabled: bool = True) -> SimFirmware:
    made = SimFirmware()
    made.secure_boot(enabled=enabled)
    return made


def test_enabled_with_its_authority() -> None:
    made = firmware()
    made.variable("db", ENTRY, event_type=AUTHORITY)
    made.measure(7, AUTHORITY, variable_data(EFI_GLOBAL, "Shim", b"vendor certificate"))
    found = state(made)
    assert found.enabled is True
    assert [s.data for s in found.allowed] == [b"certificate"]
    assert [s.data for s in found.platform_keys + found.exchange_keys] == [b"platform key", b"exchange key"]
    assert found.forbidden == ()
    assert [a.name for a in found.authorities] == ["db", "Shim"]
    assert found.findings == ()


def test_disabled() -> None:
    assert state(firmware(enabled=False)).enabled is False


def test_an_absent_variable_means_disabled() -> None:
    made = SimFirmware()
    for name in ("SecureBoot", "PK", "KEK", "db", "dbx"):
        made.variable(name, b"")
    made.measure(7, tcglog.EV_SEPARATOR, bytes(4))
    assert state(made).enabled is False


def test_optional_variables() -> None:
    made = SimFirmware()
    made.variable("DeployedMode", b"\x01")
    made.secure_boot(enabled=True)
    assert state(made).enabled is True


def test_weakening_is_a_warning() -> None:
    made = firmware()
    made.measure(7, tcglog.EV_EFI_ACTION, b"DMA Protection Disabled")
    assert [(f.code, f.actual) for f in state(made).findings] == [("secureboot.weakened", "DMA Protection Disabled")]


def unknown_event() -> SimFirmware:
    made = firmware()
    made.measure(7, tcglog.EV_IPL, b"x")
    return made


def unknown_action() -> SimFirmware:
    made = firmware()
    made.measure(7, tcglog.EV_EFI_ACTION, b"Something new")
    return made


def uncovered_value() -> SimFirmware:
    """The log says 1, the firmware measured 0."""
    made = SimFirmware()
    measured = variable_data(EFI_GLOBAL, "SecureBoot", b"\x00")
    data = variable_data(EFI_GLOBAL, "SecureBoot", b"\x01")
    made.measure(7, tcglog.EV_EFI_VARIABLE_DRIVER_CONFIG, data, measured=measured)
    return made


def uncovered_name() -> SimFirmware:
    """Only the value is covered: any variable that is 01 could be called SecureBoot."""
    made = SimFirmware()
    data = variable_data(EFI_GLOBAL, "SecureBoot", b"\x01")
    made.measure(7, tcglog.EV_EFI_VARIABLE_DRIVER_CONFIG, data, measured=b"\x01")
    return made


def variable_twice() -> SimFirmware:
    made = SimFirmware()
    made.variable("SecureBoot", b"\x01")
    made.secure_boot(enabled=False)
    return made


def variable_missing() -> SimFirmware:
    made = SimFirmware()
    made.variable("SecureBoot", b"\x01")
    made.variable("PK", b"")
    return made


def variable_of_another_vendor() -> SimFirmware:
    made = SimFirmware()
    data = variable_data(SECURITY_DATABASE, "SecureBoot", b"\x01")
    made.measure(7, tcglog.EV_EFI_VARIABLE_DRIVER_CONFIG, data)
    return made


def variable_after_separator() -> SimFirmware:
    made = firmware(enabled=False)
    made.variable("SecureBoot", b"\x01")
    return made


def odd_value() -> SimFirmware:
    made = SimFirmware()
    made.variable("SecureBoot", b"\x02")
    for name in ("PK", "KEK", "db", "dbx"):
        made.variable(name, b"")
    made.measure(7, tcglog.EV_SEPARATOR, bytes(4))
    return made


def two_separators() -> SimFirmware:
    made = firmware()
    made.measure(7, tcglog.EV_SEPARATOR, bytes(4))
    return made


def error_separator() -> SimFirmware:
    made = SimFirmware()
    made.secure_boot(enabled=True, separator=b"\x01\0\0\0")
    return made


def no_separator() -> SimFirmware:
    made = firmware()
    fresh = SimFirmware()
    for record in read_event_log(made.log).events[1:-1]:
        fresh.measure(record.pcr, record.event_type, record.data)
    return fresh


def broken_database() -> SimFirmware:
    made = SimFirmware()
    made.variable("SecureBoot", b"\x01")
    made.variable("PK", signature_list(b"x")[:-1])
    for name in ("KEK", "db", "dbx"):
        made.variable(name, b"")
    made.measure(7, tcglog.EV_SEPARATOR, bytes(4))
    return made


def foreign_authority() -> SimFirmware:
    made = firmware()
    made.variable("db", OWNER.bytes_le + b"another certificate", event_type=AUTHORITY)
    return made


@pytest.mark.parametrize(
    ("make", "code"),
    [
        (unknown_event, "secureboot.event.unknown"),
        (unknown_action, "secureboot.event.unknown"),
        (uncovered_value, "secureboot.event.uncovered"),
        (uncovered_name, "secureboot.event.uncovered"),
        (variable_twice, "secureboot.variable.order"),
        (variable_of_another_vendor, "secureboot.variable.order"),
        (variable_after_separator, "secureboot.variable.order"),
        (variable_missing, "secureboot.variable.missing"),
        (odd_value, "secureboot.value"),
        (two_separators, "secureboot.separator"),
        (error_separator, "secureboot.separator"),
        (no_separator, "secureboot.separator"),
        (broken_database, "secureboot.database"),
        (foreign_authority, "secureboot.authority.unknown"),
    ],
)
def test_refusals(make: Callable[[], SimFirmware], code: str) -> None:
    with pytest.raises(EvidenceError) as error:
        state(make())
    assert error.value.code == code


def test_unproven_register_7_is_not_read() -> None:
    made = firmware()
    with pytest.raises(UsageError) as error:
        verify_secure_boot(verify_event_log(read_event_log(made.log), made.bank(), indices=[4]))
    assert error.value.code == "pcr.missing"


def test_foreign_logs(shared_data: Callable[[str], pathlib.Path]) -> None:
    """All but a log without Secure Boot events and a fixture of two events can be read."""
    folder = shared_data("eventlog")
    enabled, refused = 0, {}
    for entry in json.loads((folder / "expected.json").read_text())["files"]:
        if not entry["expect"].get("pcrs"):
            continue
        log = read_event_log((folder / entry["file"]).read_bytes())
        bank = replay(log, "sha256" if "sha256" in log.algorithms else "sha1")
        if 7 not in bank.values:
            continue
        try:
            enabled += verify_secure_boot(verify_event_log(log, bank)).enabled
        except EvidenceError as error:
            refused[entry["file"]] = error.code
    assert refused == {
        "guard-binary_bios_measurements_27.bin": "secureboot.variable.missing",
        "tpm2tools-event-uefivar.bin": "secureboot.variable.missing",
    }
    assert enabled == 18
