# SPDX-License-Identifier: GPL-3.0-or-later
"""The module as Ansible runs it, in a tree that is really entered, and what it refuses before."""

from __future__ import annotations

import json
import os
import pathlib
import tempfile
from collections.abc import Callable
from typing import Any

import pytest
import vouch_local_build
from ansible.module_utils.testing import patch_module_args

from attestedbuild import digest_of_objects
from sim.debiantree import make_tree
from smalltree import OWN_MAKE, enterable_tree

Run = Callable[..., dict[str, Any]]


@pytest.fixture
def run(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    (tmp_path / "tmp").mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "tmp"))
    monkeypatch.setenv("VOUCH_PROGRESS", str(tmp_path / "progress"))

    def module(tree: pathlib.Path, **options: Any) -> dict[str, Any]:
        with patch_module_args({"tree": str(tree), "source": "hello", **options}), pytest.raises(SystemExit):
            vouch_local_build.main()
        found: dict[str, Any] = json.loads(capsys.readouterr().out)
        return found

    return module


def test_every_run_says_the_same(run: Run, tmp_path: pathlib.Path) -> None:
    tree = enterable_tree(tmp_path)
    for check_mode in (True, False, False):
        built = run(tree, folder="src", jobs=2, arguments=["lib.a"], _ansible_check_mode=check_mode)
        assert (built["changed"], built["objects"], built["digest"]) == (False, 2, digest_of_objects())
        assert os.listdir(tmp_path / "tmp") == []
    progress = (tmp_path / "progress").read_text()
    assert "local build: unpacking the tree" in progress
    assert "local build: compiling hello" in progress


def test_another_compiler_is_told_apart(run: Run, tmp_path: pathlib.Path) -> None:
    tree = enterable_tree(tmp_path, OWN_MAKE.replace("object 1", "object 2"))
    built = run(tree, folder="src")
    assert built["objects"] == 2
    assert built["digest"] != digest_of_objects()


def test_make_that_fails(run: Run, tmp_path: pathlib.Path) -> None:
    answer = run(enterable_tree(tmp_path, "#!/bin/sh\necho none >&2\nexit 2\n"))
    assert (answer["failed"], answer["code"]) == (True, "command.failed")
    assert "none" in answer["msg"]


def test_what_is_refused(run: Run, tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    tree = make_tree(tmp_path)
    for source in ("other", "../..", ""):
        answer = run(tree, source=source)
        assert (answer["failed"], answer["code"]) == (True, "image.sources")
    assert run(tmp_path / "none.tar")["code"] == "command.failed"
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    assert run(tree)["code"] == "image.privilege"
