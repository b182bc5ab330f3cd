#!/usr/bin/python
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Look at a machine that was booted from the installer, and make its attestation key once."""

from __future__ import annotations

DOCUMENTATION = r"""
module: vouch_machine
short_description: Make a machine ready for its enrolment as a measured host
version_added: "0.1.0"
description:
  - Runs on a machine that was booted from the installer. The disk is only looked at.
  - Looks at UEFI, TPM 2.0, the firmware's event log, the tools and the disk.
  - Fails when something stands in the way; the message names every obstacle with its cure, not only the first.
  - Where nothing does, an attestation key is made in the TPM, once. It never leaves the TPM, and TPM2_Clear destroys it
    for good.
options:
  disk:
    description: Stable name of the disk to install on, below C(/dev/disk/by-id).
    type: str
    required: true
  host_id:
    description: UUID this host shall have. A disk that bears it is taken for ours.
    type: str
    required: true
  wipe:
    description: Whether data on the disk may be destroyed.
    type: bool
    default: false
  tpm:
    description: How to reach the TPM, a TCTI string of tpm2-tss.
    type: str
    default: device:/dev/tpmrm0
requirements:
  - python3-tpm2-pytss
  - sfdisk, blkid, dosfstools, e2fsprogs
attributes:
  check_mode:
    description: Looks at everything and says whether a key would be made.
    support: full
  diff_mode:
    description: Shows the digest of the key before and after.
    support: full
author:
  - The Vouch developers
"""

EXAMPLES = r"""
- name: Look at the machine and make its attestation key
  vouch_machine:
    disk: /dev/disk/by-id/nvme-SAMSUNG_MZVL2512_S0123456789
    host_id: 3d9a6f5e-0c0e-5c53-9d0e-0c1d5f5c8a11
  register: machine
"""

RETURN = r"""
problems:
  description: What stands in the way; empty on success.
  returned: always
  type: list
  elements: dict
  sample: [{"code": "tpm.absent", "message": "this machine has no TPM. Switch it on in the firmware set-up."}]
disk:
  description: The disk, its size in bytes, and whether it already bears this host's id.
  returned: when the disk could be looked at
  type: dict
  sample: {"path": "/dev/disk/by-id/virtio-host1", "size_bytes": 8589934592, "ours": false, "content": ["gpt"]}
event_log:
  description: The firmware's event log of this boot, base64.
  returned: when it could be read
  type: str
  sample: AAAAAAMAAAA=
pcrs:
  description: Registers 0 to 9 of the SHA-256 bank.
  returned: when the TPM could be read
  type: dict
  sample: {"sha256": {"0": "a1b2"}}
ek_certificates:
  description: Kind of endorsement key to its certificate, DER in base64.
  returned: success
  type: dict
  sample: {"rsa2048": "MIIE"}
ek_chain:
  description: Intermediate certificates that the TPM holds, DER in base64.
  returned: success
  type: list
  elements: str
  sample: []
ak_public:
  description: TPMT_PUBLIC of the attestation key in base64; empty in check mode when none was made yet.
  returned: success
  type: str
  sample: ACMACwAF
"""

import base64
import hashlib
import uuid
from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible.module_utils.vouch.install.machine import MachineLook, MachineReport
from ansible.module_utils.vouch.model.evidence import bank_to_json
from ansible.module_utils.vouch.port.tpm import DEVICE, Tpm


def argument_spec() -> dict[str, Any]:
    """Return the options of this module."""
    return {
        "disk": {"type": "str", "required": True},
        "host_id": {"type": "str", "required": True},
        "wipe": {"type": "bool", "default": False},
        "tpm": {"type": "str", "default": DEVICE},
    }


def shown(report: MachineReport, host_id: uuid.UUID) -> dict[str, Any]:
    """Return the module's result of a look."""
    key = f"attestation key sha256:{hashlib.sha256(report.ak_public).hexdigest()}\n" if report.ak_public else ""
    result: dict[str, Any] = {
        "changed": report.ak_missing and not report.problems,
        "diff": {
            "before": "no attestation key\n" if report.ak_missing else key,
            "after": key or "a new attestation key\n",
        },
        "problems": [problem.as_dict() for problem in report.problems],
        "ek_certificates": {kind: _text(der) for kind, der in report.ek_certificates.items()},
        "ek_chain": [_text(der) for der in report.ek_chain],
        "ak_public": _text(report.ak_public or b""),
    }
    if report.disk is not None:
        result["disk"] = {
            "path": report.disk.path,
            "size_bytes": report.disk.size_bytes,
            "ours": report.disk.table is not None and report.disk.table.guid == host_id,
            "content": list(report.disk.signatures),
        }
    if report.event_log is not None:
        result["event_log"] = _text(report.event_log)
    if report.pcrs is not None:
        result["pcrs"] = bank_to_json(report.pcrs)
    return result


def _text(data: bytes) -> str:
    return base64.b64encode(data).decode()


def main() -> None:
    """Run the module."""
    module = AnsibleModule(argument_spec=argument_spec(), supports_check_mode=True)
    params = module.params
    try:
        host_id = uuid.UUID(params["host_id"])
    except ValueError:
        module.fail_json(msg=f"host_id {params['host_id']!r} is no UUID", code="usage.invalid")
    look = MachineLook(open_tpm=lambda: Tpm(params["tpm"]))
    report = look.run(disk=params["disk"], host_id=host_id, wipe=params["wipe"], make_key=not module.check_mode)
    result = shown(report, host_id)
    if report.problems:
        texts = "; ".join(f"{problem.message} [{problem.code}]" for problem in report.problems)
        module.fail_json(msg=f"this machine cannot be installed: {texts}", **result)
    module.exit_json(**result)


if __name__ == "__main__":
    main()
