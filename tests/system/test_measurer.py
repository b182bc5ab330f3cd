# SPDX-License-Identifier: GPL-3.0-or-later
"""A real guest, watched from its first minute, attacked through its memory. Under QEMU: its memory is a file."""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest
from ansible.module_utils.vouch.make.introspection import make_profile
from ansible.module_utils.vouch.measure.measurer import RUNNING
from ansible.module_utils.vouch.model.kernelprofile import Profile

from guestbuild import build_guest, require_builder
from sim.guestattacks import HEAVY, LIGHT, Attack, Watched, table_in_a_loop
from sim.ramguest import running_guest

pytestmark = pytest.mark.lab
BOOT_LIMIT_S = 900
HONEST_ROUNDS = 200
HEAVY_EVERY = 10


@pytest.fixture(scope="module")
def watched(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Watched]:
    require_builder()
    place = tmp_path_factory.mktemp("base")
    files = build_guest("base", place, place / "package.pem")
    profile = Profile.from_bytes(make_profile((files / "vmlinuz").read_bytes()).to_bytes())
    with running_guest(tmp_path_factory.mktemp("guest"), files, ready="") as guest:
        it = Watched(guest, (files / "policy").read_bytes(), profile)
        until_s = time.monotonic() + BOOT_LIMIT_S
        while it.measurer.phase != RUNNING:
            assert time.monotonic() < until_s, "the guest did not come up"
            report = it.measurer.light()
            assert report.violations == ()
            time.sleep(0.2)
        yield it


def test_no_false_alarm(watched: Watched) -> None:
    """From the moment that its policy is in force, while its services start."""
    for number in range(HONEST_ROUNDS):
        report = watched.round(heavy=number % HEAVY_EVERY == HEAVY_EVERY - 1)
        assert report.violations == (), f"round {number}"
        time.sleep(0.05)
    assert report.ima_count > 0


@pytest.mark.parametrize("attack", LIGHT)
def test_light(watched: Watched, attack: str) -> None:
    how, code = LIGHT[attack]
    check(watched, how, code, heavy=False)


@pytest.mark.parametrize("attack", HEAVY)
def test_heavy(watched: Watched, attack: str) -> None:
    how, code = HEAVY[attack]
    check(watched, how, code, heavy=True)


def test_a_page_table_in_a_loop_holds_nobody_up(watched: Watched) -> None:
    """It leads nowhere that is not looked at already."""
    watched.guest.pause()
    try:
        with table_in_a_loop(watched):
            watched.round(heavy=True)
    finally:
        watched.let_go()
    assert watched.round(heavy=True).violations == ()


def check(watched: Watched, how: Attack, code: str, *, heavy: bool) -> None:
    """Attack while the guest stands still; put it right, and see that only the attack was the reason."""
    watched.guest.pause()
    try:
        with how(watched):
            found = {finding.code for finding in watched.round(heavy=heavy).violations}
        # Whatever is remembered of the attack is a difference to what is put back now; then it is as before.
        watched.round(heavy=True)
    finally:
        watched.let_go()
    assert code in found
    assert watched.round(heavy=True).violations == ()
