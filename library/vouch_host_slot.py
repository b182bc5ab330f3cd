#!/usr/bin/python
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Write a host image into one slot of a disk, with everything it needs to start."""

from __future__ import annotations

DOCUMENTATION = r"""
module: vouch_host_slot
short_description: Write a host image into one slot of a disk
version_added: "0.1.0"
description:
  - Runs on a machine that was booted from the installer.
  - Partitions the disk, writes the root image and xen.efi of a host release, makes identity and SSH host key on the
    data partition, and at last the firmware's boot entry.
  - The signature of the release is verified here. Images come from the image store by digest and are read back from
    the disk.
  - Each step looks at the machine first. A second run changes nothing, and a run that was cut off can be repeated.
options:
  disk:
    description: Stable name of the disk, below C(/dev/disk/by-id).
    type: str
    required: true
  host_id:
    description: UUID of the host. The disk bears it as its GUID.
    type: str
    required: true
  slot:
    description: Slot to write. The other one is left as it is.
    type: str
    choices: [a, b]
    default: a
  release:
    description: The signed release file (DSSE), base64.
    type: str
    required: true
  release_keys:
    description: Public keys, PEM, of which one must have signed the release.
    type: list
    elements: str
    required: true
  store_url:
    description: Base URL of the image store, as this machine reaches it.
    type: str
    required: true
  wipe:
    description: Whether data on the disk may be destroyed.
    type: bool
    default: false
requirements:
  - sfdisk, blkid, dosfstools, e2fsprogs
  - python3-cryptography
attributes:
  check_mode:
    description: Looks at everything and says what would be done.
    support: full
  diff_mode:
    description: Shows each part that differs.
    support: full
author:
  - The Vouch developers
"""

EXAMPLES = r"""
- name: Write the release into slot a
  vouch_host_slot:
    disk: /dev/disk/by-id/nvme-SAMSUNG_MZVL2512_S0123456789
    host_id: 3d9a6f5e-0c0e-5c53-9d0e-0c1d5f5c8a11
    release: "{{ lookup('ansible.builtin.file', 'vouch-host.dsse.json', rstrip=false) | b64encode }}"
    release_keys:
      - "{{ lookup('ansible.builtin.file', 'release.pub') }}"
    store_url: http://images.example:8080
"""

RETURN = r"""
changes:
  description: What was missing and is there now, or would be in check mode.
  returned: success
  type: list
  elements: dict
  sample: [{"name": "slot a root image", "current": "no complete image", "desired": "sha256:9f86d081"}]
release_id:
  description: SHA-256 of the signed release file.
  returned: success
  type: str
  sample: 9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08
boot_entry:
  description: What the boot entry starts.
  returned: success
  type: str
  sample: HD(1,GPT,4f68bce3-e8cd-4db1-96e7-fbcaf984b709,0x800,0x80000)/\EFI\vouch\a.efi
boot_variable:
  description: Name of the boot entry's variable.
  returned: success
  type: str
  sample: Boot0003
ssh_host_key:
  description: Public SSH host key of the host; empty in check mode when it was not made yet.
  returned: success
  type: str
  sample: ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJ
"""

from collections.abc import Iterator
from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible.module_utils.vouch.errors import VouchError
from ansible.module_utils.vouch.install.slot import SlotInstaller, SlotOutcome
from ansible.module_utils.vouch.install.wish import read_wish
from ansible.module_utils.vouch.port.disk import BlockDisk
from ansible.module_utils.vouch.port.efi import EfivarFs
from ansible.module_utils.vouch.port.imagestore import stream_blob
from ansible.module_utils.vouch.port.progress import report


def argument_spec() -> dict[str, Any]:
    """Return the options of this module."""
    return {
        "disk": {"type": "str", "required": True},
        "host_id": {"type": "str", "required": True},
        "slot": {"type": "str", "choices": ["a", "b"], "default": "a"},
        "release": {"type": "str", "required": True},
        "release_keys": {"type": "list", "elements": "str", "required": True, "no_log": False},
        "store_url": {"type": "str", "required": True},
        "wipe": {"type": "bool", "default": False},
    }


def shown(outcome: SlotOutcome, release_id: bytes) -> dict[str, Any]:
    """Return the module's result."""
    return {
        "changed": bool(outcome.deltas),
        "changes": [delta.as_dict() for delta in outcome.deltas],
        "release_id": release_id.hex(),
        "boot_entry": outcome.boot_entry,
        "boot_variable": outcome.boot_variable,
        "ssh_host_key": outcome.ssh_host_key,
        "diff": {
            "before": "".join(f"{delta.name}: {(delta.current or 'absent').strip()}\n" for delta in outcome.deltas),
            "after": "".join(f"{delta.name}: {delta.desired.strip()}\n" for delta in outcome.deltas),
        },
    }


def main() -> None:
    """Run the module."""
    module = AnsibleModule(argument_spec=argument_spec(), supports_check_mode=True)
    params = module.params

    def fetch(digest: bytes, limit_bytes: int) -> Iterator[bytes]:
        return stream_blob(params["store_url"], digest, limit_bytes=limit_bytes)

    try:
        wish = read_wish(
            host_id=params["host_id"],
            slot=params["slot"],
            release=params["release"],
            release_keys=params["release_keys"],
            wipe=params["wipe"],
        )
        with BlockDisk(params["disk"]).locked() as disk:
            installer = SlotInstaller(disk, EfivarFs(), fetch, wish, rehearse=module.check_mode, say=report)
            outcome = installer.run()
    except VouchError as exc:
        module.fail_json(msg=str(exc), code=exc.code)
    except OSError as exc:
        module.fail_json(msg=f"the disk does not answer as it should: {exc}", code="disk.io")
    module.exit_json(**shown(outcome, wish.release_id))


if __name__ == "__main__":
    main()
