# SPDX-License-Identifier: GPL-3.0-or-later
"""The quote covers other registers than asked for, or values are exchanged behind it."""

from __future__ import annotations

from dataclasses import replace

import pytest
from ansible.module_utils.vouch.appraise.policy import NEEDED_PCRS
from ansible.module_utils.vouch.model.digest import PcrBank

from sim.attester import SimAppraiser, SimHost


@pytest.mark.parametrize(
    "quoted",
    [NEEDED_PCRS[:-1], (0,), tuple(i for i in NEEDED_PCRS if i != 10), (*NEEDED_PCRS, 23)],
    ids=["without 14", "only 0", "without 10", "one more"],
)
def test_quote_over_other_registers(quoted: tuple[int, ...]) -> None:
    host = SimHost()
    host.pcrs = quoted
    result = SimAppraiser(host=host).appraise().result
    assert (result.stage, result.codes) == ("quote", ("quote.selection.mismatch",))


@pytest.mark.parametrize("index", NEEDED_PCRS)
def test_a_value_that_was_not_quoted(index: int) -> None:
    host = SimHost()
    evidence = host.evidence()
    lying = PcrBank("sha256", {**evidence.pcrs.values, index: b"\x11" * 32})
    assert SimAppraiser(host=host).appraise(replace(evidence, pcrs=lying)).result.codes == ("quote.pcrs.mismatch",)


def test_values_are_left_out_or_added() -> None:
    host = SimHost()
    evidence = host.evidence()
    values = dict(evidence.pcrs.values)
    more = PcrBank("sha256", {**values, 23: bytes(32)})
    less = PcrBank("sha256", {index: value for index, value in values.items() if index != 10})
    for bank in (more, less):
        assert SimAppraiser(host=host).appraise(replace(evidence, pcrs=bank)).result.codes == ("quote.pcrs.mismatch",)
