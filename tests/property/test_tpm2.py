# SPDX-License-Identifier: GPL-3.0-or-later
"""TPM structures against tpm2-pytss's own marshalling, and bytes of any kind."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from ansible.module_utils.vouch.errors import ParseError
from ansible.module_utils.vouch.parse.tpm2 import parse_attest, parse_public, parse_signature
from hypothesis import given, settings
from hypothesis import strategies as st

from thorough import examples

pytss = pytest.importorskip("tpm2_pytss")
U32, U64 = st.integers(0, 2**32 - 1), st.integers(0, 2**64 - 1)


@given(U64, U32, U32, st.booleans(), U64, st.binary(max_size=64), st.sets(st.integers(0, 23)), st.binary(max_size=64))
@settings(max_examples=examples(150), deadline=None)
def test_attest_is_read_as_marshalled(
    clock: int, reset: int, restart: int, safe: bool, firmware: int, extra: bytes, pcrs: set[int], digest: bytes
) -> None:
    bitmap = sum(1 << index for index in pcrs).to_bytes(3, "little")
    selection = pytss.TPMS_PCR_SELECTION(hash=pytss.TPM2_ALG.SHA256, sizeofSelect=3, pcrSelect=bitmap)
    attest = pytss.TPMS_ATTEST(
        magic=0xFF544347,
        type=pytss.TPM2_ST.ATTEST_QUOTE,
        qualifiedSigner=b"\x00\x0b" + bytes(32),
        extraData=extra,
        clockInfo=pytss.TPMS_CLOCK_INFO(clock=clock, resetCount=reset, restartCount=restart, safe=int(safe)),
        firmwareVersion=firmware,
        attested=pytss.TPMU_ATTEST(
            quote=pytss.TPMS_QUOTE_INFO(pcrSelect=pytss.TPML_PCR_SELECTION([selection]), pcrDigest=digest)
        ),
    )
    parsed = parse_attest(bytes(attest.marshal()))
    info = parsed.clock_info
    assert (info.clock_ms, info.reset_count, info.restart_count, info.safe) == (clock, reset, restart, safe)
    assert (parsed.firmware_version, parsed.extra_data) == (firmware, extra)
    assert parsed.quote is not None
    assert parsed.quote.selections == ((0x0B, tuple(sorted(pcrs))),)
    assert parsed.quote.pcr_digest == digest


@given(st.binary(min_size=1, max_size=66), st.binary(min_size=1, max_size=66))
@settings(max_examples=examples(50), deadline=None)
def test_signature_is_read_as_marshalled(r: bytes, s: bytes) -> None:
    signature = pytss.TPMT_SIGNATURE(
        sigAlg=pytss.TPM2_ALG.ECDSA,
        signature=pytss.TPMU_SIGNATURE(
            ecdsa=pytss.TPMS_SIGNATURE_ECC(hash=pytss.TPM2_ALG.SHA256, signatureR=r, signatureS=s)
        ),
    )
    parsed = parse_signature(bytes(signature.marshal()))
    assert (parsed.r, parsed.s) == (r, s)


@pytest.mark.parametrize("template", ["ecc256:ecdsa", "ecc384", "rsa2048", "rsa3072:rsassa-sha384", "ecc256:aes128cfb"])
def test_public_is_read_as_marshalled(template: str) -> None:
    attributes = "sign|userwithauth" if ":ecdsa" in template or "rsassa" in template else "decrypt|restricted"
    area = pytss.TPM2B_PUBLIC.parse(template, objectAttributes=attributes).publicArea
    parsed = parse_public(bytes(area.marshal()))
    assert (parsed.type, parsed.name_alg, parsed.attributes) == (area.type, area.nameAlg, int(area.objectAttributes))
    assert parsed.scheme == area.parameters.asymDetail.scheme.scheme


PARSERS: list[Callable[[bytes], Any]] = [parse_attest, parse_public, parse_signature]


@pytest.mark.parametrize("parse", PARSERS)
@given(st.binary(max_size=300))
@settings(max_examples=examples(150), deadline=None)
def test_any_bytes_are_read_or_refused(parse: Callable[[bytes], Any], data: bytes) -> None:
    try:
        parse(data)
    except ParseError:
        return
