# SPDX-License-Identifier: GPL-3.0-or-later
"""Claims and what covers them; boot_aggregate."""

from __future__ import annotations

import hashlib
import json
import pathlib
from collections.abc import Callable

import pytest
from ansible.module_utils.vouch.check.replay import replay
from ansible.module_utils.vouch.errors import UsageError
from ansible.module_utils.vouch.model import boot
from ansible.module_utils.vouch.model.digest import PcrBank
from ansible.module_utils.vouch.parse import tcglog

from sim.firmware import EFI_GLOBAL, SimFirmware, file_path, variable_data

DIGEST = hashlib.sha256(b"application").digest()


def claim(firmware: SimFirmware, algorithm: str = "sha256") -> boot.BootClaim | None:
    return boot.claim_of(tcglog.parse_event_log(firmware.log).events[-1], algorithm)


def test_application_is_its_digest() -> None:
    firmware = SimFirmware()
    firmware.application(DIGEST, file_path("\\EFI\\BOOT\\BOOTX64.EFI"))
    found = claim(firmware)
    assert isinstance(found, boot.BootApplication)
    assert (found.digest, found.device_path, found.driver, found.pcr) == (DIGEST, "\\EFI\\BOOT\\BOOTX64.EFI", False, 4)


@pytest.mark.parametrize(
    ("measured", "coverage"),
    [(None, boot.Coverage.WHOLE), (b"value", boot.Coverage.VALUE), (b"something else", boot.Coverage.NONE)],
)
def test_variable_coverage(measured: bytes | None, coverage: boot.Coverage) -> None:
    firmware = SimFirmware()
    data = variable_data(EFI_GLOBAL, "Boot0000", b"value")
    firmware.measure(1, tcglog.EV_EFI_VARIABLE_BOOT, data, measured=measured)
    found = claim(firmware)
    assert isinstance(found, boot.BootVariable)
    assert (found.name, found.data, found.coverage, found.authority) == ("Boot0000", b"value", coverage, False)


def test_the_byte_that_shim_does_not_hash_is_slack() -> None:
    firmware = SimFirmware()
    data = variable_data(EFI_GLOBAL, "Shim", b"value") + bytes(6)
    firmware.measure(7, tcglog.EV_EFI_VARIABLE_AUTHORITY, data, measured=data[:-1])
    assert claim(firmware).coverage is boot.Coverage.WHOLE
    data = variable_data(EFI_GLOBAL, "Shim", b"value")
    firmware.measure(7, tcglog.EV_EFI_VARIABLE_AUTHORITY, data, measured=data[:-1])
    assert claim(firmware).coverage is boot.Coverage.NONE


@pytest.mark.parametrize(
    ("data", "measured", "error"),
    [(bytes(4), None, False), (b"\xff" * 4, None, False), (b"\x01\0\0\0", None, True), (bytes(4), b"\x01\0\0\0", True)],
)
def test_separator(data: bytes, measured: bytes | None, error: bool) -> None:
    firmware = SimFirmware()
    firmware.measure(3, tcglog.EV_SEPARATOR, data, measured=measured)
    found = claim(firmware)
    assert isinstance(found, boot.SeparatorSeen)
    assert found.error is error


def test_action_and_other() -> None:
    firmware = SimFirmware()
    firmware.measure(4, tcglog.EV_EFI_ACTION, b"Exit Boot Services Invocation\0")
    found = claim(firmware)
    assert isinstance(found, boot.BootAction)
    assert found.text == boot.EXIT_BOOT_SERVICES_INVOCATION
    firmware.measure(8, tcglog.EV_IPL, b"grub_cmd: boot")
    assert isinstance(claim(firmware), boot.OtherMeasurement)


def test_data_off_their_format_claim_nothing() -> None:
    firmware = SimFirmware()
    firmware.measure(7, tcglog.EV_EFI_VARIABLE_DRIVER_CONFIG, b"short")
    found = claim(firmware)
    assert isinstance(found, boot.OtherMeasurement)
    assert found.coverage is boot.Coverage.WHOLE


def test_what_extends_nothing_claims_nothing() -> None:
    firmware = SimFirmware(("sha256",))
    firmware.note(0, b"StartupLocality\0\0")
    assert claim(firmware) is None
    firmware.measure(0, tcglog.EV_IPL, b"x")
    assert claim(firmware, "sha1") is None


def test_boot_aggregate() -> None:
    values = {i: hashlib.sha256(bytes([i])).digest() for i in range(12)}
    expected = hashlib.sha256(b"".join(values[i] for i in range(10))).digest()
    assert boot.boot_aggregate(PcrBank("sha256", values)) == expected
    sha1 = {i: bytes([i]) * 20 for i in range(8)}
    assert boot.boot_aggregate(PcrBank("sha1", sha1)) == hashlib.sha1(b"".join(sha1.values())).digest()


def test_boot_aggregate_wants_every_register() -> None:
    with pytest.raises(UsageError) as error:
        boot.boot_aggregate(PcrBank("sha256", {i: bytes(32) for i in range(9)}))
    assert error.value.code == "pcr.missing"


def test_foreign_boot_aggregate(shared_data: Callable[[str], pathlib.Path]) -> None:
    """The first IMA entry of a machine, from the event log of the same boot."""
    log = tcglog.parse_event_log((shared_data("eventlog") / "imaevm-sample-pcrs-8-9.bin").read_bytes())
    entry = (shared_data("ima") / "imaevm-sample.ascii").read_text().split()
    assert entry[4] == "boot_aggregate"
    assert entry[3] == f"sha256:{boot.boot_aggregate(replay(log)).hex()}"


def test_initial_values() -> None:
    assert boot.initial_value(0, "sha256", 3) == bytes(31) + b"\x03"
    assert boot.initial_value(4, "sha1", 3) == bytes(20)
    assert boot.initial_value(17, "sha256") == b"\xff" * 32
    assert boot.initial_value(23, "sha256") == bytes(32)
    with pytest.raises(UsageError):
        boot.initial_value(0, "md5")


def test_foreign_logs_cover_what_they_claim(shared_data: Callable[[str], pathlib.Path]) -> None:
    """Actions and variables that fail are exactly those that the collection knows to be altered."""
    folder = shared_data("eventlog")
    uncovered = {}
    for entry in json.loads((folder / "expected.json").read_text())["files"]:
        if not entry["expect"].get("verdict", "").startswith("accept"):
            continue
        log = tcglog.parse_event_log((folder / entry["file"]).read_bytes())
        algorithm = "sha256" if "sha256" in log.algorithms else log.algorithms[0]
        claims = [boot.claim_of(event, algorithm) for event in log.events]
        bad = [
            c.event_index
            for c in claims
            if c is not None and c.coverage is boot.Coverage.NONE and not isinstance(c, boot.OtherMeasurement)
        ]
        if bad:
            uncovered[entry["file"]] = bad
    assert uncovered == {"hirs-TPMLog_Altered.bin": [25]}
