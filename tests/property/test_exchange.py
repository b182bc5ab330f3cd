# SPDX-License-Identifier: GPL-3.0-or-later
"""Any bytes in any pieces: requests or refusals, the same for every cutting, and never another exception."""

from __future__ import annotations

import itertools
import json

from ansible.module_utils.vouch.daemon.exchange import EvidenceRequest, Exchange, HelloRequest, Refusal, Request
from hypothesis import given, settings
from hypothesis import strategies as st

from thorough import examples

PCRS = st.lists(st.integers(0, 23), min_size=1, unique=True).map(sorted)
IDS = st.text("abcXYZ019._:-", min_size=1, max_size=64)
HELLO = st.builds(lambda ident: {"version": 1, "id": ident, "request": "hello"}, IDS)
EVIDENCE = st.builds(
    lambda ident, nonce, pcrs, offset: {
        "version": 1,
        "id": ident,
        "request": "evidence",
        "nonce": nonce.hex(),
        "pcrs": pcrs,
        "ima_offset": offset,
    },
    IDS,
    st.binary(min_size=32, max_size=32),
    PCRS,
    st.integers(0, 2**53 - 1),
)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**60), 2**60) | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=10), inner, max_size=4),
    max_leaves=12,
)


def framed(body: bytes) -> bytes:
    return len(body).to_bytes(4, "big") + body


def body_of(members: object) -> bytes:
    return json.dumps(members, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode("utf-8", "replace")


def read(pieces: list[bytes]) -> list[Request]:
    exchange, found = Exchange(), []
    for piece in pieces:
        exchange.receive(piece)
        while (request := exchange.next_request()) is not None:
            found.append(request)
    return found


def cut(stream: bytes, places: list[int]) -> list[bytes]:
    ends = sorted({place % (len(stream) + 1) for place in places} | {0, len(stream)})
    return [stream[start:end] for start, end in itertools.pairwise(ends)]


@settings(max_examples=examples(50))
@given(st.lists(HELLO | EVIDENCE, max_size=8), st.lists(st.integers(0, 10_000), max_size=12))
def test_good_requests_survive_every_cutting(requests: list[dict[str, object]], places: list[int]) -> None:
    stream = b"".join(framed(body_of(request)) for request in requests)
    found = read(cut(stream, places))
    assert [request.id for request in found] == [request["id"] for request in requests]
    assert all(isinstance(request, HelloRequest | EvidenceRequest) for request in found)


@given(st.binary(max_size=400), st.lists(st.integers(0, 400), max_size=6))
def test_any_bytes_end_in_refusals(stream: bytes, places: list[int]) -> None:
    found = read(cut(stream, places))
    assert found == read([stream])
    assert all(isinstance(request, Refusal) for request in found)
    assert [request.fatal for request in found if isinstance(request, Refusal)] in ([], [True])


@settings(max_examples=examples(50))
@given(JSON)
def test_any_json_is_a_refusal_or_a_request(value: object) -> None:
    (found,) = read([framed(body_of(value))])
    assert isinstance(found, Refusal)


@given(EVIDENCE, st.sampled_from(["nonce", "pcrs", "ima_offset", "id", "request", "version", "more"]), JSON)
def test_one_wrong_value_is_never_taken_for_a_request(members: dict[str, object], name: str, value: object) -> None:
    (good,) = read([framed(body_of(members))])
    changed = {**members, name: value}
    (found,) = read([framed(body_of(changed))])
    if isinstance(found, EvidenceRequest):
        # What is understood says exactly what stood there.
        assert isinstance(good, EvidenceRequest)
        assert found == good._replace(
            id=changed["id"],
            pcrs=tuple(changed["pcrs"]),
            ima_offset=changed["ima_offset"],  # type: ignore[arg-type]
        )
