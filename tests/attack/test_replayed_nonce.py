# SPDX-License-Identifier: GPL-3.0-or-later
"""Evidence recorded earlier is sent again under a new nonce."""

from __future__ import annotations

from dataclasses import replace

from sim.attester import SimAppraiser, SimHost

NEW_NONCE = b"\x77" * 32


def test_old_evidence_does_not_answer_a_new_nonce() -> None:
    host = SimHost()
    recorded = host.evidence()
    appraisal = SimAppraiser(host=host, nonce=NEW_NONCE).appraise(recorded)
    assert appraisal.result.stage == "quote"
    assert appraisal.result.codes == ("quote.nonce.mismatch",)
    assert appraisal.enrolment is None


def test_writing_the_new_nonce_into_it_does_not_help() -> None:
    host = SimHost()
    recorded = replace(host.evidence(), nonce=NEW_NONCE)
    assert SimAppraiser(host=host, nonce=NEW_NONCE).appraise(recorded).result.codes == ("quote.nonce.mismatch",)


def test_a_statement_of_another_moment_does_not_fit_the_quote() -> None:
    host = SimHost()
    old, new = host.evidence(), host.evidence()
    mixed = replace(new, statement=old.statement)
    assert SimAppraiser(host=host).appraise(mixed).result.codes == ("quote.nonce.mismatch",)
