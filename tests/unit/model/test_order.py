# SPDX-License-Identifier: GPL-3.0-or-later
"""Orders: one spelling, every member judged, nothing left over; and what signs them."""

from __future__ import annotations

import json
from typing import Any

import pytest
from ansible.module_utils.vouch.check.signature import verify_envelope
from ansible.module_utils.vouch.errors import EvidenceError, ParseError, UsageError
from ansible.module_utils.vouch.make.order import sign_guest_order
from ansible.module_utils.vouch.make.sign import generate_private_key, public_key
from ansible.module_utils.vouch.model.order import PAYLOAD_TYPE, GuestOrder, ShutdownProof
from ansible.module_utils.vouch.parse.envelope import parse_envelope

HOST = "6f9619ff-8b86-4d01-b42d-00cf4fc964ff"
STOP = GuestOrder("stop", HOST, "web-1", bytes(range(32)))
START = STOP._replace(
    action="start",
    package=bytes(32),
    kind="pvh",
    mac="0a:00:00:00:00:01",
    store="http://192.0.2.1:8080/store",
    shutdown_proof=ShutdownProof(HOST, 7, bytes(32)),
)


def altered(order: GuestOrder, **members: Any) -> bytes:
    value = {**json.loads(order.to_bytes()), **members}
    value = {name: item for name, item in value.items() if item != "absent"}
    return json.dumps(value, sort_keys=True, separators=(",", ":")).encode()


@pytest.mark.parametrize("order", [STOP, START, START._replace(kind=None, mac=None, shutdown_proof=None)])
def test_what_is_written_is_read(order: GuestOrder) -> None:
    assert GuestOrder.from_bytes(order.to_bytes()) == order


FAULTS: dict[str, bytes] = {
    "another type": altered(STOP, type="urn:vouch:guest-order:2"),
    "another action": altered(STOP, action="reboot"),
    "host is no uuid": altered(STOP, host_id="host"),
    "guest with a path": altered(STOP, guest="../x"),
    "guest in capitals": altered(STOP, guest="Domain-0"),
    "guest too long": altered(STOP, guest="a" * 64),
    "short challenge": altered(STOP, challenge="00"),
    "no challenge": altered(STOP, challenge="absent"),
    "unknown member": altered(STOP, extra=1),
    "start without package": altered(START, package=None),
    "start without store": altered(START, store=None),
    "short package": altered(START, package="00"),
    "another kind": altered(START, kind="hvm"),
    "group address": altered(START, mac="01:00:00:00:00:01"),
    "address in capitals": altered(START, mac="0A:00:00:00:00:01"),
    "store is a file": altered(START, store="file:///etc"),
    "store with credentials": altered(START, store="http://a@b/"),
    "store with a line": altered(START, store="http://a/\r\nX: y"),
    "proof without counter": altered(START, shutdown_proof={"host_id": HOST, "state": "00" * 32}),
    "proof of counter 0": altered(START, shutdown_proof={"host_id": HOST, "state": "00" * 32, "counter": 0}),
    "stop with a package": altered(STOP, package="00" * 32),
    "pause with a store": altered(STOP, action="pause", store="http://a/"),
    "not canonical": STOP.to_bytes().replace(b",", b", ", 1),
    "nothing": b"",
}


@pytest.mark.parametrize("fault", sorted(FAULTS))
def test_anything_else_is_refused(fault: str) -> None:
    with pytest.raises(ParseError):
        GuestOrder.from_bytes(FAULTS[fault])


def test_a_signed_order_verifies_with_its_key_alone() -> None:
    key, other = generate_private_key(), generate_private_key()
    envelope = parse_envelope(sign_guest_order(START, key))
    verified = verify_envelope(envelope, [public_key(key)])
    assert (verified.payload_type, GuestOrder.from_bytes(verified.payload)) == (PAYLOAD_TYPE, START)
    with pytest.raises(EvidenceError):
        verify_envelope(envelope, [public_key(other)])


def test_an_order_that_no_host_would_read_is_not_signed() -> None:
    with pytest.raises(UsageError) as caught:
        sign_guest_order(STOP._replace(guest="UP"), generate_private_key())
    assert caught.value.code == "order.inputs"
