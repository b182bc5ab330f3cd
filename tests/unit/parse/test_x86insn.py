# SPDX-License-Identifier: GPL-3.0-or-later
"""Lengths of instructions, and where their distances stand."""

from __future__ import annotations

import pytest
from ansible.module_utils.vouch.errors import ParseError
from ansible.module_utils.vouch.parse.x86insn import parse_instruction

LENGTHS = {
    "90": 1, "c3": 1, "cc": 1, "0f05": 2, "f30f1efa": 4, "0f0b": 2, "0f01ca": 3,
    "e811223344": 5, "e911223344": 5, "eb10": 2, "7410": 2, "0f8411223344": 6, "2ee811223344": 6,
    "ffd0": 2, "41ffd3": 3, "ff1511223344": 6, "ff2511223344": 6, "48c7c211223344": 7, "48c70511223344aabbccdd": 11,
    "48b81122334455667788": 10, "66b81122": 4, "b811223344": 5, "a11122334455667788": 9, "67a111223344": 6,
    "6681c01122": 5, "81c011223344": 6, "83c001": 3, "f6c001": 3, "f6d0": 2, "f7c011223344": 6, "66f7c01122": 5,
    "f7d8": 2, "0f1f4000": 4, "660f1f440000": 6, "0f1f8400aabbccdd": 8, "8b0425aabbccdd": 7, "8b4424ff": 4,
    "8b842411223344": 7, "660f3a0fc108": 6, "660f3800c1": 5, "0fbae00f": 4, "0fc2c000": 4, "c8112200": 4, "c21100": 3,
    "c5f877": 3, "c5f9efc0": 4, "c4e27918c0": 5, "c4e3790fc108": 6, "62f17c48280511223344": 10, "62f37d483bc001": 7,
    "f04883442400ff": 7, "65488b042511223344": 9, "0fb9ff": 3, "c6f811": 3, "0f38f0c0": 4,
}  # fmt: skip


@pytest.mark.parametrize("code", LENGTHS)
def test_length(code: str) -> None:
    raw = bytes.fromhex(code)
    assert parse_instruction(raw + b"\x00" * 4).length == LENGTHS[code] == len(raw)


def test_distances() -> None:
    call = parse_instruction(bytes.fromhex("2ee811223344"))
    assert (call.branch, call.immediate_at, call.immediate_bytes) == (True, 2, 4)
    store = parse_instruction(bytes.fromhex("48c70511223344aabbccdd"))
    assert (store.rip_relative, store.displacement_at, store.displacement_bytes) == (True, 3, 4)
    assert (store.immediate_at, store.immediate_bytes, store.branch) == (7, 4, False)
    assert not parse_instruction(bytes.fromhex("8b4424ff")).rip_relative


@pytest.mark.parametrize("code", ["", "e8", "0f", "48", "06", "0f04", "8b", "c4", "c4007918c0", "66" * 20])
def test_what_is_no_instruction(code: str) -> None:
    with pytest.raises(ParseError):
        parse_instruction(bytes.fromhex(code))
