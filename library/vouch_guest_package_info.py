#!/usr/bin/python
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Look at a signed guest package, and verify it and its files."""

from __future__ import annotations

DOCUMENTATION = r"""
module: vouch_guest_package_info
short_description: Look at a signed guest package and verify it
version_added: "0.2.0"
description:
  - Reads a signed guest package and says what a host would say of it before it starts the guest, with the same code.
  - With O(keys), the signature is verified first; without, the package is shown and nothing is believed.
  - With O(image_dir) or O(store_dir), its files are compared with their digests and the proof about its SELinux policy
    is checked anew.
  - Changes nothing.
options:
  path:
    description: The signed file.
    type: path
    required: true
  keys:
    description: PEM files of public keys that may sign guest packages.
    type: list
    elements: path
    default: []
  image_dir:
    description: Folder with the guest's six files under their names, for instance the output of the build.
    type: path
    default: ""
  store_dir:
    description: Image store, with the guest's six files under C(sha256/). Used when O(image_dir) is empty.
    type: path
    default: ""
  name:
    description: Name that the package must have; any when empty.
    type: str
    default: ""
  allow_debug:
    description: Take a debug package for a warning instead of a denial.
    type: bool
    default: false
  full:
    description: Compare the whole hash tree of the root image with its data, not only its topmost block.
    type: bool
    default: false
  rebuild_profile:
    description:
      - Make the introspection profile anew from the guest's kernel and compare it with the package's, in some seconds.
      - A host sees the same when it has loaded the guest; here it shows before.
    type: bool
    default: false
requirements:
  - cryptography
  - zstandard, for O(rebuild_profile)
attributes:
  check_mode:
    description: Does the same, as it changes nothing.
    support: full
  diff_mode:
    description: Not needed, as it changes nothing.
    support: none
seealso:
  - module: vouch_guest_package
author:
  - The Vouch developers
"""

EXAMPLES = r"""
- name: Verify a package in the image store
  vouch_guest_package_info:
    path: /srv/vouch/store/packages/distcc_node.dsse.json
    store_dir: /srv/vouch/store
    keys: [/srv/vouch/packages/package.pub.pem]
  register: seen
  failed_when: seen.verdict != 'affirming'

- name: Show who is let in, and why
  ansible.builtin.debug:
    msg: "{{ seen.services + seen.filters }}"
"""

RETURN = r"""
verdict:
  description:
    - V(affirming), all that a host checks before a start holds.
    - V(warning), it holds for a debug guest that O(allow_debug) lets pass.
    - V(contraindicated), RV(findings) say what does not hold.
    - V(none), nothing speaks against it, but no key was given or no file was looked at.
  returned: always
  type: str
  sample: affirming
findings:
  description: Reasons, each with C(code), C(severity), C(subject), and what was expected and found.
  returned: always
  type: list
  elements: dict
  sample: [{"code": "package.part.digest", "severity": "deny", "subject": "package:base/root.img"}]
signed:
  description: Whether one of O(keys) signed the package.
  returned: always
  type: bool
  sample: true
proven:
  description: Whether the proof was checked and holds for the guest's policy.
  returned: always
  type: bool
  sample: true
package_id:
  description: SHA-256 of the signed file.
  returned: always
  type: str
  sample: 1f9a4f3c6cf8d0c35ad2c5b3f9b4a38e4f0a8a8c4dbe1b0e5f9fdd8fd0b3a1c2
keyid:
  description: SHA-256 of the SPKI of the key that signed it; empty when RV(signed) is false.
  returned: always
  type: str
  sample: 5d0c2f6e0d4c7a8fb2a2d5bd5b6dbd3c7cf4f7ad8f3a5b1c1b6a1ff04a6d5f0e
statement:
  description:
    - The in-toto statement; empty when the file could not be read.
    - When RV(signed) is false, anybody may have written it.
  returned: always
  type: dict
  sample: {"_type": "https://in-toto.io/Statement/v1", "predicateType": "urn:vouch:guest-package:1"}
services:
  description: Ports that may be reached without IPsec, each with its reason.
  returned: always
  type: list
  elements: dict
  sample: [{"protocol": "tcp", "port": 3632, "reason": "distccd checks each request"}]
filters:
  description:
    - Where a trusted program of the guest reads what others wrote, each with its reason. Empty unless RV(proven).
  returned: always
  type: list
  elements: dict
  sample: [{"subject": "distccd_t", "object": "distccd_t", "class": "tcp_socket", "reason": "checks each request"}]
entries:
  description:
    - Programs through which an untrusted subject may start a trusted one, each with its reason.
    - Empty unless RV(proven).
  returned: always
  type: list
  elements: dict
  sample: []
"""

import contextlib
import traceback
from pathlib import Path
from typing import Any, BinaryIO

from ansible.module_utils.basic import AnsibleModule, missing_required_lib
from ansible.module_utils.vouch.errors import VouchError
from ansible.module_utils.vouch.make.introspection import make_profile
from ansible.module_utils.vouch.model.package import GuestPackage
from ansible.module_utils.vouch.port.files import read_bounded
from ansible.module_utils.vouch.port.publickeys import read_public_keys

IMPORT_ERROR = ""
try:
    from ansible.module_utils.vouch.appraise.guestpackage import inspect_package, report_json
except ImportError:
    IMPORT_ERROR = traceback.format_exc()

MAX_SIGNED_BYTES = 8 << 20


def argument_spec() -> dict[str, Any]:
    """Return the options of this module."""
    return {
        "path": {"type": "path", "required": True},
        "keys": {"type": "list", "elements": "path", "default": [], "no_log": False},
        "image_dir": {"type": "path", "default": ""},
        "store_dir": {"type": "path", "default": ""},
        "name": {"type": "str", "default": ""},
        "allow_debug": {"type": "bool", "default": False},
        "full": {"type": "bool", "default": False},
        "rebuild_profile": {"type": "bool", "default": False},
    }


def places(params: dict[str, Any], package: GuestPackage) -> dict[str, Path]:
    """Return where the guest's files should be, by name."""
    if params["image_dir"]:
        return {name: Path(params["image_dir"]) / name for name in package.parts}
    return {name: Path(params["store_dir"]) / "sha256" / part.sha256.hex() for name, part in package.parts.items()}


def profile_bytes(vmlinuz: bytes) -> bytes:
    """Return the introspection profile of a kernel, as the build writes it."""
    return make_profile(vmlinuz).to_bytes()


def apply(params: dict[str, Any]) -> dict[str, Any]:
    """Return the module's result."""
    envelope = read_bounded(params["path"], limit_bytes=MAX_SIGNED_BYTES)
    keys = read_public_keys(params["keys"])
    options = {
        "name": params["name"],
        "allow_debug": params["allow_debug"],
        "full": params["full"],
        "make_profile": profile_bytes if params["rebuild_profile"] else None,
    }
    with contextlib.ExitStack() as stack:

        def find(package: GuestPackage) -> dict[str, BinaryIO]:
            files: dict[str, BinaryIO] = {}
            for name, path in places(params, package).items():
                with contextlib.suppress(FileNotFoundError):
                    files[name] = stack.enter_context(path.open("rb"))
            return files

        somewhere = params["image_dir"] or params["store_dir"]
        report = inspect_package(envelope, keys, find if somewhere else None, **options)
    return {"changed": False, **report_json(report)}


def main() -> None:
    """Run the module."""
    module = AnsibleModule(argument_spec=argument_spec(), supports_check_mode=True)
    if IMPORT_ERROR:
        module.fail_json(msg=missing_required_lib("cryptography"), exception=IMPORT_ERROR, code="python.library")
    try:
        result = apply(module.params)
    except VouchError as error:
        module.fail_json(msg=str(error), code=error.code)
    except OSError as error:
        module.fail_json(msg=f"{error.filename}: {error.strerror}", code="package.files")
    module.exit_json(**result)


if __name__ == "__main__":
    main()
