#!/usr/bin/python
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Make a TPM's attestation key, and answer the appraiser's credential challenge."""

from __future__ import annotations

DOCUMENTATION = r"""
module: vouch_tpm_identity
short_description: Make a TPM's attestation key and prove that it sits in this TPM
version_added: "0.1.0"
description:
  - Runs on a machine that was booted from the installer.
  - Without O(credential_blob) an attestation key is made once and kept in the TPM. It never leaves it, and
    TPM2_Clear destroys it for good.
  - With O(credential_blob) the challenge of M(vouch_enroll) is answered. Only the TPM that holds both keys can.
options:
  credential_blob:
    description: Credential of the challenge, base64.
    type: str
    default: ""
  encrypted_secret:
    description: Seed of the challenge, encrypted to the endorsement key, base64.
    type: str
    default: ""
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
    description: Says whether a key would be made. A challenge is answered all the same, since that changes nothing.
    support: full
  diff_mode:
    description: Shows the digest of the key before and after.
    support: full
author:
  - The Vouch developers
"""

EXAMPLES = r"""
- name: Make the attestation key
  vouch_tpm_identity:
  register: identity

- name: Answer the challenge
  vouch_tpm_identity:
    kind: "{{ challenge.kind }}"
    credential_blob: "{{ challenge.credential_blob }}"
    encrypted_secret: "{{ challenge.encrypted_secret }}"
  register: answer
  no_log: true
"""

RETURN = r"""
ak_public:
  description: TPMT_PUBLIC of the attestation key, base64; empty in check mode when none was made yet.
  returned: always
  type: str
  sample: ACMACwAF
secret:
  description: Answer to the challenge, base64.
  returned: with O(credential_blob)
  type: str
  sample: c2VjcmV0
"""

import base64
import hashlib
from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible.module_utils.vouch.errors import UnreachableError, VouchError
from ansible.module_utils.vouch.model.ektemplate import EK_TEMPLATES, RSA_2048
from ansible.module_utils.vouch.port.tpm import DEVICE, Tpm


def argument_spec() -> dict[str, Any]:
    """Return the options of this module."""
    return {
        # Public by design: only the TPM they were made for can open them.
        "credential_blob": {"type": "str", "default": "", "no_log": False},
        "encrypted_secret": {"type": "str", "default": "", "no_log": False},
        "kind": {"type": "str", "choices": [template.kind for template in EK_TEMPLATES], "default": RSA_2048},
        "tpm": {"type": "str", "default": DEVICE},
    }


def ensure_key(tpm: Tpm, *, check_mode: bool) -> tuple[bytes, bool]:
    """Return the attestation key (empty: would be made), and whether it is new."""
    try:
        return tpm.ak_public(), False
    except UnreachableError as error:
        if error.code != "tpm.ak.missing":
            raise
    return (b"" if check_mode else tpm.create_ak()), True


def apply(params: dict[str, Any], *, check_mode: bool) -> dict[str, Any]:
    """Bring the TPM to the wanted state and return the module's result."""
    with Tpm(params["tpm"]) as tpm:
        if params["credential_blob"]:
            blob, secret = (
                base64.b64decode(params[name], validate=True) for name in ("credential_blob", "encrypted_secret")
            )
            answer = tpm.activate(blob, secret, kind=params["kind"])
            public, changed = tpm.ak_public(), False
            result: dict[str, Any] = {"secret": base64.b64encode(answer).decode()}
        else:
            public, changed = ensure_key(tpm, check_mode=check_mode)
            result = {}
    after = f"attestation key sha256:{hashlib.sha256(public).hexdigest()}\n" if public else "a new attestation key\n"
    return {
        "changed": changed,
        "ak_public": base64.b64encode(public).decode(),
        "diff": {"before": "no attestation key\n" if changed else after, "after": after},
        **result,
    }


def main() -> None:
    """Run the module."""
    module = AnsibleModule(
        argument_spec=argument_spec(),
        supports_check_mode=True,
        required_together=[("credential_blob", "encrypted_secret")],
    )
    try:
        result = apply(module.params, check_mode=module.check_mode)
    except VouchError as exc:
        module.fail_json(msg=str(exc), code=exc.code)
    except ValueError as exc:
        module.fail_json(msg=f"the challenge is not base64: {exc}", code="usage.invalid")
    module.exit_json(**result)


if __name__ == "__main__":
    main()
