# SPDX-License-Identifier: GPL-3.0-or-later
"""Known defects of logs: forgiven only when asked, only in their shape, never silently."""

from __future__ import annotations

import json
import pathlib
from collections.abc import Callable

import pytest
from ansible.module_utils.vouch.check import quirks
from ansible.module_utils.vouch.check.replay import VerifiedLog, read_event_log, replay, verify_event_log
from ansible.module_utils.vouch.errors import EvidenceError
from ansible.module_utils.vouch.model.digest import PcrBank
from ansible.module_utils.vouch.parse import tcglog

from sim.firmware import SimFirmware


def without_exit_boot_services() -> SimFirmware:
    firmware = SimFirmware()
    firmware.boot([bytes(32)])
    firmware.records = [r for r in firmware.records if b"Exit Boot Services" not in r]
    return firmware


def without_locality() -> SimFirmware:
    firmware = SimFirmware(locality=3)
    firmware.boot([bytes(32)])
    firmware.records = [r for r in firmware.records if b"StartupLocality" not in r]
    return firmware


def verify(firmware: SimFirmware, *allowed: quirks.Quirk) -> VerifiedLog:
    return verify_event_log(read_event_log(firmware.log), firmware.bank(), quirks=allowed)


CASES = [
    (without_exit_boot_services, quirks.EXIT_BOOT_SERVICES_MISSING),
    (without_locality, quirks.STARTUP_LOCALITY_MISSING),
]


@pytest.mark.parametrize(("make", "quirk"), CASES)
def test_a_defect_is_refused_unless_it_is_named(make: Callable[[], SimFirmware], quirk: quirks.Quirk) -> None:
    others = [q for q in quirks.KNOWN_QUIRKS if q is not quirk]
    for allowed in ((), others):
        with pytest.raises(EvidenceError) as error:
            verify(make(), *allowed)
        assert [f.subject for f in error.value.findings] == [f"pcr:{quirk.pcr}"]
    verified = verify(make(), quirk)
    assert [(f.code, f.subject, f.actual, f.severity.value) for f in verified.findings] == [
        ("eventlog.quirk", f"pcr:{quirk.pcr}", quirk.id, "warn")
    ]


def test_two_defects_at_once() -> None:
    firmware = without_locality()
    firmware.records = [r for r in firmware.records if b"Exit Boot Services" not in r]
    assert len(verify(firmware, *quirks.KNOWN_QUIRKS).findings) == 2


def test_a_repair_that_does_not_help_leaves_the_register_refused() -> None:
    firmware = without_exit_boot_services()
    firmware.measure(5, tcglog.EV_IPL, b"not logged")
    del firmware.records[-1]
    with pytest.raises(EvidenceError) as error:
        verify(firmware, *quirks.KNOWN_QUIRKS)
    assert [f.subject for f in error.value.findings] == ["pcr:5"]


def test_a_sound_log_is_not_touched() -> None:
    firmware = SimFirmware(locality=3)
    firmware.boot([bytes(32)])
    log = read_event_log(firmware.log)
    assert [q.repair(log) for q in quirks.KNOWN_QUIRKS] == [None, None]
    assert verify(firmware, *quirks.KNOWN_QUIRKS).findings == ()


def test_the_table_is_complete() -> None:
    ids = [q.id for q in quirks.KNOWN_QUIRKS]
    assert len(set(ids)) == len(ids)
    assert all(q.cause for q in quirks.KNOWN_QUIRKS)
    assert {q.id for q in quirks.KNOWN_QUIRKS} == {quirk.id for _, quirk in CASES}


def test_foreign_log_without_exit_boot_services(shared_data: Callable[[str], pathlib.Path]) -> None:
    folder = shared_data("eventlog")
    name = "goatt-ebs_event_missing_eventlog.bin"
    files = json.loads((folder / "expected.json").read_text())["files"]
    expect = next(f["expect"] for f in files if f["file"] == name)
    log = read_event_log((folder / name).read_bytes())
    quoted = {int(i): bytes.fromhex(v) for i, v in expect["quoted_pcrs"]["sha1"].items()}
    bank = PcrBank("sha1", {**replay(log, "sha1").values, **quoted})
    with pytest.raises(EvidenceError) as error:
        verify_event_log(log, bank)
    assert [f.subject for f in error.value.findings] == ["pcr:5"]
    verified = verify_event_log(log, bank, quirks=quirks.KNOWN_QUIRKS)
    assert [f.actual for f in verified.findings] == ["exit-boot-services-missing"]
