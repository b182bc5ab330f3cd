#!/usr/bin/python
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a build across guests is compared with: the same sources, compiler and headers, on one machine."""

from __future__ import annotations

DOCUMENTATION = r"""
module: vouch_local_build
short_description: Compile the sources of a guest's tree on this machine
version_added: "0.1.0"
description:
  - Unpacks the Debian tree of a guest that builds, runs its C(make) on sources in it, and tells how many objects that
    made and the digest of all of them, in the form that C(vouch-build) tells it in a guest.
  - Nothing is kept, so nothing ever changes, and check mode does the same. Needs root, for C(chroot); C(make) runs as
    nobody.
options:
  tree:
    description: Tar file of the tree, the RV(vouch_debian_tree#module:path) of M(vouch_debian_tree).
    type: path
    required: true
  source:
    description: Name of the source package.
    type: str
    required: true
  folder:
    description: Where C(make) runs, below the sources.
    type: str
    default: .
  arguments:
    description: Arguments of C(make).
    type: list
    elements: str
    default: []
  jobs:
    description: How many jobs are under way at once; as many as there are processors when V(0).
    type: int
    default: 0
seealso:
  - module: vouch_debian_tree
  - module: vouch_guest_image
attributes:
  check_mode:
    description: Can predict changes without making any.
    support: full
  diff_mode:
    description: Shows what changes.
    support: none
author:
  - Vouch authors
"""

EXAMPLES = r"""
- name: Compile on this machine what the guests compiled
  vouch_local_build:
    tree: "{{ guest_image_result.tree }}"
    source: lua5.4
    folder: src
    arguments: [liblua.a]
  register: local
"""

RETURN = r"""
objects:
  description: How many object files there are.
  returned: success
  type: int
  sample: 33
digest:
  description: SHA-256 over the SHA-256s of the objects, ascending, each once, in hexadecimal, a line each.
  returned: success
  type: str
  sample: 3c3c2ec70878654284b9cbd52c5e001dfb4d80287a2c85792e04d3984ea9d4c6
code:
  description: Stable code of the failure.
  returned: failure
  type: str
  sample: command.failed
"""

from pathlib import Path
from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible.module_utils.vouch.errors import VouchError
from ansible.module_utils.vouch.imaging.localbuild import build_locally
from ansible.module_utils.vouch.port.progress import report


def argument_spec() -> dict[str, Any]:
    """Return the options' specification."""
    return {
        "tree": {"type": "path", "required": True},
        "source": {"type": "str", "required": True},
        "folder": {"type": "str", "default": "."},
        "arguments": {"type": "list", "elements": "str", "default": []},
        "jobs": {"type": "int", "default": 0},
    }


def apply(params: dict[str, Any]) -> dict[str, Any]:
    """Build and return the module's result."""
    built = build_locally(
        Path(params["tree"]),
        source=params["source"],
        folder=params["folder"],
        arguments=params["arguments"],
        jobs=params["jobs"],
        say=lambda text: report(f"local build: {text}"),
    )
    return {"changed": False, "objects": built.objects, "digest": built.digest.hex()}


def main() -> None:
    """Run the module."""
    module = AnsibleModule(argument_spec=argument_spec(), supports_check_mode=True)
    try:
        result = apply(module.params)
    except VouchError as exc:
        module.fail_json(msg=str(exc), code=exc.code)
    module.exit_json(**result)


if __name__ == "__main__":
    main()
