# SPDX-License-Identifier: GPL-3.0-or-later
"""The record of one guest: one form, nothing unknown, no contradiction."""

from __future__ import annotations

import json
from typing import Any

import pytest
from ansible.module_utils.vouch.errors import ParseError
from ansible.module_utils.vouch.model.gueststate import MAX_GUESTS, GuestRecord, read_guests
from ansible.module_utils.vouch.parse.fields import Fields
from hypothesis import given
from hypothesis import strategies as st

RECORD = GuestRecord(
    id="web-1",
    name="base",
    variant="production",
    domain_id=7,
    kind="pv",
    package=b"\x01" * 32,
    verity_root=b"\x02" * 32,
    policy=b"\x03" * 32,
    state="running",
    phase="running",
    verdict="holds",
    checked_at_s=1_790_000_000,
    rounds=12,
    ima_count=3,
    ima_head=b"\x04" * 32,
    counter=9,
)
BROKEN = RECORD._replace(state="violated", verdict="violated", violations=("guest.idt.changed", "guest.text.changed"))


@pytest.mark.parametrize("record", [RECORD, BROKEN])
def test_there_and_back(record: GuestRecord) -> None:
    assert GuestRecord.from_json(json.loads(json.dumps(record.to_json()))) == record


@pytest.mark.parametrize(
    "change",
    [
        {"id": "Web"},
        {"id": ""},
        {"name": "../x"},
        {"variant": "test"},
        {"domain_id": -1},
        {"domain_id": 0x7FF0},
        {"domain_id": True},
        {"kind": "hvm"},
        {"package": "01"},
        {"state": "gone"},
        {"phase": "dead"},
        {"verdict": "good"},
        {"checked_at": 1.5},
        {"violations": ["guest.text.changed"]},
        {"state": "violated"},
        {"verdict": "violated"},
        {"violations": "guest.text.changed"},
        {"ima": {"count": 1}},
        {"ima": {"count": 1, "head": "04" * 32, "more": 0}},
        {"extra": 1},
    ],
)
def test_anything_else_is_refused(change: dict[str, Any]) -> None:
    with pytest.raises(ParseError):
        GuestRecord.from_json({**RECORD.to_json(), **change})


@pytest.mark.parametrize(
    "violations", [["b.c", "a.b"], ["a.b", "a.b"], ["A.b"], [1], ["a" * 129], ["a.b"] * 40, ["a.b\n"]]
)
def test_codes_have_one_order(violations: list[Any]) -> None:
    with pytest.raises(ParseError):
        GuestRecord.from_json({**BROKEN.to_json(), "violations": violations})


@given(st.sampled_from(sorted(RECORD.to_json())))
def test_every_member_is_needed(member: str) -> None:
    value = RECORD.to_json()
    del value[member]
    with pytest.raises(ParseError):
        GuestRecord.from_json(value)


def records(*ids: str) -> Fields:
    return Fields({"guests": [RECORD._replace(id=name).to_json() for name in ids]}, "statement")


def test_guests_are_in_order() -> None:
    assert [record.id for record in read_guests(records("a", "b"), "guests")] == ["a", "b"]
    for wrong in (records("b", "a"), records("a", "a"), records(*(f"g{n:03}" for n in range(MAX_GUESTS + 1)))):
        with pytest.raises(ParseError):
            read_guests(wrong, "guests")
