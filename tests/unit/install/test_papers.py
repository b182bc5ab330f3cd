# SPDX-License-Identifier: GPL-3.0-or-later
"""Credentials that are issued as seldom as may be, and papers that are sent once."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Mapping

import pytest
from ansible.module_utils.vouch.errors import UsageError
from ansible.module_utils.vouch.install.papers import MAX_KEYS, credential_for, deliver, keys_paper
from ansible.module_utils.vouch.make.sign import generate_private_key, public_key
from ansible.module_utils.vouch.model.credential import HostCredential
from ansible.module_utils.vouch.model.enrolment import Enrolment
from ansible.module_utils.vouch.parse.envelope import parse_envelope
from ansible.module_utils.vouch.parse.fields import encode_base64

from sim.attester import NOW_S, SimAppraiser, SimHost

KEY = generate_private_key()
LIFE_S = 1000


@pytest.fixture(scope="module")
def known() -> Enrolment:
    enrolment = SimAppraiser(host=SimHost()).accept().enrolment
    assert enrolment is not None
    return enrolment


def issued(known: Enrolment, last: bytes = b"", now_s: int = NOW_S) -> bytes:
    return credential_for(known, last, KEY, now_s=now_s, life_s=LIFE_S)


def said(envelope: bytes) -> HostCredential:
    return HostCredential.from_bytes(parse_envelope(envelope).payload)


def test_it_says_what_is_recorded_and_lets_the_list_be_judged_from_its_beginning(known: Enrolment) -> None:
    found = said(issued(known))
    assert known.ima is not None
    assert found.enrolment == dataclasses.replace(known, ima=None)
    assert (found.issued_at_s, found.expires_at_s) == (NOW_S, NOW_S + LIFE_S)


def test_it_is_issued_again_when_half_of_its_time_is_over(known: Enrolment) -> None:
    first = issued(known)
    assert issued(known, first, NOW_S + 499) == first
    assert issued(known, first, NOW_S + 500) != first
    assert issued(known, first, NOW_S - 1) != first, "one of the future is none of ours"


def test_each_accepted_evidence_is_no_news(known: Enrolment) -> None:
    first = issued(known)
    counters = dataclasses.replace(known.counters, clock_ms=known.counters.clock_ms + 1000, reset_count=9)
    later = dataclasses.replace(known, counters=counters, accepted_at_s=NOW_S + 5)
    assert issued(later, first, NOW_S + 10) == first
    expecting = later.expecting(bytes(32), until_s=NOW_S + 100)
    assert said(issued(expecting, first, NOW_S + 10)).enrolment.next == expecting.next


@pytest.mark.parametrize("last", [b"x", b"{}", b"\xff\n"])
def test_what_is_no_credential_is_replaced(known: Enrolment, last: bytes) -> None:
    assert said(issued(known, last)).issued_at_s == NOW_S


def test_one_by_another_key_is_replaced(known: Enrolment) -> None:
    other = credential_for(known, b"", generate_private_key(), now_s=NOW_S, life_s=LIFE_S)
    assert issued(known, other) != other


def test_a_host_that_was_never_attested_gets_none() -> None:
    with pytest.raises(UsageError) as caught:
        issued(SimHost().enrolment)
    assert caught.value.code == "credential.unpinned"


def test_keys_are_in_order_each_once() -> None:
    keys = [public_key(generate_private_key()) for _ in range(MAX_KEYS)]
    paper = keys_paper([*keys, keys[0]])
    assert json.loads(paper) == [encode_base64(spki) for spki in sorted(key.spki for key in keys)]
    with pytest.raises(UsageError) as caught:
        keys_paper([*keys, public_key(generate_private_key())])
    assert caught.value.code == "papers.keys"


class Host:
    def __init__(self) -> None:
        self.kept: dict[str, bytes] = {"release": b"old", "keys": b"keys"}
        self.sent: list[str] = []

    def papers(self) -> Mapping[str, str]:
        return {name: hashlib.sha256(data).hexdigest() for name, data in self.kept.items()}

    def put_paper(self, name: str, data: bytes) -> None:
        self.sent.append(name)
        self.kept[name] = data


def test_what_is_there_is_not_sent_again() -> None:
    host, papers = Host(), {"release": b"new", "keys": b"keys", "manifest": b"files"}
    foretold = deliver(host, papers, rehearse=True)
    assert (foretold.sent, host.sent) == (("manifest", "release"), [])
    done = deliver(host, papers)
    assert (done.sent, done.after) == (foretold.sent, foretold.after)
    assert host.sent == ["manifest", "release"]
    assert deliver(host, papers).sent == ()
