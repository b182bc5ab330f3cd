# SPDX-License-Identifier: GPL-3.0-or-later
"""Acceptances: what it takes to judge a peer again, in one spelling."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest
from ansible.module_utils.vouch.errors import ParseError
from ansible.module_utils.vouch.model.acceptance import MAX_FORMER, PAPERS, Acceptance
from ansible.module_utils.vouch.parse.canonical import dump_canonical

from sim.portauthority import SimGuest, accepted_with

NOW_S = 1_800_000_000
FOUND = accepted_with(SimGuest("node1", "fd00::2", now_s=NOW_S), SimGuest("control", "fd00::1", now_s=NOW_S), NOW_S)
ACCEPTANCE = FOUND.acceptance


def test_round_trip() -> None:
    assert Acceptance.from_bytes(ACCEPTANCE.to_bytes()) == ACCEPTANCE
    assert ACCEPTANCE.to_json().keys() >= {"type", "address", "asker", "nonce", "certificate", *PAPERS}
    assert len(ACCEPTANCE.papers) == len(PAPERS)
    assert ACCEPTANCE.to_json()["former"] == []


def test_former_releases() -> None:
    former = tuple(bytes([number]) * 32 for number in range(MAX_FORMER))
    acceptance = dataclasses.replace(ACCEPTANCE, former=former)
    assert acceptance.papers == (*ACCEPTANCE.papers, *former)
    assert Acceptance.from_bytes(acceptance.to_bytes()) == acceptance
    with pytest.raises(ParseError, match="former at byte 0: 65 items"):
        Acceptance.from_bytes(dataclasses.replace(acceptance, former=(*former, b"\xff" * 32)).to_bytes())


def test_former_releases_are_a_member_even_where_there_are_none() -> None:
    said = ACCEPTANCE.to_json()
    del said["former"]
    with pytest.raises(ParseError, match="former at byte 0: is missing"):
        Acceptance.from_bytes(dump_canonical(said))


FAULTS: dict[str, dict[str, Any]] = {
    "another type": {"type": "urn:vouch:acceptance:2"},
    "no address": {"address": "node1"},
    "an address in another spelling": {"address": "fd00:0::2"},
    "an address of another kind": {"asker": "127.0.0.1"},
    "a short nonce": {"nonce": "00"},
    "an end before the start": {"expires_at": NOW_S - 1},
    "no evidence": {"evidence": ""},
    "more": {"more": 1},
    "former releases that are no list": {"former": "00" * 32},
    "a former release that is no digest": {"former": ["00" * 31]},
    "a former release twice": {"former": ["11" * 32, "11" * 32]},
    "former releases in another order": {"former": ["22" * 32, "11" * 32]},
}


@pytest.mark.parametrize("fault", FAULTS)
def test_faults(fault: str) -> None:
    with pytest.raises(ParseError):
        Acceptance.from_bytes(dump_canonical({**ACCEPTANCE.to_json(), **FAULTS[fault]}))
