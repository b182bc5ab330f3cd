# SPDX-License-Identifier: GPL-3.0-or-later
"""The module as Ansible runs it."""

from __future__ import annotations

import json
import pathlib
from collections.abc import Callable
from typing import Any

import pytest
import vouch_guest_package_info
from ansible.module_utils.testing import patch_module_args
from ansible.module_utils.vouch.make.guestpackage import sign_guest_package
from ansible.module_utils.vouch.make.sign import generate_private_key, public_pem

from guestparts import Guest, digest

Run = Callable[..., dict[str, Any]]


@pytest.fixture
def run(tmp_path: pathlib.Path, capsys: pytest.CaptureFixture[str]) -> Run:
    guest, key = Guest(), generate_private_key()
    (tmp_path / "base.dsse.json").write_bytes(sign_guest_package(guest.package(), key))
    (tmp_path / "key.pem").write_bytes(public_pem(key))
    (tmp_path / "other.pem").write_bytes(public_pem(generate_private_key()))
    (tmp_path / "image").mkdir()
    (tmp_path / "store/sha256").mkdir(parents=True)
    for name, data in guest.files.items():
        (tmp_path / "image" / name).write_bytes(data)
        (tmp_path / "store/sha256" / digest(data).hex()).write_bytes(data)

    def module(**options: Any) -> dict[str, Any]:
        for name in ("path", "image_dir", "store_dir"):
            if name in options:
                options[name] = str(tmp_path / options[name])
        options["keys"] = [str(tmp_path / name) for name in options.get("keys", [])]
        with patch_module_args({"path": str(tmp_path / "base.dsse.json"), **options}), pytest.raises(SystemExit):
            vouch_guest_package_info.main()
        found: dict[str, Any] = json.loads(capsys.readouterr().out)
        return found

    return module


@pytest.mark.parametrize("place", [{"image_dir": "image"}, {"store_dir": "store"}])
def test_a_good_package(run: Run, place: dict[str, str]) -> None:
    found = run(keys=["other.pem", "key.pem"], name="base", full=True, **place)
    assert (found["verdict"], found["findings"], found["changed"]) == ("affirming", [], False)
    assert (found["signed"], found["proven"]) == (True, True)
    assert found["filters"][0]["reason"] == "the daemon checks each request"


def test_nothing_changes(run: Run, tmp_path: pathlib.Path) -> None:
    before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")}
    run(keys=["key.pem"], store_dir="store", _ansible_check_mode=True)
    assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")} == before


def test_looked_at_without_keys(run: Run) -> None:
    found = run()
    assert (found["verdict"], found["signed"], found["proven"], found["filters"]) == ("none", False, False, [])
    assert found["statement"]["predicate"]["name"] == "base"


def test_another_key(run: Run) -> None:
    found = run(keys=["other.pem"], store_dir="store")
    assert (found["verdict"], found["statement"]) == ("contraindicated", {})
    assert [finding["code"] for finding in found["findings"]] == ["envelope.signature.invalid"]


def test_a_file_that_is_gone_or_another(run: Run, tmp_path: pathlib.Path) -> None:
    (tmp_path / "image/vmlinuz").unlink()
    (tmp_path / "image/policy").write_bytes(b"x" * (tmp_path / "image/policy").stat().st_size)
    found = run(keys=["key.pem"], image_dir="image")
    assert found["verdict"] == "contraindicated"
    assert [(item["code"], item["subject"]) for item in found["findings"]] == [
        ("package.part.digest", "package:base/policy"),
        ("package.part.missing", "package:base/vmlinuz"),
    ]


@pytest.mark.parametrize(
    ("options", "code"),
    [
        ({"path": "nothing"}, "files.missing"),
        ({"keys": ["base.dsse.json"]}, "parse.key.pem"),
        ({"keys": ["key.pem"], "store_dir": "key.pem"}, "package.files"),
    ],
)
def test_refusals_have_codes(run: Run, options: dict[str, Any], code: str) -> None:
    refused = run(**options)
    assert (refused["failed"], refused["code"]) == (True, code)
