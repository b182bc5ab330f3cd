# SPDX-License-Identifier: GPL-3.0-or-later
"""The module as Ansible runs it, with stand-ins for the tools of the tree and for QEMU."""

from __future__ import annotations

import json
import os
import pathlib
from collections.abc import Callable
from typing import Any

import pytest
import vouch_guest_image
from ansible.module_utils.testing import patch_module_args
from ansible.module_utils.vouch.imaging.guestimage import FILES, GuestCache

from sim.buildnode import document
from sim.debiantree import INIT, make_tree
from sim.guestbuild import CONTEXTS, GuestTools, profiled
from sim.policy import allow

Run = Callable[..., dict[str, Any]]


@pytest.fixture
def tools() -> GuestTools:
    return GuestTools()


@pytest.fixture
def run(
    tmp_path: pathlib.Path, tools: GuestTools, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Run:
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    monkeypatch.setattr(
        vouch_guest_image, "GuestCache", lambda folder: GuestCache(folder, runner=tools, profiler=profiled)
    )
    monkeypatch.setenv("VOUCH_PROGRESS", str(tmp_path / "progress"))
    fixed = {
        "tree": str(make_tree(tmp_path)),
        "name": "node",
        "packages": {"tool": ["/usr/bin/tool"]},
        "files": [{"path": "/etc/mtab", "content": "../proc/self/mounts", "mode": "link"}],
        "initrd_script": INIT,
        "initrd_modules": ["disk"],
        "initrd_load": ["erofs"],
        "kernel_options": ["security=selinux"],
        "policy": "(policycap open_perms)",
        "file_contexts": CONTEXTS,
        "intent": document(),
        "cache_dir": str(tmp_path / "cache"),
        "output_dir": str(tmp_path / "out"),
        "store_dir": str(tmp_path / "store"),
    }

    def module(**options: Any) -> dict[str, Any]:
        check = {"_ansible_check_mode": options.pop("check", False)}
        with patch_module_args({**fixed, **options, **check}), pytest.raises(SystemExit):
            vouch_guest_image.main()
        result: dict[str, Any] = json.loads(capsys.readouterr().out)
        return result

    return module


def test_built_once_and_put_where_it_is_wanted(run: Run, tmp_path: pathlib.Path) -> None:
    built = run()
    assert (built["changed"], built["image"]["name"]) == (True, "node")
    assert pathlib.Path(built["path"]).parent == tmp_path / "cache"
    assert {path.name for path in (tmp_path / "out").iterdir()} == {*FILES, "image.json"}
    stored = {path.name for path in (tmp_path / "store/sha256").iterdir()}
    assert stored == set(built["image"]["files"].values())
    assert json.loads((tmp_path / "out/image.json").read_text()) == built["image"]
    again = run()
    assert (again["changed"], again["key"], again["image"]) == (False, built["key"], built["image"])
    progress = (tmp_path / "progress").read_text()
    for step in ("compiling the policy", "booting the kernel", "checking the policy", "from the cache"):
        assert step in progress


def test_check_mode_tells_the_truth(run: Run, tmp_path: pathlib.Path, tools: GuestTools) -> None:
    told = run(check=True)
    assert (told["changed"], told["image"], tools.ran) == (True, {}, [])
    assert not (tmp_path / "cache").exists()
    built = run()
    assert run(check=True)["changed"] is False
    assert run(check=True)["image"] == built["image"]
    assert run(check=True, state="rebuilt")["changed"] is True
    assert run(check=True, variant="debug")["changed"] is True
    (tmp_path / "out/policy").unlink()
    assert run(check=True)["changed"] is True
    assert not (tmp_path / "out/policy").exists()
    assert run()["changed"] is True
    assert run()["changed"] is False


def test_rebuilt(run: Run) -> None:
    first = run()
    second = run(state="rebuilt")
    assert (second["changed"], second["image"]) == (True, first["image"])


def test_a_policy_that_does_not_pass_is_refused_and_told(run: Run, tools: GuestTools, tmp_path: pathlib.Path) -> None:
    tools.compiled.rules = [*tools.compiled.rules, allow("cc_t distccd_exec_t:file write")]
    refused = run()
    assert (refused["failed"], refused["code"]) == (True, "guest.conflicts")
    assert "distccd_exec_t" in refused["msg"]
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("options", "code"),
    [
        ({"name": "No name"}, "guest.name"),
        ({"intent": {"version": 2}}, "parse.field.value"),
        ({"kernel_options": ["--"]}, "image.option"),
        ({"files": [{"path": "/x", "content": "", "mode": "rw"}]}, "image.file"),
        ({"packages": {"absent": ["/x"]}}, "image.plan"),
        ({"tree": "/no/such.tar"}, "image.files"),
    ],
)
def test_refusals_have_codes(run: Run, options: dict[str, Any], code: str) -> None:
    refused = run(**options)
    assert (refused["failed"], refused["code"]) == (True, code), refused["msg"]


def test_cache_is_the_users(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", "/var/cache/me")
    assert vouch_guest_image.default_cache() == pathlib.Path("/var/cache/me/vouch/guests")
    monkeypatch.setenv("XDG_CACHE_HOME", "relative")
    assert vouch_guest_image.default_cache() == pathlib.Path.home() / ".cache/vouch/guests"
