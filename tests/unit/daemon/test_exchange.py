# SPDX-License-Identifier: GPL-3.0-or-later
"""Requests: what is understood, what is refused, and what costs the connection."""

from __future__ import annotations

import json
from typing import Any

import pytest
from ansible.module_utils.vouch.daemon.exchange import (
    ChallengeRequest,
    EvidenceRequest,
    Exchange,
    FetchRequest,
    HelloRequest,
    ListRequest,
    OrderRequest,
    Refusal,
    Request,
    WatchRequest,
    encode_answer,
    encode_error,
)
from ansible.module_utils.vouch.parse import frame

NONCE = bytes(range(32))
HELLO = {"version": 1, "id": "7", "request": "hello"}
EVIDENCE = {**HELLO, "request": "evidence", "nonce": NONCE.hex(), "pcrs": [0, 4, 14], "ima_offset": 0}


def body_of(members: Any) -> bytes:
    return json.dumps(members, sort_keys=True, separators=(",", ":")).encode()


def read(*bodies: bytes) -> list[Request]:
    exchange = Exchange()
    for body in bodies:
        exchange.receive(len(body).to_bytes(4, "big") + body)
    found = []
    while (request := exchange.next_request()) is not None:
        found.append(request)
    return found


def test_both_requests_are_understood() -> None:
    assert read(body_of(HELLO), body_of(EVIDENCE)) == [
        HelloRequest("7"),
        EvidenceRequest("7", NONCE, (0, 4, 14), 0),
    ]


def test_requests_about_guests_are_understood() -> None:
    plain = [body_of({**HELLO, "request": name}) for name in ("guest.challenge", "guest.list", "watch")]
    order = body_of({**HELLO, "request": "guest.order", "order": "e30="})
    assert read(*plain, order) == [ChallengeRequest("7"), ListRequest("7"), WatchRequest("7"), OrderRequest("7", b"{}")]


def test_a_fetch_names_guest_and_port() -> None:
    fetch = {**HELLO, "request": "guest.fetch", "guest": "web-1", "port": 65535}
    assert read(body_of(fetch)) == [FetchRequest("7", "web-1", 65535)]
    for change in (
        {"guest": "../x"},
        {"guest": ""},
        {"port": 0},
        {"port": 65536},
        {"port": True},
        {"port": "80"},
        {"path": ""},
    ):
        (refusal,) = read(body_of({**fetch, **change}))
        assert isinstance(refusal, Refusal)
        assert (refusal.code, refusal.fatal) == ("request.field", False), change


@pytest.mark.parametrize("order", [None, "", "e30", 7, "A" * 60_000])
def test_an_order_is_bytes_in_base64_and_short(order: object) -> None:
    (refusal,) = read(body_of({**HELLO, "request": "guest.order", "order": order}))
    assert isinstance(refusal, Refusal)
    assert (refusal.code, refusal.fatal) == ("request.field", False)


FATAL = {
    "not json": b"hello",
    "not an object": b"[1]",
    "empty object": b"{}",
    "not utf-8": b'{"id":"\xff"}',
    "member twice": b'{"id":"1","id":"1","request":"hello","version":1}',
    "not canonical": json.dumps(HELLO).encode(),
    "deep": b"[" * 60000,
    "another version": body_of({**HELLO, "version": 2}),
    "version true": body_of({**HELLO, "version": True}),
    "version missing": body_of({"id": "1", "request": "hello"}),
    "id missing": body_of({"version": 1, "request": "hello"}),
    "id too long": body_of({**HELLO, "id": "x" * 65}),
    "id with controls": body_of({**HELLO, "id": "a\nb"}),
    "id a number": body_of({**HELLO, "id": 1}),
    "float": body_of({**HELLO, "extra": 1.5}),
}


@pytest.mark.parametrize("fault", sorted(FATAL))
def test_what_cannot_be_understood_costs_the_connection(fault: str) -> None:
    found = read(FATAL[fault], body_of(HELLO))
    assert len(found) == 1, "nothing is read after it"
    (refusal,) = found
    assert isinstance(refusal, Refusal)
    assert (refusal.code, refusal.fatal) == ("request.malformed", True)


@pytest.mark.parametrize("length", [0, 64 * 1024 + 1, 100_000_000, 2**32 - 1])
def test_a_length_beyond_the_limit_is_refused_from_its_four_bytes(length: int) -> None:
    exchange = Exchange()
    exchange.receive(length.to_bytes(4, "big"))
    refusal = exchange.next_request()
    assert isinstance(refusal, Refusal)
    assert (refusal.code, refusal.fatal) == ("request.oversized", True)
    exchange.receive(b"x" * 1000)
    assert exchange.next_request() is None
    assert not exchange.partial


REFUSED = {
    "unknown request": ({"request": "shell"}, "request.unknown"),
    "unknown member": ({"extra": 1}, "request.field"),
    "nonce short": ({"nonce": "00" * 31}, "request.field"),
    "nonce upper case": ({"nonce": "AB" * 32}, "request.field"),
    "nonce a number": ({"nonce": 1}, "request.field"),
    "no pcrs": ({"pcrs": []}, "request.field"),
    "pcr twice": ({"pcrs": [1, 1]}, "request.field"),
    "pcrs descend": ({"pcrs": [2, 1]}, "request.field"),
    "pcr 24": ({"pcrs": [24]}, "request.field"),
    "pcr negative": ({"pcrs": [-1]}, "request.field"),
    "pcr true": ({"pcrs": [True]}, "request.field"),
    "pcr text": ({"pcrs": ["1"]}, "request.field"),
    "pcrs many": ({"pcrs": list(range(30))}, "request.field"),
    "pcrs nested": ({"pcrs": [[1]]}, "request.field"),
    "offset negative": ({"ima_offset": -1}, "request.field"),
    "offset text": ({"ima_offset": "0"}, "request.field"),
    "offset true": ({"ima_offset": True}, "request.field"),
}


@pytest.mark.parametrize("fault", sorted(REFUSED))
def test_a_bad_value_costs_only_the_request(fault: str) -> None:
    change, code = REFUSED[fault]
    refusal, after = read(body_of({**EVIDENCE, **change}), body_of(HELLO))
    assert refusal == Refusal("7", code, refusal.message if isinstance(refusal, Refusal) else "", False)
    assert after == HelloRequest("7")


@pytest.mark.parametrize("name", ["nonce", "pcrs", "ima_offset"])
def test_a_missing_value_costs_only_the_request(name: str) -> None:
    members = {key: value for key, value in EVIDENCE.items() if key != name}
    (refusal,) = read(body_of(members))
    assert isinstance(refusal, Refusal)
    assert (refusal.code, refusal.fatal) == ("request.field", False)


def test_answers_are_frames_of_canonical_json() -> None:
    raw = encode_answer("1", {"b": 1, "a": [None, "x"]})
    assert raw[4:] == b'{"id":"1","ok":true,"result":{"a":[null,"x"],"b":1},"version":1}'
    assert int.from_bytes(raw[:4], "big") == len(raw) - 4
    raw = encode_error("", "request.malformed", "no")
    assert json.loads(raw[4:]) == {
        "version": 1,
        "id": "",
        "ok": False,
        "error": {"code": "request.malformed", "message": "no"},
    }


def test_an_answer_too_long_becomes_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ansible.module_utils.vouch.daemon.exchange.MAX_RESPONSE_BYTES", 200)
    answer = json.loads(encode_answer("1", {"a": "x" * 300})[frame.HEADER_BYTES :])
    assert answer["error"]["code"] == "answer.too-large"
