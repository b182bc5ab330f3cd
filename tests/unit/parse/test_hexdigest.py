# SPDX-License-Identifier: GPL-3.0-or-later
"""Digests that a person wrote."""

from __future__ import annotations

import hashlib

import pytest
from ansible.module_utils.vouch.errors import ParseError
from ansible.module_utils.vouch.parse.hexdigest import parse_sha256


def test_either_case() -> None:
    value = hashlib.sha256(b"").digest()
    assert parse_sha256(value.hex()) == parse_sha256(value.hex().upper()) == value


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("", "a SHA-256 value has 64 hexadecimal digits, not 0"),
        ("00" * 31, "a SHA-256 value has 64 hexadecimal digits, not 62"),
        ("00" * 33, "a SHA-256 value has 64 hexadecimal digits, not 66"),
        ("0" * 63, f"{'0' * 63} is not hexadecimal"),
        ("zz" * 32, f"{'zz' * 32} is not hexadecimal"),
        ("\x1b" * 999, r"\x1b" * 29),
    ],
)
def test_what_is_none(text: str, problem: str) -> None:
    with pytest.raises(ParseError) as error:
        parse_sha256(text)
    assert error.value.code == "parse.field.value"
    assert error.value.problem.startswith(problem)
