# SPDX-License-Identifier: GPL-3.0-or-later
"""Frames: any cutting of the stream gives the same bodies; a bad length is found at once."""

from __future__ import annotations

import pytest
from ansible.module_utils.vouch.errors import ParseError, UsageError
from ansible.module_utils.vouch.parse.frame import FrameReader, encode_frame

LIMIT_BYTES = 100


def test_bodies_come_out_in_order_however_the_stream_is_cut() -> None:
    bodies = [b"a", b"bc" * 20, b"d" * LIMIT_BYTES]
    stream = b"".join(encode_frame(body, limit_bytes=LIMIT_BYTES) for body in bodies)
    for step in (1, 3, 7, len(stream)):
        reader, found = FrameReader(limit_bytes=LIMIT_BYTES), []
        for at in range(0, len(stream), step):
            reader.feed(stream[at : at + step])
            while (body := reader.next_body()) is not None:
                found.append(body)
        assert found == bodies
        assert not reader.partial


@pytest.mark.parametrize("length", [0, LIMIT_BYTES + 1, 2**32 - 1])
def test_a_bad_length_is_refused_before_its_body_arrives(length: int) -> None:
    reader = FrameReader(limit_bytes=LIMIT_BYTES)
    reader.feed(length.to_bytes(4, "big"))
    with pytest.raises(ParseError) as caught:
        reader.next_body()
    assert caught.value.code == "frame.length"


def test_the_error_names_the_place_in_the_stream() -> None:
    reader = FrameReader(limit_bytes=LIMIT_BYTES)
    reader.feed(encode_frame(b"fine", limit_bytes=LIMIT_BYTES) + b"\xff\xff\xff\xff")
    assert reader.next_body() == b"fine"
    with pytest.raises(ParseError) as caught:
        reader.next_body()
    assert caught.value.offset_bytes == 8


@pytest.mark.parametrize("body", [b"", b"x" * (LIMIT_BYTES + 1)])
def test_we_do_not_write_what_we_would_not_read(body: bytes) -> None:
    with pytest.raises(UsageError):
        encode_frame(body, limit_bytes=LIMIT_BYTES)
