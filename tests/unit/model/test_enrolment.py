# SPDX-License-Identifier: GPL-3.0-or-later
"""What is remembered of a host, as bytes and back."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
from ansible.module_utils.vouch.errors import ParseError
from ansible.module_utils.vouch.model.enrolment import Enrolment

from sim.attester import SimAppraiser, SimHost

GUEST = b'{"guest":"g","next":null,"package":"' + b"0" * 64 + b'","retired":[]}'


def test_it_survives_json_before_and_after_the_first_evidence() -> None:
    appraiser = SimAppraiser(host=SimHost())
    before = appraiser.enrolment
    after = appraiser.accept().enrolment
    assert before is not None
    assert after is not None
    assert Enrolment.from_bytes(before.to_bytes()) == before
    assert Enrolment.from_bytes(after.to_bytes()) == after
    assert before.unpinned == (1, 5)


def test_an_update_that_is_being_made_survives_json() -> None:
    enrolment = SimHost().enrolment
    expecting = enrolment.expecting(bytes(32), until_s=7)
    assert Enrolment.from_bytes(expecting.to_bytes()) == expecting
    assert expecting.next is not None
    accepted = replace(expecting, next=replace(expecting.next, accepted_at_s=3))
    updated = accepted.updated(bytes(32))
    assert (updated.release_id, updated.next, updated.retired) == (bytes(32), None, (enrolment.release_id,))
    assert updated.installed == enrolment.installed == enrolment.release_id
    assert Enrolment.from_bytes(updated.to_bytes()) == updated
    # What runs already is neither expected nor updated to.
    assert updated.expecting(bytes(32), until_s=7) == updated.updated(bytes(32)) == updated


def test_a_file_of_before_there_were_updates() -> None:
    enrolment = SimHost().enrolment
    value = json.loads(enrolment.to_bytes())
    for name in ("installed", "next", "retired", "guests"):
        del value[name]
    assert Enrolment.from_bytes(json.dumps(value).encode()) == enrolment


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (b'"type":"urn:vouch:enrolment:1"', b'"type":"urn:vouch:enrolment:2"'),
        (b'"ima":null', b'"ima":{}'),
        (b'"ima":null', b'"ima":null,"x":1'),
        (b'"0":', b'"4":'),
        (b'"enrolled_at":', b'"enrolled_at":-'),
        (b'"next":null', b'"next":{"release_id":"00"}'),
        (b'"next":null', b'"next":[]'),
        (b'"retired":[]', b'"retired":["00"]'),
        (b'"retired":[]', b'"retired":{}'),
        (b'"guests":[]', b'"guests":[{}]'),
        (b'"guests":[]', b'"guests":null'),
        (b'"guests":[]', b'"guests":[' + GUEST.replace(b'"g"', b'"G"') + b"]"),
        (b'"guests":[]', b'"guests":[' + GUEST + b"," + GUEST + b"]"),
    ],
)
def test_malformed(old: bytes, new: bytes) -> None:
    data = SimHost().enrolment.to_bytes()
    assert old in data
    with pytest.raises(ParseError):
        Enrolment.from_bytes(data.replace(old, new))
