# SPDX-License-Identifier: GPL-3.0-or-later
"""Put a host image onto the disk of a lab machine that is off, without its ever running the installer.

A test that is about guests wants a host, not an installation: this saves it two boots. The disk is the one that an
installation makes, except that nobody enrolled the machine, no proof lies on it, and the firmware finds xen.efi at the
default path instead of through a boot entry. Such a host proves nothing; molecule/measured_host has those that do.
Guests can be put beside it: the files of FOLDER are /var/lib/vouch/guests/FOLDER/ in dom0.

usage: lab_hostdisk.py --directory LAB --name NAME --image FOLDER [--guest FOLDER]... [--known-hosts FILE]
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import uuid
from collections.abc import Sequence
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "module_utils"))

from vouch.install.hostkey import ensure_host_key
from vouch.install.slot import data_file_system, esp_file_system, identity_bytes
from vouch.lab.control import Machine
from vouch.lab.machine import MachinePaths
from vouch.make.disklayout import plan_table
from vouch.make.fat import fat32_image
from vouch.make.medium import DEFAULT_LOADER
from vouch.model.disktable import sfdisk_script
from vouch.port.files import PUBLIC_MODE, write_atomic

SECTOR_BYTES = 512
ROOT_PARTITION = "vouch-a"
TOOL_TIMEOUT_S = 120
RELEASE = bytes(32)
"""No release is installed: zeros can be no digest of one."""


def write_host(disk: Path, image: Path, host_id: uuid.UUID, guests: Sequence[Path] = ()) -> str:
    """Write a whole host onto ``disk``, a sparse file of the machine's disk size; return its SSH host key.

    Args:
        disk: What was on it is lost.
        image: Output folder of role host_image: ``xen.efi`` and ``root.img``.
        host_id: Becomes the GUID of the disk.
        guests: Folders that are copied to the data partition.
    """
    size = disk.stat().st_size
    table = plan_table(host_id=host_id, disk_bytes=size, sector_bytes=SECTOR_BYTES)
    disk.write_bytes(b"")
    with disk.open("r+b") as stream:
        stream.truncate(size)
    _tool("sfdisk", "--quiet", str(disk), stdin=sfdisk_script(table))
    at = {entry.name: entry.start * SECTOR_BYTES for entry in table.partitions}
    volume = int(esp_file_system(host_id).uuid.replace("-", ""), 16)
    loader = {DEFAULT_LOADER: (image / "xen.efi").read_bytes()}
    _write(disk, at["vouch-esp"], fat32_image(loader, volume_id=volume, time_s=0))
    _write(disk, at[ROOT_PARTITION], (image / "root.img").read_bytes())
    (data,) = (entry for entry in table.partitions if entry.name == "vouch-data")
    with tempfile.TemporaryDirectory(prefix="vouch-") as folder:
        content = Path(folder, "data")
        content.mkdir()
        key = ensure_host_key(content / "ssh")
        write_atomic(content / "identity.json", identity_bytes(host_id, RELEASE), mode=PUBLIC_MODE)
        Path(content, "guests").mkdir()
        for guest in guests:
            # Not Python's copy functions: they know no holes.
            _tool(
                "cp", "-R", "--sparse=always", "--reflink=auto", "--", str(guest), str(content / "guests" / guest.name)
            )
        wanted = data_file_system(host_id)
        where = f"offset={at['vouch-data']},root_owner=0:0,lazy_itable_init=1,lazy_journal_init=1"
        argv = [
            "mkfs.ext4",
            "-q",
            "-F",
            "-m",
            "0",
            "-E",
            where,
            "-L",
            wanted.label,
            "-U",
            wanted.uuid,
            "-d",
            str(content),
        ]
        _tool(*argv, str(disk), f"{data.size * SECTOR_BYTES // 1024}k")
    return key


def _write(disk: Path, at: int, data: bytes) -> None:
    with disk.open("r+b") as stream:
        stream.seek(at)
        stream.write(data)


def _tool(*argv: str, stdin: str = "") -> None:
    environment = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL": "C.UTF-8"}
    done = subprocess.run(
        argv, input=stdin.encode(), capture_output=True, timeout=TOOL_TIMEOUT_S, check=False, env=environment
    )
    if done.returncode != 0:
        raise RuntimeError(f"{argv[0]}: {(done.stdout + done.stderr).decode('utf-8', 'replace').strip()}")


def main() -> None:
    """Run the program."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--directory", type=Path, required=True)
    parser.add_argument("--name", required=True)
    parser.add_argument("--image", type=Path, required=True)
    parser.add_argument("--guest", type=Path, action="append", default=[])
    parser.add_argument("--known-hosts", type=Path)
    options = parser.parse_args()
    machine = Machine(MachinePaths(directory=options.directory, name=options.name))
    with machine.locked():
        if machine.observe().power != "off":
            raise RuntimeError(f"machine {options.name} is {machine.observe().power}, not off")
        host_id = uuid.uuid5(uuid.NAMESPACE_DNS, options.name)
        key = write_host(machine.paths.disk, options.image, host_id, options.guest)
    if options.known_hosts is not None:
        write_atomic(options.known_hosts, f"{options.name} {key}\n".encode())
    print(json.dumps({"ssh_host_key": key}))


if __name__ == "__main__":
    main()
