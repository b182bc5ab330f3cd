# SPDX-License-Identifier: GPL-3.0-or-later
"""The module as Ansible runs it."""

from __future__ import annotations

import json
import pathlib
import stat
from typing import Any

import pytest
import vouch_key
from ansible.module_utils.testing import patch_module_args


def run(capsys: pytest.CaptureFixture[str], **options: Any) -> dict[str, Any]:
    with patch_module_args(options), pytest.raises(SystemExit):
        vouch_key.main()
    found: dict[str, Any] = json.loads(capsys.readouterr().out)
    return found


@pytest.mark.parametrize("kind", ["ed25519", "ecdsa-p256"])
@pytest.mark.parametrize(("form", "begins"), [("pem", "-----BEGIN PUBLIC KEY-----"), ("openssh", "")])
def test_a_key_is_made_once(
    capsys: pytest.CaptureFixture[str], tmp_path: pathlib.Path, kind: str, form: str, begins: str
) -> None:
    path = tmp_path / "keys" / "k"
    options = {"path": str(path), "type": kind, "format": form}
    foretold = run(capsys, **options, _ansible_check_mode=True)
    assert foretold["changed"]
    assert not path.exists()
    first = run(capsys, **options)
    assert first["changed"]
    assert first["public_key"].startswith(begins or ("ssh-ed25519 " if kind == "ed25519" else "ecdsa-sha2-nistp256 "))
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert pathlib.Path(first["public_path"]).read_text() == first["public_key"] + "\n"
    content = path.read_bytes()
    second = run(capsys, **options)
    assert not second["changed"]
    assert second["public_key"] == first["public_key"]
    assert path.read_bytes() == content


def test_what_is_no_such_key_is_kept(capsys: pytest.CaptureFixture[str], tmp_path: pathlib.Path) -> None:
    path = tmp_path / "k"
    path.write_text("precious")
    failed = run(capsys, path=str(path))
    assert failed["failed"]
    assert failed["code"] == "key.other"
    run(capsys, path=str(tmp_path / "p"), type="ecdsa-p256")
    assert run(capsys, path=str(tmp_path / "p"), type="ed25519")["code"] == "key.other"
    assert path.read_text() == "precious"


def test_a_lost_public_half_is_written_again(capsys: pytest.CaptureFixture[str], tmp_path: pathlib.Path) -> None:
    path = tmp_path / "k"
    first = run(capsys, path=str(path))
    pathlib.Path(first["public_path"]).unlink()
    assert run(capsys, path=str(path), _ansible_check_mode=True)["changed"]
    assert run(capsys, path=str(path))["changed"]
    assert not run(capsys, path=str(path))["changed"]
