# SPDX-License-Identifier: GPL-3.0-or-later
"""Standings and seals: there and back, and nothing else."""

from __future__ import annotations

import json
from typing import Any

import pytest
from ansible.module_utils.vouch.errors import ParseError
from ansible.module_utils.vouch.model.standing import MAX_REASONS, Seal, Standing

from standingparts import NOW_S, standing


@pytest.mark.parametrize("guest", ["", "web1"])
def test_there_and_back(guest: str) -> None:
    item = standing(1, guest, reasons=("boot.pcr4.unexpected",))
    assert Standing.from_bytes(item.to_bytes()) == item
    seal = Seal(root=bytes(32), size=3, sealed_at_s=NOW_S)
    assert Seal.from_bytes(seal.to_bytes()) == seal


@pytest.mark.parametrize(
    "change",
    [
        {"type": "urn:vouch:standing:2"},
        {"host_id": "me"},
        {"name": ""},
        {"name": "x" * 129},
        {"guest": "../web"},
        {"verdict": "good"},
        {"verdict": None},
        {"reasons": "boot"},
        {"reasons": [1]},
        {"reasons": [""]},
        {"reasons": ["x"] * (MAX_REASONS + 1)},
        {"issued_at": -1},
        {"issued_at": True},
        {"expires_at": NOW_S},
        {"expires_at": 1e9},
        {"more": 1},
    ],
)
def test_anything_else_is_refused(change: dict[str, Any]) -> None:
    value = json.loads(standing(1).to_bytes()) | change
    with pytest.raises(ParseError):
        Standing.from_bytes(json.dumps(value).encode())


@pytest.mark.parametrize("data", [b"", b"[]", b"null", b"{", b"\xff", b'{"type":"urn:vouch:standing:1"}', b"[" * 5000])
def test_no_object_is_no_standing(data: bytes) -> None:
    with pytest.raises(ParseError):
        Standing.from_bytes(data)
    with pytest.raises(ParseError):
        Seal.from_bytes(data)
