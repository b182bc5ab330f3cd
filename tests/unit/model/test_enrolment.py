# SPDX-License-Identifier: GPL-3.0-or-later
"""What is remembered of a host, as bytes and back."""

from __future__ import annotations

import pytest
from ansible.module_utils.vouch.errors import ParseError
from ansible.module_utils.vouch.model.enrolment import Enrolment

from sim.attester import SimAppraiser, SimHost


def test_it_survives_json_before_and_after_the_first_evidence() -> None:
    appraiser = SimAppraiser(host=SimHost())
    before = appraiser.enrolment
    after = appraiser.accept().enrolment
    assert before is not None
    assert after is not None
    assert Enrolment.from_bytes(before.to_bytes()) == before
    assert Enrolment.from_bytes(after.to_bytes()) == after
    assert before.unpinned == (1, 5)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (b'"type":"urn:vouch:enrolment:1"', b'"type":"urn:vouch:enrolment:2"'),
        (b'"ima":null', b'"ima":{}'),
        (b'"ima":null', b'"ima":null,"x":1'),
        (b'"0":', b'"4":'),
        (b'"enrolled_at":', b'"enrolled_at":-'),
    ],
)
def test_malformed(old: bytes, new: bytes) -> None:
    data = SimHost().enrolment.to_bytes()
    assert old in data
    with pytest.raises(ParseError):
        Enrolment.from_bytes(data.replace(old, new))
