# SPDX-License-Identifier: GPL-3.0-or-later
"""Bytes that are no evidence: they end at the first stage, with one reason and no crash."""

from __future__ import annotations

import pytest
from ansible.module_utils.vouch.model.finding import Verdict

from sim.attester import SimAppraiser, SimHost

BODIES = {
    "empty": b"",
    "no JSON": b"\xff\xfe",
    "a list": b"[]",
    "a bomb": b"[" * 100_000,
    "no members": b"{}",
    "a member twice": b'{"type":"urn:vouch:evidence:1","type":"urn:vouch:evidence:1"}',
    "another version": b'{"type":"urn:vouch:evidence:2"}',
}


@pytest.mark.parametrize("what", sorted(BODIES))
def test_rubbish(what: str) -> None:
    appraisal = SimAppraiser(host=SimHost()).appraise(BODIES[what])
    assert appraisal.result.verdict is Verdict.CONTRAINDICATED
    assert (appraisal.result.stage, appraisal.result.codes) == ("evidence", ("evidence.malformed",))
    assert appraisal.result.evidence_digest is not None


def test_a_member_more() -> None:
    host = SimHost()
    data = host.evidence().to_bytes()
    assert SimAppraiser(host=host).appraise(b'{"x":1,' + data[1:]).result.codes == ("evidence.malformed",)


def test_a_guest_that_nobody_can_judge() -> None:
    host = SimHost()
    real = host.statement
    host.statement = lambda: real().replace(b'"guests":[]', b'"guests":[{}]')  # type: ignore[method-assign]
    assert SimAppraiser(host=host).appraise().result.codes == ("quote.statement.malformed",)
