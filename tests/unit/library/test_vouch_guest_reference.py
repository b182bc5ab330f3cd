# SPDX-License-Identifier: GPL-3.0-or-later
"""What is recorded of a guest, as Ansible asks for it; on a folder and on a store."""

from __future__ import annotations

import json
import pathlib
import time
from typing import Any

import pytest
import vouch_guest_reference
from ansible.module_utils.testing import patch_module_args
from ansible.module_utils.vouch.make.guestpackage import sign_guest_package
from ansible.module_utils.vouch.make.sign import generate_private_key, public_pem
from ansible.module_utils.vouch.model.guestreference import GuestReference
from ansible.module_utils.vouch.model.package import package_id
from ansible.module_utils.vouch.store.anyenrolments import open_enrolments

from guestparts import Guest
from sim.attester import SimHost

KEY = generate_private_key()
NAMES = ("web-1", "web-2", "web-3")
SIGNED = {name: sign_guest_package(Guest(name=name).package(), KEY) for name in NAMES}
IDS = {name: package_id(data) for name, data in SIGNED.items()}


class Controller:
    def __init__(self, folder: pathlib.Path, place: str, capsys: pytest.CaptureFixture[str]) -> None:
        self.folder, self.place, self.capsys = folder, place, capsys
        self.enrolment = SimHost().enrolment
        for name, data in SIGNED.items():
            (folder / name).write_bytes(data)
        (folder / "key.pub").write_bytes(public_pem(KEY))
        (folder / "other.pub").write_bytes(public_pem(generate_private_key()))
        self.store = open_enrolments(place)
        self.store.add(self.enrolment)

    def run(self, state: str, package: str = "", *, check: bool = False, **changes: Any) -> dict[str, Any]:
        options = {
            "enrolments": self.place,
            "host_id": self.enrolment.host_id,
            "guest": "web",
            "package_keys": [str(self.folder / "key.pub")],
            "state": state,
            "_ansible_check_mode": check,
            **({"package": str(self.folder / package)} if package else {}),
            **changes,
        }
        with patch_module_args(options), pytest.raises(SystemExit):
            vouch_guest_reference.main()
        found = json.loads(self.capsys.readouterr().out)
        assert isinstance(found, dict)
        return found

    def known(self) -> GuestReference | None:
        return self.store.get(self.enrolment.host_id).guest("web")

    def prove(self, name: str) -> None:
        """Have evidence accepted by which the guest runs that package."""
        known, before = self.known(), self.store.get(self.enrolment.host_id)
        assert known is not None
        self.store.update(before, before.with_guest("web", known.accepted(IDS[name], at_s=5)))


@pytest.fixture(params=["folder", "store"])
def controller(
    request: pytest.FixtureRequest, tmp_path: pathlib.Path, capsys: pytest.CaptureFixture[str]
) -> Controller:
    place = str(tmp_path / "enrolments") if request.param == "folder" else f"sqlite:///{tmp_path}/store.db"
    return Controller(tmp_path, place, capsys)


def test_an_update_of_a_guest(controller: Controller) -> None:
    former = {"former": str(controller.folder / "web-1")}
    assert controller.run("info")["reference"] == {}
    foretold = controller.run("expected", "web-2", check=True, **former)
    assert foretold["changed"]
    assert controller.known() is None
    begin_s = int(time.time())
    done = controller.run("expected", "web-2", **former)
    assert (done["changed"], done["package_id"], done["diff"]["before"]) == (True, IDS["web-2"].hex(), {})
    assert done["reference"]["package"] == IDS["web-1"].hex()
    assert begin_s + 3600 <= done["reference"]["next"]["until"] <= time.time() + 3600
    assert not controller.run("expected", "web-2", **former)["changed"], "a plan with most of its time left stays"
    refused = controller.run("confirmed", "web-2")
    assert (refused["failed"], refused["code"]) == (True, "guest.package.unproven")
    controller.prove("web-2")
    assert controller.run("confirmed", "web-2", check=True)["changed"]
    assert controller.run("confirmed", "web-2")["reference"] == {
        "guest": "web",
        "package": IDS["web-2"].hex(),
        "next": None,
        "retired": [IDS["web-1"].hex()],
    }
    assert not controller.run("confirmed", "web-2")["changed"]
    assert controller.run("expected", "web-1")["code"] == "guest.package.retired"
    assert controller.run("absent")["changed"]
    assert not controller.run("absent")["changed"]
    assert controller.known() is None


@pytest.mark.parametrize(
    ("state", "changes", "code"),
    [
        ("expected", {}, "guest.package.unrecorded"),
        ("confirmed", {}, "guest.package.unrecorded"),
        ("expected", {"guest": "Web!"}, "usage.invalid"),
        ("expected", {"accept_for": 0}, "usage.invalid"),
        ("expected", {"host_id": "3d9a6f5e-0c0e-5c53-9d0e-0c1d5f5c8a11"}, "enrolment.missing"),
    ],
)
def test_refusals(controller: Controller, state: str, changes: dict[str, Any], code: str) -> None:
    answer = controller.run(state, "web-2", **changes)
    assert (answer["failed"], answer["code"]) == (True, code)
    assert controller.known() is None


def test_a_package_that_nobody_known_signed(controller: Controller) -> None:
    for name in ("package", "former"):
        paths = {"former": str(controller.folder / "web-1")}
        changes: dict[str, Any] = {"package_keys": [str(controller.folder / "other.pub")], **paths}
        answer = controller.run("expected", "web-2", **changes)
        assert answer["failed"], name
    assert controller.known() is None
