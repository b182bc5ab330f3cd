# SPDX-License-Identifier: GPL-3.0-or-later
"""The distcc protocol: what real programs say is read, in any pieces; everything else is refused by name."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest
from ansible.module_utils.vouch.errors import ParseError
from ansible.module_utils.vouch.parse import distcc
from ansible.module_utils.vouch.parse.distcc import (
    AnswerReader,
    DistccAnswer,
    DistccRequest,
    RequestReader,
    encode_answer,
    encode_request,
)

NONCE = bytes(range(32))
ARGUMENTS = ("gcc", "-c", '-DNAME="ä b"', "", "a.c", "-o", "a.o")
# Written out by hand: the writer is held against it as well.
REQUEST = (
    b'DIST00000001ARGC00000007ARGV00000003gccARGV00000002-cARGV0000000d-DNAME="\xc3\xa4 b"'
    b"ARGV00000000ARGV00000003a.cARGV00000002-oARGV00000003a.oDOTI00000008int a;\n\n"
)
NOTARISED = b"NOTA00000020" + NONCE + REQUEST
ANSWER = b"DONE00000001STAT00000000SERR00000005warn\nSOUT00000000DOTO00000004\x7fELF"
WITH_STATEMENT = ANSWER + b"WKEY00000003keyPROV0000000astatement!"
FAILED = b"DONE00000001STAT00000100SERR00000003badSOUT00000000DOTO00000000"


def read_request(data: bytes) -> DistccRequest:
    """Return the request of its bytes."""
    reader = RequestReader()
    reader.feed(data)
    return reader.finish()


def read_answer(data: bytes, *, notarised: bool = False) -> DistccAnswer:
    """Return the answer of its bytes."""
    reader = AnswerReader(notarised=notarised)
    reader.feed(data)
    return reader.finish()


def refused(data: bytes, read: Any = read_request) -> str:
    """Return the code with which ``data`` is refused."""
    with pytest.raises(ParseError) as caught:
        read(data)
    return caught.value.code


def test_requests() -> None:
    plain = DistccRequest(nonce=None, arguments=ARGUMENTS, source=b"int a;\n\n")
    assert read_request(REQUEST) == plain
    assert read_request(NOTARISED) == dataclasses.replace(plain, nonce=NONCE)
    assert encode_request(ARGUMENTS, plain.source) == REQUEST
    assert encode_request(ARGUMENTS, plain.source, NONCE) == NOTARISED


def test_answers() -> None:
    plain = DistccAnswer(status=0, stderr=b"warn\n", stdout=b"", object=b"\x7fELF")
    stated = dataclasses.replace(plain, endorsement=b"key", statement=b"statement!")
    failed = DistccAnswer(status=256, stderr=b"bad", stdout=b"", object=b"")
    for data, answer, notarised in ((ANSWER, plain, False), (WITH_STATEMENT, stated, True), (FAILED, failed, False)):
        assert read_answer(data, notarised=notarised) == answer
        assert encode_answer(answer) == data


@pytest.mark.parametrize("size", [1, 2, 11, 12, 13, 40])
def test_pieces_make_the_whole(size: int) -> None:
    reader = RequestReader()
    assert not reader.partial
    for at in range(0, len(NOTARISED), size):
        assert reader.message is None
        reader.feed(NOTARISED[at : at + size])
        assert reader.partial is (reader.message is None)
    assert reader.finish() == read_request(NOTARISED)


@pytest.mark.parametrize("cut", range(0, len(NOTARISED), 5))
def test_what_ends_early(cut: int) -> None:
    assert refused(NOTARISED[:cut]) == "distcc.truncated"


def argv(*words: bytes, count: int | None = None) -> bytes:
    """Return a request of raw arguments."""
    named = b"".join(b"ARGV%08x%b" % (len(word), word) for word in words)
    return b"DIST00000001ARGC%08x" % (len(words) if count is None else count) + named + b"DOTI00000000"


REQUEST_FAULTS = {
    "compressed": (REQUEST.replace(b"DIST00000001", b"DIST00000002"), "distcc.version"),
    "pump": (REQUEST.replace(b"DIST00000001", b"DIST00000003"), "distcc.version"),
    "version 0": (REQUEST.replace(b"DIST00000001", b"DIST00000000"), "distcc.version"),
    "another token": (REQUEST.replace(b"DOTI", b"CDIR"), "distcc.token"),
    "an answer": (ANSWER, "distcc.token"),
    "http": (b"GET / HTTP/1.1\r\n\r\n", "distcc.token"),
    "tls": (b"\x16\x03\x01" + bytes(40), "distcc.token"),
    "no number": (b"DIST0000000x", "distcc.number"),
    "an upper-case number": (REQUEST.replace(b"0000000d", b"0000000D"), "distcc.number"),
    "a signed number": (REQUEST.replace(b"DIST00000001", b"DIST+0000001"), "distcc.number"),
    "a short nonce": (b"NOTA0000001f" + NONCE[1:] + REQUEST, "distcc.nonce"),
    "two nonces": (b"NOTA00000020" + NONCE + NOTARISED, "distcc.token"),
    "a nonce too late": (REQUEST[:12] + b"NOTA00000020" + NONCE + REQUEST[12:], "distcc.token"),
    "no argument": (argv(), "distcc.arguments"),
    "no name": (argv(b"", b"-c"), "distcc.arguments"),
    "NUL": (argv(b"gcc", b"-D\0"), "distcc.arguments"),
    "Latin-1": (argv(b"gcc", b"\xe4.c"), "distcc.arguments"),
    "fewer arguments": (argv(b"gcc", count=2), "distcc.token"),
    "more arguments": (argv(b"gcc", b"-c", count=1), "distcc.token"),
    "more": (REQUEST + b"x", "distcc.trailing"),
    # A length is refused by its digits: nobody has to send that much.
    "too many arguments": (b"DIST00000001ARGC00000401", "distcc.arguments"),
    "a long argument": (b"DIST00000001ARGC00000001ARGV00001001", "distcc.too-large"),
    "many long arguments": (argv(*[b"x" * 4096] * 129), "distcc.too-large"),
    "a long source": (argv(b"gcc")[:-8] + b"04000001", "distcc.too-large"),
}


@pytest.mark.parametrize("fault", REQUEST_FAULTS)
def test_faults_of_requests(fault: str) -> None:
    data, code = REQUEST_FAULTS[fault]
    assert refused(data) == code


ANSWER_FAULTS = {
    "another version": (ANSWER.replace(b"DONE00000001", b"DONE00000002"), "distcc.version"),
    "no wait status": (ANSWER.replace(b"STAT00000000", b"STAT00010000"), "distcc.status"),
    "failed with an object": (ANSWER.replace(b"STAT00000000", b"STAT00000100"), "distcc.status"),
    "another order": (ANSWER.replace(b"SERR", b"SOUT"), "distcc.token"),
    "long messages": (ANSWER.replace(b"SERR00000005", b"SERR00800001"), "distcc.too-large"),
    "a long object": (ANSWER.replace(b"DOTO00000004", b"DOTO04000001"), "distcc.too-large"),
    "a statement nobody asked for": (WITH_STATEMENT, "distcc.trailing"),
}


@pytest.mark.parametrize("fault", ANSWER_FAULTS)
def test_faults_of_answers(fault: str) -> None:
    data, code = ANSWER_FAULTS[fault]
    assert refused(data, read_answer) == code


@pytest.mark.parametrize(
    ("data", "code"),
    [
        (ANSWER, "distcc.truncated"),
        (WITH_STATEMENT.replace(b"WKEY", b"PROV"), "distcc.token"),
        (WITH_STATEMENT.replace(b"WKEY00000003", b"WKEY00004001"), "distcc.too-large"),
        (WITH_STATEMENT.replace(b"PROV0000000a", b"PROV00800001"), "distcc.too-large"),
        (WITH_STATEMENT + b"x", "distcc.trailing"),
    ],
)
def test_faults_of_statements(data: bytes, code: str) -> None:
    assert refused(data, lambda found: read_answer(found, notarised=True)) == code


def test_an_error_says_where() -> None:
    with pytest.raises(ParseError) as caught:
        read_request(REQUEST.replace(b"DOTI", b"CDIR"))
    assert caught.value.field == "distcc.DOTI"
    assert caught.value.offset_bytes == REQUEST.index(b"DOTI")


def test_nothing_follows_a_whole_message() -> None:
    reader = RequestReader()
    reader.feed(REQUEST)
    reader.feed(b"")
    with pytest.raises(ParseError) as caught:
        reader.feed(b"D")
    assert caught.value.code == "distcc.trailing"


def test_bounds_are_those_of_the_document() -> None:
    limits = (distcc.MAX_ARGUMENTS, distcc.MAX_ARGUMENT_BYTES, distcc.MAX_SOURCE_BYTES, distcc.MAX_OBJECT_BYTES)
    assert limits == (1024, 4096, 64 << 20, 64 << 20)
    full = argv(b"g", *[b"x" * 511] * 1023)
    assert len(read_request(full).arguments) == 1024
