#!/usr/bin/python
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Change a guest's kernel in the memory of a lab machine, from outside, and wait until its host says so."""

from __future__ import annotations

DOCUMENTATION = r"""
module: vouch_lab_attack
short_description: Attack the kernel of a guest on a lab machine through the hardware
version_added: "0.1.0"
description:
  - Changes one byte of code of a guest's kernel in the memory of the emulated machine, as somebody with his hands on
    the hardware would, and waits until the VM verifier of the machine tells of a violation.
  - The page is one that the kernel never patches. It is looked for in all of the machine's memory, where dom0 and other
    guests may have the same page; give what check mode found before the guest was started as O(spare).
  - For showing and testing. It works on machines of the lab only.
extends_documentation_fragment: vouch_host
options:
  machine:
    description: Name of the lab machine, which must be on.
    type: str
    required: true
  directory:
    description: Directory of the lab.
    type: path
    required: true
  kernel:
    description: The boot image (vmlinuz) that the guest was started from.
    type: path
    required: true
  spare:
    description: Places that are not touched, as returned in RV(places).
    type: list
    elements: int
    default: []
  guest:
    description: Id of the guest that is meant. The violation of another one is a failure.
    type: str
    required: true
  timeout:
    description: Seconds to wait for the violation.
    type: int
    default: 60
attributes:
  check_mode:
    description: Looks for the page and changes nothing.
    support: full
  diff_mode:
    description: Has nothing to show.
    support: none
notes:
  - This is an attack, so every run reports a change.
author:
  - The Vouch developers
"""

EXAMPLES = r"""
- name: See where the page is before the guest is there
  vouch_lab_attack:
    machine: host1
    directory: /var/lib/vouch-lab
    kernel: /srv/images/base/vmlinuz
    guest: victim
    host: 127.0.0.1
    port: 2201
    private_key_file: /etc/vouch/id_ed25519
    host_key: "{{ enrolment.ssh_host_key }}"
  check_mode: true
  register: before

- name: Attack it
  vouch_lab_attack:
    machine: host1
    directory: /var/lib/vouch-lab
    kernel: /srv/images/base/vmlinuz
    guest: victim
    spare: "{{ before.places }}"
    host: 127.0.0.1
    port: 2201
    private_key_file: /etc/vouch/id_ed25519
    host_key: "{{ enrolment.ssh_host_key }}"
"""

RETURN = r"""
address:
  description: Where the page is in the guest's kernel, in hexadecimal.
  returned: always
  type: str
  sample: "0xffffffff81c54000"
places:
  description: Where the page was found, as offsets into the memory of the machine, spared ones included.
  returned: always
  type: list
  elements: int
  sample: [536870912]
changed_places:
  description: Where a byte was changed.
  returned: always
  type: list
  elements: int
  sample: [536870912]
milliseconds:
  description: From the change until the host's word of the violation was here, over SSH.
  returned: when attacked
  type: int
  sample: 900
event:
  description: What the host told.
  returned: when attacked
  type: dict
  sample: {"event": "guest.violation", "guest": "victim", "codes": "guest.text.changed"}
code:
  description: Why it did not work, as a stable code. Codes are listed in docs/findings.md.
  returned: failure
  type: str
  sample: lab.memory
"""

import time
import traceback
from pathlib import Path
from typing import Any

from ansible.module_utils.basic import AnsibleModule, missing_required_lib
from ansible.module_utils.vouch.errors import UnreachableError, VouchError
from ansible.module_utils.vouch.lab.control import Machine
from ansible.module_utils.vouch.lab.machine import MachinePaths
from ansible.module_utils.vouch.lab.memory import MachineMemory
from ansible.module_utils.vouch.make.steadypage import steady_page
from ansible.module_utils.vouch.port.files import read_bounded
from ansible.module_utils.vouch.port.hostoptions import HOST_OPTIONS

try:
    from ansible.module_utils.vouch.port.guestclient import GuestClient
    from ansible.module_utils.vouch.port.ssh import Limits, connect
except ImportError:
    LIBRARY_ERROR: str | None = traceback.format_exc()
else:
    LIBRARY_ERROR = None

MAX_KERNEL_BYTES = 64 << 20
IDLE_S = 1.0
BEGIN, VIOLATION = "watch.begin", "guest.violation"


def attack(memory: MachineMemory, places: list[int], params: dict[str, Any]) -> dict[str, Any]:
    """Change a byte at each place, and return what the host told and when."""
    with connect(params, Limits(answer_s=float(params["timeout"]))) as verifier:
        events = GuestClient(verifier).watch(idle_s=IDLE_S)
        until_s = time.monotonic() + params["timeout"]
        began_s = 0.0
        for event in events:
            if event is None and time.monotonic() > until_s:
                raise UnreachableError(
                    f"nothing was said of a violation within {params['timeout']} s", code="lab.unnoticed"
                )
            if event is not None and event.get("event") == BEGIN:
                began_s, until_s = time.monotonic(), time.monotonic() + params["timeout"]
                for place in places:
                    memory.write(place, bytes([memory.read(place, 1)[0] ^ 1]))
            elif event is not None and event.get("event") == VIOLATION:
                seconds = time.monotonic() - began_s
                if event.get("guest") != params["guest"]:
                    raise UnreachableError(f"{event.get('guest')} was meant by nobody", code="lab.other")
                return {"event": event, "milliseconds": int(seconds * 1000)}
    raise UnreachableError("the host ended the session", code="ssh.closed")


def apply(params: dict[str, Any], *, check_mode: bool) -> dict[str, Any]:
    """Return the module's result."""
    address, content = steady_page(read_bounded(params["kernel"], limit_bytes=MAX_KERNEL_BYTES))
    machine = Machine(MachinePaths(directory=Path(params["directory"]), name=params["machine"]))
    with MachineMemory(machine) as memory:
        places = memory.pages_with(content)
        meant = [place for place in places if place not in params["spare"]]
        result = {"changed": True, "address": f"{address:#x}", "places": places, "changed_places": meant}
        if check_mode:
            return result
        if not meant:
            raise UnreachableError("the kernel is nowhere in the memory of the machine", code="lab.unfound")
        return {**result, **attack(memory, meant, params)}


def main() -> None:
    """Run the module."""
    module = AnsibleModule(
        argument_spec={
            "machine": {"type": "str", "required": True},
            "directory": {"type": "path", "required": True},
            "kernel": {"type": "path", "required": True},
            "spare": {"type": "list", "elements": "int", "default": []},
            "guest": {"type": "str", "required": True},
            **HOST_OPTIONS,
            "timeout": {"type": "int", "default": 60},
        },
        supports_check_mode=True,
    )
    if LIBRARY_ERROR is not None:
        module.fail_json(msg=missing_required_lib("paramiko"), exception=LIBRARY_ERROR)
    try:
        result = apply(module.params, check_mode=module.check_mode)
    except VouchError as error:
        module.fail_json(msg=f"machine {module.params['machine']}: {error}", code=error.code)
    except OSError as error:
        module.fail_json(msg=f"{error.filename}: {error.strerror}", code="lab.files")
    module.exit_json(**result)


if __name__ == "__main__":
    main()
