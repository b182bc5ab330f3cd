#!/usr/bin/python
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Guests of a measured host, as it lists them."""

from __future__ import annotations

DOCUMENTATION = r"""
module: vouch_guest_info
short_description: List the guests of a measured host
version_added: "0.1.0"
description:
  - Asks the VM verifier of a host which guests there are, how they were found, and what happened to them lately.
  - Runs on the controller and speaks to the host through the SSH subsystem C(vouch).
  - What it returns is the word of the host and for display only. A verdict comes from M(vouch_appraise) alone.
extends_documentation_fragment: vouch_host
options:
  name:
    description: Id of the one guest that is wanted. Without it all are listed.
    type: str
  answer_timeout:
    description: Seconds for the answer.
    type: int
    default: 60
attributes:
  check_mode:
    description: Works as without it, because the host is only read.
    support: full
  diff_mode:
    description: Has nothing to show.
    support: none
notes:
  - RV(ignore:changed) is always V(false).
author:
  - The Vouch developers
"""

EXAMPLES = r"""
- name: See what runs
  vouch_guest_info:
    host: "{{ ansible_host }}"
    private_key_file: /etc/vouch/id_ed25519
    host_key: "{{ enrolment.ssh_host_key }}"
  delegate_to: localhost
  register: guests
"""

RETURN = r"""
guests:
  description: The guests, in the order of their ids; see docs/proof.md for the members.
  returned: always
  type: list
  elements: dict
  sample: [{"id": "web-1", "state": "running", "phase": "running", "verdict": "holds", "violations": []}]
histories:
  description: Id of a guest to the last events that its host tells of it, oldest first.
  returned: always
  type: dict
  sample: {"web-1": [{"event": "guest.launch", "time": 1790000000}]}
"""

import traceback
from typing import Any

from ansible.module_utils.basic import AnsibleModule, missing_required_lib
from ansible.module_utils.vouch.errors import VouchError
from ansible.module_utils.vouch.port.hostoptions import HOST_OPTIONS

try:
    from ansible.module_utils.vouch.port.guestclient import GuestClient
    from ansible.module_utils.vouch.port.ssh import Limits, connect
except ImportError:
    LIBRARY_ERROR: str | None = traceback.format_exc()
else:
    LIBRARY_ERROR = None


def apply(params: dict[str, Any]) -> dict[str, Any]:
    """Return the module's result."""
    with connect(params, Limits(answer_s=float(params["answer_timeout"]))) as verifier:
        found = [item for item in GuestClient(verifier).guests() if params["name"] in (None, item.record.id)]
    return {
        "changed": False,
        "guests": [item.record.to_json() for item in found],
        "histories": {item.record.id: list(item.history) for item in found},
    }


def main() -> None:
    """Run the module."""
    module = AnsibleModule(
        argument_spec={
            **HOST_OPTIONS,
            "name": {"type": "str"},
            "answer_timeout": {"type": "int", "default": 60},
        },
        supports_check_mode=True,
    )
    if LIBRARY_ERROR is not None:
        module.fail_json(msg=missing_required_lib("paramiko"), exception=LIBRARY_ERROR)
    try:
        result = apply(module.params)
    except VouchError as error:
        module.fail_json(msg=str(error), code=error.code)
    module.exit_json(**result)


if __name__ == "__main__":
    main()
