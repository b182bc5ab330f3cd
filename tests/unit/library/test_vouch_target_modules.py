# SPDX-License-Identifier: GPL-3.0-or-later
"""The modules that run in the installer, as Ansible runs them: what can be shown without a disk to write on."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable
from typing import Any

import pytest
import vouch_enroll
import vouch_host_slot
import vouch_machine
import vouch_tpm_activate
from ansible.module_utils.testing import patch_module_args
from ansible.module_utils.vouch.port.tpm import Tpm
from ansible.module_utils.vouch.store.enrolments import EnrolmentStore

from sim.attester import RELEASE_KEY, SimHost, SimRelease
from swtpm_fixture import SoftwareTpm

HOST_ID = "3d9a6f5e-0c0e-4c53-9d0e-0c1d5f5c8a11"
DISK = "/dev/disk/by-id/none-such"


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Callable[..., dict[str, Any]]:
    def runner(module: Any, **options: Any) -> dict[str, Any]:
        with patch_module_args(options), pytest.raises(SystemExit):
            module.main()
        found: dict[str, Any] = json.loads(capsys.readouterr().out)
        return found

    return runner


def release_options(**changes: Any) -> dict[str, Any]:
    from ansible.module_utils.vouch.make.sign import public_pem

    return {
        "disk": DISK,
        "host_id": HOST_ID,
        "release": base64.b64encode(SimRelease().envelope).decode(),
        "release_keys": [public_pem(RELEASE_KEY).decode()],
        **changes,
    }


def test_every_obstacle_is_named_at_once(run: Callable[..., dict[str, Any]]) -> None:
    failed = run(vouch_machine, disk=DISK, host_id=HOST_ID, tpm="swtpm:host=127.0.0.1,port=9")
    codes = {problem["code"] for problem in failed["problems"]}
    assert failed["failed"]
    assert "disk.missing" in codes
    assert codes & {"tpm.absent", "eventlog.unreadable"}
    assert all(f"[{code}]" in failed["msg"] for code in codes)


def test_a_host_id_that_is_none(run: Callable[..., dict[str, Any]]) -> None:
    assert run(vouch_machine, disk=DISK, host_id="h1")["code"] == "usage.invalid"


@pytest.mark.swtpm
def test_a_challenge_for_nobody_is_not_answered(run: Callable[..., dict[str, Any]], software_tpm: SoftwareTpm) -> None:
    with Tpm(software_tpm.tcti) as tpm:
        tpm.create_ak()
    wrong = base64.b64encode(bytes(64)).decode()
    failed = run(vouch_tpm_activate, tpm=software_tpm.tcti, credential_blob=wrong, encrypted_secret=wrong)
    assert failed["failed"]
    assert "secret" not in failed
    malformed = run(vouch_tpm_activate, tpm=software_tpm.tcti, credential_blob="*", encrypted_secret="*")
    assert malformed["code"] == "usage.invalid"


def test_no_tpm(run: Callable[..., dict[str, Any]]) -> None:
    failed = run(vouch_tpm_activate, tpm="swtpm:host=127.0.0.1,port=9", credential_blob="AA==", encrypted_secret="AA==")
    assert failed["code"] == "tpm.absent"


FAULTS: dict[str, tuple[dict[str, Any], str]] = {
    "host id": ({"host_id": "h1"}, "usage.invalid"),
    "release": ({"release": base64.b64encode(b"{}").decode()}, "envelope.malformed"),
    "base64": ({"release": "*"}, "usage.invalid"),
    "no key": ({"release_keys": []}, "key.none"),
    "forged": (
        {"release": base64.b64encode(SimRelease().forged()).decode()},
        "envelope.signature.invalid",
    ),
}


@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.parametrize("check_mode", [False, True])
def test_a_slot_is_not_touched_for_a_wrong_wish(
    run: Callable[..., dict[str, Any]], fault: str, check_mode: bool
) -> None:
    changes, code = FAULTS[fault]
    options = release_options(store_url="http://127.0.0.1:9", **changes)
    failed = run(vouch_host_slot, **options, _ansible_check_mode=check_mode)
    assert (failed["failed"], failed["code"]) == (True, code)


def test_an_unknown_host_is_not_enrolled(run: Callable[..., dict[str, Any]], tmp_path: Any) -> None:
    options = {"directory": str(tmp_path / "e"), "host_id": HOST_ID}
    assert run(vouch_enroll, state="info", **options)["enrolled"] is False
    assert run(vouch_enroll, state="absent", **options)["changed"] is False
    assert run(vouch_enroll, state="activated", secret="AA==", **options)["code"] == "challenge.missing"
    assert run(vouch_enroll, state="info", directory=str(tmp_path), host_id="x")["code"] == "enrolment.host-id"
    assert run(vouch_enroll, state="challenged", **options)["failed"]


def test_whoever_speaks_to_a_host_next_needs_it_enrolled(run: Callable[..., dict[str, Any]], tmp_path: Any) -> None:
    options = {"state": "info", "host_id": HOST_ID, "pending": str(tmp_path), "on_missing": "fail"}
    for directory, named in (
        (f"{tmp_path}/e", f"nothing of it is in {tmp_path}/e"),
        (f"sqlite:///{tmp_path}/none.db", f"{tmp_path}/none.db does not exist"),
    ):
        failed = run(vouch_enroll, directory=directory, **options)
        assert (failed["failed"], failed["code"]) == (True, "enrolment.missing")
        assert (HOST_ID in failed["msg"], named in failed["msg"]) == (True, True)
    known = SimHost().enrolment
    EnrolmentStore(tmp_path / "e").add(known)
    found = run(vouch_enroll, directory=f"{tmp_path}/e", **{**options, "host_id": known.host_id})
    assert (found["enrolled"], found["enrolment"]["ssh_host_key"]) == (True, known.ssh_host_key)
    assert run(vouch_enroll, directory=f"{tmp_path}/e", **{**options, "state": "absent"})["changed"] is False


@pytest.mark.parametrize(
    ("state", "found"),
    [("info", {"enrolled": False}), ("absent", {"changed": False}), ("activated", {"changed": True})],
)
def test_check_mode_makes_no_store_of_enrolments(
    run: Callable[..., dict[str, Any]], tmp_path: Any, state: str, found: dict[str, Any]
) -> None:
    place = {"directory": f"sqlite:///{tmp_path}/none/x.db", "pending": f"{tmp_path}/pending", "host_id": HOST_ID}
    done = run(vouch_enroll, state=state, secret="AA==", **place, _ansible_check_mode=True)
    assert found.items() <= done.items()
    assert not (tmp_path / "none").exists()
