# SPDX-License-Identifier: GPL-3.0-or-later
"""Do one thing to a lab machine that is off which an attacker would do. Prints what was changed, as JSON.

usage: lab_tamper.py --directory LAB --name NAME ACTION [...]

xen-config OLD NEW          another text in the configuration inside xen.efi, of the same length
other-kernel                another dom0 kernel inside xen.efi: the same one with another version text
flip-root BYTE              one bit of the root image
other-image STORE RELEASE   another release's files in place of the installed ones
roll-back                   the release before the last update is started again
forget-updates              no proof of any update is left on the data partition
other-ssh-key               another SSH host key on the data partition
clear-tpm                   TPM2_Clear
other-tpm                   another TPM
nothing                     the control of the experiment
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "module_utils"))

import lab_tpm
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat
from lab_disk import LabDisk

from vouch.lab.control import Machine
from vouch.lab.machine import MachinePaths
from vouch.model import update
from vouch.model.image import ROOT_IMAGE
from vouch.model.release import HYPERVISOR, HostRelease
from vouch.model.update import UPDATES_FILE
from vouch.parse.envelope import parse_envelope
from vouch.parse.pe import authenticode_digest, parse_pe

XEN_EFI, NEXT_EFI = f"/{update.CURRENT_EFI}", f"/{update.NEXT_EFI}"
SLOT = "vouch-a"
HOST_KEY = "/ssh/ssh_host_ed25519_key"

_KERNEL_VERSION_POINTER = 0x20E
"""Offset of the version text's own offset, minus 0x200 (Linux Documentation/arch/x86/boot.rst, kernel_version)."""


def xen_config(machine: Machine, old: str, new: str) -> dict[str, Any]:
    """Put ``new`` for ``old`` into the section ``.config`` of xen.efi."""
    return _change_section(machine, ".config", lambda text: _replaced_once(text, old.encode(), new.encode()))


def other_kernel(machine: Machine) -> dict[str, Any]:
    """Change the version text in the head of the kernel, which no boot under Xen looks at."""

    def change(kernel: bytes) -> bytes:
        at = int.from_bytes(kernel[_KERNEL_VERSION_POINTER:][:2], "little") + 0x200
        version = kernel[at : kernel.index(b"\0", at)]
        return _replaced_once(kernel, version, version.swapcase())

    return _change_section(machine, ".kernel", change)


def flip_root(machine: Machine, byte: str) -> dict[str, Any]:
    """Flip the lowest bit of one byte of the root image."""
    disk, at = LabDisk(machine.paths.disk), int(byte)
    before = disk.read(SLOT, at, 1)
    after = bytes([before[0] ^ 1])
    disk.write(SLOT, at, after)
    return {"before": before.hex(), "after": after.hex()}


def other_image(machine: Machine, store: str, release_file: str) -> dict[str, Any]:
    """Put another release's files, from an image store, into the slot that is booted."""
    release = HostRelease.from_bytes(parse_envelope(Path(release_file).read_bytes()).payload)
    blob = {name: Path(store, "sha256", release.subjects[name].hex()) for name in (HYPERVISOR, ROOT_IMAGE)}
    disk = LabDisk(machine.paths.disk)
    before, after = disk.esp_file(XEN_EFI), blob[HYPERVISOR].read_bytes()
    disk.write_esp_file(XEN_EFI, after)
    disk.write(SLOT, 0, blob[ROOT_IMAGE].read_bytes())
    return _authenticode(before, after)


def roll_back(machine: Machine) -> dict[str, Any]:
    """Let the two boot files change places again."""
    disk = LabDisk(machine.paths.disk)
    before, after = disk.esp_file(XEN_EFI), disk.esp_file(NEXT_EFI)
    disk.write_esp_file(XEN_EFI, after)
    disk.write_esp_file(NEXT_EFI, before)
    return _authenticode(before, after)


def forget_updates(machine: Machine) -> dict[str, Any]:
    """Empty the chain of update proofs."""
    LabDisk(machine.paths.disk).write_data_files({f"/{UPDATES_FILE}": (b'{"updates":[],"version":1}', 0o600)})
    return {}


def other_ssh_key(machine: Machine) -> dict[str, Any]:
    """Put a key of our own in the place of the host's."""
    disk, key = LabDisk(machine.paths.disk), Ed25519PrivateKey.generate()
    before = disk.data_file(f"{HOST_KEY}.pub").decode().split()[:2]
    private = key.private_bytes(Encoding.PEM, PrivateFormat.OpenSSH, NoEncryption())
    public = key.public_key().public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH)
    disk.write_data_files({HOST_KEY: (private, 0o600), f"{HOST_KEY}.pub": (public + b"\n", 0o644)})
    return {"before": " ".join(before), "after": public.decode()}


def clear_tpm(machine: Machine) -> dict[str, Any]:
    """Clear the TPM."""
    lab_tpm.clear(machine)
    return {}


def other_tpm(machine: Machine) -> dict[str, Any]:
    """Exchange the TPM."""
    lab_tpm.exchange(machine)
    return {}


def nothing(machine: Machine) -> dict[str, Any]:
    """Leave the machine as it is."""
    return {}


ACTIONS: dict[str, Callable[..., dict[str, Any]]] = {
    function.__name__.replace("_", "-"): function
    for function in (
        *(xen_config, other_kernel, flip_root, other_image, roll_back, forget_updates),
        *(other_ssh_key, clear_tpm, other_tpm, nothing),
    )
}


def _change_section(machine: Machine, name: str, change: Callable[[bytes], bytes]) -> dict[str, Any]:
    disk = LabDisk(machine.paths.disk)
    before = disk.esp_file(XEN_EFI)
    section = parse_pe(before).section(name)
    if section is None:
        raise LookupError(f"xen.efi has no section {name}")
    old = before[section.raw_offset : section.raw_end]
    new = change(old)
    if len(new) != len(old) or new == old:
        raise ValueError(f"section {name} must change and keep its length")
    after = before[: section.raw_offset] + new + before[section.raw_end :]
    disk.write_esp_file(XEN_EFI, after)
    return _authenticode(before, after)


def _authenticode(before: bytes, after: bytes) -> dict[str, Any]:
    return {"before": authenticode_digest(before).hex(), "after": authenticode_digest(after).hex()}


def _replaced_once(data: bytes, old: bytes, new: bytes) -> bytes:
    if len(old) != len(new) or data.count(old) != 1:
        raise ValueError(f"{old!r} stands {data.count(old)} times, and {new!r} must be as long")
    return data.replace(old, new)


def main() -> None:
    """Run the program."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--directory", type=Path, required=True)
    parser.add_argument("--name", required=True)
    parser.add_argument("action", choices=ACTIONS)
    parser.add_argument("arguments", nargs="*")
    options = parser.parse_args()
    machine = Machine(MachinePaths(directory=options.directory, name=options.name))
    with machine.locked():
        if machine.observe().power != "off":
            raise RuntimeError(f"machine {options.name} is {machine.observe().power}, not off")
        print(json.dumps(ACTIONS[options.action](machine, *options.arguments)))


if __name__ == "__main__":
    main()
