# SPDX-License-Identifier: GPL-3.0-or-later
"""Killed at every point between two steps: no guest runs unmeasured, nothing is left behind, the log stays true."""

from __future__ import annotations

import base64
import hashlib
import json
import os
import signal

import pytest
from ansible.module_utils.vouch.check.guestevents import guest_lives
from ansible.module_utils.vouch.parse.cel import parse_cel

from guests_harness import Guests, alive, descendants, wait_until
from thorough import some

pytestmark = pytest.mark.swtpm

BEFORE_LAUNCH = some(
    (
        "attach.before",
        "journal.creating.before",
        "journal.creating.after",
        "create.before",
        "create.after",
        "journal.created.before",
        "journal.created.after",
        "first.before",
        "first.after",
        "guest.launch.before",
    )
)
AFTER_LAUNCH = some(
    (
        "guest.launch.after",
        "journal.released.before",
        "journal.released.after",
        "unpause.before",
        "unpause.after",
        "firewall.before",
        "firewall.after",
    )
)


def order_start(host: Guests) -> None:
    """Give the order and do not care about the answer: whoever gives it may be killed."""
    envelope = host.signed("start", "g1", package=host.publish(), store=host.store.url)
    with host.connect() as client:
        client.send(id="1", request="guest.order", order=base64.b64encode(envelope).decode())
        wait_until(lambda: not (host.machine / "crash").exists(), "the crash")


def check_order_of_steps(host: Guests) -> None:
    """No domain was released before it was measured; the launch was recorded before."""
    measured: set[str] = set()
    for line in host.trace():
        words = line.split()
        if words[0] in ("first", "heavy"):
            measured.add(words[1])
        if words[0] == "unpause":
            assert words[2] in measured, host.trace()


def check_log(host: Guests) -> None:
    """The log contradicts itself nowhere, and tells of the guests that are listed."""
    lives = guest_lives(parse_cel((host.run / "eventlog").read_bytes()))
    assert not [life.findings for life in lives.values() if life.findings]
    assert set(lives) == set(host.listed())


@pytest.mark.parametrize("where", BEFORE_LAUNCH)
def test_the_guests_process_dies_before_the_launch(host: Guests, where: str) -> None:
    host.crash(where, "self")
    answer = host.start_guest(host.publish())
    assert answer["error"]["code"] == "launch.interrupted"
    assert host.leftovers() == []
    assert host.kinds() == ["refused"]
    check_order_of_steps(host)
    assert host.start_guest(host.publish())["ok"]


@pytest.mark.parametrize("where", AFTER_LAUNCH)
def test_the_guests_process_dies_after_the_launch_was_recorded(host: Guests, where: str) -> None:
    host.crash(where, "self")
    answer = host.start_guest(host.publish())
    assert answer["error"]["code"] == "launch.interrupted"
    wait_until(lambda: not host.leftovers(), "nothing to be left")
    wait_until(lambda: host.kinds() == ["launch", "stop"], "its end")
    check_order_of_steps(host)
    check_log(host)
    assert host.start_guest(host.publish())["ok"]


@pytest.mark.parametrize("who", ["keeper", "all"])
@pytest.mark.parametrize("where", BEFORE_LAUNCH)
def test_the_keeper_or_everything_dies_before_the_launch(host: Guests, where: str, who: str) -> None:
    host.crash(where, who)
    order_start(host)
    if who == "all":
        host.kill()
        host.start()
    wait_until(lambda: not host.leftovers(), "nothing to be left")
    check_order_of_steps(host)
    wait_until(lambda: host.listed() == {}, "nothing to be listed")
    wait_until(lambda: host.start_guest(host.publish()).get("ok"), "a guest to be started")
    assert host.running() == ["g1"]
    check_log(host)


@pytest.mark.parametrize("who", ["keeper", "all"])
@pytest.mark.parametrize("where", AFTER_LAUNCH)
def test_the_keeper_or_everything_dies_after_the_launch(host: Guests, where: str, who: str) -> None:
    """The guest stands in the log: it is measured anew and goes on, or its end is recorded."""
    host.crash(where, who)
    order_start(host)
    if who == "all":
        host.kill()
        host.start()
    wait_until(lambda: host.kinds()[-1] in ("adopted", "stop"), "what becomes of it")
    if host.kinds()[-1] == "adopted":
        wait_until(lambda: host.running() == ["g1"], "the guest to run")
        before = host.listed()["g1"]["rounds"]
        wait_until(lambda: host.listed()["g1"]["rounds"] > before, "rounds")
    else:
        wait_until(lambda: not host.leftovers(), "nothing to be left")
    check_order_of_steps(host)
    check_log(host)


@pytest.mark.parametrize("who", ["self", "keeper", "all"])
@pytest.mark.parametrize("where", ["destroy.before", "destroy.after"])
def test_a_stop_that_is_cut_short_is_finished(host: Guests, where: str, who: str) -> None:
    host.start_guest(host.publish())
    host.crash(where, who)
    envelope = host.signed("stop", "g1")
    with host.connect() as client:
        client.send(id="1", request="guest.order", order=base64.b64encode(envelope).decode())
        wait_until(lambda: not (host.machine / "crash").exists(), "the crash")
    if who == "all":
        host.kill()
        host.start()
    wait_until(lambda: not host.leftovers(), "nothing to be left")
    assert host.kinds() == ["launch", "stop"]
    assert host.listed() == {}


def test_the_service_is_killed_with_guests_running(host: Guests) -> None:
    package = host.publish()
    for guest in ("a", "b"):
        host.start_guest(package, guest)
    host.order("pause", "b")
    wait_until(lambda: host.listed()["a"]["rounds"] > 3, "rounds")
    host.kill()
    host.start()
    # What is stated before the keeper has spoken is what was known.
    assert set(host.listed()) == {"a", "b"}
    wait_until(lambda: host.kinds()[-2:] == ["adopted", "adopted"], "both guests to be adopted")
    wait_until(lambda: host.running() == ["a"], "one to run")
    assert host.listed()["b"]["state"] == "paused"
    # Until a guest was measured anew, orders to go on wait outside.
    wait_until(lambda: host.order("resume", "b").get("ok"), "the other to go on")
    assert sorted(host.running()) == ["a", "b"]
    for guest in ("a", "b"):
        answer = host.order("stop", guest)
        assert answer["ok"], (answer, host.kinds())
    assert host.leftovers() == []
    check_log(host)


def test_a_service_that_is_told_to_stop_pauses_its_guests(host: Guests) -> None:
    host.start_guest(host.publish())
    assert host.process is not None
    children = descendants(host.process.pid)
    host.process.send_signal(signal.SIGTERM)
    host.process.communicate(timeout=30)
    wait_until(lambda: not any(alive(pid) for pid in children), "every process to end")
    assert host.running() == []
    host.process = None
    host.start()
    wait_until(lambda: host.running() == ["g1"], "the guest to go on")
    assert host.kinds() == ["launch", "adopted"]


def test_a_keeper_that_is_killed_is_replaced(host: Guests) -> None:
    host.start_guest(host.publish())
    keeper = host.pid("keeper")
    watchers = descendants(keeper)
    os.kill(keeper, signal.SIGKILL)
    # The guest's own process is told by the kernel, and pauses the guest.
    wait_until(lambda: not any(alive(pid) for pid in watchers), "the watcher to end")
    wait_until(lambda: host.kinds()[-1] == "adopted", "the guest to be adopted")
    wait_until(lambda: host.running() == ["g1"], "the guest to run")
    paused = [line for line in host.trace() if line.startswith("pause")]
    assert len(paused) >= 2, "by its process, and by the new keeper"
    assert host.pid("keeper") != keeper


@pytest.mark.parametrize("what", ["violates", "unreadable", "booting"])
def test_what_changed_while_nobody_looked_is_held(host: Guests, what: str) -> None:
    host.start_guest(host.publish())
    wait_until(lambda: host.listed()["g1"]["phase"] == "running", "the guest to be up")
    host.kill()
    host.behave(what)
    host.start()
    wait_until(lambda: host.kinds()[-2:] == ["violation", "action"], "violation and action")
    assert host.running() == []
    assert host.listed()["g1"]["state"] == "violated"
    codes = {"violates": "guest.text.changed", "unreadable": "guest.unreadable", "booting": "guest.phase.back"}
    assert host.listed()["g1"]["violations"] == [codes[what]]


def test_a_held_guest_stays_held_after_a_restart(host: Guests) -> None:
    host.start_guest(host.publish())
    host.behave("violates")
    wait_until(lambda: host.kinds()[-1] == "action", "the action")
    host.behave("holds")
    host.kill()
    host.start()
    assert host.listed()["g1"]["violations"] == ["guest.text.changed"]
    wait_until(lambda: host.kinds()[-1] == "action" and len(host.kinds()) == 4, "the action again")
    assert host.running() == []
    assert host.order("stop")["ok"]
    assert host.leftovers() == []


@pytest.mark.parametrize("where", ["guest.violation", "guest.action"])
def test_a_crash_while_a_violation_is_recorded_loses_nothing(host: Guests, where: str) -> None:
    host.start_guest(host.publish())
    host.crash(f"record.{where}.before", "all")
    host.behave("violates")
    wait_until(lambda: not (host.machine / "crash").exists(), "the crash")
    host.kill()
    host.behave("holds")
    host.start()
    wait_until(lambda: host.kinds()[-2:] == ["violation", "action"], "violation and action")
    assert host.running() == []
    assert host.listed()["g1"]["violations"] == ["guest.text.changed"]
    check_log(host)


def test_a_domain_that_is_gone_after_a_restart_is_recorded(host: Guests) -> None:
    host.start_guest(host.publish())
    host.kill()
    for path in host.machine.glob("domain-*"):
        path.unlink()
    host.start()
    wait_until(lambda: host.kinds() == ["launch", "stop"], "its end")
    wait_until(lambda: not host.leftovers(), "nothing to be left")


def test_another_domain_of_the_same_number_is_not_taken_for_it(host: Guests) -> None:
    host.start_guest(host.publish())
    host.kill()
    (path,) = host.machine.glob("domain-*")
    path.rename(host.machine / f"domain-{hashlib.sha256(b'x').hexdigest()[:32]}")
    host.start()
    wait_until(lambda: host.kinds() == ["launch", "stop"], "its end")
    # It is none of ours by its UUID, so it is left alone.
    assert json.loads(next(host.machine.glob("domain-*")).read_text())["name"] == "g1"


def test_a_domain_of_ours_that_nobody_remembers_goes(host: Guests) -> None:
    host.start_guest(host.publish())
    value = host.domains()[0]
    uuid = b"vouch" + bytes(11)
    host.kill()
    (host.machine / f"domain-{uuid.hex()}").write_text(json.dumps({**value, "id": 99, "name": "forgotten"}))
    host.start()
    wait_until(lambda: [domain["name"] for domain in host.domains()] == ["g1"], "the other domain to be gone")


def test_a_journal_that_is_none_is_no_guest(host: Guests) -> None:
    host.start_guest(host.publish())
    host.kill()
    (host.run / "guests" / "g1.json").write_bytes(b"{")
    host.start()
    wait_until(lambda: host.kinds() == ["launch", "stop"], "its end")
    wait_until(lambda: not host.domains(), "the domain to be gone")
