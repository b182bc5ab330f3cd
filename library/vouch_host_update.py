#!/usr/bin/python
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""One step of a measured host's update: staged, tried once, confirmed."""

from __future__ import annotations

DOCUMENTATION = r"""
module: vouch_host_update
short_description: Stage, try or confirm a new release on a measured host
version_added: "0.1.0"
description:
  - Signs an order with the key of an application authority and gives it to the VM verifier of the host, which does the
    step itself. Nothing is pushed to the host. It fetches the release and its files from the image store by digest,
    and believes none that a release key of its own image did not sign.
  - Keeps the record of the host in step. While an update is made, evidence of the old and of the new release is
    accepted. Once it is confirmed, the old release is retired, and a host that runs it again is contraindicated.
  - Between V(tried) and V(confirmed) evidence of the new release has to be collected with M(vouch_evidence) and
    accepted by M(vouch_appraise). V(confirmed) is refused without it.
  - Runs on the controller and speaks to the host through the SSH subsystem C(vouch).
extends_documentation_fragment: vouch_host
options:
  host_id:
    description: UUID of the host. No other host obeys the order.
    type: str
    required: true
  enrolments:
    description: Directory of the enrolments.
    type: path
    required: true
  order_key:
    description: Private key, PEM file, of an application authority that the host's image knows.
    type: path
    required: true
  release:
    description: Signed release file (DSSE) that the host shall run.
    type: path
    required: true
  release_keys:
    description: Public keys, PEM files, of which one must have signed the release.
    type: list
    elements: path
    required: true
  state:
    description:
      - V(staged) has the release written to the slot that does not run, read back, stated and quoted by the TPM.
      - V(tried) restarts the host into it, once. A host that does not get V(confirmed) in time falls back by itself.
        The module returns before the restart, and refuses while guests are on the host.
      - V(confirmed) makes the running release the one that starts from now on, and retires the one before.
    type: str
    choices: [staged, tried, confirmed]
    required: true
  store_url:
    description: URL of the image store, as the host reaches it.
    type: str
  confirm_within:
    description: Seconds from power-on within which the release has to be confirmed, or the host falls back.
    type: int
    default: 1800
  accept_for:
    description: Seconds for which evidence of the new release is accepted besides that of the old one.
    type: int
    default: 21600
  window_start:
    description: Time in UTC, as V(2026-01-31T22:00:00Z), before which the host is not restarted.
    type: str
  window_end:
    description: Time in UTC from which on the host is not restarted.
    type: str
  again:
    description: Whether a release is tried again that the host fell back from.
    type: bool
    default: false
  answer_timeout:
    description: Seconds for the host to do it. Staging fetches and writes the whole image.
    type: int
    default: 1800
requirements:
  - cryptography
attributes:
  check_mode:
    description: Asks the host where it is and says what would be ordered and recorded.
    support: full
  diff_mode:
    description: Shows releases of the host before and after.
    support: full
seealso:
  - module: vouch_appraise
  - module: vouch_evidence
author:
  - The Vouch developers
"""

EXAMPLES = r"""
- name: Write the new release beside the running one
  vouch_host_update:
    host: "{{ ansible_host }}"
    private_key_file: /etc/vouch/id_ed25519
    host_key: "{{ enrolment.ssh_host_key }}"
    host_id: "{{ enrolment.host_id }}"
    enrolments: /var/lib/vouch/enrolments
    order_key: /etc/vouch/order.pem
    release: /srv/images/releases/vouch-host-2.dsse.json
    release_keys: [/etc/vouch/release.pub]
    store_url: http://192.0.2.1:8080
    state: staged
  delegate_to: localhost

- name: Restart into it on Saturday night
  vouch_host_update:
    host: "{{ ansible_host }}"
    private_key_file: /etc/vouch/id_ed25519
    host_key: "{{ enrolment.ssh_host_key }}"
    host_id: "{{ enrolment.host_id }}"
    enrolments: /var/lib/vouch/enrolments
    order_key: /etc/vouch/order.pem
    release: /srv/images/releases/vouch-host-2.dsse.json
    release_keys: [/etc/vouch/release.pub]
    state: tried
    window_start: "2026-01-31T22:00:00Z"
    window_end: "2026-02-01T04:00:00Z"
  delegate_to: localhost
"""

RETURN = r"""
action:
  description: What was ordered, or would be. Empty when nothing was to be done.
  returned: success
  type: str
  sample: stage
release_id:
  description: Id of the release, SHA-256 of its signed file.
  returned: success
  type: str
  sample: 9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08
status:
  description:
    - Where the host says it is after the step; before it in check mode, and when it is about to restart.
    - Display only. What runs is for M(vouch_appraise) to say.
  returned: success
  type: dict
  sample: {"state": "staged", "running": "9f86d081", "confirmed": "9f86d081", "waiting": "2c26b46b", "updates": 1}
enrolment:
  description: What is recorded of the host, or would be.
  returned: success
  type: dict
  sample: {"release_id": "9f86d081", "retired": []}
code:
  description: Why nothing was done, or not all of it, as a stable code. Codes are listed in docs/updates.md.
  returned: failure
  type: str
  sample: update.fallen-back
"""

import json
import traceback
from typing import Any

from ansible.module_utils.basic import AnsibleModule, missing_required_lib
from ansible.module_utils.vouch.errors import UsageError, VouchError
from ansible.module_utils.vouch.model.enrolment import Enrolment
from ansible.module_utils.vouch.model.hostorder import MAX_CONFIRM_S, MIN_CONFIRM_S
from ansible.module_utils.vouch.model.updateplan import WANTED, expected_state, shown_state
from ansible.module_utils.vouch.port.clock import SystemClock, utc_seconds
from ansible.module_utils.vouch.port.files import read_bounded
from ansible.module_utils.vouch.port.hostoptions import HOST_OPTIONS
from ansible.module_utils.vouch.port.publickeys import read_public_keys
from ansible.module_utils.vouch.store.enrolments import EnrolmentStore

try:
    from ansible.module_utils.vouch.check.signature import verify_release
    from ansible.module_utils.vouch.install.hostupdate import UpdateOutcome, UpdateWish, update_host
    from ansible.module_utils.vouch.make.sign import load_private_key
    from ansible.module_utils.vouch.port.hostclient import HostClient
    from ansible.module_utils.vouch.port.ssh import Limits, connect
except ImportError:
    LIBRARY_ERROR: str | None = traceback.format_exc()
else:
    LIBRARY_ERROR = None

MAX_FILE_BYTES = 16 << 20


def argument_spec() -> dict[str, Any]:
    """Return the options of this module."""
    return {
        **HOST_OPTIONS,
        "host_id": {"type": "str", "required": True},
        "enrolments": {"type": "path", "required": True},
        "order_key": {"type": "path", "required": True, "no_log": False},
        "release": {"type": "path", "required": True},
        "release_keys": {"type": "list", "elements": "path", "required": True, "no_log": False},
        "state": {"type": "str", "choices": list(WANTED), "required": True},
        "store_url": {"type": "str"},
        "confirm_within": {"type": "int", "default": 1800},
        "accept_for": {"type": "int", "default": 21600},
        "window_start": {"type": "str"},
        "window_end": {"type": "str"},
        "again": {"type": "bool", "default": False},
        "answer_timeout": {"type": "int", "default": 1800},
    }


def time_of(text: str | None, what: str) -> int | None:
    """Return Unix seconds of an optional time."""
    try:
        return None if not text else utc_seconds(text)
    except ValueError:
        raise UsageError(f"{what} is no time as 2026-01-31T22:00:00Z: {text}") from None


def wish_of(params: dict[str, Any]) -> UpdateWish:
    """Return what is wanted, the signature of the release verified."""
    keys = read_public_keys(params["release_keys"])
    verified = verify_release(read_bounded(params["release"], limit_bytes=MAX_FILE_BYTES), keys)
    if not MIN_CONFIRM_S <= params["confirm_within"] <= MAX_CONFIRM_S:
        raise UsageError(f"confirm_within runs from {MIN_CONFIRM_S} to {MAX_CONFIRM_S} seconds")
    return UpdateWish(
        host_id=params["host_id"],
        state=params["state"],
        release=verified.release_id,
        store=params["store_url"] or "",
        confirm_s=params["confirm_within"],
        accept_s=params["accept_for"],
        begin_s=time_of(params["window_start"], "window_start"),
        end_s=time_of(params["window_end"], "window_end"),
        again=params["again"],
    )


def shown(enrolment: Enrolment) -> dict[str, Any]:
    """Return what is recorded of releases."""
    found = json.loads(enrolment.to_bytes())
    return {name: found[name] for name in ("host_id", "release_id", "installed", "next", "retired")}


def result_of(wish: UpdateWish, outcome: UpdateOutcome, *, check_mode: bool) -> dict[str, Any]:
    """Return the module's result."""
    before = {**shown_state(outcome.before), "recorded": shown(outcome.known)}
    foretold = check_mode or outcome.before == outcome.after
    after = expected_state(outcome.order, outcome.before, wish.release) if foretold else shown_state(outcome.after)
    return {
        "changed": outcome.changed,
        "action": outcome.order or "",
        "release_id": wish.release.hex(),
        "status": outcome.after.to_json(),
        "enrolment": shown(outcome.recorded),
        "diff": {"before": before, "after": {**after, "recorded": shown(outcome.recorded)}},
    }


def apply(params: dict[str, Any], *, check_mode: bool) -> dict[str, Any]:
    """Do one step and return the module's result."""
    wish = wish_of(params)
    store = EnrolmentStore(params["enrolments"])
    now_s = int(SystemClock().now().timestamp())
    with connect(params, Limits(answer_s=float(params["answer_timeout"]))) as verifier:
        outcome = update_host(
            wish,
            HostClient(verifier),
            store,
            lambda: load_private_key(read_bounded(params["order_key"], limit_bytes=MAX_FILE_BYTES)),
            now_s=now_s,
            rehearse=check_mode,
        )
    return result_of(wish, outcome, check_mode=check_mode)


def main() -> None:
    """Run the module."""
    module = AnsibleModule(
        argument_spec=argument_spec(),
        required_if=[("state", "staged", ("store_url",))],
        supports_check_mode=True,
    )
    if LIBRARY_ERROR is not None:
        module.fail_json(msg=missing_required_lib("paramiko and cryptography"), exception=LIBRARY_ERROR)
    try:
        result = apply(module.params, check_mode=module.check_mode)
    except VouchError as error:
        module.fail_json(msg=f"host {module.params['host_id']}: {error}", code=error.code)
    except OSError as error:
        module.fail_json(msg=f"{error.filename}: {error.strerror}", code="update.files")
    module.exit_json(**result)


if __name__ == "__main__":
    main()
