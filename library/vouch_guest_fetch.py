#!/usr/bin/python
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a guest made, brought by its host into a file of the controller."""

from __future__ import annotations

DOCUMENTATION = r"""
module: vouch_guest_fetch
short_description: Fetch what a guest of a measured host made
version_added: "0.1.0"
description:
  - Has the VM verifier of a host connect to a TCP service that the package of a guest declares, and writes what the
    guest says there until it closes into a file.
  - Runs on the controller and speaks to the host through the SSH subsystem C(vouch). It needs no route to the guest.
  - At most 8 MiB, within 60 seconds, and one fetch at a time for each host.
extends_documentation_fragment: vouch_host
options:
  name:
    description: Id of the guest.
    type: str
    required: true
  service_port:
    description: TCP port of the guest, one of C(network.services) in its package.
    type: int
    required: true
  dest:
    description: File for what it says. Its folder must exist. It is replaced as a whole or not at all.
    type: path
    required: true
  mode:
    description:
      - Permission bits of a file that is written, as an octal number in quotes.
      - A file whose content is the same already is not touched.
    type: raw
    default: "0644"
  answer_timeout:
    description: Seconds for the answer. The host gives a guest up after 60.
    type: int
    default: 120
attributes:
  check_mode:
    description: Fetches and compares, and writes nothing.
    support: full
  diff_mode:
    description: Shows nothing, because what a guest says need not be text.
    support: none
notes:
  - What a guest says is no proof of anything. Whether guest and host are what they should be says M(vouch_appraise).
  - Codes of refusals are V(guest.unknown), V(fetch.state) (the guest does not run), V(fetch.service) (its package
    declares no such service), V(fetch.unreachable), V(fetch.time), V(fetch.size), V(fetch.busy) (ask again).
seealso:
  - module: vouch_guest_info
author:
  - The Vouch developers
"""

EXAMPLES = r"""
- name: Have what the build made
  vouch_guest_fetch:
    host: "{{ ansible_host }}"
    private_key_file: /etc/vouch/id_ed25519
    host_key: "{{ enrolment.ssh_host_key }}"
    name: build-1
    service_port: 4470
    dest: /srv/builds/liblua.a
  delegate_to: localhost
  register: made
  retries: 5
  delay: 10
  until: made is success
"""

RETURN = r"""
dest:
  description: The file.
  returned: success
  type: path
  sample: /srv/builds/liblua.a
sha256:
  description: SHA-256 of what the guest said.
  returned: success
  type: str
  sample: 2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824
size:
  description: Its length in bytes.
  returned: success
  type: int
  sample: 412688
code:
  description: Why nothing was fetched; see docs/findings.md.
  returned: failure
  type: str
  sample: fetch.state
"""

import re
import traceback
from pathlib import Path
from typing import Any

from ansible.module_utils.basic import AnsibleModule, missing_required_lib
from ansible.module_utils.vouch.errors import UnreachableError, UsageError, VouchError, shown
from ansible.module_utils.vouch.model.digest import sha256
from ansible.module_utils.vouch.parse.frame import MAX_FETCHED_BYTES
from ansible.module_utils.vouch.port.files import read_bounded, write_atomic
from ansible.module_utils.vouch.port.hostoptions import HOST_OPTIONS

try:
    from ansible.module_utils.vouch.port.guestclient import GuestClient
    from ansible.module_utils.vouch.port.ssh import Limits, connect
except ImportError:
    LIBRARY_ERROR: str | None = traceback.format_exc()
else:
    LIBRARY_ERROR = None

MAX_PORT = 65535
MAX_MODE = 0o777
_OCTAL = re.compile(r"0?[0-7]{3}\Z")


def mode_of(value: Any) -> int:
    """Return permission bits; YAML makes a number of ``0644`` that stands without quotes.

    Raises:
        UsageError: for anything else.
    """
    if isinstance(value, str) and _OCTAL.match(value):
        return int(value, 8)
    if isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= MAX_MODE:
        return value
    raise UsageError(f"mode {shown(value)} is no octal number up to 0777 in quotes")


def same(dest: Path, content: bytes) -> bool:
    """Say whether the file holds that."""
    if not dest.exists() or (dest.is_file() and dest.stat().st_size != len(content)):
        return False
    return read_bounded(dest, limit_bytes=MAX_FETCHED_BYTES) == content


def apply(params: dict[str, Any], *, check_mode: bool) -> dict[str, Any]:
    """Bring the file to what the guest says, and return the module's result."""
    dest, mode, port = Path(params["dest"]), mode_of(params["mode"]), params["service_port"]
    if not 1 <= port <= MAX_PORT:
        raise UsageError(f"service_port {port} is no TCP port")
    if not dest.parent.is_dir():
        raise UnreachableError(f"{dest.parent} is no folder", code="files.missing")
    with connect(params, Limits(answer_s=float(params["answer_timeout"]))) as verifier:
        content = GuestClient(verifier).fetch(params["name"], port)
    changed = not same(dest, content)
    if changed and not check_mode:
        write_atomic(dest, content, mode=mode)
    return {"changed": changed, "dest": str(dest), "sha256": sha256(content).hex(), "size": len(content)}


def main() -> None:
    """Run the module."""
    module = AnsibleModule(
        argument_spec={
            **HOST_OPTIONS,
            "name": {"type": "str", "required": True},
            "service_port": {"type": "int", "required": True},
            "dest": {"type": "path", "required": True},
            "mode": {"type": "raw", "default": "0644"},
            "answer_timeout": {"type": "int", "default": 120},
        },
        supports_check_mode=True,
    )
    if LIBRARY_ERROR is not None:
        module.fail_json(msg=missing_required_lib("paramiko"), exception=LIBRARY_ERROR)
    try:
        result = apply(module.params, check_mode=module.check_mode)
    except VouchError as error:
        module.fail_json(msg=str(error), code=error.code)
    # Ansible would give the size of the file that stands there now: in check mode, of the old one.
    module.add_path_info = lambda kwargs: kwargs
    module.exit_json(**result)


if __name__ == "__main__":
    main()
