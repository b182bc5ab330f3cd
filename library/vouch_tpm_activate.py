#!/usr/bin/python
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Answer the appraiser's credential challenge."""

from __future__ import annotations

DOCUMENTATION = r"""
module: vouch_tpm_activate
short_description: Prove that a TPM holds both its endorsement key and its attestation key
version_added: "0.1.0"
description:
  - Runs on a machine that was booted from the installer.
  - Answers the challenge of M(vouch_enroll). Only the TPM that holds both keys can.
options:
  credential_blob:
    description: Credential of the challenge, base64.
    type: str
    required: true
  encrypted_secret:
    description: Seed of the challenge, encrypted to the endorsement key, base64.
    type: str
    required: true
  kind:
    description: Endorsement key the challenge was made for.
    type: str
    choices: [rsa2048, ecc-p256, ecc-p384]
    default: rsa2048
  tpm:
    description: How to reach the TPM, a TCTI string of tpm2-tss.
    type: str
    default: device:/dev/tpmrm0
requirements:
  - python3-tpm2-pytss
attributes:
  check_mode:
    description: Answers all the same, since that changes nothing.
    support: full
  diff_mode:
    description: There is nothing to show.
    support: none
author:
  - The Vouch developers
"""

EXAMPLES = r"""
- name: Answer the challenge
  vouch_tpm_activate:
    kind: "{{ challenge.kind }}"
    credential_blob: "{{ challenge.credential_blob }}"
    encrypted_secret: "{{ challenge.encrypted_secret }}"
  register: answer
  no_log: true
"""

RETURN = r"""
secret:
  description: Answer to the challenge, base64.
  returned: success
  type: str
  sample: c2VjcmV0
"""

import base64
from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible.module_utils.vouch.errors import VouchError
from ansible.module_utils.vouch.model.ektemplate import EK_TEMPLATES, RSA_2048
from ansible.module_utils.vouch.port.tpm import DEVICE, Tpm


def argument_spec() -> dict[str, Any]:
    """Return the options of this module."""
    return {
        # Public by design: only the TPM they were made for can open them.
        "credential_blob": {"type": "str", "required": True, "no_log": False},
        "encrypted_secret": {"type": "str", "required": True, "no_log": False},
        "kind": {"type": "str", "choices": [template.kind for template in EK_TEMPLATES], "default": RSA_2048},
        "tpm": {"type": "str", "default": DEVICE},
    }


def answer(params: dict[str, Any]) -> bytes:
    """Return the secret of the challenge."""
    blob, secret = (base64.b64decode(params[name], validate=True) for name in ("credential_blob", "encrypted_secret"))
    with Tpm(params["tpm"]) as tpm:
        return tpm.activate(blob, secret, kind=params["kind"])


def main() -> None:
    """Run the module."""
    module = AnsibleModule(argument_spec=argument_spec(), supports_check_mode=True)
    try:
        secret = answer(module.params)
    except VouchError as exc:
        module.fail_json(msg=str(exc), code=exc.code)
    except ValueError as exc:
        module.fail_json(msg=f"the challenge is not base64: {exc}", code="usage.invalid")
    module.exit_json(changed=False, secret=base64.b64encode(secret).decode())


if __name__ == "__main__":
    main()
