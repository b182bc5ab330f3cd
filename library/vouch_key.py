#!/usr/bin/python
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Make a private key once, and say what its public half is."""

from __future__ import annotations

DOCUMENTATION = r"""
module: vouch_key
short_description: Make a private key once
version_added: "0.1.0"
description:
  - Makes a private key without password, readable by its owner only. A key that is there is kept.
  - The public half is written beside it, with the suffix C(.pub).
options:
  path:
    description: File of the private key. Its directory is made when missing.
    type: path
    required: true
  type:
    description: Kind of key.
    type: str
    choices: [ed25519, ecdsa-p256]
    default: ed25519
  format:
    description: V(pem) for PKCS#8 and SubjectPublicKeyInfo, V(openssh) for what OpenSSH reads and writes.
    type: str
    choices: [pem, openssh]
    default: pem
requirements:
  - cryptography
attributes:
  check_mode:
    description: Says whether a key would be made.
    support: full
  diff_mode:
    description: There is nothing to show, as a private key is never shown.
    support: none
author:
  - The Vouch developers
"""

EXAMPLES = r"""
- name: Make the key that signs releases
  vouch_key:
    path: /etc/vouch/release.key

- name: Make the SSH key of the controller
  vouch_key:
    path: /etc/vouch/controller
    format: openssh
  register: controller_key
"""

RETURN = r"""
public_key:
  description: The public half, a PEM block or an OpenSSH line; empty in check mode when there is no key yet.
  returned: always
  type: str
  sample: ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIE0QLnOWD2GSEHd1BkZYbrkJM2W1yRIqxWGKXyNbyMpF
path:
  description: File of the private key.
  returned: always
  type: path
  sample: /etc/vouch/release.key
public_path:
  description: File of the public half.
  returned: always
  type: path
  sample: /etc/vouch/release.key.pub
"""

import traceback
from pathlib import Path
from typing import Any

from ansible.module_utils.basic import AnsibleModule, missing_required_lib
from ansible.module_utils.vouch.errors import UnreachableError, VouchError
from ansible.module_utils.vouch.port.files import PUBLIC_MODE, make_private_folder, read_bounded, write_atomic

try:
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric import ec, ed25519
except ImportError:
    LIBRARY_ERROR: str | None = traceback.format_exc()
else:
    LIBRARY_ERROR = None

MAX_KEY_BYTES = 64 << 10


def argument_spec() -> dict[str, Any]:
    """Return the options of this module."""
    return {
        "path": {"type": "path", "required": True},
        "type": {"type": "str", "choices": ["ed25519", "ecdsa-p256"], "default": "ed25519"},
        "format": {"type": "str", "choices": ["pem", "openssh"], "default": "pem"},
    }


def read_key(path: Path, kind: str, form: str) -> Any:
    """Return the key in ``path``, None when there is no such file.

    Raises:
        UnreachableError: ``key.other``: what is there is no such key. It is never replaced.
    """
    if not path.exists():
        return None
    data = read_bounded(path, limit_bytes=MAX_KEY_BYTES)
    load = serialization.load_pem_private_key if form == "pem" else serialization.load_ssh_private_key
    wanted = ed25519.Ed25519PrivateKey if kind == "ed25519" else ec.EllipticCurvePrivateKey
    try:
        key = load(data, password=None)
    except (ValueError, TypeError, UnsupportedAlgorithm) as error:
        raise UnreachableError(f"{path} is no private key without password: {error}", code="key.other") from None
    if not isinstance(key, wanted) or (isinstance(key, ec.EllipticCurvePrivateKey) and key.curve.name != "secp256r1"):
        raise UnreachableError(f"{path} is another kind of key than {kind}", code="key.other", hint="Move it away")
    return key


def make_key(path: Path, kind: str, form: str) -> Any:
    """Make a key, keep it in ``path``, and return it."""
    key = ed25519.Ed25519PrivateKey.generate() if kind == "ed25519" else ec.generate_private_key(ec.SECP256R1())
    private = serialization.PrivateFormat.PKCS8 if form == "pem" else serialization.PrivateFormat.OpenSSH
    make_private_folder(path.parent)
    write_atomic(path, key.private_bytes(serialization.Encoding.PEM, private, serialization.NoEncryption()))
    return key


def public_text(key: Any, form: str) -> str:
    """Return the public half."""
    encoding, public = (
        (serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
        if form == "pem"
        else (serialization.Encoding.OpenSSH, serialization.PublicFormat.OpenSSH)
    )
    return str(key.public_key().public_bytes(encoding, public).decode()).strip()


def apply(params: dict[str, Any], *, check_mode: bool) -> dict[str, Any]:
    """Bring the key to the wanted state and return the module's result."""
    path, form = Path(params["path"]), params["format"]
    public_path = path.with_name(f"{path.name}.pub")
    key = read_key(path, params["type"], form)
    changed = key is None
    if key is None and not check_mode:
        key = make_key(path, params["type"], form)
    text = "" if key is None else public_text(key, form)
    content = f"{text}\n".encode()
    if key is not None:
        same = public_path.is_file() and read_bounded(public_path, limit_bytes=MAX_KEY_BYTES) == content
        changed = changed or not same
        if not same and not check_mode:
            write_atomic(public_path, content, mode=PUBLIC_MODE)
    return {"changed": changed, "public_key": text, "path": str(path), "public_path": str(public_path)}


def main() -> None:
    """Run the module."""
    module = AnsibleModule(argument_spec=argument_spec(), supports_check_mode=True)
    if LIBRARY_ERROR is not None:
        module.fail_json(msg=missing_required_lib("cryptography"), exception=LIBRARY_ERROR)
    try:
        result = apply(module.params, check_mode=module.check_mode)
    except VouchError as exc:
        module.fail_json(msg=str(exc), code=exc.code)
    module.exit_json(**result)


if __name__ == "__main__":
    main()
