# SPDX-License-Identifier: GPL-3.0-or-later
"""Orders to guests and what becomes of them: real processes, a real TPM's log, no Xen."""

from __future__ import annotations

import base64
import dataclasses
import hashlib
import json
import shutil
from typing import Any

import pytest
from ansible.module_utils.vouch.check.eventlog14 import EVENTS, check_events, replay_log
from ansible.module_utils.vouch.check.guestevents import guest_lives
from ansible.module_utils.vouch.make.sign import generate_private_key, sign_envelope
from ansible.module_utils.vouch.model.grant import Network, Resources
from ansible.module_utils.vouch.model.gueststate import GuestRecord
from ansible.module_utils.vouch.model.order import ShutdownProof
from ansible.module_utils.vouch.parse.cel import parse_cel

from guestparts import SERVICES, Guest
from guests_harness import ORDER_KEY, Guests, wait_until
from verifier_harness import HOST_ID

pytestmark = pytest.mark.swtpm


def test_a_guest_is_launched_watched_and_stopped(host: Guests) -> None:
    package = host.publish()
    answer = host.start_guest(package)["result"]
    assert (answer["guest"], answer["state"], answer["changed"]) == ("g1", "running", True)
    assert {"package", "fetch", "verify", "create", "measure", "record"} <= set(answer["milliseconds"])
    record = wait_until(lambda: (r := host.listed()["g1"])["rounds"] > 3 and r, "rounds")
    history = record.pop("history")
    assert GuestRecord.from_json(record).package == package
    assert (record["state"], record["phase"], record["verdict"]) == ("running", "running", "holds")
    assert [event["event"] for event in history] == ["guest.launch"]
    assert host.running() == ["g1"]
    # Nothing of the guest ran before it was measured, and before its launch was recorded.
    steps = [line.split()[0] for line in host.trace() if line.split()[0] not in ("close", "heavy")]
    assert steps == ["create", "measurer", "first", "unpause", "open"]
    order_digests = {event["order"] for event in host.events()}
    assert len(order_digests) == 1
    stopped = host.order("stop")["result"]
    assert (stopped["state"], stopped["changed"]) == ("stopped", True)
    assert host.leftovers() == []
    assert host.kinds() == ["launch", "stop"]
    assert host.listed() == {}


def test_what_is_made_is_what_the_package_says(host: Guests) -> None:
    guest = Guest()
    host.start_guest(host.publish(guest, network=Network(services=SERVICES[:1])), kind="pvh")
    (domain,) = host.domains()
    settings = dict(line.split("=", 1) for line in domain["config"].splitlines())
    assert settings["cmdline"] == f'"{guest.package().cmdline}"'
    assert (settings["memory"], settings["vcpus"], settings["type"]) == ("512", "1", '"pvh"')
    assert (settings["tsc_mode"], settings["disk"]) == ('"native"', '["phy:/dev/loop-of-the-test,xvda,r"]')
    assert settings["kernel"].startswith('"/proc/self/fd/')
    assert domain["kernel"] == hashlib.sha256(guest.files["vmlinuz"]).hexdigest()
    assert domain["initrd"] == hashlib.sha256(guest.files["initrd.img"]).hexdigest()
    door = json.loads((host.machine / "door-g1").read_text())
    assert door == ["vif1.0", [["tcp", 3632]]]


def test_the_log_replays_and_every_event_is_known(host: Guests) -> None:
    package = host.publish()
    host.start_guest(package)
    host.order("pause")
    host.order("resume")
    host.behave("violates")
    wait_until(lambda: host.kinds()[-2:] == ["violation", "action"], "the action")
    host.order("stop")
    data = (host.run / "eventlog").read_bytes()
    records = parse_cel(data)
    register = bytes(32)
    for record in records:
        register = hashlib.sha256(register + record.digest).digest()
    replayed = replay_log(data, quoted_pcr14=register, count=len(records), head=register)
    start = records[0].content
    assert not check_events(replayed, reset_count=start["reset_count"], restart_count=start["restart_count"])
    assert {record.event for record in records} <= set(EVENTS)
    assert host.kinds() == ["launch", "action", "action", "violation", "action", "stop"]
    assert guest_lives(records) == {}
    assert list(guest_lives(records[:-1])) == ["g1"]


def test_the_same_start_twice_changes_nothing(host: Guests) -> None:
    package = host.publish()
    host.start_guest(package)
    again = host.start_guest(package)["result"]
    assert (again["changed"], again["state"], again["domain_id"]) == (False, "running", 1)
    other = host.publish(Guest(name="other"))
    assert host.start_guest(other)["error"]["code"] == "guest.exists"
    assert host.start_guest(package, kind="pv")["error"]["code"] == "guest.exists"
    assert len(host.domains()) == 1
    assert host.kinds() == ["launch", "refused", "refused"]


def test_two_starts_of_one_id_at_the_same_time_make_one_guest(host: Guests) -> None:
    package = host.publish()
    held: list[Any] = []

    def slow(handler: Any, data: bytes) -> bool:
        wait_until(lambda: held, "the second order")
        return False

    host.store.fault = slow
    with host.connect() as first, host.connect() as second:
        envelope = host.signed("start", "g1", package=package, store=host.store.url)
        first.send(id="1", request="guest.order", order=base64.b64encode(envelope).decode())
        wait_until(lambda: host.store.asked, "the download")
        envelope = host.signed("start", "g1", package=package, store=host.store.url)
        second.send(id="1", request="guest.order", order=base64.b64encode(envelope).decode())
        assert second.answer()["error"]["code"] == "guest.busy"
        held.append(True)
        assert first.answer()["result"]["changed"] is True
    assert len(host.domains()) == 1


def test_pause_and_resume_by_order(host: Guests) -> None:
    host.start_guest(host.publish())
    assert host.order("pause")["result"] == {
        "guest": "g1",
        "domain_id": 1,
        "state": "paused",
        "changed": True,
        "milliseconds": {},
    }
    assert host.running() == []
    assert host.order("pause")["result"]["changed"] is False
    rounds = host.listed()["g1"]["rounds"]
    wait_until(lambda: host.listed()["g1"]["rounds"] > rounds, "rounds while it is paused")
    assert host.listed()["g1"]["state"] == "paused"
    assert host.order("resume")["result"]["state"] == "running"
    assert host.running() == ["g1"]
    assert host.order("resume")["result"]["changed"] is False


def test_an_order_works_once(host: Guests) -> None:
    host.start_guest(host.publish())
    envelope = host.signed("stop", "g1")
    assert host.give(envelope)["ok"]
    host.start_guest(host.publish())
    assert host.give(envelope)["error"]["code"] == "order.replayed"
    assert host.running() == ["g1"]
    assert host.kinds() == ["launch", "stop", "launch", "refused"]


def test_an_order_does_not_outlive_the_service(host: Guests) -> None:
    host.start_guest(host.publish())
    envelope = host.signed("stop", "g1")
    host.kill()
    host.start()
    wait_until(lambda: host.kinds()[-1] == "adopted", "the guest to be adopted")
    assert host.give(envelope)["error"]["code"] == "order.replayed"


NOT_OBEYED: dict[str, tuple[str, Any]] = {
    "another key": ("envelope.signature.invalid", lambda host: host.signed("stop", "g1", key=generate_private_key())),
    "no envelope": ("envelope.malformed", lambda host: b"{}"),
    "another type": ("order.type", lambda host: sign_envelope("text/plain", b"{}", ORDER_KEY)),
    "no order": (
        "order.malformed",
        lambda host: sign_envelope("application/vnd.vouch.guest-order+json", b"{}", ORDER_KEY),
    ),
    "another host": (
        "order.host",
        lambda host: host.signed("stop", "g1", host_id=HOST_ID.replace("6f", "7f")),
    ),
}


@pytest.mark.parametrize("fault", sorted(NOT_OBEYED))
def test_what_nobody_entitled_asked_is_answered_and_no_event(host: Guests, fault: str) -> None:
    host.start_guest(host.publish())
    code, envelope = NOT_OBEYED[fault]
    assert host.give(envelope(host))["error"]["code"] == code
    assert host.running() == ["g1"]
    assert host.kinds() == ["launch"]


@pytest.mark.parametrize("action", ["stop", "pause", "resume"])
def test_orders_about_no_guest_are_refused(host: Guests, action: str) -> None:
    assert host.order(action)["error"]["code"] == "guest.unknown"
    assert host.kinds() == ["refused"]


def _unpublished(host: Guests, **wanted: Any) -> bytes:
    """Return the id of a package whose policy is missing in the store."""
    guest = Guest()
    package = host.publish(guest, **wanted)
    del host.store.blobs[hashlib.sha256(guest.files["policy"]).hexdigest()]
    return package


def _swapped(host: Guests, name: str) -> bytes:
    """Return the id of a package one of whose files is another in the store, of the same length."""
    guest = Guest()
    package = host.publish(guest)
    digest = hashlib.sha256(guest.files[name]).hexdigest()
    host.store.blobs[digest] = bytes([guest.files[name][0] ^ 1]) + guest.files[name][1:]
    return package


REFUSED: dict[str, tuple[str, Any, dict[str, Any]]] = {
    "no package": ("store.missing", lambda host: bytes(32), {}),
    "signed by another": ("envelope.signature.invalid", lambda host: host.publish(key=generate_private_key()), {}),
    "debug": ("package.debug", lambda host: host.publish(variant="debug"), {}),
    "weak command line": (
        "package.cmdline.refused",
        lambda host: host.publish(cmdline=f"{Guest().package().cmdline} systemd.debug_shell"),
        {},
    ),
    "kind": (
        "launch.kind",
        lambda host: host.publish(resources=Resources(memory_mb=64, vcpus=1, types=("pvh",))),
        {"kind": "pv"},
    ),
    "address given": ("launch.mac", lambda host: host.publish(), {"mac": "0a:00:00:00:00:01"}),
    "address missing": ("launch.mac", lambda host: host.publish(network=Network(mac="requested")), {}),
    "memory": (
        "launch.memory",
        lambda host: host.publish(resources=Resources(memory_mb=4000, vcpus=1)),
        {},
    ),
    "file missing": ("store.missing", _unpublished, {}),
    "kernel swapped": ("store.digest", lambda host: _swapped(host, "vmlinuz"), {}),
    "root swapped": ("store.digest", lambda host: _swapped(host, "root.img"), {}),
    "policy swapped": ("store.digest", lambda host: _swapped(host, "policy"), {}),
    "proof of another policy": (
        "package.policy.mismatch",
        lambda host: host.publish(Guest(facts={"filters": 7})),
        {},
    ),
    "tree": ("package.verity.root", lambda host: _with_other_tree(host), {}),
}


def _with_other_tree(host: Guests) -> bytes:
    """Return the id of a package whose root image does not hash to what its command line says."""
    guest = Guest()
    verity = dataclasses.replace(guest.tree.verity, root_hash=bytes(32))
    words = " ".join((*guest.words, verity.word))
    return host.publish(guest, verity=verity, cmdline=words)


@pytest.mark.parametrize("fault", sorted(REFUSED))
def test_a_start_that_does_not_hold_is_refused_and_leaves_nothing(host: Guests, fault: str) -> None:
    code, publish, members = REFUSED[fault]
    answer = host.start_guest(publish(host), **members)
    assert answer["error"]["code"] == code, answer
    assert host.leftovers() == []
    assert [(event["event"], event["code"]) for event in host.events()] == [("guest.refused", code)]
    assert host.listed() == {}
    assert not [line for line in host.trace() if line.startswith("create")]


def test_a_first_measurement_that_does_not_hold_is_a_refusal(host: Guests) -> None:
    host.behave("violates", "first-behave")
    answer = host.start_guest(host.publish())
    assert answer["error"]["code"] == "guest.text.changed"
    assert host.leftovers() == []
    assert not [line for line in host.trace() if line.startswith("unpause")]
    assert host.kinds() == ["refused"]


def test_files_that_were_changed_on_the_host_are_fetched_again(host: Guests) -> None:
    guest = Guest()
    package = host.publish(guest)
    host.start_guest(package)
    host.order("stop")
    for name in ("vmlinuz", "initrd.img", "policy", "root.img"):
        path = host.data / "blobs" / hashlib.sha256(guest.files[name]).hexdigest()
        path.write_bytes(bytes([guest.files[name][0] ^ 1]) + guest.files[name][1:])
    host.store.asked.clear()
    assert host.start_guest(package)["ok"]
    # Kernel and initrd were compared before and are in memory since.
    assert len(host.store.asked) == 2
    (domain,) = host.domains()
    assert domain["kernel"] == hashlib.sha256(guest.files["vmlinuz"]).hexdigest()
    host.order("stop")
    # Without a store that has the right one there is no guest.
    shutil.rmtree(host.run / "compared" / "kept")
    path = host.data / "blobs" / hashlib.sha256(guest.files["vmlinuz"]).hexdigest()
    path.write_bytes(b"korrel")
    host.store.blobs.clear()
    assert host.start_guest(package)["error"]["code"] == "store.missing"
    assert host.leftovers() == []


def test_several_guests_live_beside_each_other(host: Guests) -> None:
    package = host.publish()
    for guest in ("a", "b", "c"):
        assert host.start_guest(package, guest)["ok"]
    assert sorted(host.running()) == ["a", "b", "c"]
    macs = {line for domain in host.domains() for line in domain["config"].splitlines() if line.startswith("vif")}
    assert len(macs) == 3
    assert host.order("stop", "b")["ok"]
    assert sorted(host.running()) == ["a", "c"]
    with host.connect() as client:
        client.ask_evidence(bytes(32))
        statement = json.loads(base64.b64decode(client.answer()["result"]["statement"]))
    assert [guest["id"] for guest in statement["guests"]] == ["a", "c"]


def test_whoever_watches_is_told_each_event(host: Guests) -> None:
    with host.connect() as client:
        client.send(id="w", request="watch")
        begin = client.answer()
        assert (begin["id"], begin["result"]["event"], begin["result"]["guests"]) == ("w", "watch.begin", [])
        package = host.publish()
        host.start_guest(package)
        assert client.answer()["result"]["event"] == "guest.launch"
        host.behave("violates")
        violation = client.answer()["result"]
        assert (violation["event"], violation["codes"], violation["guest"]) == (
            "guest.violation",
            "guest.text.changed",
            "g1",
        )
        assert client.answer()["result"]["event"] == "guest.action"
        with host.connect() as late:
            late.send(id="x", request="watch")
            assert late.answer()["result"]["guests"][0]["state"] == "violated"


def test_a_host_without_keys_starts_no_guests(host: Guests) -> None:
    host.kill()
    host.config.unlink()
    host.start()
    assert host.ask({"request": "guest.challenge"})["error"]["code"] == "guests.unavailable"
    assert host.ask({"request": "guest.list"})["result"] == {"guests": []}


def test_a_shutdown_proof_is_good_once(host: Guests) -> None:
    package = host.publish()
    host.start_guest(package)
    first = host.order("stop")["result"]["shutdown_proof"]
    proof = ShutdownProof(first["host_id"], first["counter"], bytes.fromhex(first["state"]))
    assert first["host_id"] == HOST_ID
    # Its digest is that of the statement about the last state, which anyone can write again.
    stop = host.events()[-1]
    assert (stop["counter"], stop["state"]) == (proof.counter, proof.state.hex())
    # It outlives the service.
    host.kill()
    host.start()
    assert host.start_guest(package, shutdown_proof=proof)["ok"]
    second = host.order("stop")["result"]["shutdown_proof"]
    assert second["counter"] == proof.counter + 2
    assert host.start_guest(package, shutdown_proof=proof)["error"]["code"] == "order.shutdown-proof"
    for altered in (proof._replace(counter=proof.counter + 1), proof._replace(state=bytes(32))):
        assert host.start_guest(package, shutdown_proof=altered)["error"]["code"] == "order.shutdown-proof"
    # About another host the authority knows, which signed the order.
    other = proof._replace(host_id=HOST_ID.replace("6f", "7f"))
    assert host.start_guest(package, shutdown_proof=other)["ok"]
    assert host.leftovers()


def test_a_copy_of_an_older_book_is_not_believed(host: Guests) -> None:
    package = host.publish()
    host.start_guest(package)
    first = host.order("stop")["result"]["shutdown_proof"]
    old = (host.data / "stops.json").read_bytes()
    host.start_guest(package)
    host.order("stop")
    host.kill()
    (host.data / "stops.json").write_bytes(old)
    host.start()
    proof = ShutdownProof(first["host_id"], first["counter"], bytes.fromhex(first["state"]))
    assert host.start_guest(package, shutdown_proof=proof)["error"]["code"] == "order.shutdown-proof"
