# SPDX-License-Identifier: GPL-3.0-or-later
"""One quote serves many askers; one of them is given the place of another."""

from __future__ import annotations

from dataclasses import replace

import pytest
from ansible.module_utils.vouch.model.finding import Verdict

from sim.attester import NONCE, SimAppraiser, SimHost

OTHERS = [bytes([value]) * 32 for value in range(1, 7)]


@pytest.mark.parametrize("place", range(7))
def test_every_asker_gets_its_own_path(place: int) -> None:
    host = SimHost()
    evidence = host.evidence(others=OTHERS, place=place)
    assert SimAppraiser(host=host).appraise(evidence).result.verdict is Verdict.AFFIRMING


def test_the_path_of_another_asker() -> None:
    host = SimHost()
    theirs = host.evidence(OTHERS[0], others=[NONCE, *OTHERS[1:]], place=2)
    given = replace(theirs, nonce=NONCE)
    result = SimAppraiser(host=host).appraise(given).result
    assert (result.stage, result.codes) == ("quote", ("quote.nonce.mismatch",))


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"leaf_index": 4}, "quote.nonce.mismatch"),
        ({"leaf_count": 9}, "quote.nonce.path"),
        ({"path": ()}, "quote.nonce.path"),
        ({"path": (bytes(32),) * 4}, "quote.nonce.path"),
        ({"leaf_index": 9}, "quote.nonce.path"),
    ],
)
def test_a_false_place(changes: dict[str, object], code: str) -> None:
    host = SimHost()
    evidence = host.evidence(others=OTHERS, place=2)
    result = SimAppraiser(host=host).appraise(replace(evidence, **changes)).result  # type: ignore[arg-type]
    assert result.codes == (code,)
