# SPDX-License-Identifier: GPL-3.0-or-later
"""All checks together on a guest that was recorded: nothing on the honest one, each attack by its code."""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Iterator
from typing import Any

import pytest
from ansible.module_utils.vouch.errors import UnreachableError
from ansible.module_utils.vouch.measure.measurer import BOOTING, RUNNING
from ansible.module_utils.vouch.measure.memory import DomainState, GuestMemoryError
from ansible.module_utils.vouch.model.finding import Finding, Severity

from sim.guestattacks import HEAVY, LIGHT, Watched, table_in_a_loop
from sim.recordedguest import Unjudged, recorded_guest, stand_in

NOT_RECORDED = {
    *("text", "remapped", "hook", "tables of the text", "tables from the top"),
    *("hook passed by", "hook calls nothing", "late patch"),
}
"""What happens in the text or the read-only data, or is found by their sites; ``test_regions``, ``test_hooks``."""


def codes(it: Watched, *, heavy: bool) -> set[str]:
    return {finding.code for finding in it.round(heavy=heavy).violations}


def test_an_honest_guest() -> None:
    it = recorded_guest()
    for number in range(20):
        report = it.round(heavy=number % 5 == 0)
        assert report.violations == ()
        assert it.guest._paused == 0
    assert (report.rounds, report.phase, report.ima_count) == (21, RUNNING, 6)
    assert 0 < report.pause_s <= report.seconds


@pytest.mark.parametrize("attack", sorted(set(LIGHT) - NOT_RECORDED))
def test_light(attack: str) -> None:
    it = recorded_guest()
    how, code = LIGHT[attack]
    with how(it):
        assert code in codes(it, heavy=False)
        assert it.guest._paused > 0
        assert code in codes(it, heavy=True)


@pytest.mark.parametrize("attack", sorted(HEAVY))
def test_heavy(attack: str) -> None:
    it = recorded_guest()
    how, code = HEAVY[attack]
    with how(it):
        assert code in codes(it, heavy=True)
        assert it.guest._paused > 0


def test_a_guest_that_is_met_while_it_is_attacked() -> None:
    """What needs no memory of better times is found by a new measurer too."""
    it = recorded_guest()
    for how, code in [*(LIGHT[name] for name in sorted(set(LIGHT) - NOT_RECORDED)), HEAVY["first credentials"]]:
        if code in ("guest.selinux.policy.replaced", "guest.idt.gate", "guest.kernel.switch"):
            continue
        with how(it):
            newcomer = Watched(it.guest, it.policy_file, it.profile)
            if code == "guest.syscall.entry":
                it.guest.lstar += 16
            stand_in(newcomer)
            assert code in {finding.code for finding in newcomer.measurer.light().violations}


def test_tables_in_a_loop_hold_nobody_up() -> None:
    it = recorded_guest()
    with table_in_a_loop(it):
        assert it.round(heavy=True).seconds < 10
    assert codes(it, heavy=True) == set()


def test_frames_that_vanish_while_they_are_read() -> None:
    """Whichever it is: a report that says so."""
    it = recorded_guest()
    honest, map_frames = it.guest.frames, it.guest.map
    for vanished in honest[::7]:
        it.measurer._frames.renew()

        def fail(frames: list[int], gone: int = vanished) -> object:
            if gone in frames:
                raise GuestMemoryError("it is gone", code="guest.memory.unmapped")
            return map_frames(frames)

        it.guest.map = fail  # type: ignore[method-assign, assignment]
        assert codes(it, heavy=True) <= {"guest.memory.unmapped"}
    it.guest.map = map_frames  # type: ignore[method-assign]
    it.measurer._frames.renew()
    assert codes(it, heavy=True) == set()


def test_a_guest_that_ended() -> None:
    it = recorded_guest()
    it.guest.state = lambda: DomainState(paused=False, dying=False, reason=3, ran_ns=0)  # type: ignore[method-assign]
    assert codes(it, heavy=False) == {"guest.gone"}


def test_a_guest_that_cannot_be_asked_for() -> None:
    """That is for the caller to tell."""
    it = recorded_guest()

    def fail() -> DomainState:
        raise UnreachableError("no answer", code="xen.failed")

    it.guest.state = fail  # type: ignore[method-assign]
    with pytest.raises(UnreachableError):
        it.measurer.light()


class Patched(Unjudged):
    """Text that is found while the kernel writes into it."""

    unfinished = True

    def check(self, *_: Any) -> tuple[Finding, ...]:  # type: ignore[override]
        return (Finding(code="guest.text.changed", severity=Severity.DENY, subject="kernel text"),)

    def changed(self, *_: Any) -> bool:
        return True


def test_a_patch_has_to_be_finished_soon() -> None:
    it, clock = recorded_guest(), [0.0]
    it.measurer._monotonic_s = lambda: clock[0]
    it.measurer._text = Patched()  # type: ignore[assignment]
    for moment in (0.0, 1.0, 1.4):
        clock[0] = moment
        assert (codes(it, heavy=moment == 1.0), it.guest._paused) == (set(), 0)
    clock[0] = 1.6
    assert codes(it, heavy=False) == {"guest.text.changed"}
    assert it.guest._paused > 0


def test_two_looks_say_nothing_however_far_apart() -> None:
    it, clock = recorded_guest(), [0.0]
    it.measurer._monotonic_s = lambda: clock[0]
    for moments in ((0.0, 30.0), (60.0, 90.0)):
        it.measurer._text = Patched()  # type: ignore[assignment]
        for moment in moments:
            clock[0] = moment
            assert codes(it, heavy=False) == set()
        stand_in(it)
        assert codes(it, heavy=False) == set()


def test_a_round_that_takes_too_long() -> None:
    it = recorded_guest()
    clock = itertools.count(step=30.0)
    it.measurer._monotonic_s = lambda: float(next(clock))
    assert "guest.memory.limit" in codes(it, heavy=True)


@contextlib.contextmanager
def written(it: Watched, symbol: str, value: int) -> Iterator[None]:
    with it.changed(it.place(symbol), value.to_bytes(4, "little")):
        yield


def newcomer(it: Watched, clock: list[float]) -> Watched:
    found = Watched(it.guest, it.policy_file, it.profile)
    stand_in(found)
    found.measurer._monotonic_s = lambda: clock[0]
    found.measurer._began_s = 0.0
    return found


@pytest.mark.parametrize("symbol", ["system_state", "modules_disabled"])
def test_a_guest_that_comes_up(symbol: str) -> None:
    it = recorded_guest()
    new = newcomer(it, [0.0])
    with written(it, symbol, 0):
        assert (codes(new, heavy=False), codes(new, heavy=True), new.measurer.phase) == (set(), set(), BOOTING)
    assert (codes(new, heavy=False), new.measurer.phase) == (set(), RUNNING)


def test_a_guest_that_never_comes_up() -> None:
    it, clock = recorded_guest(), [599.0]
    new = newcomer(it, clock)
    with written(it, "system_state", 0):
        assert codes(new, heavy=False) == set()
        clock[0] = 601.0
        assert codes(new, heavy=False) == {"guest.boot.overdue"}


def test_another_kernel_comes_up() -> None:
    it = recorded_guest()
    with it.changed(it.place("linux_banner"), b"Linux version 6.66"):
        assert codes(newcomer(it, [0.0]), heavy=False) == {"guest.kernel.other"}
