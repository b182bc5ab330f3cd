#!/usr/bin/python
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Sign the release of a host image."""

from __future__ import annotations

DOCUMENTATION = r"""
module: vouch_host_release
short_description: Sign the release of a host image
version_added: "0.1.0"
description:
  - Writes a host release, an in-toto statement in a DSSE envelope. It names the files of a host image, the PCR 4 that a
    machine shows after booting it, the dm-verity root, the manifest, and what the image is made of.
  - Runs where the signing key is, usually on the controller. The key never travels.
  - A release that says the same under the same key is left as it is.
options:
  image:
    description: Description of the image, RV(vouch_host_image#module:image) of M(vouch_host_image).
    type: dict
    required: true
  name:
    description: Name of the release.
    type: str
    required: true
  key:
    description: PEM file of the private key (Ed25519 or P-256). Made when missing, readable by its owner only.
    type: path
    required: true
  scheme:
    description: Kind of key that is made when O(key) is missing.
    type: str
    choices: [ed25519, ecdsa-p256-sha256]
    default: ed25519
  dest:
    description: File to write. Its directory is made when missing.
    type: path
    required: true
requirements:
  - cryptography
  - securesystemslib
attributes:
  check_mode:
    description: Says whether the release would be written, and changes nothing.
    support: full
  diff_mode:
    description: Shows the release id before and after.
    support: full
author:
  - The Vouch developers
"""

EXAMPLES = r"""
- name: Sign the release on the controller
  vouch_host_release:
    image: "{{ built.image }}"
    name: vouch-host-production
    key: "{{ lookup('ansible.builtin.env', 'HOME') }}/.config/vouch/release.pem"
    dest: build/vouch-host-production.dsse.json
  delegate_to: localhost
"""

RETURN = r"""
release_id:
  description: SHA-256 of the signed file; empty in check mode when it would change.
  returned: always
  type: str
  sample: 1f9a4f3c6cf8d0c35ad2c5b3f9b4a38e4f0a8a8c4dbe1b0e5f9fdd8fd0b3a1c2
pcr4:
  description: PCR 4 of a machine that booted this image at the first attempt.
  returned: always
  type: str
  sample: 287204f6f658d946267dcb08597b025593b2bbf7d45561f540a221def18af420
public_key:
  description: PEM of the public key, to be given to appraisers; empty in check mode when the key would be made.
  returned: always
  type: str
  sample: "-----BEGIN PUBLIC KEY-----..."
keyid:
  description: SHA-256 of the public key's SPKI.
  returned: always
  type: str
  sample: 5d0c2f6e0d4c7a8fb2a2d5bd5b6dbd3c7cf4f7ad8f3a5b1c1b6a1ff04a6d5f0e
dest:
  description: The signed file.
  returned: always
  type: str
  sample: build/vouch-host-production.dsse.json
"""

import hashlib
import traceback
from pathlib import Path
from typing import Any

from ansible.module_utils.basic import AnsibleModule, missing_required_lib
from ansible.module_utils.vouch.errors import VouchError
from ansible.module_utils.vouch.imaging.spec import BuiltImage
from ansible.module_utils.vouch.model.image import IN_TOTO_PAYLOAD_TYPE
from ansible.module_utils.vouch.model.release import HostRelease
from ansible.module_utils.vouch.parse.envelope import parse_envelope
from ansible.module_utils.vouch.port.files import read_bounded, write_atomic

IMPORT_ERROR = ""
try:
    from ansible.module_utils.vouch.check.signature import verify_envelope
    from ansible.module_utils.vouch.make.sign import public_pem
    from ansible.module_utils.vouch.make.statements import sign_host_release
    from ansible.module_utils.vouch.store.signingkeys import find_or_make
except ImportError:
    IMPORT_ERROR = traceback.format_exc()

MAX_RELEASE_BYTES = 16 << 20


def argument_spec() -> dict[str, Any]:
    """Return the options of this module."""
    return {
        "image": {"type": "dict", "required": True},
        "name": {"type": "str", "required": True},
        "key": {"type": "path", "required": True, "no_log": False},
        "scheme": {"type": "str", "choices": ["ed25519", "ecdsa-p256-sha256"], "default": "ed25519"},
        "dest": {"type": "path", "required": True},
    }


def standing(path: Path, release: HostRelease, key: Any) -> bytes:
    """Return the content of ``path`` when it says just this, signed by this key; else nothing."""
    if not path.is_file():
        return b""
    data = read_bounded(path, limit_bytes=MAX_RELEASE_BYTES)
    try:
        verified = verify_envelope(parse_envelope(data), [key])
    except VouchError:
        return b""
    same = verified.payload == release.to_bytes() and verified.payload_type == IN_TOTO_PAYLOAD_TYPE
    return data if same else b""


def apply(params: dict[str, Any], *, check_mode: bool) -> dict[str, Any]:
    """Make the key and the release where they are missing; return the module's result."""
    release = BuiltImage.from_json(params["image"]).release(params["name"])
    dest = Path(params["dest"])
    key = find_or_make(Path(params["key"]), params["scheme"])
    result: dict[str, Any] = {
        "changed": True,
        "pcr4": release.pcr4.hex(),
        "dest": str(dest),
        "release_id": "",
        "public_key": "",
        "keyid": "",
    }
    before = hashlib.sha256(dest.read_bytes()).hexdigest() if dest.is_file() else ""
    if key.made and check_mode:
        return result
    key.keep()
    data = standing(dest, release, key.public)
    changed = not data
    if changed and not check_mode:
        data = sign_host_release(release, key.private)
        dest.parent.mkdir(parents=True, exist_ok=True)
        write_atomic(dest, data, mode=0o644)
    after = hashlib.sha256(data).hexdigest() if data else ""
    return {
        **result,
        "changed": changed or key.made,
        "release_id": after,
        "public_key": public_pem(key.private).decode("ascii"),
        "keyid": key.public.keyid,
        "diff": {"before": f"{before}\n", "after": f"{after}\n"},
    }


def main() -> None:
    """Run the module."""
    module = AnsibleModule(argument_spec=argument_spec(), supports_check_mode=True)
    if IMPORT_ERROR:
        module.fail_json(
            msg=missing_required_lib("cryptography and securesystemslib"), exception=IMPORT_ERROR, code="python.library"
        )
    try:
        result = apply(module.params, check_mode=module.check_mode)
    except VouchError as error:
        module.fail_json(msg=str(error), code=error.code)
    except OSError as error:
        module.fail_json(msg=f"{error.filename}: {error.strerror}", code="release.files")
    module.exit_json(**result)


if __name__ == "__main__":
    main()
