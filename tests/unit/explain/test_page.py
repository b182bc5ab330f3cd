# SPDX-License-Identifier: GPL-3.0-or-later
"""The page is whole, self-contained and escaped; the text says the same."""

from __future__ import annotations

import html.parser

from ansible.module_utils.vouch.explain.cut import Cure
from ansible.module_utils.vouch.explain.page import page
from ansible.module_utils.vouch.explain.text import cure_lines, report_lines

from sim.conflicts import READ, failed, hostile, passed

VOID = {"meta"}
CURES = (
    Cure(kind="trust", subject="user_t", object="", class_name="", weight=23, severity="code", conflicts=900),
    Cure(kind="split", subject="", object="etc_t", class_name="file", weight=5, severity="data", conflicts=56),
)


class Reader(html.parser.HTMLParser):
    """Notes the tags, and that each is closed."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.seen: set[str] = set()
        self.links: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.seen.add(tag)
        self.links += [f"{name}={value}" for name, value in attrs if name in ("src", "href", "onload")]
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def test_page_is_well_formed_and_alone() -> None:
    reader = Reader()
    text = page(failed(), CURES)
    reader.feed(text)
    assert reader.open == []
    assert reader.links == []
    assert "script" not in reader.seen
    assert "default-src 'none'" in text
    assert "prefers-color-scheme" in text
    for word in ("500,000", "user_tmp_t:file", "user_t", "split etc_t:file", READ.sentence()):
        assert word in text


def test_hostile_names_stay_text() -> None:
    reader = Reader()
    text = page(failed(hostile()))
    reader.feed(text)
    assert "script" not in reader.seen
    assert "<script" not in text
    assert "\x1b" not in text


def test_a_pass_is_short() -> None:
    assert 'class="pass"' in page(passed())
    lines = list(report_lines(passed(), limit=10))
    assert lines[-1].startswith("verdict   pass: 0 conflicts")


def test_text_says_the_same() -> None:
    text = "\n".join(report_lines(failed(), limit=10))
    for word in (
        "FAIL: 500,000 conflicts",
        "type sulogin_t is permissive",
        "498,000  data",
        "by object (2 of 14,330)",
        "only where allow_x && !y",
        "499,997 more conflicts",
        "filter sshd_t sshd_t:udp_socket",
    ):
        assert word in text


def test_the_limit_holds() -> None:
    short = list(report_lines(failed(), limit=1))
    assert sum(line.startswith(("C1 ", "C2 ")) for line in short) == 1
    assert "499,999 more conflicts not told one by one" in short[-1]


def test_cures_as_text() -> None:
    text = "\n".join(cure_lines(CURES, limit=9))
    for word in ("2 changes, weight 28", "trust user_t", "split etc_t:file", "check again"):
        assert word in text
    assert list(cure_lines((), limit=9)) == ["nothing to clear"]
    many = "\n".join(cure_lines(CURES[1:] * 5, limit=2))
    assert "168  3 more changes (weight 15)" in many
