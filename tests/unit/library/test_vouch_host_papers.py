# SPDX-License-Identifier: GPL-3.0-or-later
"""The module as Ansible runs it, against a real sshd and a real service."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import pathlib
from typing import Any

import pytest
import vouch_host_papers
from ansible.module_utils.testing import patch_module_args
from ansible.module_utils.vouch.make.sign import generate_private_key, private_pem, public_pem
from ansible.module_utils.vouch.store.enrolments import EnrolmentStore

from sim.attester import RELEASE_KEY, SimAppraiser, SimHost
from sshd_harness import Sshd
from verifier_harness import Verifier

pytestmark = pytest.mark.swtpm


class Controller:
    """The controller's files, and the module run in this process."""

    def __init__(self, folder: pathlib.Path, sshd: Sshd, capfd: pytest.CaptureFixture[str]) -> None:
        self.folder, self._capfd = folder, capfd
        self.host = SimHost()
        self.known = SimAppraiser(host=self.host).accept().enrolment
        assert self.known is not None
        EnrolmentStore(folder / "enrolments").add(self.known)
        release = self.host.release
        (folder / "release.json").write_bytes(release.envelope)
        (folder / "store/sha256").mkdir(parents=True)
        (folder / "store/sha256" / hashlib.sha256(release.manifest).hexdigest()).write_bytes(release.manifest)
        (folder / "release.pub").write_bytes(public_pem(RELEASE_KEY))
        (folder / "enrolment.pem").write_bytes(private_pem(generate_private_key()))
        self._options = {
            "host": "127.0.0.1",
            "port": sshd.port,
            "user": sshd.user,
            "private_key_file": str(sshd.key_file),
            "host_key": sshd.host_key,
            "host_id": self.host.host_id,
            "enrolments": str(folder / "enrolments"),
            "enrolment_key": str(folder / "enrolment.pem"),
            "credential": str(folder / "credential.json"),
            "release": str(folder / "release.json"),
            "image_store": str(folder / "store"),
            "keys": [str(folder / "release.pub")],
        }

    def run(self, **changes: Any) -> dict[str, Any]:
        with patch_module_args({**self._options, **changes}), pytest.raises(SystemExit):
            vouch_host_papers.main()
        found: dict[str, Any] = json.loads(self._capfd.readouterr().out)
        return found


@pytest.fixture
def controller(tmp_path: pathlib.Path, sshd: Sshd, capfd: pytest.CaptureFixture[str]) -> Controller:
    return Controller(tmp_path, sshd, capfd)


def test_papers_reach_the_host_once(controller: Controller, verifier: Verifier) -> None:
    folder = verifier.data / "papers"
    for path in folder.glob("*"):
        path.unlink()
    foretold = controller.run(_ansible_check_mode=True)
    assert foretold["changed"]
    assert not (controller.folder / "credential.json").exists()
    done = controller.run()
    assert (done["changed"], done["sent"]) == (True, ["credential", "former", "keys", "manifest", "release"])
    assert {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in folder.iterdir()} == done["papers"]
    assert (folder / "manifest").read_bytes() == controller.host.release.manifest
    assert (folder / "credential").read_bytes() == (controller.folder / "credential.json").read_bytes()
    again = controller.run()
    assert (again["changed"], again["sent"], again["papers"]) == (False, [], done["papers"])


def test_another_release_than_the_recorded_one(controller: Controller) -> None:
    known = controller.known
    assert known is not None
    EnrolmentStore(controller.folder / "other").add(dataclasses.replace(known, release_id=bytes(32)))
    answer = controller.run(enrolments=str(controller.folder / "other"))
    assert (answer["failed"], answer["code"]) == (True, "release.unexpected")


def test_a_release_that_nobody_known_signed(controller: Controller) -> None:
    (controller.folder / "release.pub").write_bytes(public_pem(generate_private_key()))
    assert controller.run()["code"] == "envelope.signature.invalid"


@pytest.mark.parametrize("seconds", [0, 10**9])
def test_a_credential_without_a_sensible_end(controller: Controller, seconds: int) -> None:
    assert controller.run(valid_for=seconds)["failed"]
