# SPDX-License-Identifier: GPL-3.0-or-later
"""PCR 4 and the firmware registers; the values computed here and those of the build side have to agree."""

from __future__ import annotations

import hashlib

import pytest
from ansible.module_utils.vouch.check.bootpcrs import check_baseline, check_pcr4, pcr4_values
from ansible.module_utils.vouch.errors import UsageError
from ansible.module_utils.vouch.make.predict import pcr4_candidates
from ansible.module_utils.vouch.model.digest import PcrBank

from sim.firmware import SimFirmware

IMAGE = hashlib.sha256(b"xen.efi").digest()


def test_build_and_appraisal_agree() -> None:
    assert pcr4_values(IMAGE, 16) == pcr4_candidates(IMAGE, 16)


@pytest.mark.parametrize("attempts", [0, 1, 5])
def test_and_so_does_a_firmware(attempts: int) -> None:
    firmware = SimFirmware()
    firmware.boot([IMAGE], failed_attempts=attempts)
    found = check_pcr4(firmware.bank(), authenticode_sha256=IMAGE, max_failed_attempts=5, others={})
    assert [item.code for item in found] == (["boot.pcr4.attempts"] if attempts else [])


def test_too_many_attempts_are_named() -> None:
    firmware = SimFirmware()
    firmware.boot([IMAGE], failed_attempts=2)
    (finding,) = check_pcr4(firmware.bank(), authenticode_sha256=IMAGE, max_failed_attempts=1, others={})
    assert finding.code == "boot.pcr4.unexpected"
    assert finding.actual is not None
    assert "more than 1 failed boot attempts" in finding.actual


@pytest.mark.parametrize("count", [-1, 17])
def test_attempts_are_bounded(count: int) -> None:
    with pytest.raises(UsageError):
        pcr4_values(IMAGE, count)


def test_baseline() -> None:
    bank = PcrBank("sha256", {index: bytes([index]) * 32 for index in range(10)})
    good = {index: bank[index] for index in (0, 1, 2, 3, 5, 6, 7)}
    assert check_baseline(bank, good) == ()
    found = check_baseline(bank, {**good, 2: bytes(32), 7: bytes(32)})
    assert [(item.code, item.subject) for item in found] == [
        ("boot.baseline.mismatch", "pcr:2"),
        ("boot.baseline.mismatch", "pcr:7"),
    ]
