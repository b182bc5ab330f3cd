# SPDX-License-Identifier: GPL-3.0-or-later
"""Clone a lab machine that is off: disk, UEFI variables, and the TPM with its keys and counters.

The clone cannot be told from its source by anything it measures, so a test can do to it what it wants and the source
stays as it was. Two of them on one network would be a fraud; in the lab each has ports of its own.

usage: lab_clone.py --directory LAB --source NAME --name NAME [--forward HOST_PORT:GUEST_PORT]...
"""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "module_utils"))

from vouch.lab.control import Machine
from vouch.lab.machine import Forward, MachinePaths
from vouch.port.files import make_private_folder, write_atomic

COPY_TIMEOUT_S = 300


def clone(directory: Path, source: str, name: str, forwards: Sequence[Forward]) -> Machine:
    """Return machine ``name``, a copy of ``source``, off; an older one of that name is removed first.

    Args:
        directory: The lab.
        source: A machine that is off.
        name: Name of the copy.
        forwards: Its ports; no other machine of the lab can have them.

    Raises:
        RuntimeError: ``source`` does not exist or is on: its disk would be copied half-written.
    """
    origin = Machine(MachinePaths(directory=directory, name=source))
    found = origin.observe()
    if found.spec is None or found.power != "off":
        raise RuntimeError(f"machine {source} is {found.power}, not off")
    copy = Machine(MachinePaths(directory=directory, name=name))
    with copy.locked():
        copy.remove()
        make_private_folder(copy.paths.folder)
        # cp knows holes and, where the file system can, shares blocks; Python's copy functions know neither.
        subprocess.run(
            ["cp", "--sparse=always", "--reflink=auto", "--", str(origin.paths.disk), str(copy.paths.disk)],
            stdin=subprocess.DEVNULL,
            timeout=COPY_TIMEOUT_S,
            check=True,
        )
        shutil.copy2(origin.paths.variables, copy.paths.variables)
        if found.spec.tpm:
            shutil.copytree(origin.paths.tpm, copy.paths.tpm, ignore=shutil.ignore_patterns(".lock"))
        # The serial number stays the source's: the firmware could have measured it.
        spec = replace(found.spec, name=name, forwards=tuple(forwards), medium="")
        write_atomic(copy.paths.spec, spec.to_json().encode())
    return copy


def _forward(text: str) -> Forward:
    host, guest = (int(part) for part in text.split(":"))
    return Forward(host_port=host, guest_port=guest)


def main() -> None:
    """Run the program."""
    parser = argparse.ArgumentParser(description="Clone a lab machine that is off.")
    parser.add_argument("--directory", type=Path, required=True)
    parser.add_argument("--source", required=True)
    parser.add_argument("--name", required=True)
    parser.add_argument("--forward", type=_forward, action="append", default=[])
    options = parser.parse_args()
    machine = clone(options.directory, options.source, options.name, options.forward)
    print(json.dumps({"folder": str(machine.paths.folder)}))


if __name__ == "__main__":
    main()
