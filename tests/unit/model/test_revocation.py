# SPDX-License-Identifier: GPL-3.0-or-later
"""Notices that a channel is over."""

from __future__ import annotations

import json
from typing import Any

import pytest
from ansible.module_utils.vouch.errors import ParseError
from ansible.module_utils.vouch.model.revocation import REASONS, Revocation
from ansible.module_utils.vouch.parse.canonical import dump_canonical

NOTICE = Revocation("3d9a6f5e-0c0e-5c53-9d0e-0c1d5f5c8a11", "web-1", bytes(range(32)), REASONS[0], 1_790_000_000)


@pytest.mark.parametrize("reason", REASONS)
def test_round_trip(reason: str) -> None:
    notice = NOTICE._replace(reason=reason)
    assert Revocation.from_bytes(notice.to_bytes()) == notice


@pytest.mark.parametrize(
    "change",
    [
        {"type": "urn:vouch:revocation:2"},
        {"host_id": "x"},
        {"guest": "Web"},
        {"certificate": "00"},
        {"reason": "because"},
        {"time": -1},
        {"more": 1},
    ],
)
def test_malformed(change: dict[str, Any]) -> None:
    with pytest.raises(ParseError):
        Revocation.from_bytes(dump_canonical({**json.loads(NOTICE.to_bytes()), **change}))


@pytest.mark.parametrize("member", sorted(json.loads(NOTICE.to_bytes())))
def test_nothing_is_left_out(member: str) -> None:
    value = json.loads(NOTICE.to_bytes())
    del value[member]
    with pytest.raises(ParseError):
        Revocation.from_bytes(dump_canonical(value))
