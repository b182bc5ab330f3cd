# SPDX-License-Identifier: GPL-3.0-or-later
"""Progress lines: short, whole, and never in the way."""

from __future__ import annotations

import pathlib
import re

from ansible.module_utils.vouch.port.progress import MAX_LINE_CHARS, VARIABLE, report


def test_lines_are_appended(tmp_path: pathlib.Path) -> None:
    path = tmp_path / "progress"
    for text in ("one", "two\nlines\x1b[2J"):
        report(text, {VARIABLE: str(path)})
    lines = path.read_text().splitlines()
    assert re.fullmatch(r"\d\d:\d\d:\d\d one", lines[0])
    assert lines[1].endswith("two lines [2J")
    assert path.stat().st_mode & 0o077 == 0


def test_long_text_is_cut(tmp_path: pathlib.Path) -> None:
    report("x" * 1000, {VARIABLE: str(tmp_path / "progress")})
    assert len((tmp_path / "progress").read_text()) == len("HH:MM:SS \n") + MAX_LINE_CHARS


def test_nobody_watches_or_the_place_is_gone(tmp_path: pathlib.Path) -> None:
    report("x", {})
    report("x", {VARIABLE: str(tmp_path / "none" / "progress")})
    assert list(tmp_path.iterdir()) == []
