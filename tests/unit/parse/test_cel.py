# SPDX-License-Identifier: GPL-3.0-or-later
"""The VM verifier's log, line by line."""

from __future__ import annotations

import hashlib

import pytest
from ansible.module_utils.vouch.errors import ParseError
from ansible.module_utils.vouch.parse.canonical import dump_canonical
from ansible.module_utils.vouch.parse.cel import encode_record, parse_cel

CONTENT = {"event": "verifier.start", "version": "0.1.0", "time": 1, "reset_count": 2, "restart_count": 3}
DIGEST = hashlib.sha256(dump_canonical(CONTENT)).digest()
LINE = encode_record(0, 14, DIGEST, CONTENT)


def test_a_record_is_read_back() -> None:
    first, second = parse_cel(LINE + encode_record(1, 14, DIGEST, CONTENT))
    assert (first.recnum, first.pcr, first.digest, first.event) == (0, 14, DIGEST, "verifier.start")
    assert hashlib.sha256(first.content_bytes).digest() == DIGEST
    assert dict(first.content) == CONTENT
    assert second.offset_bytes == len(LINE)


def test_the_form_is_the_documented_one() -> None:
    assert (
        b'{"content":{"event":"verifier.start","reset_count":2,"restart_count":3,"time":1,"version":"0.1.0"},'
        b'"content_type":"vouch","digests":[{"digest":"' + DIGEST.hex().encode() + b'","hashAlg":"sha256"}],'
        b'"pcr":14,"recnum":0}\n'
    ) == LINE


def test_an_empty_log_has_no_records() -> None:
    assert parse_cel(b"") == ()


MALFORMED = {
    "not ended": LINE[:-1],
    "empty line": LINE + b"\n",
    "rubbish": b"\xff\n",
    "another spelling": LINE.replace(b":", b": ", 1),
    "unknown member": LINE.replace(b'"pcr":14', b'"pcr":14,"q":1'),
    "another type": LINE.replace(b'"vouch"', b'"pcclient_std"'),
    "another hash": LINE.replace(b'"sha256"', b'"sha1"'),
    "no digest": LINE.replace(LINE[LINE.index(b"[") : LINE.index(b"]") + 1], b"[]"),
    "two digests": LINE.replace(b"}]", b"}," + LINE[LINE.index(b"[") + 1 : LINE.index(b"]")] + b"]", 1),
    "register out of range": LINE.replace(b'"pcr":14', b'"pcr":24'),
    "negative number": LINE.replace(b'"recnum":0', b'"recnum":-1'),
    "no event": LINE.replace(b'"event":"verifier.start",', b""),
    "strange event": LINE.replace(b"verifier.start", b"Verifier Start"),
    "content is no object": LINE.replace(LINE[11 : LINE.index(b"}") + 1], b"[]"),
    "too deep": LINE.replace(b'"time":1', b'"time":' + b"[" * 40 + b"]" * 40),
}


@pytest.mark.parametrize("fault", sorted(MALFORMED))
def test_malformed(fault: str) -> None:
    with pytest.raises(ParseError) as caught:
        parse_cel(LINE + MALFORMED[fault])
    assert caught.value.offset_bytes >= len(LINE)
    assert "cel" in caught.value.field


def test_limits() -> None:
    with pytest.raises(ParseError) as caught:
        parse_cel(LINE * 3, max_records=2)
    assert caught.value.code == "parse.too-large"
    with pytest.raises(ParseError) as caught:
        parse_cel(b" " * (5 << 20))
    assert caught.value.code == "parse.too-large"
