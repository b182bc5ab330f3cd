# SPDX-License-Identifier: GPL-3.0-or-later
"""Without a browser its tests skip on a desk and fail in CI; one that cannot start says why."""

from __future__ import annotations

import pathlib

import pytest

from chromium import Chromium, need_chromium


def test_a_desk_without_a_browser_skips(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    monkeypatch.delenv("CI", raising=False)
    with pytest.raises(pytest.skip.Exception, match="chromium-driver"):
        need_chromium()


def test_ci_without_a_browser_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    monkeypatch.setenv("CI", "true")
    with pytest.raises(pytest.fail.Exception, match="chromium-driver"):
        need_chromium()


def test_a_driver_that_ends_at_once_is_told(monkeypatch: pytest.MonkeyPatch, tmp_path: pathlib.Path) -> None:
    driver = tmp_path / "chromedriver"
    driver.write_text("#!/bin/sh\necho broken; exit 1\n")
    driver.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    with pytest.raises(RuntimeError, match="broken"), Chromium(tmp_path):
        pytest.fail("it started")
