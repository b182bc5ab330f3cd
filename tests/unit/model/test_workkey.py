# SPDX-License-Identifier: GPL-3.0-or-later
"""Endorsements of work keys: one spelling, P-256 alone."""

from __future__ import annotations

from typing import Any

import pytest
from ansible.module_utils.vouch.errors import ParseError
from ansible.module_utils.vouch.make.sign import generate_private_key, public_key
from ansible.module_utils.vouch.model.digest import sha256
from ansible.module_utils.vouch.model.workkey import WorkKey
from ansible.module_utils.vouch.parse.canonical import dump_canonical
from ansible.module_utils.vouch.parse.fields import encode_base64

from sim.portauthority import HOST_ID

KEY = WorkKey(
    host_id=HOST_ID,
    guest="node1",
    key=public_key(generate_private_key("ecdsa-p256-sha256")),
    channel_certificate=sha256(b"certificate"),
    issued_at_s=1_800_000_000,
)


def test_round_trip() -> None:
    assert WorkKey.from_bytes(KEY.to_bytes()) == KEY
    assert KEY.to_json().keys() == {"type", "host_id", "guest", "spki", "channel_certificate", "issued_at"}
    assert KEY.to_json()["type"] == "urn:vouch:work-key:1"


FAULTS: dict[str, dict[str, Any]] = {
    "another type": {"type": "urn:vouch:work-key:2"},
    "no host": {"host_id": "host1"},
    "no guest": {"guest": "../node1"},
    "a key that is none": {"spki": encode_base64(b"key")},
    "Ed25519": {"spki": encode_base64(public_key(generate_private_key()).spki)},
    "no certificate": {"channel_certificate": ""},
    "no time": {"issued_at": -1},
    "more": {"more": 1},
}


@pytest.mark.parametrize("fault", FAULTS)
def test_faults(fault: str) -> None:
    with pytest.raises(ParseError):
        WorkKey.from_bytes(dump_canonical({**KEY.to_json(), **FAULTS[fault]}))


def test_another_spelling_is_refused() -> None:
    with pytest.raises(ParseError):
        WorkKey.from_bytes(KEY.to_bytes() + b" ")
