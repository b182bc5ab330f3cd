#!/usr/bin/python
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Collect evidence of one measured host."""

from __future__ import annotations

DOCUMENTATION = r"""
module: vouch_evidence
short_description: Collect fresh evidence of a measured host
version_added: "0.1.0"
description:
  - Asks the VM verifier of one host for evidence and keeps the answer as it came, for M(vouch_appraise) to judge.
  - The nonce is made here, of 32 random bytes, for this one request. It cannot be given, so it cannot be reused.
  - Runs on the controller and speaks to the host through the SSH subsystem C(vouch). It needs neither a shell nor
    Python on the host.
  - Judges nothing. What the host says of itself is returned for display; only an appraisal of the evidence proves it.
extends_documentation_fragment: vouch_host
options:
  pcrs:
    description: Registers of the SHA-256 bank to quote.
    type: list
    elements: int
    default: [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 14]
  ima_offset:
    description: Byte of the host's IMA list to begin at, as remembered from an earlier appraisal. V(0) gets all of it.
    type: int
    default: 0
  dest:
    description:
      - File for the evidence, in a directory that exists. It is replaced in one step and readable by its owner only.
      - After a failure the file of an earlier run is still there, unchanged.
    type: path
    required: true
  connect_timeout:
    description: Seconds for each step of the connection.
    type: int
    default: 15
  answer_timeout:
    description: Seconds for the answer. A TPM takes up to a second, and other askers may be served first.
    type: int
    default: 120
  patience:
    description:
      - Seconds to wait for a host that is coming up. Until then whatever SSH says is asked again, each time over a new
        connection and under a new nonce. A refused key, a wrong host key and every answer of the service end the wait.
    type: int
    default: 0
  on_unreachable:
    description:
      - What to do when no evidence could be had.
      - V(fail) fails the task. V(report) succeeds with RV(collected=false) and RV(code), so that the appraisal can
        record that the host gave no evidence.
    type: str
    choices: [fail, report]
    default: fail
attributes:
  check_mode:
    description: Works as without it, because the host is only read. O(dest) is written as well.
    support: full
  diff_mode:
    description: Has nothing to show.
    support: none
notes:
  - RV(ignore:changed) is always V(false), because evidence describes a host and does not change it.
author:
  - The Vouch developers
"""

EXAMPLES = r"""
- name: Collect evidence of every measured host
  vouch_evidence:
    host: "{{ ansible_host }}"
    port: "{{ ansible_port | default(22) }}"
    private_key_file: "{{ playbook_dir }}/../build/demo/vouch_ed25519"
    host_key: "{{ enrolment.ssh_host_key }}"
    dest: "{{ playbook_dir }}/../build/demo/{{ inventory_hostname }}.evidence.json"
  delegate_to: localhost
  register: evidence

- name: Collect what is new in IMA's list, and go on when the host is down
  vouch_evidence:
    host: 192.0.2.10
    private_key_file: /etc/vouch/id_ed25519
    host_key: ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIE0QLnOWD2GSEHd1BkZYbrkJM2W1yRIqxWGKXyNbyMpF
    ima_offset: 81234
    dest: /var/lib/vouch/evidence/host1.json
    on_unreachable: report
  delegate_to: localhost
"""

RETURN = r"""
collected:
  description: Whether evidence was received and written.
  returned: always
  type: bool
  sample: true
nonce:
  description: The nonce of this request, in hexadecimal. The appraisal needs it.
  returned: always
  type: str
  sample: 8f2c0d3b7a5e4f60918273645546372819aabbccddeeff001122334455667788
pcrs:
  description: The registers that were asked for.
  returned: always
  type: list
  elements: int
  sample: [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 14]
ima_offset:
  description: The byte of IMA's list that was asked for.
  returned: always
  type: int
  sample: 0
requested_at:
  description: When the nonce was made, in UTC.
  returned: always
  type: str
  sample: "2026-01-01T00:00:00Z"
dest:
  description: File of the evidence.
  returned: when collected
  type: path
  sample: /var/lib/vouch/evidence/host1.json
evidence_digest:
  description: SHA-256 of the file, by which results name this evidence.
  returned: when collected
  type: str
  sample: 2c26b46b68ffc68ff99b453c1d30413413422d706483bfa0f98a5e886266e7ae
evidence_bytes:
  description: Size of the file.
  returned: when collected
  type: int
  sample: 123456
duration_ms:
  description: Milliseconds from the beginning of the connection to the whole answer.
  returned: when collected
  type: int
  sample: 640
hello:
  description: What the host says it is. Display only.
  returned: when collected
  type: dict
  sample:
    product: vouch
    protocol: 1
    host_id: 6f9619ff-8b86-4d01-b42d-00cf4fc964ff
    release_id: ""
    requests: [hello, evidence]
ssh_host_key:
  description: The host key that was seen, also when it was not the expected one. Empty when none was seen.
  returned: always
  type: str
  sample: ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIE0QLnOWD2GSEHd1BkZYbrkJM2W1yRIqxWGKXyNbyMpF
code:
  description: Why there is no evidence, as a stable code. Codes are listed in docs/findings.md.
  returned: when not collected
  type: str
  sample: ssh.connect
message:
  description: The same for people.
  returned: when not collected
  type: str
  sample: "192.0.2.10:22: Connection refused [ssh.connect]"
"""

import hashlib
import traceback
from typing import Any

from ansible.module_utils.basic import AnsibleModule, missing_required_lib
from ansible.module_utils.vouch.errors import UnreachableError, UsageError
from ansible.module_utils.vouch.port.clock import Clock, SystemClock, utc_text
from ansible.module_utils.vouch.port.files import write_atomic
from ansible.module_utils.vouch.port.hostoptions import HOST_OPTIONS

try:
    from ansible.module_utils.vouch.port.ssh import HostKeyMismatchError, Limits, connect
except ImportError:
    PARAMIKO_ERROR: str | None = traceback.format_exc()
else:
    PARAMIKO_ERROR = None

NONCE_BYTES = 32
PAUSE_S = 1.0
COMING_UP = frozenset({"ssh.connect", "ssh.handshake", "ssh.timeout", "ssh.subsystem", "ssh.closed", "ssh.answer"})
"""What a host says that has not come up yet: nothing, or sshd without the service behind it."""


def collect_patiently(params: dict[str, Any], result: dict[str, Any], clock: Clock) -> None:
    """Fill ``result`` with what was collected; each attempt has a nonce, and a time it counts from, of its own."""
    give_up_s = clock.monotonic_s() + params["patience"]
    while True:
        nonce = clock.random_bytes(NONCE_BYTES)
        result.update(nonce=nonce.hex(), requested_at=utc_text(int(clock.now().timestamp())))
        try:
            result.update(collect(params, nonce, clock), collected=True)
        except UnreachableError as error:
            if error.code not in COMING_UP or clock.monotonic_s() >= give_up_s:
                raise
            clock.sleep(PAUSE_S)
        else:
            return


def collect(params: dict[str, Any], nonce: bytes, clock: Clock) -> dict[str, Any]:
    """Return the result of one request; the evidence is in its file then."""
    connect_s = float(params["connect_timeout"])
    limits = Limits(connect_s=connect_s, banner_s=connect_s, auth_s=connect_s, answer_s=float(params["answer_timeout"]))
    began_s = clock.monotonic_s()
    with connect(params, limits, clock) as verifier:
        hello = verifier.hello()
        evidence = verifier.evidence(nonce, params["pcrs"], ima_offset=params["ima_offset"])
        host_key = verifier.host_key
    duration_ms = int((clock.monotonic_s() - began_s) * 1000)
    write_atomic(params["dest"], evidence)
    return {
        "dest": params["dest"],
        "evidence_digest": hashlib.sha256(evidence).hexdigest(),
        "evidence_bytes": len(evidence),
        "duration_ms": duration_ms,
        "ssh_host_key": host_key,
        "hello": {
            "product": hello.product,
            "protocol": hello.protocol,
            "host_id": hello.host_id,
            "release_id": hello.release_id,
            "requests": list(hello.requests),
        },
    }


def main() -> None:
    """Run the module."""
    module = AnsibleModule(
        argument_spec={
            **HOST_OPTIONS,
            "pcrs": {"type": "list", "elements": "int", "default": [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 14]},
            "ima_offset": {"type": "int", "default": 0},
            "dest": {"type": "path", "required": True},
            "connect_timeout": {"type": "int", "default": 15},
            "answer_timeout": {"type": "int", "default": 120},
            "patience": {"type": "int", "default": 0},
            "on_unreachable": {"type": "str", "choices": ["fail", "report"], "default": "fail"},
        },
        supports_check_mode=True,
    )
    if PARAMIKO_ERROR is not None:
        module.fail_json(msg=missing_required_lib("paramiko"), exception=PARAMIKO_ERROR)
    clock = SystemClock()
    module.params["pcrs"] = sorted(set(module.params["pcrs"]))
    result: dict[str, Any] = {
        "changed": False,
        "collected": False,
        "nonce": "",
        "pcrs": module.params["pcrs"],
        "ima_offset": module.params["ima_offset"],
        "requested_at": "",
        "ssh_host_key": "",
    }
    try:
        collect_patiently(module.params, result, clock)
    except UsageError as error:
        module.fail_json(msg=str(error), code=error.code, **result)
    except UnreachableError as error:
        result.update(code=error.code, message=str(error))
        if isinstance(error, HostKeyMismatchError):
            result["ssh_host_key"] = error.observed
        # A file that cannot be written here says nothing about the host.
        if module.params["on_unreachable"] == "fail" or error.code.startswith("files."):
            module.fail_json(msg=str(error), **result)
    module.exit_json(**result)


if __name__ == "__main__":
    main()
