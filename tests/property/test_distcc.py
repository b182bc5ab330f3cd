# SPDX-License-Identifier: GPL-3.0-or-later
"""distcc messages: what is written is read in any pieces, and no change of a byte goes without notice."""

from __future__ import annotations

import dataclasses
import itertools

from ansible.module_utils.vouch.errors import ParseError
from ansible.module_utils.vouch.parse.distcc import (
    AnswerReader,
    DistccAnswer,
    DistccRequest,
    RequestReader,
    encode_answer,
    encode_request,
)
from hypothesis import given, settings
from hypothesis import strategies as st

from thorough import examples

WORDS = st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=40)
REQUESTS = st.builds(
    DistccRequest,
    nonce=st.none() | st.binary(min_size=32, max_size=32),
    arguments=st.tuples(st.text(st.characters(codec="ascii", min_codepoint=33), min_size=1, max_size=9), WORDS, WORDS),
    source=st.binary(max_size=200),
)
ANSWERS = st.builds(
    DistccAnswer,
    status=st.sampled_from((0, 0x100, 0x0B, 0xFF00)),
    stderr=st.binary(max_size=50),
    stdout=st.binary(max_size=50),
    object=st.binary(max_size=200),
    endorsement=st.binary(max_size=30),
    statement=st.binary(max_size=30),
).map(lambda answer: dataclasses.replace(answer, object=b"") if answer.status else answer)


def fed(reader: RequestReader | AnswerReader, data: bytes, cuts: list[int]) -> DistccRequest | DistccAnswer:
    """Return the message that ``reader`` makes of ``data``, cut somewhere."""
    places = sorted({0, len(data), *(cut % (len(data) + 1) for cut in cuts)})
    for begin, end in itertools.pairwise(places):
        reader.feed(data[begin:end])
    return reader.finish()


CUTS = st.lists(st.integers(0, 1000), max_size=8)


@settings(max_examples=examples(300), deadline=None)
@given(REQUESTS, CUTS)
def test_requests(request: DistccRequest, cuts: list[int]) -> None:
    data = encode_request(request.arguments, request.source, request.nonce)
    assert fed(RequestReader(), data, cuts) == request


@settings(max_examples=examples(300), deadline=None)
@given(ANSWERS, CUTS)
def test_answers(answer: DistccAnswer, cuts: list[int]) -> None:
    assert fed(AnswerReader(notarised=True), encode_answer(answer), cuts) == answer


@settings(max_examples=examples(300), deadline=None)
@given(REQUESTS, st.integers(0, 10_000), st.integers(1, 255))
def test_another_byte_is_another_request(request: DistccRequest, at: int, flip: int) -> None:
    data = bytearray(encode_request(request.arguments, request.source, request.nonce))
    data[at % len(data)] ^= flip
    try:
        found = fed(RequestReader(), bytes(data), [])
    except ParseError:
        return
    assert isinstance(found, DistccRequest)
    assert found != request
    assert encode_request(found.arguments, found.source, found.nonce) == bytes(data)
