# SPDX-License-Identifier: GPL-3.0-or-later
"""Files of a build are copied where they differ, whole or not at all, and check mode tells so without copying."""

from __future__ import annotations

import pathlib
import shutil

import pytest
from ansible.module_utils.vouch.imaging.delivery import deliver

NAMES = {"root.img": "sha256/aa", "policy": "policy"}


@pytest.fixture
def origin(tmp_path: pathlib.Path) -> pathlib.Path:
    folder = tmp_path / "built"
    folder.mkdir()
    for name in NAMES:
        (folder / name).write_bytes(name.encode())
    return folder


def test_copied_once(origin: pathlib.Path, tmp_path: pathlib.Path) -> None:
    places = [(str(tmp_path / "out"), NAMES), ("", NAMES)]
    assert deliver(origin, places, check_mode=False)
    assert (tmp_path / "out/sha256/aa").read_bytes() == b"root.img"
    assert not deliver(origin, places, check_mode=False)
    assert sorted(path.name for path in (tmp_path / "out").rglob("*") if path.is_file()) == ["aa", "policy"]


@pytest.mark.parametrize("content", [b"", b"ROOT.IMG"], ids=["shorter", "as long"])
def test_what_differs_is_replaced(origin: pathlib.Path, tmp_path: pathlib.Path, content: bytes) -> None:
    places = [(str(tmp_path / "out"), NAMES)]
    deliver(origin, places, check_mode=False)
    (tmp_path / "out/sha256/aa").write_bytes(content)
    assert deliver(origin, places, check_mode=True)
    assert (tmp_path / "out/sha256/aa").read_bytes() == content
    assert deliver(origin, places, check_mode=False)
    assert (tmp_path / "out/sha256/aa").read_bytes() == b"root.img"


def test_check_mode_makes_nothing(origin: pathlib.Path, tmp_path: pathlib.Path) -> None:
    assert deliver(origin, [(str(tmp_path / "out"), NAMES)], check_mode=True)
    assert not (tmp_path / "out").exists()


def test_a_copy_that_fails_leaves_the_old_file(
    origin: pathlib.Path, tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    places = [(str(tmp_path / "out"), {"policy": "policy"})]
    deliver(origin, places, check_mode=False)
    (tmp_path / "out/policy").write_bytes(b"old")

    def full(source: pathlib.Path, target: pathlib.Path) -> None:
        target.write_bytes(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(shutil, "copyfile", full)
    with pytest.raises(OSError, match="No space"):
        deliver(origin, places, check_mode=False)
    assert [(path.name, path.read_bytes()) for path in (tmp_path / "out").iterdir()] == [("policy", b"old")]
