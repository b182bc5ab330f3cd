# SPDX-License-Identifier: GPL-3.0-or-later
"""Guests by order: what is refused, what is started, watched, held, adopted, stopped. In this order, on one host."""

from __future__ import annotations

import base64
import json
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from verified_host import VerifiedHost
from verifier import HOST_ID, STATE, signed_package
from xen_guests import XenHost

from vouch.make.sign import generate_private_key
from vouch.model.order import ShutdownProof
from vouch.model.package import package_id
from vouch.parse.canonical import dump_canonical
from vouch.port.ssh import HostAnswerError

BASE, DEBUG = "base", "base-debug"
SHARED = Path(__file__).resolve().parents[2] / "shared"
WATCH_LIMIT_S = 300
ADOPT_LIMIT_S = 600
HONEST_ROUNDS = 20


@pytest.fixture(scope="module")
def running(host: VerifiedHost) -> str:
    """A production guest that is up."""
    answer = host.start("honest", BASE, "pv")
    print(json.dumps(answer))
    host.wait_until_up("honest")
    return "honest"


def test_orders_nobody_may_give(host: VerifiedHost) -> None:
    package = package_id(signed_package(BASE))
    assert host.refusal("start", "g1", key=generate_private_key(), package=package) == "envelope.signature.invalid"
    assert host.refusal("start", "g1", package=bytes(32)).startswith("store.")
    other = HOST_ID[:-1] + ("0" if HOST_ID[-1] != "0" else "1")
    assert host.refusal("stop", "g1", host_id=other).startswith("order.")
    assert host.refusal("stop", "g1", challenge=bytes(32)).startswith("order.")
    assert host.refusal("stop", "g1") == "guest.unknown"
    assert host.guests() == {}


def test_a_replayed_order(host: VerifiedHost) -> None:
    with host.client() as client:
        signed = host.signed(client, "stop", "g1")
        codes = []
        for _ in range(2):
            with pytest.raises(HostAnswerError) as caught:
                client.order(signed)
            codes.append(caught.value.code)
    assert codes[0] == "guest.unknown"
    assert codes[1].startswith("order.")


def altered(member: str) -> bytes:
    """Return a signed package one member of whose payload was changed afterwards."""
    envelope = json.loads(signed_package(BASE))
    statement = json.loads(base64.b64decode(envelope["payload"]))
    if member == "subject":
        statement["subject"][0]["digest"]["sha256"] = "00" * 32
    elif member == "resources":
        statement["predicate"]["resources"]["memory_mb"] += 1
    elif member == "cmdline":
        statement["predicate"]["cmdline"] = statement["predicate"]["cmdline"].replace("enforcing=1", "enforcing=0")
    envelope["payload"] = base64.b64encode(dump_canonical(statement)).decode()
    return dump_canonical(envelope)


@pytest.mark.parametrize("member", ["subject", "resources", "cmdline"])
def test_altered_packages(host: VerifiedHost, published: Any, member: str) -> None:
    envelope = altered(member)
    published(envelope)
    assert host.refusal("start", "g1", package=package_id(envelope)) == "envelope.signature.invalid"
    refused = [event for event in host.events() if event["event"] == "guest.refused"][-1]
    assert (refused["guest"], refused["code"]) == ("g1", "envelope.signature.invalid")


@pytest.fixture
def published() -> Iterator[Any]:
    """Put a file into the image store under its digest, until the test is over."""
    made = []

    def publish(data: bytes) -> None:
        path = STATE / "store" / "sha256" / package_id(data).hex()
        path.write_bytes(data)
        path.chmod(0o644)
        made.append(path)

    yield publish
    for path in made:
        path.unlink()


def test_a_guest_is_launched_and_watched(host: VerifiedHost, running: str) -> None:
    record = host.wait_until(running, lambda found: found.rounds >= HONEST_ROUNDS, 240, "watched")
    assert (record.state, record.phase, record.verdict, record.violations) == ("running", "running", "holds", ())
    assert record.ima_count > 0
    launch = [event for event in host.events() if event["event"] == "guest.launch"][-1]
    assert (launch["guest"], launch["package"]) == (running, package_id(signed_package(BASE)).hex())


def test_one_id_is_one_guest(host: VerifiedHost, running: str) -> None:
    before = host.guests()[running].domain_id
    answer = host.start(running, BASE, "pv")
    assert (answer["changed"], answer["domain_id"]) == (False, before)
    other = package_id(signed_package(DEBUG))
    assert host.refusal("start", running, package=other, kind="pv") == "guest.exists"


def test_paused_by_order(host: VerifiedHost, running: str) -> None:
    host.order("pause", running)
    assert host.guests()[running].state == "paused"
    host.order("resume", running)
    host.wait_until(running, lambda found: found.state == "running", 60, "running")


def test_a_new_verifier_adopts_its_guests(host: VerifiedHost, dom0: XenHost, running: str) -> None:
    before = host.guests()[running]
    dom0.run("systemctl kill --signal=KILL vouch-verifier.service")
    adopted = host.wait_for_event("guest.adopted", running, ADOPT_LIMIT_S)
    assert adopted["package"] == before.package.hex()
    rounds = host.guests()[running].rounds
    record = host.wait_until(running, lambda found: found.rounds > rounds + 2, ADOPT_LIMIT_S, "watched again")
    assert (record.state, record.phase) == ("running", "running")
    assert (record.domain_id, record.counter, record.violations) == (before.domain_id, before.counter, ())


def test_a_violation_is_held_and_told(host: VerifiedHost, dom0: XenHost) -> None:
    print(json.dumps(host.start("victim", DEBUG, "pv")))
    record = host.wait_until_up("victim")
    told: list[dict[str, Any]] = []
    watching = threading.Thread(target=watch, args=(host, told), daemon=True)
    watching.start()
    time.sleep(3)
    folder = f"/var/lib/vouch/guests/{DEBUG}"
    dom0.run("cat > /run/guest_attacks.py", stdin=(SHARED / "guest_attacks.py").read_bytes())
    argv = f"python3.13 -ISB - {record.domain_id} pv {folder}/profile {folder}/policy"
    dom0.run(argv, stdin=(SHARED / "enforcing_off.py").read_bytes())
    held = host.wait_until("victim", lambda found: found.violations, 60, "found out")
    assert (held.state, held.verdict, held.violations) == ("violated", "violated", ("guest.selinux.enforcing",))
    assert dom0.run("xl list victim || xl list").count("p") >= 1
    events = [(event["event"], event.get("guest")) for event in host.events()]
    assert events.index(("guest.violation", "victim")) < events.index(("guest.action", "victim"))
    watching.join(WATCH_LIMIT_S)
    assert [event["event"] for event in told if event.get("guest") == "victim"][:1] == ["guest.violation"]
    assert host.refusal("resume", "victim") == "guest.violated"
    host.order("stop", "victim")
    assert "victim" not in host.guests()


def watch(host: VerifiedHost, told: list[dict[str, Any]]) -> None:
    """Take events until one is about the victim's violation."""
    with host.client() as client:
        for event in client.watch(idle_s=WATCH_LIMIT_S):
            if event is None:
                return
            told.append(event)
            if event.get("event") == "guest.violation":
                return


def test_stopped_with_a_proof_that_serves_once(host: VerifiedHost, dom0: XenHost, running: str) -> None:
    answer = host.order("stop", running)
    given = answer["shutdown_proof"]
    proof = ShutdownProof(given["host_id"], given["counter"], bytes.fromhex(given["state"]))
    package = package_id(signed_package(BASE))
    host.order("start", running, package=package, kind="pv", shutdown_proof=proof)
    host.order("stop", running)
    again = host.refusal("start", running, package=package, kind="pv", shutdown_proof=proof)
    assert again == "order.shutdown-proof"
    assert dom0.run("losetup --list --noheadings").strip() == ""
    assert len(dom0.run("xl list").splitlines()) == 2
