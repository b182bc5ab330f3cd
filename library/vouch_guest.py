#!/usr/bin/python
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""One guest of a measured host: started from its signed package, stopped, paused."""

from __future__ import annotations

DOCUMENTATION = r"""
module: vouch_guest
short_description: Start, stop or pause a guest of a measured host
version_added: "0.1.0"
description:
  - Signs an order with the key of an application authority and gives it to the VM verifier of the host. The order
    carries a challenge of the host, so it works there, once, and not later.
  - The host starts nothing but what the signed package describes. It fetches the package and its files from the image
    store by their digests, proves the SELinux policy again, measures the guest before its first instruction, and
    watches it from then on. Whatever does not hold is refused, and the refusal stands in the host's log.
  - Runs on the controller and speaks to the host through the SSH subsystem C(vouch).
  - Proves nothing about the guest. Collect evidence with M(vouch_evidence) and let M(vouch_appraise) judge it.
extends_documentation_fragment: vouch_host
options:
  host_id:
    description: UUID of the host. No other host obeys the order.
    type: str
    required: true
  order_key:
    description: Private key, PEM file, of an application authority that the host's image knows.
    type: path
    required: true
  name:
    description: Id of the guest on the host. Small letters, digits and hyphens.
    type: str
    required: true
  state:
    description:
      - V(started) has it run from O(package). A guest that is paused goes on, unless it was paused for a violation.
      - V(paused) has it stand still, its memory kept.
      - V(stopped) ends it and returns the proof of how it ended. It refuses to touch a guest with a violation.
      - V(absent) ends it whatever it is, a guest with a violation included, and forgets it.
    type: str
    choices: [started, stopped, paused, absent]
    default: started
  package:
    description: Signed package (DSSE file) that the guest is started from.
    type: path
  kind:
    description: Kind of domain. Without it the host takes the first that the package allows.
    type: str
    choices: [pv, pvh]
  mac:
    description: Address of its network card, for a package that lets the order name it.
    type: str
  store_url:
    description: URL of the image store, as the host reaches it.
    type: str
  shutdown_proof:
    description: How the guest was last stopped, as returned by this module. The host refuses to start it when it was
      not so, or when it was started since.
    type: dict
  answer_timeout:
    description: Seconds for the host to do it. A start fetches the guest's files first.
    type: int
    default: 600
  wait:
    description: Seconds to wait for a started guest to be up, its policy in force and checked. V(0) does not wait.
    type: int
    default: 0
requirements:
  - cryptography
attributes:
  check_mode:
    description: Asks the host what is there and says what would be done.
    support: full
  diff_mode:
    description: Shows state and package of the guest before and after.
    support: full
author:
  - The Vouch developers
"""

EXAMPLES = r"""
- name: Start a guest
  vouch_guest:
    host: "{{ ansible_host }}"
    private_key_file: /etc/vouch/id_ed25519
    host_key: "{{ enrolment.ssh_host_key }}"
    host_id: "{{ enrolment.host_id }}"
    order_key: /etc/vouch/order.pem
    name: web-1
    package: /srv/images/packages/base.dsse.json
    store_url: http://192.0.2.1:8080
  delegate_to: localhost

- name: Stop it, and keep the proof of how it ended
  vouch_guest:
    host: "{{ ansible_host }}"
    private_key_file: /etc/vouch/id_ed25519
    host_key: "{{ enrolment.ssh_host_key }}"
    host_id: "{{ enrolment.host_id }}"
    order_key: /etc/vouch/order.pem
    name: web-1
    state: stopped
  delegate_to: localhost
  register: ended
"""

RETURN = r"""
actions:
  description: What was ordered, or would be, in order. Empty when nothing was to be done.
  returned: always
  type: list
  elements: str
  sample: [start]
guest:
  description:
    - What the host says of the guest afterwards. Empty when there is none, or in check mode when it would be another.
    - Display only.
  returned: always
  type: dict
  sample: {"id": "web-1", "state": "running", "phase": "booting", "verdict": "pending"}
answer:
  description: What the host answered to the last order.
  returned: when something was ordered
  type: dict
  sample: {"domain_id": 3, "state": "running", "changed": true}
shutdown_proof:
  description: How the guest ended. Give it to the next start that is to go on from there.
  returned: when a guest was stopped and the host proved it
  type: dict
  sample: {"host_id": "6f9619ff-8b86-4d01-b42d-00cf4fc964ff", "counter": 12, "state": "00"}
code:
  description: Why nothing was done, or not all of it, as a stable code. Codes are listed in docs/findings.md.
  returned: failure
  type: str
  sample: package.debug
"""

import time
import traceback
from typing import Any

from ansible.module_utils.basic import AnsibleModule, missing_required_lib
from ansible.module_utils.vouch.errors import UnreachableError, VouchError
from ansible.module_utils.vouch.model.guestplan import WANTED, expected, plan, shown
from ansible.module_utils.vouch.model.gueststate import UP, VIOLATED, GuestRecord
from ansible.module_utils.vouch.model.order import START, GuestOrder, ShutdownProof
from ansible.module_utils.vouch.model.package import MAX_PACKAGE_BYTES, package_id
from ansible.module_utils.vouch.parse.fields import Fields
from ansible.module_utils.vouch.port.files import read_bounded
from ansible.module_utils.vouch.port.hostoptions import HOST_OPTIONS
from ansible.module_utils.vouch.port.progress import report

try:
    from ansible.module_utils.vouch.make.order import sign_guest_order
    from ansible.module_utils.vouch.make.sign import load_private_key
    from ansible.module_utils.vouch.port.guestclient import GuestClient
    from ansible.module_utils.vouch.port.ssh import Limits, connect
except ImportError:
    LIBRARY_ERROR: str | None = traceback.format_exc()
else:
    LIBRARY_ERROR = None

MAX_KEY_BYTES = 64 * 1024
POLL_S = 2.0
MAX_SIGNED_BYTES = 2 * MAX_PACKAGE_BYTES


def argument_spec() -> dict[str, Any]:
    """Return the options of this module."""
    return {
        **HOST_OPTIONS,
        "host_id": {"type": "str", "required": True},
        "order_key": {"type": "path", "required": True, "no_log": False},
        "name": {"type": "str", "required": True},
        "state": {"type": "str", "choices": list(WANTED), "default": "started"},
        "package": {"type": "path"},
        "kind": {"type": "str", "choices": ["pv", "pvh"]},
        "mac": {"type": "str"},
        "store_url": {"type": "str"},
        "shutdown_proof": {"type": "dict"},
        "answer_timeout": {"type": "int", "default": 600},
        "wait": {"type": "int", "default": 0},
    }


class Host:
    """The host's guests, and orders for one of them."""

    def __init__(self, client: GuestClient, params: dict[str, Any], package: bytes | None) -> None:
        self._client, self._params, self._package = client, params, package

    def find(self) -> GuestRecord | None:
        """Return the guest as its host lists it."""
        wanted = self._params["name"]
        return next((item.record for item in self._client.guests() if item.record.id == wanted), None)

    def wait_until_up(self) -> GuestRecord | None:
        """Return the guest once it is up, or at once where nobody wants to wait.

        Raises:
            UnreachableError: ``guest.violated``, ``guest.gone``, ``guest.slow``.
        """
        name, until_s = self._params["name"], time.monotonic() + self._params["wait"]
        while True:
            found = self.find()
            if not self._params["wait"] or (found is not None and found.phase == UP):
                return found
            if found is None:
                raise UnreachableError(f"{name} is not there any more", code="guest.gone")
            if found.state == VIOLATED:
                raise UnreachableError(f"held for {', '.join(found.violations)}", code="guest.violated")
            if time.monotonic() > until_s:
                raise UnreachableError(
                    f"not up after {self._params['wait']} s, phase {found.phase}",
                    code="guest.slow",
                    hint="wait longer, or look at the console of the guest",
                )
            report(f"guest {name}: {found.phase}, {found.rounds} rounds of checks")
            time.sleep(POLL_S)

    def order(self, action: str) -> dict[str, Any]:
        """Give one order; return the host's answer."""
        params = self._params
        # Before the challenge is taken, which lives for a short time only.
        key = load_private_key(read_bounded(params["order_key"], limit_bytes=MAX_KEY_BYTES))
        order = GuestOrder(action, params["host_id"], params["name"], self._client.challenge())
        if action == START:
            proof = params["shutdown_proof"]
            order = order._replace(
                package=self._package,
                kind=params["kind"],
                mac=params["mac"],
                store=params["store_url"],
                shutdown_proof=None if proof is None else ShutdownProof.read(Fields(proof, "shutdown_proof")),
            )
        return self._client.order(sign_guest_order(order, key))


def apply(params: dict[str, Any], *, check_mode: bool) -> dict[str, Any]:
    """Return the module's result."""
    package = None
    if params["package"]:
        package = package_id(read_bounded(params["package"], limit_bytes=MAX_SIGNED_BYTES))
    with connect(params, Limits(answer_s=float(params["answer_timeout"]))) as verifier:
        host = Host(GuestClient(verifier), params, package)
        before = host.find()
        actions = plan(params["state"], before, package=package, kind=params["kind"])
        result: dict[str, Any] = {"changed": bool(actions), "actions": actions}
        after: dict[str, Any] = shown(before)
        if actions and check_mode:
            after = expected(actions[-1], before, package)
            result["guest"] = {}
        else:
            for action in actions:
                result["answer"] = host.order(action)
                if "shutdown_proof" in result["answer"]:
                    result["shutdown_proof"] = result["answer"]["shutdown_proof"]
            found = host.wait_until_up() if params["state"] == "started" else host.find()
            after = shown(found)
            result["guest"] = found.to_json() if found else {}
    return {**result, "diff": {"before": shown(before), "after": after}}


def main() -> None:
    """Run the module."""
    module = AnsibleModule(
        argument_spec=argument_spec(),
        required_if=[("state", "started", ("package", "store_url"))],
        supports_check_mode=True,
    )
    if LIBRARY_ERROR is not None:
        module.fail_json(msg=missing_required_lib("paramiko and cryptography"), exception=LIBRARY_ERROR)
    try:
        result = apply(module.params, check_mode=module.check_mode)
    except VouchError as error:
        module.fail_json(msg=f"guest {module.params['name']}: {error}", code=error.code)
    except OSError as error:
        module.fail_json(msg=f"{error.filename}: {error.strerror}", code="guest.files")
    module.exit_json(**result)


if __name__ == "__main__":
    main()
