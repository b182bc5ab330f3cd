#!/usr/bin/python
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Write a host image into one slot of a disk, with everything it needs to start, and prove it."""

from __future__ import annotations

DOCUMENTATION = r"""
module: vouch_host_slot
short_description: Write a host image into one slot of a disk and prove it
version_added: "0.1.0"
description:
  - Runs on a machine that was booted from the installer.
  - Partitions the disk, writes the root image and xen.efi of a host release, makes identity and SSH host key on the
    data partition, and at last the firmware's boot entry.
  - The signature of the release is verified here. Images come from the image store by digest and are read back from
    the disk.
  - Each step looks at the machine first. A second run changes nothing, and a run that was cut off can be repeated.
  - At the end everything is read again, and the TPM signs what was found, together with the registers that this
    installer measured to. The proof (ROTI) is kept on the data partition, from where the host shows it with its
    evidence. One that is there and still says what is on the disk is kept.
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
  tpm:
    description: How to reach the TPM, V(device:PATH) of the kernel's resource manager.
    type: str
    default: device:/dev/tpmrm0
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
roti:
  description: The proof, base64 of its JSON form; empty in check mode when one would be made.
  returned: success
  type: str
  sample: eyJhdHRlc3QiOi4uLn0=
release_id:
  description: SHA-256 of the signed release file.
  returned: success
  type: str
  sample: 9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08
boot_entry:
  description: What the boot entry starts.
  returned: success
  type: str
  sample: HD(1,GPT,4f68bce3-e8cd-4db1-96e7-fbcaf984b709,0x800,0x80000)/\EFI\vouch\current.efi
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

import base64
import contextlib
import time
from collections.abc import Iterator
from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible.module_utils.vouch.errors import VouchError
from ansible.module_utils.vouch.install.proof import EVENT_LOG, MISSING, ProofMaker, ProofOutcome
from ansible.module_utils.vouch.install.slot import SlotInstaller, SlotOutcome, SlotWish
from ansible.module_utils.vouch.install.wish import read_wish
from ansible.module_utils.vouch.model.evidence import MAX_FIRMWARE_LOG_BYTES
from ansible.module_utils.vouch.port.disk import BlockDisk
from ansible.module_utils.vouch.port.efi import EfivarFs
from ansible.module_utils.vouch.port.files import read_bounded
from ansible.module_utils.vouch.port.imagestore import stream_blob
from ansible.module_utils.vouch.port.progress import report
from ansible.module_utils.vouch.port.quotetpm import DEVICE, QuoteTpm


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
        "tpm": {"type": "str", "default": DEVICE},
    }


def install(params: dict[str, Any], wish: SlotWish, *, check_mode: bool) -> tuple[SlotOutcome, ProofOutcome]:
    """Bring the slot to the wanted state and have it proven."""

    def fetch(digest: bytes, limit_bytes: int) -> Iterator[bytes]:
        return stream_blob(params["store_url"], digest, limit_bytes=limit_bytes)

    efi = EfivarFs()
    with BlockDisk(params["disk"]).locked() as disk, contextlib.closing(QuoteTpm(params["tpm"])) as tpm:
        slot = SlotInstaller(disk, efi, fetch, wish, rehearse=check_mode, say=report).run()
        if check_mode and slot.deltas:
            return slot, ProofOutcome(roti=None, deltas=(MISSING,))
        report("install proof")
        maker = ProofMaker(
            disk=disk,
            efi=efi,
            tpm=tpm,
            event_log=read_bounded(EVENT_LOG, limit_bytes=MAX_FIRMWARE_LOG_BYTES),
            wish=wish,
            now_s=lambda: int(time.time()),
        )
        return slot, maker.run(rehearse=check_mode)


def shown(slot: SlotOutcome, proof: ProofOutcome, release_id: bytes) -> dict[str, Any]:
    """Return the module's result."""
    deltas = (*slot.deltas, *proof.deltas)
    return {
        "changed": bool(deltas),
        "changes": [delta.as_dict() for delta in deltas],
        "release_id": release_id.hex(),
        "boot_entry": slot.boot_entry,
        "boot_variable": slot.boot_variable,
        "ssh_host_key": slot.ssh_host_key,
        "roti": "" if proof.roti is None else base64.b64encode(proof.roti.to_bytes()).decode(),
        "diff": {
            "before": "".join(f"{delta.name}: {(delta.current or 'absent').strip()}\n" for delta in deltas),
            "after": "".join(f"{delta.name}: {delta.desired.strip()}\n" for delta in deltas),
        },
    }


def main() -> None:
    """Run the module."""
    module = AnsibleModule(argument_spec=argument_spec(), supports_check_mode=True)
    params = module.params
    try:
        wish = read_wish(
            host_id=params["host_id"],
            slot=params["slot"],
            release=params["release"],
            release_keys=params["release_keys"],
            wipe=params["wipe"],
        )
        slot, proof = install(params, wish, check_mode=module.check_mode)
    except VouchError as exc:
        module.fail_json(msg=str(exc), code=exc.code)
    except OSError as exc:
        module.fail_json(msg=f"the disk does not answer as it should: {exc}", code="disk.io")
    module.exit_json(**shown(slot, proof, wish.release_id))


if __name__ == "__main__":
    main()
