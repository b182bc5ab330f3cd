#!/usr/bin/python
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Make, run and remove an emulated machine with UEFI firmware and a TPM."""

from __future__ import annotations

DOCUMENTATION = r"""
module: vouch_lab_machine
short_description: Make, run and remove an emulated machine of the lab
version_added: "0.1.0"
description:
  - A machine is QEMU with OVMF as firmware, swtpm as TPM 2.0 with EK certificates from a certificate authority of the
    lab, one disk, one network card on a user network, and one serial port whose output goes to a file.
  - Everything of machine C(NAME) lives in the directory C(NAME) under O(directory). Nothing of the machine is left
    after V(absent), and no process or socket after V(stopped), also when an earlier run was killed.
  - Processes are recognised by their start time and their command line, so no other program is ever signalled.
options:
  name:
    description: Name of the machine. Lower case letters, digits and hyphens, at most 31.
    type: str
    required: true
  directory:
    description:
      - Directory of the lab. Must be short, since the kernel allows 107 bytes for the path of a socket below it.
    type: path
    required: true
  state:
    description:
      - V(present) makes the machine and leaves it on or off, as it is.
      - V(started) makes it and switches it on.
      - V(stopped) switches it off. Does not fail when it does not exist.
      - V(absent) switches it off and removes it.
      - V(reset) presses its reset button. It must be on. This is an action, so every run reports a change.
      - V(power_cut) ends it as a pulled plug does, and leaves it off. What it had written to its disk and stored in
        its TPM stays. This is an action as well, and changes nothing where the machine is off.
    type: str
    choices: [present, started, stopped, absent, reset, power_cut]
    default: started
  disk_mb:
    description: Size of the disk. It can grow while the machine is off, and never shrinks.
    type: int
    default: 8192
  memory_mb:
    description: Size of the memory.
    type: int
    default: 2048
  cpus:
    description: Number of processors.
    type: int
    default: 2
  serial:
    description:
      - Serial number of the disk, at most 20 characters. The machine sees C(/dev/disk/by-id/virtio-SERIAL).
      - The name of the machine when empty.
    type: str
    default: ""
  forwards:
    description: TCP ports of the machine that are reachable on C(127.0.0.1).
    type: list
    elements: dict
    default: []
    suboptions:
      host_port:
        description: Port on C(127.0.0.1). No two machines of one lab can have the same.
        type: int
        required: true
      guest_port:
        description: Port of the machine.
        type: int
        required: true
  medium:
    description:
      - Image of an installer medium. The machine sees a USB stick and boots it before its disk.
      - Without this option the machine has no medium. A medium is plugged in and pulled out while the machine runs.
    type: path
    default: ""
  tpm:
    description: Whether the machine has a TPM 2.0. Only its SHA-256 bank is active.
    type: str
    choices: [present, absent]
    default: present
  accelerator:
    description: V(auto) uses KVM where the processor flags and C(/dev/kvm) allow it, and translates otherwise.
    type: str
    choices: [auto, kvm, tcg]
    default: auto
  firmware_code:
    description: UEFI firmware.
    type: path
    default: /usr/share/OVMF/OVMF_CODE_4M.fd
  firmware_variables:
    description: UEFI variables a new machine starts with.
    type: path
    default: /usr/share/OVMF/OVMF_VARS_4M.fd
  wait_for:
    description:
      - Regular expression. The task ends when a line of the console matches, counted from the last start or reset.
      - With O(state=started) and O(state=reset) only.
    type: str
    default: ""
  timeout:
    description: How many seconds to wait for O(wait_for).
    type: int
    default: 300
requirements:
  - qemu-system-x86
  - ovmf
  - swtpm
  - swtpm-tools
attributes:
  check_mode:
    description: Says what would be done; refuses what would fail, such as a port that another machine has.
    support: full
  diff_mode:
    description: Shows the hardware and the power state before and after.
    support: full
author:
  - The Vouch developers
"""

EXAMPLES = r"""
- name: Switch on a machine with an installer medium and wait until it can be reached
  vouch_lab_machine:
    name: host1
    directory: /var/lib/vouch-lab
    forwards:
      - host_port: 2201
        guest_port: 22
    medium: /var/lib/vouch-lab/installer.img
    wait_for: vouch-installer ready
    timeout: 120

- name: Pull the medium out and press the reset button
  vouch_lab_machine:
    name: host1
    directory: /var/lib/vouch-lab
    forwards:
      - host_port: 2201
        guest_port: 22
    state: "{{ item }}"
  loop: [present, reset]

- name: Pull the plug
  vouch_lab_machine:
    name: host1
    directory: /var/lib/vouch-lab
    state: power_cut
"""

RETURN = r"""
name:
  description: Name of the machine.
  returned: always
  type: str
  sample: host1
power:
  description: V(absent), V(off) or V(on).
  returned: always
  type: str
  sample: "on"
pids:
  description: Its processes. A program that does not run is missing.
  returned: always
  type: dict
  sample: {"qemu": 4711, "swtpm": 4710}
folder:
  description: Directory of the machine.
  returned: always
  type: str
  sample: /var/lib/vouch-lab/host1
console:
  description: What the machine wrote to its serial port since it was started.
  returned: always
  type: str
  sample: /var/lib/vouch-lab/host1/console.log
qmp_socket:
  description: Control socket of QEMU.
  returned: always
  type: str
  sample: /var/lib/vouch-lab/host1/run/qmp.sock
tpm_socket:
  description: Control socket of swtpm.
  returned: always
  type: str
  sample: /var/lib/vouch-lab/host1/run/tpm.sock
disk:
  description: Image of the disk.
  returned: always
  type: str
  sample: /var/lib/vouch-lab/host1/disk.img
disk_id:
  description: Stable name under which a Linux in the machine finds the disk.
  returned: always
  type: str
  sample: /dev/disk/by-id/virtio-host1
ek_ca_certificates:
  description: Certificates above the EK certificate of the TPM, issuer first, as PEM files. Empty without a TPM.
  returned: always
  type: list
  elements: str
  sample: [/var/lib/vouch-lab/ca/issuercert.pem, /var/lib/vouch-lab/ca/swtpm-localca-rootca-cert.pem]
console_line:
  description: The line in which O(wait_for) was found.
  returned: when O(wait_for) was found
  type: str
  sample: vouch-installer ready SHA256:0f6lXkqJqE3X5cS4b6m0h1w2
"""

from pathlib import Path
from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible.module_utils.vouch.errors import VouchError
from ansible.module_utils.vouch.lab.accel import REQUESTS
from ansible.module_utils.vouch.lab.console import compile_pattern, wait_for
from ansible.module_utils.vouch.lab.control import Machine, Observed
from ansible.module_utils.vouch.lab.machine import Firmware, Forward, MachinePaths, MachineSpec
from ansible.module_utils.vouch.lab.swtpm import ca_certificates

STATES = ("present", "started", "stopped", "absent", "reset", "power_cut")


def argument_spec() -> dict[str, Any]:
    """Return the options of this module."""
    forward = {"host_port": {"type": "int", "required": True}, "guest_port": {"type": "int", "required": True}}
    return {
        "name": {"type": "str", "required": True},
        "directory": {"type": "path", "required": True},
        "state": {"type": "str", "choices": list(STATES), "default": "started"},
        "disk_mb": {"type": "int", "default": 8192},
        "memory_mb": {"type": "int", "default": 2048},
        "cpus": {"type": "int", "default": 2},
        "serial": {"type": "str", "default": ""},
        "forwards": {"type": "list", "elements": "dict", "default": [], "options": forward},
        "medium": {"type": "path", "default": ""},
        "tpm": {"type": "str", "choices": ["present", "absent"], "default": "present"},
        "accelerator": {"type": "str", "choices": list(REQUESTS), "default": "auto"},
        "firmware_code": {"type": "path", "default": Firmware().code},
        "firmware_variables": {"type": "path", "default": Firmware().variables},
        "wait_for": {"type": "str", "default": ""},
        "timeout": {"type": "int", "default": 300},
    }


def spec_of(params: dict[str, Any]) -> MachineSpec:
    """Return the hardware that the options describe."""
    return MachineSpec(
        name=params["name"],
        disk_mb=params["disk_mb"],
        memory_mb=params["memory_mb"],
        cpus=params["cpus"],
        serial=params["serial"],
        forwards=tuple(Forward(**forward) for forward in params["forwards"]),
        medium=params["medium"],
        tpm=params["tpm"] == "present",
        accelerator=params["accelerator"],
    )


def shown(spec: MachineSpec | None, power: str) -> dict[str, Any]:
    """Return one side of the diff."""
    return {"power": power} if spec is None else {"power": power, "medium": spec.medium, **spec.hardware()}


def expected(before: Observed, spec: MachineSpec, state: str) -> tuple[MachineSpec | None, str]:
    """Return hardware and power as they will be, without doing anything."""
    if state == "absent":
        return None, "absent"
    if state in ("stopped", "power_cut"):
        return before.spec, "absent" if before.spec is None else "off"
    if state == "reset":
        return before.spec, before.power
    return spec, "on" if state == "started" or before.power == "on" else "off"


def apply(machine: Machine, spec: MachineSpec, state: str, before: Observed) -> bool:
    """Bring the machine into ``state``; return whether anything changed."""
    if state == "absent":
        return machine.remove()
    if state == "stopped":
        return machine.stop()
    if state == "power_cut":
        return machine.power_cut()
    if state == "reset":
        machine.reset()
        return True
    machine.check(spec)
    changed = before.power == "on" and machine.change_medium(spec.medium)
    changed = machine.make(spec) or changed
    return (state == "started" and machine.start()) or changed


def would_change(machine: Machine, spec: MachineSpec, state: str, before: Observed) -> bool:
    """Return whether ``apply`` would change anything.

    Raises:
        UsageError: ``apply`` would refuse.
    """
    if state == "reset":
        machine.require_on()
        return True
    if state in ("present", "started"):
        machine.check(spec)
    if state in ("stopped", "power_cut"):
        return before.qemu is not None or before.swtpm is not None
    return shown(*expected(before, spec, state)) != shown(before.spec, before.power)


def main() -> None:
    """Run the module."""
    module = AnsibleModule(argument_spec=argument_spec(), supports_check_mode=True)
    params = module.params
    state = params["state"]
    if params["wait_for"] and state not in ("started", "reset"):
        module.fail_json(msg=f"wait_for needs state started or reset, not {state}", code="lab.wait")
    result: dict[str, Any] = {}
    try:
        paths = MachinePaths(directory=Path(params["directory"]), name=params["name"])
        firmware = Firmware(code=params["firmware_code"], variables=params["firmware_variables"])
        machine = Machine(paths, firmware=firmware)
        spec = spec_of(params)
        compile_pattern(params["wait_for"])
        if module.check_mode:
            before = machine.observe()
            result["changed"] = would_change(machine, spec, state, before)
            after_spec, power = expected(before, spec, state)
            pids = {"qemu": before.qemu, "swtpm": before.swtpm}
        else:
            with machine.locked():
                before = machine.observe()
                result["changed"] = apply(machine, spec, state, before)
                after = machine.observe()
            after_spec, power = after.spec, after.power
            pids = {"qemu": after.qemu, "swtpm": after.swtpm}
        result["diff"] = {"before": shown(before.spec, before.power), "after": shown(after_spec, power)}
        result |= {
            "name": spec.name,
            "power": power,
            "pids": {program: pid for program, pid in pids.items() if pid is not None},
            "folder": str(paths.folder),
            "console": str(paths.console),
            "qmp_socket": str(paths.qmp_socket),
            "tpm_socket": str(paths.tpm_socket),
            "disk": str(paths.disk),
            "disk_id": f"/dev/disk/by-id/virtio-{spec.serial}",
            "ek_ca_certificates": [str(path) for path in ca_certificates(paths.directory)] if spec.tpm else [],
        }
        if params["wait_for"] and not module.check_mode:
            result["console_line"] = wait_for(
                paths.console,
                params["wait_for"],
                offset_bytes=machine.boot_offset(),
                timeout_s=params["timeout"],
                alive=machine.is_on,
            )
    except VouchError as exc:
        module.fail_json(msg=str(exc), code=exc.code, **result)
    module.exit_json(**result)


if __name__ == "__main__":
    main()
