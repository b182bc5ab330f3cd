# SPDX-License-Identifier: GPL-3.0-or-later
"""The module as Ansible runs it, with the real server."""

from __future__ import annotations

import json
import pathlib
import urllib.request
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import vouch_lab_store
from ansible.module_utils.testing import patch_module_args
from ansible.module_utils.vouch.lab.storecontrol import StoreProcess

from lab_harness import free_port, processes_below

Run = Callable[..., dict[str, Any]]


@pytest.fixture
def run(tmp_path: pathlib.Path, capsys: pytest.CaptureFixture[str]) -> Iterator[Run]:
    def module(**options: Any) -> dict[str, Any]:
        check = {"_ansible_check_mode": options.pop("check", False)}
        with patch_module_args({"directory": str(tmp_path / "lab"), **options, **check}), pytest.raises(SystemExit):
            vouch_lab_store.main()
        result: dict[str, Any] = json.loads(capsys.readouterr().out)
        return result

    yield module
    StoreProcess(tmp_path / "lab").stop()
    assert processes_below(tmp_path) == []


def test_life(run: Run, tmp_path: pathlib.Path) -> None:
    options = {"folder": str(tmp_path / "store"), "port": free_port()}
    assert run(**options, check=True)["changed"] is True
    assert not (tmp_path / "lab").exists()
    started = run(**options)
    assert (started["changed"], started["url"]) == (True, f"http://10.0.2.2:{options['port']}")
    (tmp_path / "store/blob").write_bytes(b"blob")
    with urllib.request.urlopen(f"http://127.0.0.1:{options['port']}/blob", timeout=10) as answer:
        assert answer.read() == b"blob"
    assert run(**options)["changed"] is False
    assert run(state="stopped", check=True)["changed"] is True
    assert run(state="stopped")["changed"] is True
    assert run(state="stopped")["changed"] is False
    assert run(state="absent")["changed"] is True
    assert run(state="absent")["changed"] is False
    assert (tmp_path / "store/blob").is_file()


def test_options_that_are_missing_or_wrong(run: Run) -> None:
    assert "folder" in run(port=1)["msg"]
    assert run(folder="/x", port=0)["code"] == "lab.port"
