# SPDX-License-Identifier: GPL-3.0-or-later
"""The module as Ansible runs it, against the real VM verifier; only SSH is left out."""

from __future__ import annotations

import contextlib
import json
import pathlib
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest
import vouch_host_update
from ansible.module_utils.testing import patch_module_args
from ansible.module_utils.vouch.errors import UnreachableError
from ansible.module_utils.vouch.make.sign import generate_private_key, private_pem, public_pem
from ansible.module_utils.vouch.model.enrolment import Enrolment
from ansible.module_utils.vouch.store.enrolments import EnrolmentStore

from guests_harness import ORDER_KEY, Guests, guests, wait_until
from hostrelease import RELEASE_KEY, NewRelease
from sim.attester import SimHost
from verifier_harness import HOST_ID, RELEASE_ID, SSH_HOST_KEY, EnrolledTpm

pytestmark = pytest.mark.swtpm
OLD = bytes.fromhex(RELEASE_ID)


class Controller:
    """The controller's files, one enrolled host that runs, and the module run in this process."""

    def __init__(self, folder: pathlib.Path, host: Guests, capsys: pytest.CaptureFixture[str]) -> None:
        self.folder, self.host, self.capsys = folder, host, capsys
        self.new = NewRelease()
        for blob in self.new.blobs:
            host.store.add(blob)
        (folder / "release.json").write_bytes(self.new.envelope)
        (folder / "release.pub").write_bytes(public_pem(RELEASE_KEY))
        (folder / "order.pem").write_bytes(private_pem(ORDER_KEY))
        self.store = EnrolmentStore(folder / "enrolments")
        self.store.add(replace(SimHost().enrolment, host_id=HOST_ID, release_id=OLD, installed=OLD))

    @property
    def known(self) -> Enrolment:
        return self.store.get(HOST_ID)

    def run(self, state: str, *, check: bool = False, **changes: Any) -> dict[str, Any]:
        options = {
            "host": "localhost",
            "private_key_file": "unused",
            "host_key": SSH_HOST_KEY,
            "host_id": HOST_ID,
            "enrolments": str(self.folder / "enrolments"),
            "order_key": str(self.folder / "order.pem"),
            "release": str(self.folder / "release.json"),
            "release_keys": [str(self.folder / "release.pub")],
            "store_url": self.host.store.url,
            "state": state,
            "_ansible_check_mode": check,
            **changes,
        }
        with patch_module_args(options), pytest.raises(SystemExit):
            vouch_host_update.main()
        found = json.loads(self.capsys.readouterr().out)
        assert isinstance(found, dict)
        return found

    def accept(self) -> None:
        """Accept evidence of the new release."""
        known = self.known
        assert known.next is not None
        self.store.update(known, replace(known, next=replace(known.next, accepted_at_s=1)))


class Plain:
    """``SshVerifier`` without SSH."""

    def __init__(self, host: Guests) -> None:
        self._host = host

    def ask(self, members: dict[str, Any]) -> Any:
        answer = self._host.ask(members)
        if answer["ok"]:
            return answer["result"]
        raise UnreachableError(answer["error"]["message"], code=answer["error"]["code"])


@pytest.fixture(scope="module")
def tpm(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EnrolledTpm]:
    tpm = EnrolledTpm(tmp_path_factory.mktemp("tpm"))
    yield tpm
    tpm.stop()


@pytest.fixture
def controller(
    tmp_path: pathlib.Path, tpm: EnrolledTpm, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> Iterator[Controller]:
    tpm.stop()
    tpm.start()
    (tmp_path / "host").mkdir()
    with guests(tmp_path / "host", tpm.tcti, release_keys=[public_pem(RELEASE_KEY).decode()]) as host:
        monkeypatch.setattr(vouch_host_update, "connect", lambda params, limits: contextlib.nullcontext(Plain(host)))
        yield Controller(tmp_path, host, capsys)


def test_an_update_from_the_order_to_the_record(controller: Controller, tpm: EnrolledTpm) -> None:
    new = controller.new.id.hex()
    foretold = controller.run("staged", check=True)
    assert (foretold["changed"], foretold["action"], controller.known.next) == (True, "stage", None)
    staged = controller.run("staged")
    assert staged["diff"]["after"] == {
        **foretold["diff"]["after"],
        "recorded": {**foretold["diff"]["after"]["recorded"], "next": staged["enrolment"]["next"]},
    }
    assert (staged["release_id"], staged["status"]["waiting"]) == (new, new)
    assert controller.run("staged")["changed"] is False
    assert controller.run("tried")["action"] == "try"
    host = controller.host
    wait_until((host.machine / "disk/restarted").exists, "the restart")
    host.restart(tpm, controller.new.release.authenticode_sha256)
    assert controller.run("confirmed")["code"] == "update.unproven"
    controller.accept()
    confirmed = controller.run("confirmed")
    assert (confirmed["action"], confirmed["status"]["state"]) == ("confirm", "current")
    assert confirmed["enrolment"]["retired"] == [RELEASE_ID]
    assert controller.known.release_id.hex() == new
    for state in ("staged", "tried", "confirmed"):
        assert controller.run(state)["changed"] is False


def test_the_restart_keeps_to_its_window(controller: Controller) -> None:
    controller.run("staged")
    failed = controller.run("tried", window_start="2999-01-01T00:00:00Z")
    assert (failed["failed"], failed["code"]) == (True, "update.window")
    assert "2999-01-01T00:00:00Z to any time" in failed["msg"]


FAULTS: dict[str, tuple[dict[str, Any], str]] = {
    "a time that is none": ({"window_end": "tonight"}, "usage.invalid"),
    "no time to confirm": ({"confirm_within": 5}, "usage.invalid"),
    "no release": ({"release": "/nonexistent"}, "files.missing"),
    "nobody enrolled": ({"host_id": "1" * 8 + HOST_ID[8:]}, "enrolment.missing"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_refused(controller: Controller, fault: str) -> None:
    changes, code = FAULTS[fault]
    failed = controller.run("staged", **changes)
    assert (failed["failed"], failed["code"]) == (True, code)
    assert controller.known.next is None


def test_a_release_that_nobody_signed_reaches_no_host(controller: Controller) -> None:
    (controller.folder / "release.pub").write_bytes(public_pem(generate_private_key()))
    assert controller.run("staged")["code"] == "envelope.signature.invalid"
    assert controller.host.store.asked == []


def test_an_order_by_a_key_the_host_does_not_know(controller: Controller) -> None:
    (controller.folder / "order.pem").write_bytes(private_pem(generate_private_key()))
    assert controller.run("staged")["code"] == "envelope.signature.invalid"
