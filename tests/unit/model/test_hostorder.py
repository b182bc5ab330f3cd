# SPDX-License-Identifier: GPL-3.0-or-later
"""Host orders: there and back, and what no host reads."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
from ansible.module_utils.vouch.errors import ParseError, UsageError
from ansible.module_utils.vouch.make.order import generate_private_key, sign_host_order
from ansible.module_utils.vouch.model.hostorder import CONFIRM, MAX_CONFIRM_S, PAYLOAD_TYPE, STAGE, TRY, HostOrder
from ansible.module_utils.vouch.model.order import GuestOrder
from ansible.module_utils.vouch.parse.canonical import dump_canonical
from ansible.module_utils.vouch.parse.envelope import parse_envelope

HOST = "6f9619ff-8b86-4d01-b42d-00cf4fc964ff"
ORDERS = (
    HostOrder(STAGE, HOST, bytes(32), b"\x01" * 32, store="http://192.0.2.1:8080/store"),
    HostOrder(TRY, HOST, bytes(32), b"\x01" * 32, confirm_s=600),
    HostOrder(CONFIRM, HOST, bytes(32), b"\x01" * 32),
)


@pytest.mark.parametrize("order", ORDERS, ids=lambda order: order.action)
def test_there_and_back(order: HostOrder) -> None:
    assert HostOrder.from_bytes(order.to_bytes()) == order
    envelope = parse_envelope(sign_host_order(order, generate_private_key()))
    assert (envelope.payload_type, envelope.payload) == (PAYLOAD_TYPE, order.to_bytes())


def member(name: str, value: Any) -> Callable[[dict[str, Any]], None]:
    return lambda order: order.update({name: value})


FAULTS: dict[str, tuple[int, Callable[[dict[str, Any]], object]]] = {
    "a guest's order": (0, lambda o: o.update(json.loads(GuestOrder("stop", HOST, "g", bytes(32)).to_bytes()))),
    "another type": (0, member("type", "urn:vouch:host-order:2")),
    "another action": (0, member("action", "erase")),
    "a member too many": (0, member("force", True)),
    "a member missing": (2, lambda order: order.pop("store")),
    "no host": (0, member("host_id", "all")),
    "a short challenge": (0, member("challenge", "00")),
    "a short release": (0, member("release", "00")),
    "stage without a store": (0, member("store", None)),
    "stage from a file": (0, member("store", "file:///etc/passwd")),
    "stage with a time": (0, member("confirm_s", 600)),
    "try with a store": (1, member("store", "http://192.0.2.1/")),
    "try without a time": (1, member("confirm_s", None)),
    "try for ever": (1, member("confirm_s", MAX_CONFIRM_S + 1)),
    "try for no time": (1, member("confirm_s", 0)),
    "confirm with a time": (2, member("confirm_s", 600)),
    "confirm with a store": (2, member("store", "http://192.0.2.1/")),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_what_no_host_reads(fault: str) -> None:
    number, change = FAULTS[fault]
    value = json.loads(ORDERS[number].to_bytes())
    change(value)
    with pytest.raises(ParseError):
        HostOrder.from_bytes(dump_canonical(value))


def test_another_spelling_is_refused() -> None:
    with pytest.raises(ParseError):
        HostOrder.from_bytes(ORDERS[0].to_bytes() + b" ")


def test_what_no_host_reads_is_not_signed() -> None:
    with pytest.raises(UsageError) as caught:
        sign_host_order(ORDERS[0]._replace(store=None), generate_private_key())
    assert caught.value.code == "order.inputs"
