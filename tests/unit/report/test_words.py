# SPDX-License-Identifier: GPL-3.0-or-later
"""Text that is safe to look at: nothing in it acts, nothing is lost without a word."""

from __future__ import annotations

import unicodedata

import pytest
from ansible.module_utils.vouch.report.words import brief, fingerprint, inert, machine_moment, many, moment, span
from hypothesis import example, given
from hypothesis import strategies as st

from sim.attester import ssh_key
from sim.fleet import HOSTILE


@pytest.mark.parametrize(
    ("given_text", "made"),
    [
        ("plain text", "plain text"),
        ("Zürich 東京 ñ", "Zürich 東京 ñ"),
        ("a\x1b[31m", "a\\x1b[31m"),
        ("a\nb\tc\x00", "a\\x0ab\\x09c\\x00"),
        ("abc\u202egnp", "abc\\u202egnp"),
        ("\u2066\u2069\u200b\ufeff", "\\u2066\\u2069\\u200b\\ufeff"),
        ("\u3164\u2800\u115f", "\\u3164\\u2800\\u115f"),
        ("a\u00a0b", "a\\xa0b"),
        ("\ud800", "\\ud800"),
        ("\U000e0041", "\\U000e0041"),
        ("a\ufe0f", "a\\ufe0f"),
        ("e\u0301", "e\u0301"),
        ("\u0301e", "\\u0301e"),
        ("e\u0301\u0301\u0301", "e\u0301\u0301\\u0301"),
    ],
)
def test_only_what_stands_for_itself_is_left(given_text: str, made: str) -> None:
    assert inert(given_text) == made


@pytest.mark.parametrize(
    ("text", "most", "made"),
    [
        ("abcdef", 6, "abcdef"),
        ("abcdefg", 6, "abcde…"),
        ("\u202e\u202e", 8, "\\u202e…"),
        ("a" * 1000, 60, f"{'a' * 48}… (952 more)"),
    ],
)
def test_what_is_cut_is_counted(text: str, most: int, made: str) -> None:
    assert inert(text, most) == made
    assert len(made) <= most


@given(st.text(max_size=300), st.integers(12, 200))
@example(HOSTILE[7], 80)
@example(HOSTILE[11], 80)
def test_any_text_becomes_inert(text: str, most: int) -> None:
    told = inert(text, most)
    assert len(told) <= most
    assert all(char.isprintable() and unicodedata.category(char) not in ("Cf", "Cc", "Cs", "Co", "Cn") for char in told)
    assert inert(told, most) == told


@pytest.mark.parametrize(
    ("seconds", "text", "machine"),
    [
        (0, "1970-01-01 00:00:00Z", "1970-01-01T00:00:00Z"),
        (1_790_000_000, "2026-09-21 14:13:20Z", "2026-09-21T14:13:20Z"),
        (-1, "second -1", ""),
        (2**80, "second 12089258196146291747061…", ""),
        (253_402_300_799, "9999-12-31 23:59:59Z", "9999-12-31T23:59:59Z"),
        (253_402_300_800, "second 253402300800", ""),
    ],
)
def test_times_are_told_or_shown(seconds: int, text: str, machine: str) -> None:
    assert moment(seconds) == text
    assert machine_moment(seconds) == machine


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0, "0 s"), (59, "59 s"), (3600, "1 h"), (7505, "2 h 5 min"), (90061, "1 d 1 h"), (-61, "-1 min 1 s")],
)
def test_lengths_of_time(seconds: int, text: str) -> None:
    assert span(seconds) == text


def test_short_forms() -> None:
    assert brief(bytes(32)) == "000000000000…"
    assert brief(b"\x01\x02") == "0102"
    assert many(1, "host") == "1 host"
    assert many(1024, "host") == "1,024 hosts"
    assert many(0, "entry", "entries") == "0 entries"
    assert fingerprint(ssh_key(1)).startswith("SHA256:")
    assert len(fingerprint(ssh_key(1))) == 50


@pytest.mark.parametrize("text", ["", "ssh-ed25519", "ssh-ed25519 !!!", "\x1b"])
def test_what_is_no_key_has_no_fingerprint(text: str) -> None:
    assert fingerprint(text) == inert(text)
