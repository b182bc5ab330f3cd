# SPDX-License-Identifier: GPL-3.0-or-later
"""Credentials of hosts: made, read, and refused."""

from __future__ import annotations

import json
from typing import Any

import pytest
from ansible.module_utils.vouch.check.signature import verify_envelope
from ansible.module_utils.vouch.errors import EvidenceError, ParseError, UsageError
from ansible.module_utils.vouch.make.credential import sign_credential
from ansible.module_utils.vouch.make.sign import generate_private_key, public_key
from ansible.module_utils.vouch.model.credential import MAX_LIFE_S, PAYLOAD_TYPE, HostCredential
from ansible.module_utils.vouch.parse.canonical import dump_canonical
from ansible.module_utils.vouch.parse.envelope import parse_envelope

from sim.attester import NOW_S, SimHost

KEY = generate_private_key()
CREDENTIAL = HostCredential(enrolment=SimHost().enrolment, issued_at_s=NOW_S, expires_at_s=NOW_S + 3600)


def test_from_the_authority_to_the_guest() -> None:
    opened = verify_envelope(parse_envelope(sign_credential(CREDENTIAL, KEY)), [public_key(KEY)])
    assert opened.payload_type == PAYLOAD_TYPE
    assert HostCredential.from_bytes(opened.payload) == CREDENTIAL
    with pytest.raises(EvidenceError):
        verify_envelope(parse_envelope(sign_credential(CREDENTIAL, KEY)), [public_key(generate_private_key())])


@pytest.mark.parametrize(
    ("now_s", "valid"),
    [(NOW_S - 11, False), (NOW_S - 10, True), (NOW_S, True), (NOW_S + 3599, True), (NOW_S + 3600, False)],
)
def test_when_it_counts(now_s: int, valid: bool) -> None:
    assert CREDENTIAL.valid_at(now_s, skew_s=10) is valid


@pytest.mark.parametrize("life_s", [0, -1, MAX_LIFE_S + 1])
def test_one_without_end_is_not_signed(life_s: int) -> None:
    credential = HostCredential(enrolment=CREDENTIAL.enrolment, issued_at_s=NOW_S, expires_at_s=NOW_S + life_s)
    with pytest.raises(UsageError) as caught:
        sign_credential(credential, KEY)
    assert caught.value.code == "credential.inputs"


@pytest.mark.parametrize(
    "change",
    [{"type": "urn:vouch:host-credential:2"}, {"enrolment": None}, {"issued_at": "1"}, {"expires_at": -1}, {"x": 1}],
)
def test_malformed(change: dict[str, Any]) -> None:
    with pytest.raises(ParseError):
        HostCredential.from_bytes(dump_canonical({**CREDENTIAL.to_json(), **change}))


def test_one_spelling() -> None:
    with pytest.raises(ParseError):
        HostCredential.from_bytes(json.dumps(CREDENTIAL.to_json()).encode())
