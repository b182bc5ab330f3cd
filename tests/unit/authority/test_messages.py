# SPDX-License-Identifier: GPL-3.0-or-later
"""Requests and answers of the port authority: what is read, what is refused."""

from __future__ import annotations

from typing import Any

import pytest
from ansible.module_utils.vouch.authority.messages import (
    AnswerError,
    encode_question,
    encode_refusal,
    encode_result,
    read_address,
    read_answer,
    read_evidence_question,
    read_question,
)
from ansible.module_utils.vouch.errors import ParseError, UnreachableError
from ansible.module_utils.vouch.parse.canonical import dump_canonical
from ansible.module_utils.vouch.parse.fields import Fields
from ansible.module_utils.vouch.parse.frame import HEADER_BYTES
from hypothesis import given
from hypothesis import strategies as st

GOOD: dict[str, Any] = {"nonce": "00" * 32, "pcrs": [0, 10, 14], "ima_offset": 7}


def body(frame: bytes) -> bytes:
    return frame[HEADER_BYTES:]


def test_a_question_is_read_back() -> None:
    question = read_question(body(encode_question("7", "peer.evidence", GOOD)))
    assert (question.id, question.kind) == ("7", "peer.evidence")
    assert read_evidence_question(question.fields) == (bytes(32), (0, 10, 14), 7)


@pytest.mark.parametrize(
    "change",
    [
        {"nonce": "00"},
        {"nonce": "AA" * 32},
        {"pcrs": []},
        {"pcrs": [1, 1]},
        {"pcrs": [2, 1]},
        {"pcrs": [24]},
        {"pcrs": [True]},
        {"pcrs": list(range(25))},
        {"ima_offset": -1},
        {"ima_offset": None},
        {"more": 1},
    ],
)
def test_evidence_questions_that_are_none(change: dict[str, Any]) -> None:
    with pytest.raises(ParseError):
        read_evidence_question(Fields({**GOOD, **change}, "request"))


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"{}",
        b'{"id":"1", "request":"list","version":1}',
        b'{"id":"1","request":"list","version":2}',
        b'{"id":"","request":"list","version":1}',
        b'{"id":"a b","request":"list","version":1}',
        b'{"id":"1","request":1,"version":1}',
        b'{"a":[[[[1]]]],"id":"1","request":"list","version":1}',
    ],
)
def test_questions_that_are_none(data: bytes) -> None:
    with pytest.raises(ParseError):
        read_question(data)


@pytest.mark.parametrize(
    ("text", "good"),
    [
        ("fd00::1", True),
        ("fd00:0::1", False),
        ("FD00::1", False),
        ("fe80::1%eth0", False),
        ("192.0.2.1", False),
        ("", False),
        ("::ffff:c000:201", True),
    ],
)
def test_an_address_has_one_spelling(text: str, good: bool) -> None:
    fields = Fields({"address": text}, "request")
    if good:
        assert read_address(fields, "address") == text
        return
    with pytest.raises(ParseError):
        read_address(fields, "address")


def test_answers() -> None:
    assert read_answer(body(encode_result("1", {"up": True})), "1").rest() == {"up": True}
    with pytest.raises(AnswerError) as caught:
        read_answer(body(encode_refusal("1", "peer.busy", "later\n")), "1")
    assert (caught.value.code, "\n" in caught.value.message) == ("peer.busy", False)


@pytest.mark.parametrize(
    "data",
    [
        b"x",
        b"[]",
        body(encode_result("2", {})),
        dump_canonical({"version": 1, "id": "1", "ok": True, "result": 1}),
        dump_canonical({"version": 1, "id": "1", "ok": True, "result": {}, "more": 1}),
        dump_canonical({"version": 1, "id": "1", "ok": False, "error": {"code": "A code", "message": ""}}),
        dump_canonical({"version": 1, "id": "1", "ok": False}),
    ],
)
def test_answers_that_are_none(data: bytes) -> None:
    with pytest.raises(UnreachableError) as caught:
        read_answer(data, "1")
    assert caught.value.code == "authority.answer"


def test_an_answer_that_would_be_too_long_is_a_refusal() -> None:
    with pytest.raises(AnswerError) as caught:
        read_answer(body(encode_result("1", {"paper": "x" * (64 << 20)})), "1")
    assert caught.value.code == "answer.too-large"


@given(st.binary(max_size=120))
def test_any_bytes_are_read_or_refused(data: bytes) -> None:
    for read in (read_question, lambda raw: read_answer(raw, "1")):
        try:
            read(data)
        except (ParseError, UnreachableError):
            continue
