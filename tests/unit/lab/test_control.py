# SPDX-License-Identifier: GPL-3.0-or-later
"""A machine's life with stand-ins for QEMU and swtpm: every state, every interruption, nothing left behind."""

from __future__ import annotations

import os
import pathlib
import signal
import socket
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import replace

import pytest
from ansible.module_utils.vouch.errors import UnreachableError, UsageError
from ansible.module_utils.vouch.lab.control import Machine, hardware_changes
from ansible.module_utils.vouch.lab.machine import Firmware, Forward, MachinePaths, MachineSpec
from ansible.module_utils.vouch.lab.process import wait_until
from ansible.module_utils.vouch.port import command

from lab_harness import FakePrograms, free_port, processes_below, sockets_below


class Lab:
    """A lab directory, its machines and the programs they run on."""

    def __init__(self, directory: pathlib.Path, programs: FakePrograms) -> None:
        self.directory = directory
        self.programs = programs

    def machine(self, name: str = "m1") -> Machine:
        paths = MachinePaths(directory=self.directory, name=name)
        return Machine(paths, firmware=Firmware(variables=str(self.programs.firmware)))


@pytest.fixture
def lab(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Lab]:
    programs = FakePrograms(tmp_path)
    monkeypatch.setitem(command.BASE_ENVIRONMENT, "PATH", f"{tmp_path}:{command.BASE_ENVIRONMENT['PATH']}")  # type: ignore[arg-type]
    # Short, because of the limit on socket paths.
    with tempfile.TemporaryDirectory(prefix="lab") as directory:
        lab = Lab(pathlib.Path(directory), programs)
        yield lab
        for path in sorted(lab.directory.glob("*/run")):
            lab.machine(path.parent.name).power_cut()
        assert processes_below(lab.directory) == []


SPEC = MachineSpec(name="m1", disk_mb=64)


def started(lab: Lab, spec: MachineSpec = SPEC) -> Machine:
    machine = lab.machine(spec.name)
    machine.make(spec)
    assert machine.start()
    return machine


def test_made_once(lab: Lab) -> None:
    machine = lab.machine()
    assert machine.observe().power == "absent"
    assert machine.make(SPEC)
    assert machine.observe().power == "off"
    assert machine.paths.disk.stat().st_size == 64 << 20
    assert machine.paths.disk.stat().st_blocks == 0
    state = (machine.paths.tpm / "tpm2-00.permall").read_bytes()
    assert not machine.make(SPEC)
    assert (machine.paths.tpm / "tpm2-00.permall").read_bytes() == state


def test_without_a_tpm(lab: Lab) -> None:
    machine = started(lab, replace(SPEC, tpm=False))
    assert machine.observe().swtpm is None
    assert not machine.paths.tpm.exists()


def test_life(lab: Lab) -> None:
    machine = started(lab)
    found = machine.observe()
    assert found.power == "on"
    assert found.qemu is not None
    assert found.swtpm is not None
    assert not machine.start()
    assert machine.stop()
    assert machine.observe().power == "off"
    assert lab.programs.commands() == ["quit"]
    assert processes_below(lab.directory) == []
    assert sockets_below(lab.directory) == []
    assert not machine.stop()
    assert machine.remove()
    assert not machine.paths.folder.exists()
    assert not machine.remove()


def test_power_cut_keeps_what_was_stored(lab: Lab) -> None:
    machine = started(lab)
    state = (machine.paths.tpm / "tpm2-00.permall").read_bytes()
    machine.paths.disk.write_bytes(b"written")
    assert machine.power_cut()
    assert lab.programs.commands() == []
    assert machine.observe().power == "off"
    assert sockets_below(lab.directory) == []
    assert not machine.power_cut()
    assert machine.start()
    assert machine.paths.disk.read_bytes().startswith(b"written")
    assert (machine.paths.tpm / "tpm2-00.permall").read_bytes() == state


def test_reset_marks_where_the_new_boot_begins(lab: Lab) -> None:
    machine = started(lab)
    assert wait_until(lambda: machine.paths.console.read_bytes() == b"boot 1\r\n", timeout_s=10)
    assert machine.boot_offset() == 0
    machine.reset()
    assert machine.boot_offset() == len(b"boot 1\r\n")
    machine.stop()
    assert machine.boot_offset() == 0
    with pytest.raises(UsageError) as refused:
        machine.reset()
    assert refused.value.code == "lab.off"


@pytest.mark.parametrize("crash", ["qemu", "swtpm", "both", "records"])
def test_cleans_up_after_a_crash(lab: Lab, crash: str) -> None:
    machine = started(lab)
    found = machine.observe()
    for program, pid in (("qemu", found.qemu), ("swtpm", found.swtpm)):
        assert pid is not None
        if crash in (program, "both"):
            os.kill(pid, signal.SIGKILL)
        if crash == "records":
            machine.paths.record(program).unlink()
    machine.stop()
    assert processes_below(lab.directory) == []
    assert sockets_below(lab.directory) == []
    assert machine.start()


def test_start_after_a_crash(lab: Lab) -> None:
    machine = started(lab)
    qemu = machine.observe().qemu
    assert qemu is not None
    os.kill(qemu, signal.SIGKILL)
    assert wait_until(lambda: not machine.is_on(), timeout_s=10)
    assert machine.start()


def test_qemu_that_ends_at_once(lab: Lab) -> None:
    machine = lab.machine()
    machine.make(SPEC)
    lab.programs.fail("qemu-system-x86_64")
    with pytest.raises(UnreachableError) as failed:
        machine.start()
    assert failed.value.code == "lab.start"
    assert "cannot allocate memory" in str(failed.value)
    assert processes_below(lab.directory) == []


def test_half_made_machine_is_made_whole(lab: Lab) -> None:
    machine = lab.machine()
    lab.programs.fail("swtpm_setup")
    with pytest.raises(UnreachableError):
        machine.make(SPEC)
    assert machine.observe().power == "absent"
    (lab.programs.folder / "swtpm_setup.fail").unlink()
    assert machine.make(SPEC)
    assert not (machine.paths.folder / "tpm.new").exists()


@pytest.mark.parametrize("on", [False, True], ids=["off", "on"])
def test_medium_comes_and_goes(lab: Lab, tmp_path: pathlib.Path, on: bool) -> None:
    image = tmp_path / "installer.img"
    image.write_bytes(b"x")
    machine = lab.machine()
    machine.make(SPEC)
    if on:
        machine.start()
    assert machine.change_medium(str(image))
    assert not machine.change_medium(str(image))
    assert machine.change_medium("")
    plugged = ["blockdev-add", "device_add", "device_del", "blockdev-del"]
    assert lab.programs.commands() == (plugged if on else [])
    spec = machine.observe().spec
    assert spec is not None
    assert spec.medium == ""


def test_disk_grows_and_never_shrinks(lab: Lab) -> None:
    machine = lab.machine()
    machine.make(SPEC)
    assert machine.make(replace(SPEC, disk_mb=128))
    assert machine.paths.disk.stat().st_size == 128 << 20
    with pytest.raises(UsageError) as refused:
        machine.make(SPEC)
    assert refused.value.code == "lab.disk"


def test_hardware_of_a_running_machine(lab: Lab) -> None:
    machine = started(lab)
    with pytest.raises(UsageError, match="memory_mb 2048 -> 3072") as refused:
        machine.make(replace(SPEC, memory_mb=3072))
    assert refused.value.code == "lab.running"
    assert hardware_changes(SPEC, replace(SPEC, medium="/x")) == []


@pytest.mark.parametrize(
    ("change", "code"),
    [
        (lambda spec: replace(spec, medium="/no/such.img"), "lab.medium"),
        (lambda spec: replace(spec, forwards=(Forward(host_port=1022, guest_port=80),)), "lab.port"),
    ],
    ids=["no medium", "port of another machine"],
)
def test_refused_before_anything_is_made(lab: Lab, change: Callable[[MachineSpec], MachineSpec], code: str) -> None:
    lab.machine("m2").make(replace(SPEC, name="m2", forwards=(Forward(host_port=1022, guest_port=22),)))
    with pytest.raises(UsageError) as refused:
        lab.machine().make(change(SPEC))
    assert refused.value.code == code
    assert not lab.machine().paths.folder.exists()


def test_port_of_another_program(lab: Lab) -> None:
    port = free_port()
    machine = lab.machine()
    machine.make(replace(SPEC, forwards=(Forward(host_port=port, guest_port=22),)))
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", port))
        taken.listen()
        with pytest.raises(UnreachableError) as failed:
            machine.start()
    assert failed.value.code == "lab.port"
    assert str(port) in str(failed.value)
    assert machine.start()


def test_missing_firmware(lab: Lab) -> None:
    paths = MachinePaths(directory=lab.directory, name="m1")
    with pytest.raises(UnreachableError) as failed:
        Machine(paths, firmware=Firmware(variables="/no/such.fd")).make(SPEC)
    assert failed.value.code == "lab.firmware"


def test_two_machines_side_by_side(lab: Lab) -> None:
    first, second = started(lab), started(lab, replace(SPEC, name="m2"))
    assert second.stop()
    assert first.is_on()
    assert first.stop()
