# SPDX-License-Identifier: GPL-3.0-or-later
"""Watch a machine that is being installed, and pull its plug at a stated moment.

The moment is read from the machine's own disk and UEFI variables, not from a clock, and looked at again after the cut:
one that came too early or too late is an error, so the test behind it never tests something else than it says.

usage: lab_powercut.py --directory LAB --name NAME --timeout SECONDS MOMENT

root-image    the root image is being written: a part of the slot's partition, not all of it, is on the disk
boot-entry    xen.efi is on the EFI system partition, and the boot entry that starts it is not written yet
"""

from __future__ import annotations

import argparse
import json
import struct
import sys
import time
from collections.abc import Callable
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "module_utils"))

from lab_disk import LabDisk

from vouch.errors import ParseError
from vouch.lab.control import Machine
from vouch.lab.machine import MachinePaths
from vouch.parse.pe import parse_pe

SLOT = "vouch-a"
XEN_EFI = "/EFI/vouch/current.efi"
BOOT_ENTRY = "Vouch\0".encode("utf-16-le")
ENOUGH_BYTES = 8 << 20
POLL_INTERVAL_S = 0.1


def root_image(machine: Machine) -> bool:
    """Return whether a part of the root image is written: some of it, and nothing that follows it."""
    disk = LabDisk(machine.paths.disk)
    try:
        begun = disk.written_bytes(SLOT) >= ENOUGH_BYTES
    except (LookupError, struct.error):
        return False
    return begun and not xen_efi_written(machine)


def boot_entry(machine: Machine) -> bool:
    """Return whether all files are in place but nothing starts them."""
    return xen_efi_written(machine) and BOOT_ENTRY not in machine.paths.variables.read_bytes()


def xen_efi_written(machine: Machine) -> bool:
    """Return whether a whole xen.efi is on the disk."""
    try:
        parse_pe(LabDisk(machine.paths.disk).esp_file(XEN_EFI))
    except (LookupError, ParseError):
        return False
    return True


MOMENTS: dict[str, Callable[[Machine], bool]] = {"root-image": root_image, "boot-entry": boot_entry}


def cut(machine: Machine, moment: str, timeout_s: float) -> None:
    """Return when the plug was pulled in ``moment``.

    Raises:
        RuntimeError: the moment did not come, or the cut missed it.
    """
    deadline = time.monotonic() + timeout_s
    while not MOMENTS[moment](machine):
        if time.monotonic() > deadline or not machine.is_on():
            raise RuntimeError(f"{moment} was not seen on {machine.paths.name} within {timeout_s:g} s")
        time.sleep(POLL_INTERVAL_S)
    machine.power_cut()
    if not MOMENTS[moment](machine):
        raise RuntimeError(f"{machine.paths.name} was past {moment} when its power was cut")


def main() -> None:
    """Run the program."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--directory", type=Path, required=True)
    parser.add_argument("--name", required=True)
    parser.add_argument("--timeout", type=float, required=True)
    parser.add_argument("moment", choices=MOMENTS)
    options = parser.parse_args()
    machine = Machine(MachinePaths(directory=options.directory, name=options.name))
    machine.require_on()
    cut(machine, options.moment, options.timeout)
    written = LabDisk(machine.paths.disk).written_bytes(SLOT)
    print(json.dumps({"moment": options.moment, "root_image_bytes": written}))


if __name__ == "__main__":
    main()
