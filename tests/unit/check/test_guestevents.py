# SPDX-License-Identifier: GPL-3.0-or-later
"""The log is the memory of guests: it forgets nothing, and one that contradicts itself is not believed."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ansible.module_utils.vouch.check.guestevents import GuestLife, guest_lives
from ansible.module_utils.vouch.parse.cel import CelRecord, encode_record, parse_cel
from hypothesis import given
from hypothesis import strategies as st

PACKAGE, OTHER = "11" * 32, "22" * 32


def event(name: str, guest: str = "g1", **members: Any) -> dict[str, Any]:
    return {"event": f"guest.{name}", "guest": guest, "time": 1, **members}


def launch(guest: str = "g1", package: str = PACKAGE, counter: int = 5) -> dict[str, Any]:
    return event("launch", guest, package=package, kind="pv", counter=counter, order="00" * 32)


def stop(guest: str = "g1", package: str = PACKAGE) -> dict[str, Any]:
    return event("stop", guest, package=package, counter=6, state="00" * 32)


def violation(*codes: str, guest: str = "g1") -> dict[str, Any]:
    return event("violation", guest, package=PACKAGE, codes=",".join(codes), expected="", found="")


def records(*contents: dict[str, Any]) -> tuple[CelRecord, ...]:
    return parse_cel(b"".join(encode_record(at, 14, bytes(32), content) for at, content in enumerate(contents)))


def life(*contents: dict[str, Any]) -> GuestLife:
    lives = guest_lives(records(*contents))
    assert list(lives) == ["g1"]
    return lives["g1"]


def codes(found: GuestLife) -> list[str]:
    return [finding.code for finding in found.findings]


def test_a_guest_lives_from_launch_to_stop() -> None:
    assert life(launch()) == GuestLife(guest="g1", package=PACKAGE, kind="pv", counter=5, launched=0)
    assert guest_lives(records(launch(), stop())) == {}
    assert life(launch(), stop(), launch(counter=9)).counter == 9


def test_a_refusal_begins_nothing() -> None:
    assert guest_lives(records(event("refused", package=PACKAGE, code="package.debug"))) == {}


def test_a_violation_stays() -> None:
    broken = life(
        launch(),
        violation("guest.text.changed", "guest.idt.changed"),
        event("action", action="pause"),
        event("action", action="resume"),
        event("adopted", package=PACKAGE),
        violation("guest.text.changed"),
    )
    assert broken.violations == ("guest.text.changed", "guest.idt.changed")
    assert codes(broken) == []


def test_the_next_guest_of_that_name_starts_clean() -> None:
    assert life(launch(), violation("guest.text.changed"), stop(), launch()).violations == ()


def test_what_cannot_have_happened() -> None:
    assert codes(life(event("action", action="pause"))) == ["guest.log.order"]
    assert codes(life(stop())) == ["guest.log.order"]
    assert codes(life(launch(), launch())) == ["guest.log.order"]
    assert codes(life(launch(), stop(package=OTHER))) == ["guest.log.order"]
    assert codes(life(launch(), event("adopted", package=OTHER))) == ["guest.log.order"]


def test_a_second_launch_hides_no_violation() -> None:
    assert life(launch(), violation("guest.text.changed"), launch()).violations == ("guest.text.changed",)


STEPS: Sequence[dict[str, Any]] = (
    launch(),
    launch("g2"),
    stop(),
    stop("g2"),
    violation("guest.text.changed"),
    violation("guest.idt.changed", guest="g2"),
    event("action", action="pause"),
    event("adopted", package=PACKAGE),
    event("refused", package=PACKAGE, code="x.y"),
)


@given(st.lists(st.sampled_from(STEPS), max_size=12))
def test_a_violation_is_only_forgotten_by_a_stop(steps: list[dict[str, Any]]) -> None:
    """Of whatever order of events."""
    lives = guest_lives(records(*steps))
    for guest in ("g1", "g2"):
        own = [step for step in steps if step["guest"] == guest]
        last_stop = max((at for at, step in enumerate(own) if step["event"] == "guest.stop"), default=-1)
        after = own[last_stop + 1 :]
        begun = any(step["event"] == "guest.launch" for step in after)
        broken = any(step["event"] == "guest.violation" for step in after)
        if begun and broken:
            assert lives[guest].violations or lives[guest].findings
