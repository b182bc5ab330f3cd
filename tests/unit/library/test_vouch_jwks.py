# SPDX-License-Identifier: GPL-3.0-or-later
"""The module as Ansible runs it."""

from __future__ import annotations

import json
import pathlib
import stat
from typing import Any

import pytest
import vouch_jwks
from ansible.module_utils.testing import patch_module_args
from ansible.module_utils.vouch.appraise.jwks import key_set
from ansible.module_utils.vouch.make.sign import generate_private_key, private_pem, public_pem


class Publisher:
    """A folder with two keys, and the module run in this process."""

    def __init__(self, folder: pathlib.Path, capsys: pytest.CaptureFixture[str]) -> None:
        self.folder, self.capsys = folder, capsys
        self.dest = folder / "jwks.json"
        for name in ("one", "two"):
            key = generate_private_key("ecdsa-p256-sha256")
            (folder / f"{name}.pem").write_bytes(private_pem(key))
            (folder / f"{name}.pub").write_bytes(public_pem(key))

    def run(self, *keys: str, **changes: Any) -> dict[str, Any]:
        options = {"keys": [str(self.folder / name) for name in keys], "dest": str(self.dest), **changes}
        with patch_module_args(options), pytest.raises(SystemExit):
            vouch_jwks.main()
        found: dict[str, Any] = json.loads(self.capsys.readouterr().out)
        return found


@pytest.fixture
def publisher(tmp_path: pathlib.Path, capsys: pytest.CaptureFixture[str]) -> Publisher:
    return Publisher(tmp_path, capsys)


def test_keys_are_published_once(publisher: Publisher) -> None:
    first = publisher.run("one.pem")
    assert first["changed"]
    assert json.loads(publisher.dest.read_text()) == first["jwks"]
    assert stat.S_IMODE(publisher.dest.stat().st_mode) == 0o644
    assert not publisher.run("one.pem")["changed"]
    assert not publisher.run("one.pub", "one.pem")["changed"]
    both = publisher.run("two.pub", "one.pem")
    assert both["changed"]
    assert both["kids"] == sorted(both["kids"])
    assert set(both["kids"]) == set(key_set(publisher.dest.read_bytes()).keys)
    assert not publisher.run("one.pub", "two.pem")["changed"]


def test_a_private_key_stays_private(publisher: Publisher) -> None:
    done = publisher.run("one.pem", "two.pem")
    assert all("d" not in entry for entry in done["jwks"]["keys"])
    assert "PRIVATE" not in json.dumps(done) + publisher.dest.read_text()


def test_check_mode_and_diff(publisher: Publisher) -> None:
    foretold = publisher.run("one.pem", _ansible_check_mode=True)
    assert foretold["changed"]
    assert not publisher.dest.exists()
    assert foretold["diff"]["before"] == ""
    done = publisher.run("one.pem")
    assert done["diff"]["after"] == foretold["diff"]["after"] == publisher.dest.read_text()
    more = publisher.run("one.pem", "two.pem", _ansible_check_mode=True)
    assert more["diff"]["before"] == publisher.dest.read_text() != more["diff"]["after"]


@pytest.mark.parametrize(
    ("keys", "changes", "code", "named"),
    [
        ([], {}, "ear.jwks", ""),
        (["none.pem"], {}, "files.missing", "none.pem"),
        (["one.pem", "other.pem"], {}, "ear.key", "other.pem"),
        (["one.pem", "text.pem"], {}, "ear.key", "text.pem"),
        (["one.pem"], {"dest": "/nonexistent/jwks.json"}, "files.unwritable", "jwks.json"),
    ],
)
def test_mistakes(publisher: Publisher, keys: list[str], changes: dict[str, Any], code: str, named: str) -> None:
    (publisher.folder / "other.pem").write_bytes(private_pem(generate_private_key("ed25519")))
    (publisher.folder / "text.pem").write_text("no key")
    failed = publisher.run(*keys, **changes)
    assert failed["failed"]
    assert failed["code"] == code
    assert named in failed["msg"]
    assert not publisher.dest.exists()
