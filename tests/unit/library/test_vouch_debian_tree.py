# SPDX-License-Identifier: GPL-3.0-or-later
"""The module as Ansible runs it, with a stand-in for mmdebstrap."""

from __future__ import annotations

import json
import pathlib
from collections.abc import Callable
from typing import Any

import pytest
import vouch_debian_tree
from ansible.module_utils.testing import patch_module_args
from ansible.module_utils.vouch.port import command

Run = Callable[..., dict[str, Any]]

MMDEBSTRAP = """#!/bin/sh
if [ -e "$0.fail" ]; then echo "E: no archive" >&2; exit 25; fi
for word; do case $word in --logfile=*) echo "I: working" >"${word#*=}" ;; esac; last=$word; done
folder=$(mktemp -d)
mkdir -p "$folder/var/lib/dpkg"
{ echo Package: busybox; echo Status: install ok installed; echo Architecture: amd64; echo Version: 1.37; } \\
    >"$folder/var/lib/dpkg/status"
tar -C "$folder" -cf "$last" .
rm -r "$folder"
"""


@pytest.fixture
def run(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin/mmdebstrap").write_text(MMDEBSTRAP)
    (tmp_path / "bin/mmdebstrap").chmod(0o755)
    path = f"{tmp_path / 'bin'}:{command.BASE_ENVIRONMENT['PATH']}"
    monkeypatch.setitem(command.BASE_ENVIRONMENT, "PATH", path)  # type: ignore[arg-type]
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("VOUCH_PROGRESS", str(tmp_path / "progress"))

    def module(**options: Any) -> dict[str, Any]:
        check = {"_ansible_check_mode": options.pop("check", False)}
        with patch_module_args({"suite": "trixie", **options, **check}), pytest.raises(SystemExit):
            vouch_debian_tree.main()
        result: dict[str, Any] = json.loads(capsys.readouterr().out)
        return result

    return module


def test_built_once_in_the_users_cache(run: Run, tmp_path: pathlib.Path) -> None:
    built = run(packages=["busybox"])
    assert built["changed"] is True
    assert pathlib.Path(built["path"]).parent == tmp_path / "cache/vouch/trees"
    assert built["packages"] == [{"name": "busybox", "version": "1.37", "architecture": "amd64"}]
    again = run(packages=["busybox"])
    assert (again["changed"], again["sha256"]) == (False, built["sha256"])
    progress = (tmp_path / "progress").read_text()
    assert "working" in progress
    assert "1 packages" in progress


def test_check_mode(run: Run, tmp_path: pathlib.Path) -> None:
    told = run(check=True)
    assert (told["changed"], told["sha256"]) == (True, "")
    assert not (tmp_path / "cache").exists()
    run()
    assert run(check=True)["changed"] is False
    assert run(check=True, state="rebuilt")["changed"] is True
    assert run(check=True, state="absent")["changed"] is True
    assert run(check=True)["changed"] is False


def test_rebuilt_and_absent(run: Run) -> None:
    built = run()
    assert run(state="rebuilt")["changed"] is True
    gone = run(state="absent")
    assert (gone["changed"], gone["sha256"], gone["packages"]) == (True, "", [])
    assert not pathlib.Path(built["path"]).exists()
    assert run(state="absent")["changed"] is False


def test_own_cache_directory(run: Run, tmp_path: pathlib.Path) -> None:
    assert pathlib.Path(run(cache_dir=str(tmp_path / "mine"))["path"]).parent == tmp_path / "mine"


def test_diff_shows_the_digest(run: Run) -> None:
    built = run()
    assert built["diff"] == {"before": "\n", "after": f"{built['sha256']}\n"}


def test_failures_have_codes(run: Run, tmp_path: pathlib.Path) -> None:
    assert run(suite="Not A Suite")["code"] == "tree.suite"
    (tmp_path / "bin/mmdebstrap.fail").touch()
    failed = run()
    assert failed["failed"] is True
    assert failed["code"] == "command.failed"
    assert "no archive" in failed["msg"]
    assert run(check=True)["changed"] is True
