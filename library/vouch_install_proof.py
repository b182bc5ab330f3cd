#!/usr/bin/python
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Have the TPM sign what the installer finds on the disk."""

from __future__ import annotations

DOCUMENTATION = r"""
module: vouch_install_proof
short_description: Make the proof of an installation (ROTI)
version_added: "0.1.0"
description:
  - Runs on a machine that was booted from the installer, after M(vouch_host_slot).
  - Reads image, xen.efi, boot entry and SSH host key again, and refuses what is not as the release says.
  - The TPM signs the statement together with the registers that this installer measured to. The proof is kept on
    the host's data partition, from where the host shows it with its evidence.
  - A proof that is there and still says what is on the disk is kept.
options:
  disk:
    description: Stable name of the disk, below C(/dev/disk/by-id).
    type: str
    required: true
  host_id:
    description: UUID of the host.
    type: str
    required: true
  slot:
    description: Slot the proof is of.
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
  tpm:
    description: How to reach the TPM, a TCTI string of tpm2-tss.
    type: str
    default: device:/dev/tpmrm0
requirements:
  - python3-tpm2-pytss
  - python3-cryptography
  - sfdisk, blkid
attributes:
  check_mode:
    description: Says whether a proof would be made.
    support: full
  diff_mode:
    description: Shows what was missing.
    support: full
author:
  - The Vouch developers
"""

EXAMPLES = r"""
- name: Make the install proof
  vouch_install_proof:
    disk: /dev/disk/by-id/nvme-SAMSUNG_MZVL2512_S0123456789
    host_id: 3d9a6f5e-0c0e-5c53-9d0e-0c1d5f5c8a11
    release: "{{ lookup('ansible.builtin.file', 'vouch-host.dsse.json', rstrip=false) | b64encode }}"
    release_keys:
      - "{{ lookup('ansible.builtin.file', 'release.pub') }}"
  register: proof
"""

RETURN = r"""
roti:
  description: The proof, base64 of its JSON form; empty in check mode when one would be made.
  returned: success
  type: str
  sample: eyJhdHRlc3QiOi4uLn0=
"""

import base64
import time
from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible.module_utils.vouch.check.identity import check_ak_public
from ansible.module_utils.vouch.errors import VouchError
from ansible.module_utils.vouch.install.machine import EVENT_LOG
from ansible.module_utils.vouch.install.proof import ProofMaker, ProofOutcome
from ansible.module_utils.vouch.install.wish import read_wish
from ansible.module_utils.vouch.model.evidence import MAX_FIRMWARE_LOG_BYTES
from ansible.module_utils.vouch.port.disk import BlockDisk
from ansible.module_utils.vouch.port.efi import EfivarFs
from ansible.module_utils.vouch.port.files import read_bounded
from ansible.module_utils.vouch.port.tpm import DEVICE, Tpm


def argument_spec() -> dict[str, Any]:
    """Return the options of this module."""
    return {
        "disk": {"type": "str", "required": True},
        "host_id": {"type": "str", "required": True},
        "slot": {"type": "str", "choices": ["a", "b"], "default": "a"},
        "release": {"type": "str", "required": True},
        "release_keys": {"type": "list", "elements": "str", "required": True, "no_log": False},
        "tpm": {"type": "str", "default": DEVICE},
    }


def prove(params: dict[str, Any], *, check_mode: bool) -> ProofOutcome:
    """Return the proof that is on the disk at the end."""
    wish = read_wish(
        host_id=params["host_id"],
        slot=params["slot"],
        release=params["release"],
        release_keys=params["release_keys"],
    )
    with Tpm(params["tpm"]) as tpm, BlockDisk(params["disk"]).locked() as disk:
        maker = ProofMaker(
            disk=disk,
            efi=EfivarFs(),
            tpm=tpm,
            ak_name=check_ak_public(tpm.ak_public()).name,
            event_log=read_bounded(EVENT_LOG, limit_bytes=MAX_FIRMWARE_LOG_BYTES),
            wish=wish,
            now_s=lambda: int(time.time()),
        )
        return maker.run(rehearse=check_mode)


def main() -> None:
    """Run the module."""
    module = AnsibleModule(argument_spec=argument_spec(), supports_check_mode=True)
    try:
        outcome = prove(module.params, check_mode=module.check_mode)
    except VouchError as exc:
        module.fail_json(msg=str(exc), code=exc.code)
    except OSError as exc:
        module.fail_json(msg=f"the disk does not answer as it should: {exc}", code="disk.io")
    module.exit_json(
        changed=bool(outcome.deltas),
        roti="" if outcome.roti is None else base64.b64encode(outcome.roti.to_bytes()).decode(),
        diff={
            "before": "".join(f"{delta.name}: absent\n" for delta in outcome.deltas),
            "after": "".join(f"{delta.name}: {delta.desired}\n" for delta in outcome.deltas),
        },
    )


if __name__ == "__main__":
    main()
