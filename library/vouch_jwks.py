#!/usr/bin/python
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Publish the keys that sign attestation results, as a JSON Web Key Set."""

from __future__ import annotations

DOCUMENTATION = r"""
module: vouch_jwks
short_description: Publish the keys that sign attestation results
version_added: "0.1.0"
description:
  - Writes a JSON Web Key Set (RFC 7517) with the public halves of the given keys, each under its thumbprint (RFC 7638).
    The header of every signed result names its key by the same C(kid).
  - The same keys give the same file. A private key is read for its public half alone and never written.
  - When a key is replaced, keep the public half of the old one in the set for as long as its results are to be read.
options:
  keys:
    description: PEM files of P-256 keys, private or public.
    type: list
    elements: path
    required: true
  dest:
    description: File of the key set. Its directory must exist. Whoever reads results may read it.
    type: path
    required: true
requirements:
  - cryptography
  - joserfc
attributes:
  check_mode:
    description: Says whether the file would change.
    support: full
  diff_mode:
    description: Shows the file before and after.
    support: full
seealso:
  - module: vouch_appraise
author:
  - The Vouch developers
"""

EXAMPLES = r"""
- name: Publish the key that signs results
  vouch_jwks:
    keys: [/etc/vouch/ear.key]
    dest: /srv/www/vouch/jwks.json

- name: Publish the new key beside the one that was replaced
  vouch_jwks:
    keys:
      - /etc/vouch/ear.key
      - /etc/vouch/ear-2025.pub
    dest: /srv/www/vouch/jwks.json
  register: jwks
"""

RETURN = r"""
jwks:
  description: The key set.
  returned: always
  type: dict
  sample: {"keys": [{"kty": "EC", "crv": "P-256", "kid": "Fv4ZZ7rFvzmBnDyRg7iQKfgRkfF2Uy0rUA04gXiwhxg"}]}
kids:
  description: Names of the keys, ascending.
  returned: always
  type: list
  elements: str
  sample: [Fv4ZZ7rFvzmBnDyRg7iQKfgRkfF2Uy0rUA04gXiwhxg]
dest:
  description: File of the key set.
  returned: always
  type: path
  sample: /srv/www/vouch/jwks.json
"""

import json
import traceback
from pathlib import Path
from typing import Any

from ansible.module_utils.basic import AnsibleModule, missing_required_lib
from ansible.module_utils.vouch.errors import UsageError, VouchError
from ansible.module_utils.vouch.model.key import MAX_PEM_BYTES
from ansible.module_utils.vouch.port.files import PUBLIC_MODE, read_bounded, write_atomic

try:
    from ansible.module_utils.vouch.appraise.jwks import MAX_JWKS_BYTES, jwks_bytes
except ImportError:
    LIBRARY_ERROR: str | None = traceback.format_exc()
else:
    LIBRARY_ERROR = None


def argument_spec() -> dict[str, Any]:
    """Return the options of this module."""
    return {
        "keys": {"type": "list", "elements": "path", "required": True, "no_log": False},
        "dest": {"type": "path", "required": True},
    }


def key_set(paths: list[str]) -> bytes:
    """Return the file of the keys in ``paths``.

    Raises:
        UsageError: ``ear.key``, naming the file; ``ear.jwks`` for no key at all.
        UnreachableError: when a file cannot be read.
    """
    keys = []
    for path in paths:
        pem = read_bounded(path, limit_bytes=MAX_PEM_BYTES)
        try:
            jwks_bytes([pem])
        except UsageError as error:
            raise UsageError(f"{path}: {error.message}", code=error.code) from None
        keys.append(pem)
    return jwks_bytes(keys)


def apply(params: dict[str, Any], *, check_mode: bool) -> dict[str, Any]:
    """Bring the file to the wanted state and return the module's result."""
    wanted, dest = key_set(params["keys"]), Path(params["dest"])
    before = read_bounded(dest, limit_bytes=MAX_JWKS_BYTES) if dest.exists() else b""
    if before != wanted and not check_mode:
        write_atomic(dest, wanted, mode=PUBLIC_MODE)
    value = json.loads(wanted)
    return {
        "changed": before != wanted,
        "jwks": value,
        "kids": [entry["kid"] for entry in value["keys"]],
        "dest": str(dest),
        "diff": {
            "before_header": str(dest),
            "after_header": str(dest),
            "before": before.decode("utf-8", "replace"),
            "after": wanted.decode(),
        },
    }


def main() -> None:
    """Run the module."""
    module = AnsibleModule(argument_spec=argument_spec(), supports_check_mode=True)
    if LIBRARY_ERROR is not None:
        module.fail_json(msg=missing_required_lib("cryptography and joserfc"), exception=LIBRARY_ERROR)
    try:
        result = apply(module.params, check_mode=module.check_mode)
    except VouchError as exc:
        module.fail_json(msg=str(exc), code=exc.code)
    module.exit_json(**result)


if __name__ == "__main__":
    main()
