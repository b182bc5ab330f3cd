# SPDX-License-Identifier: GPL-3.0-or-later
"""Whatever becomes of a guest or its process, the guest is paused first, then recorded, then acted on."""

from __future__ import annotations

import json
import os
import pathlib
import signal
import time
from typing import Any

import pytest

from guests_harness import Guests, descendants, guests, wait_until
from verifier_harness import EnrolledTpm

pytestmark = pytest.mark.swtpm


def held(host: Guests) -> dict[str, Any]:
    """Return the record of the guest once it is held and that was acted on."""
    wait_until(lambda: host.kinds()[-2:] == ["violation", "action"], "violation and action")
    return wait_until(lambda: (r := host.listed()["g1"])["state"] == "violated" and r, "the record")


BROKEN = {
    "violates": "guest.text.changed",
    "unreadable": "guest.unreadable",
    "dies": "guest.watcher.lost",
    "fails": "guest.watcher.lost",
    "hangs": "guest.watcher.lost",
}


@pytest.mark.parametrize("what", sorted(BROKEN))
def test_a_guest_that_is_not_what_it_was_is_held(host: Guests, what: str) -> None:
    host.start_guest(host.publish())
    wait_until(lambda: host.listed()["g1"]["rounds"] > 1, "rounds")
    host.behave(what)
    record = held(host)
    assert (record["verdict"], record["violations"]) == ("violated", [BROKEN[what]])
    assert host.running() == []
    wait_until(lambda: not list(host.machine.glob("door-*")), "its network to be closed")
    (violation,) = [event for event in host.events() if event["event"] == "guest.violation"]
    assert violation["codes"] == BROKEN[what]
    assert all(" " <= character <= "~" for character in violation["found"])
    (action,) = [event for event in host.events() if event["event"] == "guest.action"]
    assert action["action"] == "pause"
    # It can be stopped, and nothing else.
    assert host.order("resume")["error"]["code"] == "guest.violated"
    assert host.start_guest(bytes(32))["error"]["code"] == "guest.exists"
    assert host.order("stop")["ok"]
    assert host.leftovers() == []


def test_the_pause_comes_first(host: Guests) -> None:
    host.start_guest(host.publish())
    host.behave("violates")
    held(host)
    # The card is closed after the violation is listed.
    trace = wait_until(lambda: "close" in (words := [line.split()[0] for line in host.trace()]) and words, "the card")
    assert trace.index("pause") < len(trace) - 1 - trace[::-1].index("close")


def test_a_package_may_want_its_guest_destroyed(host: Guests) -> None:
    host.start_guest(host.publish(on_violation="destroy"))
    host.behave("violates")
    held(host)
    wait_until(lambda: not host.domains(), "the domain to be gone")
    record = wait_until(lambda: (r := host.listed()["g1"])["domain_id"] == 0 and r, "the record")
    assert (record["state"], record["violations"]) == ("violated", ["guest.text.changed"])
    # It stays listed until its end is ordered.
    assert host.start_guest(host.publish())["error"]["code"] == "guest.exists"
    assert host.order("stop")["ok"]
    assert host.leftovers() == []
    assert host.listed() == {}


FRAMES = {
    "no length": b"\xff\xff\xff\xff",
    "empty": b"\0\0\0\0",
    "no JSON": b"\0\0\0\x05hello",
    "no object": b"\0\0\0\x02[]",
    "no operation": b"\0\0\0\x02{}",
    "unknown record": b'\0\0\0\x1a{"op":"round","record":{}}',
    "too deep": b"\0\0\x01\0" + b"[" * 256,
    "binary": bytes(range(256)) * 8,
}


@pytest.mark.parametrize("frame", sorted(FRAMES))
def test_a_process_that_speaks_nonsense_loses_its_guest_and_no_other(host: Guests, frame: str) -> None:
    package = host.publish()
    host.start_guest(package)
    host.start_guest(package, "g2")
    (host.machine / "garbage").write_bytes(FRAMES[frame])
    host.behave("garbage", "behave-1")
    record = held(host)
    assert record["violations"] == ["guest.watcher.lost"]
    assert host.running() == ["g2"]
    rounds = host.listed()["g2"]["rounds"]
    wait_until(lambda: host.listed()["g2"]["rounds"] > rounds, "rounds of the other guest")


def test_a_process_cannot_speak_for_another_guest(host: Guests) -> None:
    """A launch, a release or a stop that its guest has no right to is nonsense too."""
    package = host.publish()
    host.start_guest(package)
    record = {name: value for name, value in host.listed()["g1"].items() if name != "history"}
    event = {"event": "guest.stop", "package": package.hex()}
    message = {"event": event, "op": "event", "record": {**record, "id": "g2"}, "ref": 1}
    body = json.dumps(message, sort_keys=True, separators=(",", ":")).encode()
    (host.machine / "garbage").write_bytes(len(body).to_bytes(4, "big") + body)
    host.behave("garbage", "behave-1")
    assert held(host)["violations"] == ["guest.watcher.lost"]
    assert host.kinds() == ["launch", "violation", "action"]


def test_a_watcher_that_is_killed_leaves_a_paused_guest(host: Guests) -> None:
    host.start_guest(host.publish())
    (watcher,) = descendants(host.pid("keeper"))
    began = time.monotonic()
    os.kill(watcher, signal.SIGKILL)
    wait_until(lambda: not host.running(), "the pause")
    assert time.monotonic() - began < 1
    assert held(host)["violations"] == ["guest.watcher.lost"]


def test_a_watcher_that_is_told_to_end_pauses_its_guest_first(host: Guests) -> None:
    host.start_guest(host.publish())
    (watcher,) = descendants(host.pid("keeper"))
    os.kill(watcher, signal.SIGTERM)
    assert held(host)["violations"] == ["guest.watcher.lost"]
    assert [line for line in host.trace() if line.startswith("pause g1 1 1")]


def test_a_guest_that_ends_by_itself_is_recorded_and_leaves_nothing(host: Guests) -> None:
    host.start_guest(host.publish())
    (path,) = host.machine.glob("domain-*")
    value = json.loads(path.read_text())
    new = host.machine / "new"
    new.write_text(json.dumps({**value, "reason": 3}))
    new.rename(path)
    wait_until(lambda: host.kinds() == ["launch", "stop"], "its end")
    wait_until(lambda: not host.leftovers(), "nothing to be left")
    assert host.listed() == {}


def test_a_guest_that_does_not_come_up_is_held(tmp_path: pathlib.Path, guest_tpm: EnrolledTpm) -> None:
    guest_tpm.stop()
    guest_tpm.start()
    with guests(tmp_path, guest_tpm.tcti, boot_limit_s=1) as host:
        host.behave("booting")
        host.start_guest(host.publish())
        assert held(host)["violations"] == ["guest.boot.overdue"]


def test_a_guest_that_was_up_is_never_booting_again(host: Guests) -> None:
    host.start_guest(host.publish())
    wait_until(lambda: host.listed()["g1"]["phase"] == "running", "the guest to be up")
    host.behave("booting")
    assert held(host)["violations"] == ["guest.phase.back"]
