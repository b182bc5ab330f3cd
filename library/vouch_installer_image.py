#!/usr/bin/python
# SPDX-License-Identifier: GPL-3.0-or-later
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Make the trusted installer from a Debian tree."""

from __future__ import annotations

DOCUMENTATION = r"""
module: vouch_installer_image
short_description: Make the trusted installer from a Debian tree
version_added: "0.1.0"
description:
  - Makes a unified kernel image that runs from RAM, opens SSH for the given keys, and touches no disk by itself.
  - The same inputs give the same bytes. Nothing is done where the image is already there and whole.
  - C(installer.efi) is the image, C(installer.img) the same on a bootable medium, C(installer.json) describes both.
options:
  tree:
    description: Tar file of the Debian tree, as made by M(vouch_debian_tree). It holds a kernel and systemd's EFI stub.
    type: path
    required: true
  overlay:
    description: Directory of files that are laid over the tree. C(init) is one of them.
    type: path
    required: true
  authorized_keys:
    description: Public SSH keys that may log in as root. At least one.
    type: list
    elements: str
    required: true
  kernel_modules:
    description:
      - Kernel modules, with all that they depend on, as names, or as patterns of paths when they hold a slash.
      - A set for common disks, network cards and TPMs when empty.
    type: list
    elements: str
    default: []
  cmdline:
    description: Kernel command line.
    type: str
    default: console=tty0 console=ttyS0,115200 net.ifnames=0 cryptomgr.notests quiet
  compression_level:
    description: Level of C(zstd) for the initial RAM disk, 1 to 19.
    type: int
    default: 10
  source_date_epoch:
    description: Time of all files, in seconds since 1970.
    type: int
    default: 0
  dest:
    description: Directory for the image. Made when missing.
    type: path
    required: true
requirements:
  - zstd
attributes:
  check_mode:
    description: Says whether the image would be made.
    support: full
  diff_mode:
    description: Shows the predicted PCR 4 before and after.
    support: full
notes:
  - Lines about the progress are appended to the file named by the environment variable E(VOUCH_PROGRESS).
author:
  - The Vouch developers
"""

EXAMPLES = r"""
- name: Make the installer
  vouch_installer_image:
    tree: "{{ installer_tree.path }}"
    overlay: "{{ role_path }}/files/overlay"
    authorized_keys:
      - "{{ lookup('ansible.builtin.file', '~/.ssh/id_ed25519.pub') }}"
    source_date_epoch: 1750000000
    dest: /var/lib/vouch/installer
"""

RETURN = r"""
image:
  description: The unified kernel image.
  returned: always
  type: str
  sample: /var/lib/vouch/installer/installer.efi
medium:
  description: The image of a bootable medium.
  returned: always
  type: str
  sample: /var/lib/vouch/installer/installer.img
installer:
  description: Content of C(installer.json). Empty in check mode when the image would be made.
  returned: always
  type: dict
  contains:
    authenticode_sha256:
      description: Authenticode digest of the image, as the firmware measures it.
      type: str
    kernel_authenticode_sha256:
      description: Authenticode digest of the kernel inside, which is measured as well.
      type: str
    pcr4:
      description: Predicted value of PCR 4 in the SHA-256 bank.
      type: str
    kernel:
      description: Version of the kernel.
      type: str
    packages:
      description: Packages of the tree with their versions.
      type: list
    missing_modules:
      description: Wanted modules that the kernel has built in or does not know.
      type: list
  sample: {"pcr4": "9b880a6861e650d29beea33534d4e639b1894903d7347d8af949ae7d0fec227f"}
"""

from pathlib import Path
from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible.module_utils.vouch.errors import VouchError
from ansible.module_utils.vouch.make.installer import DEFAULT_CMDLINE, DEFAULT_MODULES
from ansible.module_utils.vouch.store.installers import (
    DESCRIPTION,
    IMAGE,
    MEDIUM,
    InstallerInputs,
    find_installer,
    make_installer,
)


def argument_spec() -> dict[str, Any]:
    """Return the options of this module."""
    return {
        "tree": {"type": "path", "required": True},
        "overlay": {"type": "path", "required": True},
        "authorized_keys": {"type": "list", "elements": "str", "required": True, "no_log": False},
        "kernel_modules": {"type": "list", "elements": "str", "default": []},
        "cmdline": {"type": "str", "default": DEFAULT_CMDLINE},
        "compression_level": {"type": "int", "default": 10},
        "source_date_epoch": {"type": "int", "default": 0},
        "dest": {"type": "path", "required": True},
    }


def apply(params: dict[str, Any], *, check_mode: bool) -> dict[str, Any]:
    """Make the installer where it is missing and return the module's result."""
    inputs = InstallerInputs(
        tree=Path(params["tree"]),
        overlay=Path(params["overlay"]),
        authorized_keys=tuple(params["authorized_keys"]),
        modules=tuple(params["kernel_modules"]) or DEFAULT_MODULES,
        cmdline=params["cmdline"],
        compression_level=params["compression_level"],
        source_date_epoch=params["source_date_epoch"],
    )
    folder = Path(params["dest"])
    found = find_installer(folder, inputs.digest())
    after = found
    if found is None and not check_mode:
        after = make_installer(inputs, folder)
    return {
        "changed": found is None,
        "image": str(folder / IMAGE),
        "medium": str(folder / MEDIUM),
        "installer": dict(after or {}),
        "diff": {
            "before_header": str(folder / DESCRIPTION),
            "after_header": str(folder / DESCRIPTION),
            "before": f"{(found or {}).get('pcr4', '')}\n",
            "after": f"{(after or {}).get('pcr4', '(made by this task)')}\n",
        },
    }


def main() -> None:
    """Run the module."""
    module = AnsibleModule(argument_spec=argument_spec(), supports_check_mode=True)
    try:
        result = apply(module.params, check_mode=module.check_mode)
    except VouchError as exc:
        module.fail_json(msg=str(exc), code=exc.code)
    module.exit_json(**result)


if __name__ == "__main__":
    main()
