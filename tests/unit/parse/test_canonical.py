# SPDX-License-Identifier: GPL-3.0-or-later
"""Strict JSON, one table of refusals, and canonical output."""

from __future__ import annotations

import pytest
from ansible.module_utils.vouch.errors import ParseError, UsageError
from ansible.module_utils.vouch.parse.canonical import dump_canonical, load_canonical, load_json

LIMIT = 64 * 1024 * 1024

REFUSED = {
    "empty": (b"", "parse.json.syntax"),
    "cut": (b'{"a":', "parse.json.syntax"),
    "two documents": (b"{}{}", "parse.json.syntax"),
    "trailing comma": (b"[1,]", "parse.json.syntax"),
    "unterminated string": (b'["a', "parse.json.syntax"),
    "control character": (b'["\n"]', "parse.json.syntax"),
    "comment": (b"[] // x", "parse.json.syntax"),
    "single quotes": (b"['a']", "parse.json.syntax"),
    "leading zero": (b"[01]", "parse.json.syntax"),
    "member twice": (b'{"a":1,"a":1}', "parse.json.duplicate"),
    "member twice by escape": (b'{"a":1,"\\u0061":1}', "parse.json.duplicate"),
    "member twice deeper": (b'[{"b":{"a":1,"a":2}}]', "parse.json.duplicate"),
    "byte order mark": (b"\xef\xbb\xbf{}", "parse.json.encoding"),
    "utf-16": ("{}".encode("utf-16"), "parse.json.encoding"),
    "latin-1": (b'["\xe4"]', "parse.json.encoding"),
    "surrogate in utf-8": (b'["\xed\xa0\x80"]', "parse.json.encoding"),
    "overlong utf-8": (b'["\xc0\xaf"]', "parse.json.encoding"),
    "lone surrogate": (b'["\\ud800"]', "parse.json.surrogate"),
    "lone surrogate as name": (b'{"\\udc00":1}', "parse.json.surrogate"),
    "NaN": (b"[NaN]", "parse.json.number"),
    "infinity": (b"[-Infinity]", "parse.json.number"),
    "fraction": (b"[1.0]", "parse.json.number"),
    "exponent": (b"[1e3]", "parse.json.number"),
    "large integer": (b"[9007199254740992]", "parse.json.integer"),
    "huge integer": (b"[" + b"9" * 10**6 + b"]", "parse.json.integer"),
    "nested": (b"[" * 33 + b"]" * 33, "parse.json.depth"),
    "nested objects": (b'{"a":' * 40 + b"1" + b"}" * 40, "parse.json.depth"),
    "depth bomb": (b"[" * 10**7, "parse.json.depth"),
    "depth bomb of objects": (b'{"":' * 10**6, "parse.json.depth"),
    "bomb of small lists": (b"[" + b"[]," * (1 << 20) + b"[]]", "parse.too-many"),
    "bomb of numbers": (b"[" + b"1," * (1 << 20) + b"1]", "parse.too-many"),
    "bomb of strings": (b"[" * 32 + b'{"a":' + b'""' * (5 << 20), "parse.json.depth"),
    "bomb of strings and shallow lists": (b"[[" + b"[]" * 40 + b'""' * (5 << 20), "parse.too-many"),
    "quotes bomb": (b'["' + b'\\"' * 10**6, "parse.json.syntax"),
}


@pytest.mark.parametrize("fault", REFUSED)
def test_refused(fault: str) -> None:
    data, code = REFUSED[fault]
    with pytest.raises(ParseError) as error:
        load_json(data, limit_bytes=LIMIT)
    assert error.value.code == code


def test_too_large_is_refused_before_reading() -> None:
    with pytest.raises(ParseError) as error:
        load_json(b"[]", limit_bytes=1)
    assert error.value.code == "parse.too-large"


def test_brackets_in_strings_are_no_depth() -> None:
    assert load_json(b'["' + b"[" * 1000 + b'\\"{"]', limit_bytes=LIMIT) == ["[" * 1000 + '"{']
    assert load_json(b"[" + b"[]," * 100 + b"[]]", limit_bytes=LIMIT) == [[]] * 101


def test_depth_is_what_it_says() -> None:
    assert load_json(b"[[1]]", limit_bytes=LIMIT, max_depth=2) == [[1]]
    with pytest.raises(ParseError):
        load_json(b"[[1]]", limit_bytes=LIMIT, max_depth=1)


def test_foreign_formats_may_have_floats() -> None:
    assert load_json(b"[1.5,1e3]", limit_bytes=LIMIT, allow_floats=True) == [1.5, 1000.0]
    for data in (b"[1e999]", b"[" + b"1" * 99 + b".5]", b"[NaN]"):
        with pytest.raises(ParseError):
            load_json(data, limit_bytes=LIMIT, allow_floats=True)


def test_written_as_rfc_8785_says() -> None:
    # RFC 8785, 3.2.3: sorted by UTF-16 code units, so the emoji (a surrogate pair) stands before U+FB33.
    names = ["\u20ac", "\r", "\ufb33", "1", "\U0001f600", "\u0080", "\u00f6"]
    found = dump_canonical(dict.fromkeys(names, 0)).decode()
    assert found == '{"\\r":0,"1":0,"\u0080":0,"\u00f6":0,"\u20ac":0,"\U0001f600":0,"\ufb33":0}'
    # 3.2.2.2: escapes.
    assert dump_canonical('\x00\x08\t\n\x0c\r\x1f\x7f"\\/') == b'"\\u0000\\b\\t\\n\\f\\r\\u001f\x7f\\"\\\\/"'
    assert dump_canonical([None, True, False, -1, 2**53 - 1, (1,)]) == b"[null,true,false,-1,9007199254740991,[1]]"


@pytest.mark.parametrize("value", [1.0, 2**53, {1: 2}, b"x", "\ud800", {"\ud800": 1}, {1, 2}, object()])
def test_not_written(value: object) -> None:
    with pytest.raises(UsageError):
        dump_canonical(value)


def test_not_written_too_deep() -> None:
    value: list[object] = []
    for _ in range(40):
        value = [value]
    with pytest.raises(UsageError):
        dump_canonical(value)


@pytest.mark.parametrize("data", [b"[1, 2]", b'{"b":1,"a":1}', b'["\\u0041"]', b"[]\n", b"[-0]", b'["\\/"]'])
def test_another_spelling_is_not_canonical(data: bytes) -> None:
    load_json(data, limit_bytes=LIMIT)
    with pytest.raises(ParseError) as error:
        load_canonical(data, limit_bytes=LIMIT)
    assert error.value.code == "parse.json.not-canonical"
