# SPDX-License-Identifier: GPL-3.0-or-later
"""DER elements: minimal lengths, whole inputs, and the values we read."""

from __future__ import annotations

import pytest
from ansible.module_utils.vouch.errors import ParseError
from ansible.module_utils.vouch.parse.der import parse_der


def test_values() -> None:
    assert parse_der(bytes.fromhex("06032a8648")).oid() == "1.2.840"
    assert parse_der(bytes.fromhex("060667810508 0101".replace(" ", ""))).oid() == "2.23.133.8.1.1"
    assert parse_der(bytes.fromhex("0606883703010203")).oid() == "2.999.3.1.2.3"
    assert parse_der(bytes.fromhex("02020080")).unsigned() == 128
    assert parse_der(bytes.fromhex("030200ff")).bits() == b"\xff"
    assert parse_der(bytes.fromhex("0c02c3a4")).text() == "\u00e4"
    assert [item.tag for item in parse_der(bytes.fromhex("30050500020101")).children()] == [5, 2]
    assert parse_der(b"\x04\x81\x80" + bytes(128)).content == bytes(128)


REFUSED = {
    "empty": "",
    "cut": "0402ff",
    "trailing": "050000",
    "indefinite": "30800000",
    "long form for a short length": "04810101",
    "leading zero in the length": "0482008000",
    "length of length": "0485000000000100",
    "high tag": "1f0100",
}


@pytest.mark.parametrize("fault", REFUSED)
def test_refused(fault: str) -> None:
    with pytest.raises(ParseError):
        parse_der(bytes.fromhex(REFUSED[fault]))


def test_wrong_values_are_refused() -> None:
    for data, method in (
        ("020180", "unsigned"),
        ("02020001", "unsigned"),
        ("0200", "unsigned"),
        ("0500", "unsigned"),
        ("0600", "oid"),
        ("060180", "oid"),
        ("06022a80", "oid"),
        ("0603802a01", "oid"),
        ("030101", "bits"),
        ("0300", "bits"),
        ("0500", "text"),
        ("0500", "children"),
        ("300105", "children"),
    ):
        with pytest.raises(ParseError):
            getattr(parse_der(bytes.fromhex(data)), method)()
    with pytest.raises(ParseError):
        parse_der(bytes.fromhex("3000")).child(0, 2)
