#!/usr/bin/python
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which package a guest of a measured host is meant to run: recorded, planned, confirmed."""

from __future__ import annotations

DOCUMENTATION = r"""
module: vouch_guest_reference
short_description: Record which package a guest is meant to run
version_added: "0.1.0"
description:
  - Keeps the reference values of one guest of an enrolled host, on the controller. No machine is asked.
  - A guest of which nothing is recorded may run each package that the appraisal policy accepts. Once something is
    recorded, each other package makes it contraindicated.
  - V(expected) lets the guest run O(package) besides its present one for a while. V(confirmed) makes it the present one
    and retires the one before. That is refused until evidence was accepted by which the guest was affirming with it.
  - The package is read from its signed file; what runs is never taken over.
options:
  enrolments:
    description: Directory of the enrolments, or URL of the store that holds them.
    type: path
    required: true
  host_id:
    description: UUID of the guest's host.
    type: str
    required: true
  guest:
    description: Id of the guest on its host.
    type: str
    required: true
  package:
    description: Signed package (DSSE) that the guest shall run.
    type: path
  former:
    description:
      - Signed package that the guest runs until then. Needed by V(expected) as long as nothing is recorded of the
        guest, and not looked at later.
    type: path
  package_keys:
    description: Public keys, PEM files, of which one must have signed each package.
    type: list
    elements: path
    default: []
  state:
    description: V(info) only reads the record, V(absent) forgets it.
    type: str
    choices: [expected, confirmed, info, absent]
    required: true
  accept_for:
    description:
      - Seconds for which V(expected) accepts the new package besides the present one. A plan that has more than half
        of it left is not touched.
    type: int
    default: 3600
requirements:
  - cryptography
attributes:
  check_mode:
    description: Says what would be recorded.
    support: full
  diff_mode:
    description: Shows the record before and after.
    support: full
seealso:
  - module: vouch_guest
  - module: vouch_appraise
author:
  - The Vouch developers
"""

EXAMPLES = r"""
- name: Let the guest run its next package for the next hour
  vouch_guest_reference:
    enrolments: /var/lib/vouch/enrolments
    host_id: 3d9a6f5e-0c0e-5c53-9d0e-0c1d5f5c8a11
    guest: web
    package: /srv/vouch/packages/web-2.dsse.json
    former: /srv/vouch/packages/web-1.dsse.json
    package_keys: [/etc/vouch/package.pub.pem]
    state: expected

- name: Keep it, after it was proven
  vouch_guest_reference:
    enrolments: /var/lib/vouch/enrolments
    host_id: 3d9a6f5e-0c0e-5c53-9d0e-0c1d5f5c8a11
    guest: web
    package: /srv/vouch/packages/web-2.dsse.json
    package_keys: [/etc/vouch/package.pub.pem]
    state: confirmed
"""

RETURN = r"""
reference:
  description: What is recorded of the guest; empty when nothing is.
  returned: success
  type: dict
  sample: {"guest": "web", "package": "9f86d081", "next": null, "retired": []}
package_id:
  description: Id of O(package), SHA-256 of its file.
  returned: when O(package) is given
  type: str
  sample: 2c26b46b68ffc68ff99b453c1d30413413422d706483bfa0f98a5e886266e7ae
code:
  description: Why nothing was recorded, as a stable code.
  returned: failure
  type: str
  sample: guest.package.unproven
"""

import re
import traceback
from typing import Any

from ansible.module_utils.basic import AnsibleModule, missing_required_lib
from ansible.module_utils.vouch.errors import UsageError, VouchError
from ansible.module_utils.vouch.model.enrolment import Enrolment
from ansible.module_utils.vouch.model.guestreference import GuestReference
from ansible.module_utils.vouch.model.gueststate import GUEST_ID
from ansible.module_utils.vouch.model.package import MAX_PACKAGE_BYTES
from ansible.module_utils.vouch.port.clock import SystemClock
from ansible.module_utils.vouch.port.files import read_bounded
from ansible.module_utils.vouch.port.publickeys import read_public_keys
from ansible.module_utils.vouch.store.anyenrolments import open_enrolments

try:
    from ansible.module_utils.vouch.check.signature import verify_guest_package
except ImportError:
    LIBRARY_ERROR: str | None = traceback.format_exc()
else:
    LIBRARY_ERROR = None

MAX_SIGNED_BYTES = 2 * MAX_PACKAGE_BYTES


def argument_spec() -> dict[str, Any]:
    """Return the options of this module."""
    return {
        "enrolments": {"type": "path", "required": True},
        "host_id": {"type": "str", "required": True},
        "guest": {"type": "str", "required": True},
        "package": {"type": "path"},
        "former": {"type": "path"},
        "package_keys": {"type": "list", "elements": "path", "default": [], "no_log": False},
        "state": {"type": "str", "choices": ["expected", "confirmed", "info", "absent"], "required": True},
        "accept_for": {"type": "int", "default": 3600},
    }


def package_of(params: dict[str, Any], name: str) -> bytes:
    """Return the id of a package, its signature verified."""
    keys = read_public_keys(params["package_keys"])
    return verify_guest_package(read_bounded(params[name], limit_bytes=MAX_SIGNED_BYTES), keys).package_id


def wanted(params: dict[str, Any], known: GuestReference | None, package: bytes, now_s: int) -> GuestReference | None:
    """Return what is to be recorded of the guest."""
    if params["state"] == "absent":
        return None
    if known is None:
        if params["state"] == "confirmed" or not params["former"]:
            raise UsageError(
                "nothing is recorded of the guest",
                code="guest.package.unrecorded",
                hint="name the package that it runs until now (former) with state=expected",
            )
        known = GuestReference(guest=params["guest"], package=package_of(params, "former"))
    if params["state"] == "confirmed":
        return known.updated(package)
    ahead, accept_s = known.next, params["accept_for"]
    if ahead is not None and ahead.package == package and ahead.until_s >= now_s + accept_s // 2:
        return known
    return known.expecting(package, until_s=now_s + accept_s)


def apply(params: dict[str, Any], *, check_mode: bool) -> dict[str, Any]:
    """Return the module's result."""
    if re.match(GUEST_ID, params["guest"]) is None:
        raise UsageError(f"{params['guest']!r} is no id of a guest", code="usage.invalid")
    if params["accept_for"] < 1:
        raise UsageError("accept_for is at least one second", code="usage.invalid")
    store = open_enrolments(params["enrolments"])
    enrolment: Enrolment = store.get(params["host_id"])
    known = after = enrolment.guest(params["guest"])
    result: dict[str, Any] = {}
    if params["state"] != "info":
        package = package_of(params, "package") if params["package"] else b""
        if package:
            result["package_id"] = package.hex()
        after = wanted(params, known, package, int(SystemClock().now().timestamp()))
        if after != known and not check_mode:
            store.update(enrolment, enrolment.with_guest(params["guest"], after))
    shown = [{} if item is None else item.to_json() for item in (known, after)]
    diff = {"before": shown[0], "after": shown[1]}
    return {**result, "changed": after != known, "reference": shown[1], "diff": diff}


def main() -> None:
    """Run the module."""
    module = AnsibleModule(
        argument_spec=argument_spec(),
        required_if=[
            ("state", "expected", ("package", "package_keys")),
            ("state", "confirmed", ("package", "package_keys")),
        ],
        supports_check_mode=True,
    )
    if LIBRARY_ERROR is not None:
        module.fail_json(msg=missing_required_lib("cryptography"), exception=LIBRARY_ERROR)
    try:
        result = apply(module.params, check_mode=module.check_mode)
    except VouchError as error:
        module.fail_json(msg=f"guest {module.params['guest']}: {error}", code=error.code)
    except OSError as error:
        module.fail_json(msg=f"{error.filename}: {error.strerror}", code="guest.files")
    module.exit_json(**result)


if __name__ == "__main__":
    main()
