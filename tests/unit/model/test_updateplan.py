# SPDX-License-Identifier: GPL-3.0-or-later
"""Which order comes next, for every state of a host and every wish."""

from __future__ import annotations

from typing import Any

import pytest
from ansible.module_utils.vouch.errors import ParseError, UsageError
from ansible.module_utils.vouch.model.hostorder import CONFIRM, STAGE, TRY
from ansible.module_utils.vouch.model.updateplan import HostStatus, expected_state, plan_update

OLD, NEW, THIRD = (bytes([n]) * 32 for n in (1, 2, 3))
HOSTS = {
    "installed": HostStatus("current", OLD, OLD, b"", 0),
    "staged": HostStatus("staged", OLD, OLD, NEW, 1),
    "another staged": HostStatus("staged", OLD, OLD, THIRD, 1),
    "on trial": HostStatus("trial", NEW, OLD, NEW, 1),
    "another on trial": HostStatus("trial", THIRD, OLD, THIRD, 1),
    "fallen back": HostStatus("fallen-back", OLD, OLD, NEW, 1),
    "confirmed": HostStatus("current", NEW, NEW, b"", 1),
    "rolled back": HostStatus("other", OLD, NEW, b"", 1),
}
PLANS: dict[tuple[str, str], str | None] = {
    ("installed", "staged"): STAGE,
    ("installed", "tried"): "update.not-staged",
    ("installed", "confirmed"): "update.not-running",
    ("staged", "staged"): None,
    ("staged", "tried"): TRY,
    ("staged", "confirmed"): "update.not-running",
    ("another staged", "staged"): STAGE,
    ("another staged", "tried"): "update.not-staged",
    ("another staged", "confirmed"): "update.not-running",
    ("on trial", "staged"): None,
    ("on trial", "tried"): None,
    ("on trial", "confirmed"): CONFIRM,
    ("another on trial", "staged"): "update.unconfirmed",
    ("another on trial", "tried"): "update.unconfirmed",
    ("another on trial", "confirmed"): "update.not-running",
    ("fallen back", "staged"): None,
    ("fallen back", "tried"): "update.fallen-back",
    ("fallen back", "confirmed"): "update.not-running",
    ("confirmed", "staged"): None,
    ("confirmed", "tried"): None,
    ("confirmed", "confirmed"): None,
    ("rolled back", "staged"): "update.state",
    ("rolled back", "tried"): "update.state",
    ("rolled back", "confirmed"): "update.state",
}


@pytest.mark.parametrize(("host", "wanted"), PLANS)
def test_the_order_that_comes_next(host: str, wanted: str) -> None:
    found = PLANS[host, wanted]
    if found is None or "." not in found:
        assert plan_update(wanted, HOSTS[host], NEW) == found
        return
    with pytest.raises(UsageError) as caught:
        plan_update(wanted, HOSTS[host], NEW)
    assert caught.value.code == found


def test_a_release_that_failed_is_tried_again_on_purpose_only() -> None:
    assert plan_update("tried", HOSTS["fallen back"], NEW, again=True) == TRY


def test_what_is_foretold_needs_no_further_order() -> None:
    """After each order the host is where the wish was, as far as the plan sees."""
    for (host, wanted), order in PLANS.items():
        if order in (STAGE, TRY, CONFIRM):
            foretold = expected_state(order, HOSTS[host], NEW)
            status = HostStatus.from_json({**foretold, "updates": 1})
            assert plan_update(wanted, status, NEW) is None, (host, wanted)


FAULTS: dict[str, dict[str, Any]] = {
    "another state": {"state": "fine"},
    "no release": {"running": ""},
    "a member too many": {"more": 1},
    "a short id": {"waiting": "00"},
    "no count": {"updates": "1"},
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_status_that_is_none(fault: str) -> None:
    with pytest.raises(ParseError):
        HostStatus.from_json({**HOSTS["staged"].to_json(), **FAULTS[fault]})
