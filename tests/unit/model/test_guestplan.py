# SPDX-License-Identifier: GPL-3.0-or-later
"""Which orders lead from what is there to what is wanted."""

from __future__ import annotations

import pytest
from ansible.module_utils.vouch.errors import UsageError
from ansible.module_utils.vouch.model.guestplan import WANTED, expected, plan, shown
from ansible.module_utils.vouch.model.gueststate import GuestRecord

PACKAGE = b"\x01" * 32
RUNNING = GuestRecord(
    id="web",
    name="base",
    variant="production",
    domain_id=3,
    kind="pv",
    package=PACKAGE,
    verity_root=bytes(32),
    policy=bytes(32),
    state="running",
    phase="running",
    verdict="holds",
)
STARTING = RUNNING._replace(state="starting", phase="loaded", verdict="pending")
PAUSED = RUNNING._replace(state="paused")
VIOLATED = RUNNING._replace(state="violated", verdict="violated", violations=("guest.text.changed",))


@pytest.mark.parametrize(
    ("state", "found", "orders"),
    [
        ("started", None, ["start"]),
        ("started", RUNNING, []),
        ("started", STARTING, []),
        ("started", PAUSED, ["resume"]),
        ("paused", RUNNING, ["pause"]),
        ("paused", PAUSED, []),
        ("stopped", None, []),
        ("stopped", RUNNING, ["stop"]),
        ("stopped", PAUSED, ["stop"]),
        ("absent", None, []),
        ("absent", RUNNING, ["stop"]),
        ("absent", VIOLATED, ["stop"]),
    ],
)
def test_orders(state: str, found: GuestRecord | None, orders: list[str]) -> None:
    assert plan(state, found, package=PACKAGE, kind=None) == orders
    if orders:
        after = expected(orders[-1], found, PACKAGE)
        wanted = {"started": "running", "stopped": "absent"}.get(state, state)
        assert after["state"] == wanted
        assert after != shown(found)


@pytest.mark.parametrize(
    ("state", "found", "package", "kind", "code"),
    [
        ("paused", None, PACKAGE, None, "guest.absent"),
        ("started", VIOLATED, PACKAGE, None, "guest.violated"),
        ("paused", VIOLATED, PACKAGE, None, "guest.violated"),
        ("stopped", VIOLATED, PACKAGE, None, "guest.violated"),
        ("started", RUNNING, bytes(32), None, "guest.other-package"),
        ("started", PAUSED, bytes(32), None, "guest.other-package"),
        ("started", RUNNING, PACKAGE, "pvh", "guest.other-kind"),
    ],
)
def test_what_is_not_ours_to_choose(
    state: str, found: GuestRecord | None, package: bytes, kind: str | None, code: str
) -> None:
    with pytest.raises(UsageError) as caught:
        plan(state, found, package=package, kind=kind)
    assert caught.value.code == code


def test_every_state_has_a_plan() -> None:
    for state in WANTED:
        for found in (RUNNING, PAUSED, STARTING):
            assert len(plan(state, found, package=PACKAGE, kind="pv")) <= 1


def test_a_guest_that_comes_up_runs() -> None:
    assert shown(STARTING) == shown(RUNNING)
