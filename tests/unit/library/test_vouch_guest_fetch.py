# SPDX-License-Identifier: GPL-3.0-or-later
"""The module as Ansible runs it, through a real sshd and the VM verifier's server, from a service on the loopback."""

from __future__ import annotations

import hashlib
import json
import os
import pathlib
import stat
from collections.abc import Iterator
from typing import Any

import pytest
import vouch_guest_fetch
from ansible.module_utils.testing import patch_module_args
from ansible.module_utils.vouch.parse.frame import MAX_FETCHED_BYTES

from fetchparts import FetchHost, GuestService
from sshd_harness import Sshd


class Controller:
    """A guest that says ``content``, its host, and the module run in this process."""

    def __init__(self, folder: pathlib.Path, capfd: pytest.CaptureFixture[str]) -> None:
        self.content = b"made\0" * 1000
        self.service = GuestService(lambda service, connection: connection.sendall(self.content))
        self.host = FetchHost(folder, ("tcp", self.service.port))
        (folder / "sshd").mkdir()
        self.sshd = Sshd(folder / "sshd", self.host.path)
        (folder / "files").mkdir()
        self.dest = folder / "files/made"
        self._capfd = capfd
        self._options = {
            "host": "127.0.0.1",
            "port": self.sshd.port,
            "user": self.sshd.user,
            "private_key_file": str(self.sshd.key_file),
            "host_key": self.sshd.host_key,
            "name": "web",
            "service_port": self.service.port,
            "dest": str(self.dest),
        }

    def run(self, **changes: Any) -> dict[str, Any]:
        with patch_module_args({**self._options, **changes}), pytest.raises(SystemExit):
            vouch_guest_fetch.main()
        found: dict[str, Any] = json.loads(self._capfd.readouterr().out)
        return found

    def files(self) -> list[str]:
        """Return what stands in the folder of the file."""
        return sorted(os.listdir(self.dest.parent))

    def close(self) -> None:
        self.sshd.stop()
        self.service.close()
        self.host.close()


@pytest.fixture
def controller(tmp_path: pathlib.Path, capfd: pytest.CaptureFixture[str]) -> Iterator[Controller]:
    controller = Controller(tmp_path, capfd)
    yield controller
    controller.close()


def test_what_a_guest_made_becomes_a_file(controller: Controller) -> None:
    wanted = {
        "changed": True,
        "dest": str(controller.dest),
        "sha256": hashlib.sha256(controller.content).hexdigest(),
        "size": len(controller.content),
    }
    foretold = controller.run(_ansible_check_mode=True)
    assert ({name: foretold[name] for name in wanted}, controller.files()) == (wanted, [])
    done = controller.run()
    assert {name: done[name] for name in wanted} == wanted
    assert controller.dest.read_bytes() == controller.content
    assert stat.S_IMODE(controller.dest.stat().st_mode) == 0o644
    before = controller.dest.stat()
    again = controller.run(mode="0600")
    assert (again["changed"], again["sha256"]) == (False, done["sha256"])
    assert controller.dest.stat() == before, "it was not touched"
    assert controller.files() == ["made"]


@pytest.mark.parametrize("content", [b"", b"MADE\0" * 1000, os.urandom(MAX_FETCHED_BYTES)])
def test_a_file_with_other_content_is_replaced(controller: Controller, content: bytes) -> None:
    controller.dest.write_bytes(controller.content)
    controller.content = content
    foretold = controller.run(_ansible_check_mode=True)
    assert (foretold["changed"], foretold["size"]) == (True, len(content))
    assert foretold["sha256"] == hashlib.sha256(content).hexdigest()
    assert controller.dest.read_bytes() != content
    done = controller.run(mode="0640")
    assert (done["changed"], done["size"], controller.dest.read_bytes() == content) == (True, len(content), True)
    assert stat.S_IMODE(controller.dest.stat().st_mode) == 0o640
    assert not controller.run(_ansible_check_mode=True)["changed"]


def test_what_the_host_refuses_leaves_the_file_alone(controller: Controller) -> None:
    controller.dest.write_bytes(b"before")
    for changes, code in (
        ({"name": "other"}, "guest.unknown"),
        ({"name": "../x"}, "request.field"),
        ({"service_port": controller.service.port % 65535 + 1}, "fetch.service"),
    ):
        answer = controller.run(**changes)
        assert (answer["failed"], answer["code"]) == (True, code)
    controller.content = bytes(MAX_FETCHED_BYTES + 1)
    assert controller.run()["code"] == "fetch.size"
    controller.host.records.clear()
    assert controller.run(_ansible_check_mode=True)["code"] == "guest.unknown"
    assert (controller.dest.read_bytes(), controller.files()) == (b"before", ["made"])


@pytest.mark.parametrize("mode", ["640", "0640", 0o640])
def test_modes(controller: Controller, mode: object) -> None:
    controller.run(mode=mode)
    assert stat.S_IMODE(controller.dest.stat().st_mode) == 0o640


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"mode": "u=rw"}, "usage.invalid"),
        ({"mode": "4755"}, "usage.invalid"),
        ({"mode": 0o4755}, "usage.invalid"),
        ({"mode": True}, "usage.invalid"),
        ({"mode": ""}, "usage.invalid"),
        ({"service_port": 0}, "usage.invalid"),
        ({"service_port": 65536}, "usage.invalid"),
        ({"dest": "/nonexistent/made"}, "files.missing"),
    ],
)
def test_what_cannot_be_meant_is_said_before_anybody_is_asked(
    controller: Controller, changes: dict[str, Any], code: str
) -> None:
    for check_mode in (True, False):
        assert controller.run(**changes, _ansible_check_mode=check_mode)["code"] == code
    assert controller.service.met == 0


def test_a_folder_in_the_place_of_the_file(controller: Controller) -> None:
    controller.dest.mkdir()
    for check_mode in (True, False):
        assert controller.run(_ansible_check_mode=check_mode)["code"] == "files.unreadable"
