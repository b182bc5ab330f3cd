# SPDX-License-Identifier: GPL-3.0-or-later
"""The TPM port against a real software TPM."""

from __future__ import annotations

import datetime

import pytest
from ansible.module_utils.vouch.check.identity import check_ak_public, make_challenge, verify_ek_chain
from ansible.module_utils.vouch.check.quote import check_selection, check_values, verify_attest
from ansible.module_utils.vouch.errors import UnreachableError, UsageError
from ansible.module_utils.vouch.model.digest import PcrSelection, extend
from ansible.module_utils.vouch.model.ektemplate import ECC_P384, RSA_2048
from ansible.module_utils.vouch.port.tpm import Tpm

from swtpm_fixture import SoftwareTpm

pytestmark = pytest.mark.swtpm

SELECTION = PcrSelection.of("sha256", (*range(11), 14))
NOW = datetime.datetime(2027, 1, 1, tzinfo=datetime.UTC)
QUOTES = 2000


def test_absent_tpm_is_unreachable() -> None:
    with pytest.raises(UnreachableError) as error:
        Tpm("swtpm:host=127.0.0.1,port=1")
    assert error.value.code == "tpm.absent"


def test_missing_ak_has_its_code(fresh_software_tpm: SoftwareTpm) -> None:
    with Tpm(fresh_software_tpm.tcti) as tpm:
        for call in (tpm.ak_public, lambda: tpm.quote(b"n", SELECTION)):
            with pytest.raises(UnreachableError) as error:
                call()
            assert error.value.code == "tpm.ak.missing"


def test_missing_certificate_has_its_code(tmp_path_factory: pytest.TempPathFactory) -> None:
    from swtpm_fixture import need_swtpm

    need_swtpm()
    with SoftwareTpm(tmp_path_factory.mktemp("bare"), certificates=False) as machine, Tpm(machine.tcti) as tpm:
        with pytest.raises(UnreachableError) as error:
            tpm.ek_certificates()
        assert error.value.code == "tpm.ek.certificate-missing"


def test_extend_is_what_a_register_does(software_tpm: SoftwareTpm) -> None:
    with Tpm(software_tpm.tcti) as tpm:
        before = tpm.read_pcrs(SELECTION)
        tpm.extend(14, b"\x11" * 32)
        after = tpm.read_pcrs(SELECTION)
        assert after[14] == extend("sha256", before[14], b"\x11" * 32)
        assert {i: v for i, v in after.values.items() if i != 14} == {i: v for i, v in before.values.items() if i != 14}
        with pytest.raises(UsageError):
            tpm.extend(14, b"short")


def test_more_than_eight_registers_and_a_bank_that_is_off(software_tpm: SoftwareTpm) -> None:
    with Tpm(software_tpm.tcti) as tpm:
        assert tuple(tpm.read_pcrs(PcrSelection.of("sha256", range(24)))) == tuple(range(24))
        with pytest.raises(UnreachableError) as error:
            tpm.read_pcrs(PcrSelection.of("sha384", (0,)))
        assert error.value.code == "tpm.bank"


def test_quote_is_verified_by_our_own_check(software_tpm: SoftwareTpm) -> None:
    with Tpm(software_tpm.tcti) as tpm:
        ak = check_ak_public(tpm.create_ak())
        attest, signature, bank = tpm.quote_registers(b"q" * 32, SELECTION)
        verified = verify_attest(ak.key, attest, signature)
        assert verified.attest.extra_data == b"q" * 32
        check_selection(verified.quote, SELECTION)
        assert check_values(verified.quote, SELECTION, bank) == bank
        assert tpm.clock().clock_ms >= verified.attest.clock_info.clock_ms


@pytest.mark.parametrize("kind", [RSA_2048, ECC_P384])
def test_challenge_proves_both_keys(software_tpm: SoftwareTpm, kind: str) -> None:
    with Tpm(software_tpm.tcti) as tpm:
        ak = check_ak_public(tpm.create_ak())
        ek = verify_ek_chain(tpm.ek_certificates()[kind], software_tpm.intermediates, software_tpm.roots, now=NOW)
        assert ek.kind == kind
        assert tpm.ek_public(kind) == ek.public
        blob, encrypted = make_challenge(ek.public, ak.name, b"s" * 32)
        assert tpm.activate(blob, encrypted, kind=kind) == b"s" * 32
        # The same secret for another attestation key: this TPM will not give it out.
        wrong = bytes((*ak.name[:-1], ak.name[-1] ^ 1))
        with pytest.raises(UnreachableError) as error:
            tpm.activate(*make_challenge(ek.public, wrong, b"s" * 32), kind=kind)
        assert error.value.code == "tpm.challenge"
        assert tpm.open_handles() == {"transient": 0, "sessions": 0}


def test_chain_in_nv_is_empty_here(software_tpm: SoftwareTpm) -> None:
    with Tpm(software_tpm.tcti) as tpm:
        assert tpm.ek_chain() == ()


def test_a_new_ak_replaces_the_old_one(software_tpm: SoftwareTpm) -> None:
    with Tpm(software_tpm.tcti) as tpm:
        first, second = tpm.create_ak(), tpm.create_ak()
        assert first != second
        assert tpm.ak_public() == second


def test_clear_loses_the_ak_for_good(fresh_software_tpm: SoftwareTpm) -> None:
    with Tpm(fresh_software_tpm.tcti) as tpm:
        tpm.create_ak()
        tpm.clear()
        with pytest.raises(UnreachableError) as error:
            tpm.quote(b"n", SELECTION)
        assert error.value.code == "tpm.ak.missing"
    # A new endorsement seed is not part of TPM2_Clear: the certificate still fits.
    with Tpm(fresh_software_tpm.tcti) as tpm:
        assert tpm.ek_public(RSA_2048)


def test_boot_is_counted(fresh_software_tpm: SoftwareTpm) -> None:
    with Tpm(fresh_software_tpm.tcti) as tpm:
        ak, before = tpm.create_ak(), tpm.clock()
    fresh_software_tpm.stop()
    fresh_software_tpm.start()
    with Tpm(fresh_software_tpm.tcti) as tpm:
        assert tpm.clock().reset_count == before.reset_count + 1
        assert tpm.ak_public() == ak


def test_handles_do_not_grow(software_tpm: SoftwareTpm) -> None:
    with Tpm(software_tpm.tcti) as tpm:
        ak = check_ak_public(tpm.create_ak())
        ek = tpm.ek_public(RSA_2048)
        for number in range(QUOTES):
            tpm.quote(number.to_bytes(32, "big"), SELECTION)
            if number % 100 == 0:
                assert tpm.activate(*make_challenge(ek, ak.name, b"s")) == b"s"
                with pytest.raises(UnreachableError):
                    tpm.activate(*make_challenge(ek, b"\x00\x0b" + bytes(32), b"s"))
        assert tpm.open_handles() == {"transient": 0, "sessions": 0}
