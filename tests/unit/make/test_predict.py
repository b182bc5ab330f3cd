# SPDX-License-Identifier: GPL-3.0-or-later
"""Predicted registers against a simulated firmware and against values that a TPM showed."""

from __future__ import annotations

import hashlib

import pytest
from ansible.module_utils.vouch.errors import UsageError
from ansible.module_utils.vouch.make import predict

from sim.firmware import SimFirmware

XEN = hashlib.sha256(b"xen").digest()
KERNEL = hashlib.sha256(b"kernel").digest()


@pytest.mark.parametrize("failed", [0, 1, 3])
def test_prediction_is_what_the_firmware_extends(failed: int) -> None:
    firmware = SimFirmware()
    firmware.boot([XEN], failed_attempts=failed)
    assert predict.predict_pcr4(XEN, failed) == firmware.bank()[4]


def test_uki_is_measured_with_its_kernel() -> None:
    firmware = SimFirmware()
    firmware.boot([XEN, KERNEL])
    assert predict.predict_uki_pcr4(XEN, KERNEL) == firmware.bank()[4]


def test_registers_read_from_a_tpm() -> None:
    """Xen 4.20 and systemd 257 with Linux 6.12, put together by ``make.xenefi``, booted under OVMF."""
    xen = bytes.fromhex("ad45231e918e6fe09986300db0d247ec1665c085452e5a29ab10d00bd1048806")
    uki = bytes.fromhex("2ba8b1bc2681dfb86a5999fdd362f87c838bccc7043f07c735b842d0f2f3c9f8")
    linux = bytes.fromhex("729eaa76aa00dab337d4b5c397fb2a0fded58390cf7573c9540f9533e3b75627")
    assert predict.predict_pcr4(xen).hex() == "572db4cc9581c836ef864022d864e7222a436ed6b9e0ef9a0b8fc4c4b5b69ae6"
    assert predict.predict_uki_pcr4(uki, linux).hex() == (
        "dcff59d4a3e1c1e1776841bccadc68e7873701db25d5045cec1d67a4f947e025"
    )


def test_candidates_are_distinct_and_ordered() -> None:
    found = predict.pcr4_candidates(XEN, 2)
    assert found == tuple(predict.predict_pcr4(XEN, n) for n in range(3))
    assert len(set(found)) == 3


@pytest.mark.parametrize("count", [-1, predict.MAX_FAILED_ATTEMPTS + 1])
def test_attempts_are_bounded(count: int) -> None:
    with pytest.raises(UsageError) as error:
        predict.pcr4_candidates(XEN, count)
    assert error.value.code == "predict.attempts"


def test_a_digest_of_another_bank_is_refused() -> None:
    with pytest.raises(UsageError) as error:
        predict.predict_pcr4(bytes(20))
    assert error.value.code == "digest.length"


def test_extend_all_from_a_start() -> None:
    assert predict.extend_all([]) == bytes(32)
    assert predict.extend_all([XEN], start=KERNEL) == hashlib.sha256(KERNEL + XEN).digest()
