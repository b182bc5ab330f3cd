# SPDX-License-Identifier: GPL-3.0-or-later
"""A real machine with a real TPM and nothing to boot: made, started, reset, cut from power, removed, nothing left."""

from __future__ import annotations

import pathlib
import shutil
import tempfile
from collections.abc import Iterator

import pytest
from ansible.module_utils.vouch.lab.console import wait_for
from ansible.module_utils.vouch.lab.control import QEMU, Machine
from ansible.module_utils.vouch.lab.machine import Firmware, Forward, MachinePaths, MachineSpec
from ansible.module_utils.vouch.lab.swtpm import ca_certificates

from lab_harness import free_port, processes_below, sockets_below

PROGRAMS = (QEMU, "swtpm", "swtpm_setup")
FIRMWARE_TIMEOUT_S = 600

pytestmark = [
    pytest.mark.lab,
    pytest.mark.skipif(
        not all(map(shutil.which, PROGRAMS)) or not pathlib.Path(Firmware().code).is_file(),
        reason="QEMU, swtpm or OVMF are not installed; role lab installs them",
    ),
]


@pytest.fixture
def machine() -> Iterator[Machine]:
    with tempfile.TemporaryDirectory(prefix="lab") as directory:
        machine = Machine(MachinePaths(directory=pathlib.Path(directory), name="empty"))
        yield machine
        machine.remove()
        assert processes_below(pathlib.Path(directory)) == []


def firmware_shows_itself(machine: Machine) -> str:
    """Wait for the first words of the firmware's boot manager."""
    return wait_for(
        machine.paths.console,
        "BdsDxe",
        offset_bytes=machine.boot_offset(),
        timeout_s=FIRMWARE_TIMEOUT_S,
        alive=machine.is_on,
    )


def test_life_of_a_machine(machine: Machine) -> None:
    spec = MachineSpec(
        name="empty", disk_mb=64, memory_mb=256, cpus=1, forwards=(Forward(host_port=free_port(), guest_port=22),)
    )
    assert machine.make(spec)
    assert not machine.make(spec)
    assert all(path.is_file() for path in ca_certificates(machine.paths.directory))
    assert machine.start()
    found = machine.observe()
    assert found.power == "on"
    assert found.swtpm is not None
    firmware_shows_itself(machine)

    machine.reset()
    firmware_shows_itself(machine)

    assert machine.power_cut()
    assert processes_below(machine.paths.directory) == []
    assert sockets_below(machine.paths.directory) == []

    assert machine.start()
    assert machine.stop()
    assert processes_below(machine.paths.directory) == []
    assert sockets_below(machine.paths.directory) == []
