# SPDX-License-Identifier: GPL-3.0-or-later
"""An update by signed orders: real processes, a real TPM, a disk in a folder; and who must not get one."""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Callable
from typing import Any

import pytest
from ansible.module_utils.vouch.check.eventlog14 import EVENTS, check_events
from ansible.module_utils.vouch.check.identity import check_ak_public
from ansible.module_utils.vouch.check.quote import check_selection, check_values, verify_attest
from ansible.module_utils.vouch.make.order import sign_host_order
from ansible.module_utils.vouch.make.sign import generate_private_key, public_pem, sign_envelope
from ansible.module_utils.vouch.model.digest import PcrSelection
from ansible.module_utils.vouch.model.evidence import Evidence
from ansible.module_utils.vouch.model.hostorder import CONFIRM, PAYLOAD_TYPE, STAGE, TRY, HostOrder
from ansible.module_utils.vouch.model.update import UpdateStatement
from ansible.module_utils.vouch.parse.cel import parse_cel

from guests_harness import ORDER_KEY, Guests, guests, wait_until
from hostrelease import RELEASE_KEY, NewRelease
from thorough import some
from verifier_harness import HOST_ID, RELEASE_ID, EnrolledTpm

pytestmark = pytest.mark.swtpm
KEYS = {"release_keys": [public_pem(RELEASE_KEY).decode()]}
NONCE = bytes(range(32))


@pytest.fixture
def host(tmp_path: Any, guest_tpm: EnrolledTpm) -> Any:
    guest_tpm.stop()
    guest_tpm.start()
    with guests(tmp_path, guest_tpm.tcti, **KEYS) as host:
        yield host


def publish(host: Guests, release: NewRelease) -> NewRelease:
    for blob in release.blobs:
        host.store.add(blob)
    return release


def signed(host: Guests, action: str, release: bytes, key: Any = ORDER_KEY, **changes: Any) -> bytes:
    members: dict[str, Any] = {STAGE: {"store": host.store.url}, TRY: {"confirm_s": 600}}.get(action, {})
    challenge = changes.pop("challenge", None) or host.challenge()
    return sign_host_order(HostOrder(action, HOST_ID, challenge, release, **members)._replace(**changes), key)


def give(host: Guests, envelope: bytes) -> dict[str, Any]:
    return host.ask({"request": "host.order", "order": base64.b64encode(envelope).decode()})


def order(host: Guests, action: str, release: NewRelease) -> dict[str, Any]:
    answer: dict[str, Any] = give(host, signed(host, action, release.id))
    return answer.get("result") or answer["error"]


def status(host: Guests) -> dict[str, Any]:
    found = host.ask({"request": "host.status"})["result"]
    assert isinstance(found, dict)
    return found


def evidence(host: Guests) -> Evidence:
    with host.connect() as client:
        client.ask_evidence(NONCE)
        return Evidence.from_json(client.answer()["result"])


def test_a_whole_update(host: Guests, guest_tpm: EnrolledTpm) -> None:
    new = publish(host, NewRelease())
    assert status(host) == {
        "state": "current",
        "running": RELEASE_ID,
        "confirmed": RELEASE_ID,
        "waiting": "",
        "updates": 0,
    }
    assert order(host, STAGE, new) == {"action": STAGE, "release": new.id.hex(), "changed": True}
    assert (status(host)["state"], status(host)["waiting"]) == ("staged", new.id.hex())
    (proof,) = evidence(host).updates
    statement = UpdateStatement.from_bytes(proof.statement)
    assert (statement.host_id, statement.before.hex(), statement.release_id) == (HOST_ID, RELEASE_ID, new.id)
    assert statement.authenticode_sha256 == new.release.authenticode_sha256
    assert statement.root_img_sha256 == new.release.subjects["root.img"]
    selection = PcrSelection("sha256", tuple(range(10)))
    verified = verify_attest(check_ak_public(guest_tpm.ak_public).key, proof.attest, proof.signature)
    assert verified.attest.extra_data == hashlib.sha256(proof.statement).digest()
    check_selection(verified.quote, selection)
    check_values(verified.quote, selection, proof.pcrs)
    assert order(host, TRY, new)["changed"] is True
    wait_until((host.machine / "disk/restarted").exists, "the restart")
    assert (host.data / "trial").read_text() == f"{proof.pcrs[4].hex()} 600\n"
    events = host.events("host.")
    assert [(event["event"], event.get("action")) for event in events] == [
        ("host.update", STAGE),
        ("host.staged", None),
        ("host.update", TRY),
    ]
    assert events[1]["statement"] == hashlib.sha256(proof.statement).hexdigest()
    host.restart(guest_tpm, new.release.authenticode_sha256)
    assert (status(host)["state"], status(host)["running"]) == ("trial", new.id.hex())
    assert json.loads(evidence(host).statement)["release_id"] == new.id.hex()
    assert order(host, CONFIRM, new)["changed"] is True
    assert status(host) == {
        "state": "current",
        "running": new.id.hex(),
        "confirmed": new.id.hex(),
        "waiting": "",
        "updates": 1,
    }
    assert not (host.data / "trial").exists()
    assert (host.machine / "disk/current.efi").read_bytes() == new.xen_efi
    assert json.loads((host.data / "identity.json").read_text())["release_id"] == new.id.hex()
    assert evidence(host).updates == (proof,)
    assert order(host, CONFIRM, new)["changed"] is False


def test_the_log_of_an_update_holds_nothing_unknown(host: Guests) -> None:
    new = publish(host, NewRelease())
    order(host, STAGE, new)
    order(host, CONFIRM, new)
    records = parse_cel((host.run / "eventlog").read_bytes())
    start = records[0].content
    assert not check_events(records, reset_count=start["reset_count"], restart_count=start["restart_count"])
    assert {"host.update", "host.staged", "host.refused"} <= {record.event for record in records} <= set(EVENTS)


def test_a_second_stage_changes_nothing_and_proves_nothing_anew(host: Guests) -> None:
    new = publish(host, NewRelease())
    order(host, STAGE, new)
    before = evidence(host).updates
    assert order(host, STAGE, new)["changed"] is False
    assert evidence(host).updates == before


def test_a_host_that_fell_back_says_so_and_may_be_tried_again(host: Guests, guest_tpm: EnrolledTpm) -> None:
    new = publish(host, NewRelease())
    order(host, STAGE, new)
    order(host, TRY, new)
    host.restart(guest_tpm, new.release.authenticode_sha256)
    host.restart(guest_tpm)
    found = status(host)
    assert (found["state"], found["running"], found["waiting"]) == ("fallen-back", RELEASE_ID, new.id.hex())
    assert json.loads(evidence(host).statement)["release_id"] == RELEASE_ID
    assert order(host, CONFIRM, new)["code"] == "update.not-running"
    assert order(host, TRY, new)["changed"] is True


def test_another_release_may_take_the_place_of_one_that_waits(host: Guests) -> None:
    first, second = publish(host, NewRelease(1)), publish(host, NewRelease(2))
    order(host, STAGE, first)
    order(host, STAGE, second)
    assert status(host)["waiting"] == second.id.hex()
    assert len(evidence(host).updates) == 1
    assert order(host, TRY, first)["code"] == "update.not-staged"


def test_guests_are_not_lost_by_a_restart(host: Guests) -> None:
    new = publish(host, NewRelease())
    order(host, STAGE, new)
    host.start_guest(host.publish())
    assert order(host, TRY, new)["code"] == "update.guests"
    assert not (host.machine / "disk/boot-next").exists()
    assert status(host)["state"] == "staged"
    host.order("stop")
    assert order(host, TRY, new)["changed"] is True


def test_what_is_refused_is_recorded_and_changes_nothing(host: Guests) -> None:
    bad = publish(host, NewRelease(key=generate_private_key()))
    assert order(host, STAGE, bad)["code"] == "envelope.signature.invalid"
    assert order(host, TRY, bad)["code"] == "update.not-staged"
    assert [(event["action"], event["code"]) for event in host.events("host.refused")] == [
        (STAGE, "envelope.signature.invalid"),
        (TRY, "update.not-staged"),
    ]
    assert status(host)["state"] == "current"
    assert not (host.machine / "disk/next.efi").exists()


def test_a_trial_that_cannot_be_armed_is_none(host: Guests) -> None:
    new = publish(host, NewRelease())
    order(host, STAGE, new)
    (host.machine / "disk/next.efi").write_bytes(b"another")
    assert order(host, TRY, new)["code"] == "update.changed"
    assert not (host.data / "trial").exists()
    assert status(host)["state"] == "staged"


FOREIGN: dict[str, tuple[Callable[[Guests, NewRelease], bytes], str]] = {
    "by nobody we know": (lambda h, r: signed(h, STAGE, r.id, generate_private_key()), "envelope.signature.invalid"),
    "no envelope": (lambda h, r: b"{}", "envelope.malformed"),
    "for another host": (
        lambda h, r: signed(h, STAGE, r.id, host_id="0" * 8 + HOST_ID[8:]),
        "order.host",
    ),
    "an order about a guest": (lambda h, r: h.signed("stop", "g1"), "order.type"),
    "no order inside": (lambda h, r: sign_envelope(PAYLOAD_TYPE, b"{}", ORDER_KEY), "order.malformed"),
    "a challenge of nobody": (lambda h, r: signed(h, STAGE, r.id, challenge=bytes(32)), "order.replayed"),
}


@pytest.mark.parametrize("fault", FOREIGN)
def test_orders_that_are_not_obeyed(host: Guests, fault: str) -> None:
    make, code = FOREIGN[fault]
    new = publish(host, NewRelease())
    assert give(host, make(host, new))["error"]["code"] == code
    assert status(host)["state"] == "current"


def test_an_order_works_once(host: Guests) -> None:
    new = publish(host, NewRelease())
    envelope = signed(host, STAGE, new.id)
    assert give(host, envelope)["ok"] is True
    assert give(host, envelope)["error"]["code"] == "order.replayed"


def test_a_guests_order_does_not_take_a_hosts(host: Guests) -> None:
    envelope = signed(host, STAGE, publish(host, NewRelease()).id)
    assert host.give(envelope)["error"]["code"] == "order.type"


def test_one_step_at_a_time(host: Guests) -> None:
    new = publish(host, NewRelease())
    held: list[int] = []

    def slow(handler: Any, data: bytes) -> bool:
        wait_until(lambda: held, "the second order")
        return False

    host.store.fault = slow
    with host.connect() as first:
        envelope = signed(host, STAGE, new.id)
        first.send(id="1", request="host.order", order=base64.b64encode(envelope).decode())
        wait_until(lambda: host.store.asked, "the download")
        assert give(host, signed(host, STAGE, new.id))["error"]["code"] == "update.busy"
        held.append(1)
        assert first.answer()["result"]["changed"] is True


def test_an_image_without_release_keys_is_not_updated(tmp_path: Any, guest_tpm: EnrolledTpm) -> None:
    guest_tpm.stop()
    guest_tpm.start()
    with guests(tmp_path, guest_tpm.tcti) as host:
        assert order(host, STAGE, NewRelease())["code"] == "update.unavailable"


CRASHES = [
    (STAGE, "slots.root.before", "self"),
    (STAGE, "slots.root.before", "keeper"),
    (STAGE, "slots.next.efi.before", "all"),
    (STAGE, "record.host.staged.before", "self"),
    (STAGE, "record.host.staged.after", "self"),
    (TRY, "record.host.update.after", "self"),
    (TRY, "slots.BootNext.before", "all"),
    (CONFIRM, "slots.exchange.before", "keeper"),
    (CONFIRM, "slots.exchange.before", "all"),
]


@pytest.mark.parametrize(("action", "where", "who"), some(CRASHES))
def test_killed_anywhere_the_update_goes_on(
    host: Guests, guest_tpm: EnrolledTpm, action: str, where: str, who: str
) -> None:
    new = publish(host, NewRelease())
    for step in (STAGE, TRY, CONFIRM):
        if step == CONFIRM:
            host.restart(guest_tpm, new.release.authenticode_sha256)
        if step == action:
            host.crash(where, who)
            envelope = signed(host, step, new.id)
            with host.connect() as client:
                client.send(id="1", request="host.order", order=base64.b64encode(envelope).decode())
                wait_until(lambda: f"crash {where} {who}" in host.trace(), "the crash")
                if who == "all" or where.startswith("record"):
                    assert client.closed()
                else:
                    assert client.answer()["ok"] is False
            if who == "all" or where.startswith("record"):
                host.kill()
                host.start()
        assert order(host, step, new).get("action") == step, host.stderr
    assert status(host)["state"] == "current"
    assert (host.machine / "disk/current.efi").read_bytes() == new.xen_efi
    assert len(evidence(host).updates) == 1
