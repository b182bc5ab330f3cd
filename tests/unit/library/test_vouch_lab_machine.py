# SPDX-License-Identifier: GPL-3.0-or-later
"""The module as Ansible runs it, with stand-ins for QEMU and swtpm."""

from __future__ import annotations

import json
import pathlib
import tempfile
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import vouch_lab_machine
from ansible.module_utils.testing import patch_module_args
from ansible.module_utils.vouch.lab.control import Machine
from ansible.module_utils.vouch.lab.machine import MachinePaths
from ansible.module_utils.vouch.port import command

from lab_harness import FakePrograms, processes_below

Run = Callable[..., dict[str, Any]]


@pytest.fixture
def run(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Iterator[Run]:
    programs = FakePrograms(tmp_path)
    monkeypatch.setitem(command.BASE_ENVIRONMENT, "PATH", f"{tmp_path}:{command.BASE_ENVIRONMENT['PATH']}")  # type: ignore[arg-type]
    with tempfile.TemporaryDirectory(prefix="lab") as directory:

        def module(**options: Any) -> dict[str, Any]:
            check = {"_ansible_check_mode": options.pop("check", False)}
            fixed = {"name": "m1", "directory": directory, "disk_mb": 64, "firmware_variables": str(programs.firmware)}
            with patch_module_args({**fixed, **options, **check}), pytest.raises(SystemExit) as ended:
                vouch_lab_machine.main()
            result: dict[str, Any] = json.loads(capsys.readouterr().out)
            assert ended.value.code == (1 if result.get("failed") else 0)
            return result

        yield module
        for path in pathlib.Path(directory).glob("*/run"):
            Machine(MachinePaths(directory=pathlib.Path(directory), name=path.parent.name)).remove()
        assert processes_below(pathlib.Path(directory)) == []


def test_from_nothing_to_on_and_back(run: Run) -> None:
    made = run(state="started", wait_for="boot [0-9]")
    assert (made["changed"], made["power"], made["console_line"]) == (True, "on", "boot 1")
    assert set(made["pids"]) == {"qemu", "swtpm"}
    assert made["disk_id"] == "/dev/disk/by-id/virtio-m1"
    assert pathlib.Path(made["ek_ca_certificates"][0]).name == "issuercert.pem"
    assert made["diff"]["before"] == {"power": "absent"}
    assert made["diff"]["after"]["memory_mb"] == 2048
    assert run(state="started")["changed"] is False
    assert run(state="present")["power"] == "on"
    assert run(state="stopped")["power"] == "off"
    assert run(state="stopped")["changed"] is False
    assert run(state="absent")["changed"] is True
    assert run(state="absent")["changed"] is False


def test_reset_and_power_cut(run: Run) -> None:
    assert run(state="reset")["code"] == "lab.off"
    run(state="started", wait_for="boot 1")
    again = run(state="reset", wait_for="boot [0-9]")
    assert (again["changed"], again["console_line"]) == (True, "boot 2")
    cut = run(state="power_cut")
    assert (cut["changed"], cut["power"], cut["pids"]) == (True, "off", {})
    assert run(state="power_cut")["changed"] is False


@pytest.mark.parametrize(
    ("state", "changed", "power"),
    [("present", True, "off"), ("started", True, "on"), ("stopped", False, "absent"), ("absent", False, "absent")],
)
def test_check_mode_makes_nothing(run: Run, state: str, changed: bool, power: str) -> None:
    told = run(state=state, check=True)
    assert (told["changed"], told["power"]) == (changed, power)
    assert not pathlib.Path(told["folder"]).exists()


def test_check_mode_on_a_running_machine(run: Run) -> None:
    run(state="started")
    for state, changed in (
        ("started", False),
        ("present", False),
        ("stopped", True),
        ("power_cut", True),
        ("absent", True),
        ("reset", True),
    ):
        assert run(state=state, check=True)["changed"] is changed, state
    assert run(state="started", memory_mb=4096, check=True)["code"] == "lab.running"
    assert run(state="present")["power"] == "on"


def test_medium_is_plugged_while_it_runs(run: Run, tmp_path: pathlib.Path) -> None:
    image = tmp_path / "installer.img"
    image.write_bytes(b"x")
    run(state="started")
    assert run(state="present", medium=str(image))["changed"] is True
    assert run(state="present", medium=str(image))["changed"] is False
    assert run(state="present", check=True)["changed"] is True
    pulled = run(state="present")
    assert pulled["changed"] is True
    assert (pulled["diff"]["before"]["medium"], pulled["diff"]["after"]["medium"]) == (str(image), "")


def test_second_machine_with_the_same_port(run: Run) -> None:
    forwards = [{"host_port": 1022, "guest_port": 22}]
    run(state="present", forwards=forwards)
    refused = run(name="m2", state="present", forwards=forwards)
    assert refused["failed"] is True
    assert refused["code"] == "lab.port"
    assert "1022" in refused["msg"]
    assert "machine m1" in refused["msg"]


def test_console_that_stays_silent(run: Run) -> None:
    failed = run(state="started", wait_for="login:", timeout=1)
    assert failed["code"] == "lab.timeout"
    assert "boot 1" in failed["msg"]
    assert failed["power"] == "on"


@pytest.mark.parametrize(
    ("options", "code"),
    [
        ({"name": "Bad Name"}, "lab.name"),
        ({"directory": "/" + "d" * 120}, "lab.path"),
        ({"disk_mb": 1}, "lab.disk"),
        ({"medium": "/no/such.img"}, "lab.medium"),
        ({"state": "absent", "wait_for": "x"}, "lab.wait"),
        ({"wait_for": "("}, "lab.pattern"),
    ],
)
def test_refusals_have_codes(run: Run, options: dict[str, Any], code: str) -> None:
    refused = run(**options)
    assert refused["failed"] is True
    assert refused["code"] == code
    assert refused["msg"]
