# SPDX-License-Identifier: GPL-3.0-or-later
"""The callback: which line it shows while a task runs, and the table at the end."""

from __future__ import annotations

import importlib.util
import os
import pathlib
from types import ModuleType

import pytest

ROOT = pathlib.Path(__file__).resolve().parents[3]


@pytest.fixture
def plugin(monkeypatch: pytest.MonkeyPatch, tmp_path: pathlib.Path) -> ModuleType:
    monkeypatch.setenv("VOUCH_PROGRESS", str(tmp_path / "progress"))
    path = ROOT / "playbooks" / "callback_plugins" / "vouch_progress.py"
    spec = importlib.util.spec_from_file_location("vouch_progress", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


class Task:
    def get_name(self) -> str:
        return "Build"


def test_only_lines_of_the_running_task_are_shown(plugin: ModuleType, tmp_path: pathlib.Path) -> None:
    progress = tmp_path / "progress"
    progress.write_text("old line\n")
    callback = plugin.CallbackModule()
    callback.v2_playbook_on_task_start(Task(), False)
    assert callback._line(75.9) == "    1:15  running\n"
    with progress.open("a") as stream:
        stream.write("one\ntwo \x1b[31m\n")
    assert callback._line(8) == "    0:08  two [31m\n"
    progress.unlink()
    assert callback._line(8) == "    0:08  running\n"


def test_a_temporary_file_is_used_and_removed(plugin: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("VOUCH_PROGRESS")
    callback = plugin.CallbackModule()
    path = pathlib.Path(os.environ["VOUCH_PROGRESS"])
    assert path.exists()
    callback.v2_playbook_on_stats(type("Stats", (), {"custom": {}})())
    assert not path.exists()
    assert "VOUCH_PROGRESS" not in os.environ


def test_the_table(plugin: ModuleType) -> None:
    rows = plugin.rows_of(
        {
            "b": {"vouch_results": [{"machine": "b", "status": "none", "reasons": ["ssh.connect"], "age": "0 s"}]},
            "a": {"vouch_results": [{"machine": "a", "status": "affirming", "reasons": [], "pcr4_found": "x\x1b"}]},
            "_run": {"other": 1},
            "odd": "text",
        }
    )
    lines = plugin.table(rows)
    assert [line.split()[0] for line in lines if line and not line.startswith("-")] == ["machine", "a", "b"]
    assert "ssh.connect" in lines[4]
    assert "\x1b" not in "".join(lines)
    assert plugin.table([]) == []


def test_a_long_reason_is_cut(plugin: ModuleType) -> None:
    assert all(len(line) < 400 for line in plugin.table([{"machine": "a", "reasons": ["x" * 1000]}]))
