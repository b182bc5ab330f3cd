#!/usr/bin/python
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Sign the package of a guest image."""

from __future__ import annotations

DOCUMENTATION = r"""
module: vouch_guest_package
short_description: Sign the package of a guest image
version_added: "0.2.0"
description:
  - Writes a guest package, an in-toto statement in a DSSE envelope. It names the files of a guest by digest, the
    kernel's command line, the dm-verity root, the SELinux policy and the proof about it, and says what the guest gets,
    whom it can be reached by, whom it talks to, and what is done with it when it is no longer what it was.
  - Runs where the signing key is, usually on the controller. The key never travels.
  - Nothing is signed that a host would refuse for its command line or its root image.
  - A package that says the same under the same key is left as it is.
options:
  image:
    description:
      - Description of the image, RV(vouch_guest_image#module:image) of M(vouch_guest_image), or the content of
        C(image.json).
    type: dict
    required: true
  name:
    description: Name of the package. That of the image when empty, with C(-debug) behind it for a debug image.
    type: str
    default: ""
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
  store_dir:
    description: Image store on the same machine; gets the file as C(packages/NAME.dsse.json). Nothing when empty.
    type: path
    default: ""
  resources:
    description: What the guest gets. Its disk is always C(xvda), read-only, with the root image.
    type: dict
    default: {}
    suboptions:
      memory_mb:
        description: Memory in MiB.
        type: int
        default: 512
      vcpus:
        description: Virtual processors.
        type: int
        default: 1
      types:
        description: Kinds of Xen domain it may be started as.
        type: list
        elements: str
        choices: [pv, pvh]
        default: [pv, pvh]
  network:
    description:
      - Whom the guest can be reached by. The host drops everything but IPsec and the services named here.
    type: dict
    default: {}
    suboptions:
      mac:
        description:
          - V(derived), the host makes the address from the guest's id.
          - V(requested), the start request names it.
          - V(none), the guest has no network.
        type: str
        choices: [derived, requested, none]
        default: derived
      services:
        description: Ports that anybody may reach without IPsec, because the program behind them filters what it reads.
        type: list
        elements: dict
        default: []
        suboptions:
          protocol:
            description: Transport protocol.
            type: str
            choices: [tcp, udp]
            default: tcp
          port:
            description: Port number.
            type: int
            required: true
          reason:
            description: Why the program copes with hostile input there. A reviewer reads it.
            type: str
            required: true
  on_violation:
    description: What the host does with a guest that is no longer what the package says.
    type: str
    choices: [pause, destroy]
    default: pause
  peers:
    description:
      - Criteria for other guests that it talks to. Nobody when all lists are empty.
      - Else O(peers.installer_pcr4), O(peers.enrolment_keys), O(peers.names), O(peers.package_keys) and one of
        O(peers.releases) and O(peers.release_keys) must be filled.
      - A key is given by its id (SHA-256 of its SubjectPublicKeyInfo, 64 hexadecimal digits), as PEM text, or as
        V(self), the key that signs this package.
    type: dict
    default: {}
    suboptions:
      installer_pcr4:
        description: PCR 4 of the installers that may have written the peer's host.
        type: list
        elements: str
        default: []
      releases:
        description: Ids of host releases that the peer's host may run.
        type: list
        elements: str
        default: []
      release_keys:
        description: Keys; the peer's host may run any release that one of them signed.
        type: list
        elements: str
        default: []
      enrolment_keys:
        description: Keys of who enrolled the peer's host; one of them must have signed the host's credential.
        type: list
        elements: str
        default: []
      names:
        description: Names of guest packages that the peer may be.
        type: list
        elements: str
        default: []
      package_keys:
        description: Keys that may have signed the peer's package.
        type: list
        elements: str
        default: []
requirements:
  - cryptography
  - securesystemslib
attributes:
  check_mode:
    description: Says whether the package would be written, and changes nothing.
    support: full
  diff_mode:
    description: Shows every member of the statement that changes, before and after.
    support: full
seealso:
  - module: vouch_guest_package_info
author:
  - The Vouch developers
"""

EXAMPLES = r"""
- name: Sign the package on the controller
  vouch_guest_package:
    image: "{{ built.image }}"
    key: "{{ lookup('ansible.builtin.env', 'HOME') }}/.config/vouch/package.pem"
    dest: build/packages/distcc_node.dsse.json
    store_dir: /srv/vouch/store
    resources: {memory_mb: 1024, vcpus: 2, types: [pvh]}
    network:
      services:
        - {protocol: tcp, port: 3632, reason: distccd checks length and form of each request before it acts on one}
    on_violation: destroy
    peers:
      installer_pcr4: ["{{ (lookup('ansible.builtin.file', 'installer.json') | from_json).pcr4 }}"]
      release_keys: ["{{ lookup('ansible.builtin.file', 'vouch-host-production.pub.pem') }}"]
      enrolment_keys: ["{{ lookup('ansible.builtin.file', 'vouch-enrolment.pub.pem') }}"]
      names: [distcc_node]
      package_keys: [self]
  delegate_to: localhost
"""

RETURN = r"""
name:
  description: Name of the package.
  returned: always
  type: str
  sample: distcc_node
package_id:
  description: SHA-256 of the signed file; empty in check mode when it would change.
  returned: always
  type: str
  sample: 1f9a4f3c6cf8d0c35ad2c5b3f9b4a38e4f0a8a8c4dbe1b0e5f9fdd8fd0b3a1c2
statement:
  description: The in-toto statement.
  returned: always
  type: dict
  sample: {"_type": "https://in-toto.io/Statement/v1", "predicateType": "urn:vouch:guest-package:1"}
public_key:
  description: PEM of the public key, for whoever starts or checks guests; empty in check mode when it would be made.
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
  sample: build/packages/distcc_node.dsse.json
"""

import hashlib
import traceback
from pathlib import Path
from typing import Any

from ansible.module_utils.basic import AnsibleModule, missing_required_lib
from ansible.module_utils.vouch.check.packagerules import verify_statement
from ansible.module_utils.vouch.errors import VouchError
from ansible.module_utils.vouch.model.package import GuestPackage
from ansible.module_utils.vouch.port.files import read_bounded, write_atomic

IMPORT_ERROR = ""
try:
    from ansible.module_utils.vouch.check.signature import verify_guest_package
    from ansible.module_utils.vouch.make.guestpackage import (
        GuestImage,
        changed_members,
        network_of,
        peers_of,
        resources_of,
        sign_guest_package,
    )
    from ansible.module_utils.vouch.make.sign import public_pem
    from ansible.module_utils.vouch.model.key import PublicKey
    from ansible.module_utils.vouch.store.signingkeys import find_or_make
except ImportError:
    IMPORT_ERROR = traceback.format_exc()

MAX_SIGNED_BYTES = 8 << 20
UNKNOWN_KEY = "00" * 32
"""Stands for ``self`` in check mode as long as there is no key."""


def argument_spec() -> dict[str, Any]:
    """Return the options of this module."""
    texts: dict[str, Any] = {"type": "list", "elements": "str", "default": []}
    return {
        "image": {"type": "dict", "required": True},
        "name": {"type": "str", "default": ""},
        "key": {"type": "path", "required": True, "no_log": False},
        "scheme": {"type": "str", "choices": ["ed25519", "ecdsa-p256-sha256"], "default": "ed25519"},
        "dest": {"type": "path", "required": True},
        "store_dir": {"type": "path", "default": ""},
        "resources": {
            "type": "dict",
            "default": {},
            "options": {
                "memory_mb": {"type": "int", "default": 512},
                "vcpus": {"type": "int", "default": 1},
                "types": {"type": "list", "elements": "str", "choices": ["pv", "pvh"], "default": ["pv", "pvh"]},
            },
        },
        "network": {
            "type": "dict",
            "default": {},
            "options": {
                "mac": {"type": "str", "choices": ["derived", "requested", "none"], "default": "derived"},
                "services": {
                    "type": "list",
                    "elements": "dict",
                    "default": [],
                    "options": {
                        "protocol": {"type": "str", "choices": ["tcp", "udp"], "default": "tcp"},
                        "port": {"type": "int", "required": True},
                        "reason": {"type": "str", "required": True},
                    },
                },
            },
        },
        "on_violation": {"type": "str", "choices": ["pause", "destroy"], "default": "pause"},
        "peers": {
            "type": "dict",
            "default": {},
            "options": {
                "installer_pcr4": texts,
                "releases": texts,
                "release_keys": {**texts, "no_log": False},
                "enrolment_keys": {**texts, "no_log": False},
                "names": texts,
                "package_keys": {**texts, "no_log": False},
            },
        },
    }


def key_ids(written: list[str], own: str) -> list[str]:
    """Return the ids of keys that are given as ids, as PEM text, or as ``self``."""
    return [
        own if item == "self" else PublicKey.from_pem(item).keyid if item.lstrip().startswith("-----") else item
        for item in written
    ]


def wanted(params: dict[str, Any], own: str) -> GuestPackage:
    """Return the package that the options ask for, signed by the key with id ``own``."""
    peers = dict(params["peers"])
    for name in ("release_keys", "enrolment_keys", "package_keys"):
        peers[name] = key_ids(peers.get(name) or [], own)
    package = GuestImage.from_json(params["image"]).package(
        params["name"],
        resources=resources_of(params["resources"]),
        network=network_of(params["network"]),
        on_violation=params["on_violation"],
        peers=peers_of(peers),
    )
    verify_statement(package, allow_debug=True)
    return package


def standing(path: Path, key: Any) -> tuple[bytes, GuestPackage | None]:
    """Return the file at ``path`` and what it says, when it is a package that ``key`` signed; else nothing."""
    if not path.is_file():
        return b"", None
    data = read_bounded(path, limit_bytes=MAX_SIGNED_BYTES)
    try:
        return data, verify_guest_package(data, [key]).package
    except VouchError:
        return b"", None


def same(path: Path, data: bytes) -> bool:
    """Say whether ``path`` holds ``data``."""
    return path.is_file() and read_bounded(path, limit_bytes=MAX_SIGNED_BYTES) == data


def apply(params: dict[str, Any], *, check_mode: bool) -> dict[str, Any]:
    """Make the key and the package where they are missing; return the module's result."""
    dest = Path(params["dest"])
    key = find_or_make(Path(params["key"]), params["scheme"])
    unknown = key.made and check_mode
    public = key.public
    package = wanted(params, UNKNOWN_KEY if unknown else public.keyid)
    data, old = standing(dest, public)
    resign = old != package
    if resign:
        data = b"" if unknown else sign_guest_package(package, key.private)
    targets = [dest]
    if params["store_dir"]:
        targets.append(Path(params["store_dir"]) / "packages" / f"{package.name}.dsse.json")
    stale = targets if unknown else [path for path in targets if not same(path, data)]
    if not check_mode:
        key.keep()
        for path in stale:
            path.parent.mkdir(parents=True, exist_ok=True)
            write_atomic(path, data, mode=0o644)
    before, after = changed_members(old, package)
    return {
        "changed": key.made or bool(stale),
        "name": package.name,
        "package_id": "" if check_mode and resign else hashlib.sha256(data).hexdigest(),
        "statement": package.to_json(),
        "public_key": "" if unknown else public_pem(key.private).decode("ascii"),
        "keyid": "" if unknown else public.keyid,
        "dest": str(dest),
        "diff": {"before_header": str(dest), "after_header": str(dest), "before": before, "after": after},
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
        module.fail_json(msg=f"{error.filename}: {error.strerror}", code="package.files")
    module.exit_json(**result)


if __name__ == "__main__":
    main()
