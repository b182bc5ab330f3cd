# SPDX-License-Identifier: GPL-3.0-or-later
"""TPM structures: every prefix is refused, every extra byte, and the fields of good ones."""

from __future__ import annotations

import pytest
from ansible.module_utils.vouch.errors import ParseError
from ansible.module_utils.vouch.model.ektemplate import EK_TEMPLATES, ek_template
from ansible.module_utils.vouch.parse.tpm2 import parse_attest, parse_public, parse_signature

ATTEST = bytes.fromhex(
    "ff544347 8018 0003 000b01 0002 aabb 0000000000000001 00000002 00000003 01 0000000000000004"
    "00000002 000b 03 ff0100 0004 03 000080 0001 cc"
)
ECDSA = bytes.fromhex("0018 000b 0001 01 0002 0203")
RSASSA = bytes.fromhex("0014 000b 0002 0102")
AK = bytes.fromhex("0023 000b 00050472 0000 0010 0018 000b 0003 0010 0001 0a 0001 0b")
ECDAA = bytes.fromhex("0023 000b 00050472 0001 ff 0010 001a 000b 0001 0003 0020 000b 0001 0a 0001 0b")


def test_attest() -> None:
    attest = parse_attest(ATTEST)
    assert attest.quote is not None
    assert attest.quote.selections == ((0x0B, (0, 1, 2, 3, 4, 5, 6, 7, 8)), (0x04, (23,)))
    assert (attest.quote.pcr_digest, attest.extra_data) == (b"\xcc", b"\xaa\xbb")
    assert attest.qualified_signer == b"\x00\x0b\x01"
    info = attest.clock_info
    assert (info.clock_ms, info.reset_count, info.restart_count, info.safe) == (1, 2, 3, True)


def test_another_attestation_is_read_up_to_where_it_differs() -> None:
    data = ATTEST[:4] + b"\x80\x17" + ATTEST[6:]
    assert parse_attest(data).quote is None


def test_signatures() -> None:
    ecc, rsa = parse_signature(ECDSA), parse_signature(RSASSA)
    assert (ecc.scheme, ecc.hash_alg, ecc.r, ecc.s) == (0x18, 0x0B, b"\x01", b"\x02\x03")
    assert (rsa.scheme, rsa.raw) == (0x14, b"\x01\x02")


def test_publics() -> None:
    public = parse_public(AK)
    assert (public.curve, public.x, public.y, public.symmetric) == (3, b"\x0a", b"\x0b", None)
    assert parse_public(ECDAA).auth_policy == b"\xff"
    ek = parse_public(ek_template("rsa2048").public(b"\x01" * 256))
    assert (ek.rsa_bits, ek.symmetric, ek.rsa_modulus) == (2048, (6, 128, 0x43), b"\x01" * 256)
    for template in EK_TEMPLATES:
        assert parse_public(template.template).attributes & 0x30000 == 0x30000


GOOD = {
    "attest": (ATTEST, parse_attest),
    "ecdsa": (ECDSA, parse_signature),
    "rsassa": (RSASSA, parse_signature),
    "ak": (AK, parse_public),
    "ecdaa": (ECDAA, parse_public),
    "ek": (ek_template("rsa2048").template, parse_public),
}


@pytest.mark.parametrize("name", GOOD)
def test_every_prefix_and_every_extra_byte_is_refused(name: str) -> None:
    data, parse = GOOD[name]
    parse(data)
    for end in range(len(data)):
        with pytest.raises(ParseError):
            parse(data[:end])
    with pytest.raises(ParseError):
        parse(data + b"\0")


BAD = {
    "safe": (ATTEST.replace(bytes.fromhex("00000003 01"), bytes.fromhex("00000003 02")), parse_attest),
    "many selections": (ATTEST.replace(bytes.fromhex("00000002 000b"), bytes.fromhex("00000011 000b")), parse_attest),
    "wide selection": (ATTEST.replace(bytes.fromhex("000b 03 ff"), bytes.fromhex("000b 05 ff")), parse_attest),
    "long name": (ATTEST[:6] + b"\xff\xff" + ATTEST[8:], parse_attest),
    "hmac signature": (b"\x00\x05" + ECDSA[2:], parse_signature),
    "keyed hash": (b"\x00\x08" + AK[2:], parse_public),
    "rsa scheme for ecc": (AK.replace(b"\x00\x18", b"\x00\x14"), parse_public),
    "huge": (bytes(5000), parse_attest),
}


@pytest.mark.parametrize("fault", BAD)
def test_refused(fault: str) -> None:
    data, parse = BAD[fault]
    with pytest.raises(ParseError):
        parse(data)
