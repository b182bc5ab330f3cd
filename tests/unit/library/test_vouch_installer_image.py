# SPDX-License-Identifier: GPL-3.0-or-later
"""The module as Ansible runs it; what it makes is tested in tests/unit/store/test_installers.py."""

from __future__ import annotations

import json
import pathlib
from collections.abc import Callable, Mapping
from typing import Any

import pytest
import vouch_installer_image
from ansible.module_utils.testing import patch_module_args
from ansible.module_utils.vouch.make.installer import DEFAULT_MODULES
from ansible.module_utils.vouch.store.installers import InstallerInputs

KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIPc0Zl2PfHbM0K3wR6m8yJ0bV1gq1u0r6D2t6WJ0Yp3Q somebody"
Run = Callable[..., dict[str, Any]]


class Makers:
    """In the place of the functions that look for and make an installer."""

    def __init__(self) -> None:
        self.made: list[InstallerInputs] = []

    def make(self, inputs: InstallerInputs, folder: pathlib.Path) -> Mapping[str, Any]:
        self.made.append(inputs)
        return {"pcr4": "44" * 32}

    def find(self, folder: pathlib.Path, digest: str) -> Mapping[str, Any] | None:
        return {"pcr4": "44" * 32} if any(inputs.digest() == digest for inputs in self.made) else None


@pytest.fixture
def makers(monkeypatch: pytest.MonkeyPatch) -> Makers:
    makers = Makers()
    monkeypatch.setattr(vouch_installer_image, "make_installer", makers.make)
    monkeypatch.setattr(vouch_installer_image, "find_installer", makers.find)
    return makers


@pytest.fixture
def run(tmp_path: pathlib.Path, capsys: pytest.CaptureFixture[str]) -> Run:
    (tmp_path / "tree.tar").write_bytes(b"tree")
    (tmp_path / "overlay").mkdir()
    (tmp_path / "overlay/init").touch()
    fixed = {"tree": str(tmp_path / "tree.tar"), "overlay": str(tmp_path / "overlay"), "dest": str(tmp_path / "out")}

    def module(**options: Any) -> dict[str, Any]:
        check = {"_ansible_check_mode": options.pop("check", False)}
        with patch_module_args({"authorized_keys": [KEY], **fixed, **options, **check}), pytest.raises(SystemExit):
            vouch_installer_image.main()
        result: dict[str, Any] = json.loads(capsys.readouterr().out)
        return result

    return module


def test_made_once(run: Run, makers: Makers, tmp_path: pathlib.Path) -> None:
    told = run(check=True)
    assert (told["changed"], told["installer"], makers.made) == (True, {}, [])
    made = run()
    assert (made["changed"], made["image"]) == (True, str(tmp_path / "out/installer.efi"))
    assert made["diff"]["after"] == "44" * 32 + "\n"
    assert run()["changed"] is False
    assert run(cmdline="debug")["changed"] is True
    assert len(makers.made) == 2


def test_modules_default_to_the_common_ones(run: Run, makers: Makers) -> None:
    run()
    run(kernel_modules=["ext4"])
    assert [inputs.modules for inputs in makers.made] == [DEFAULT_MODULES, ("ext4",)]


@pytest.mark.parametrize(
    ("options", "code"),
    [
        ({"authorized_keys": []}, "installer.keys"),
        ({"authorized_keys": ["x"]}, "installer.keys"),
        ({"tree": "/no/such.tar"}, "installer.tree"),
        ({"overlay": "/no/such"}, "installer.overlay"),
        ({"compression_level": 99}, "installer.compression"),
    ],
)
def test_refusals_have_codes(run: Run, makers: Makers, options: dict[str, Any], code: str) -> None:
    refused = run(**options)
    assert (refused["failed"], refused["code"]) == (True, code)
    assert makers.made == []
