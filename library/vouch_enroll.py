#!/usr/bin/python
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Enrol a host: who its TPM is, that its attestation key sits in it, and what was installed."""

from __future__ import annotations

DOCUMENTATION = r"""
module: vouch_enroll
short_description: Enrol a measured host
version_added: "0.1.0"
description:
  - Runs on the controller, in three steps. The machine itself is never asked here; what it shows comes from
    M(vouch_machine), M(vouch_tpm_activate) and M(vouch_host_slot).
  - O(state=challenged) verifies the EK certificate, the attestation key's attributes and the replay of the firmware's
    event log, and makes a credential challenge.
  - O(state=activated) compares the answer with the secret, in constant time.
  - O(state=present) verifies the install proof and records the host. The firmware registers 0, 2, 3, 6 and 7 are pinned
    from the quote in the installer. The registers 1 and 5 change with the installation itself (boot entry, partition
    table), so the first accepted evidence under the enrolled key pins them.
  - A host that is enrolled with the same keys is left as it is.
options:
  state:
    description: V(info) only reads the enrolment. V(absent) forgets the host.
    type: str
    choices: [challenged, activated, present, info, absent]
    required: true
  directory:
    description:
      - Directory of the enrolments, or URL of the store that holds them (V(sqlite:////absolute/path),
        V(postgresql://user@host/name)). Made when missing, readable by its owner only.
    type: path
    required: true
  pending:
    description:
      - Directory for challenges that are not answered yet, readable by its owner only. They stay on this controller.
        Without it O(directory) is used, so it is required where that is a URL.
    type: path
  host_id:
    description: UUID of the host.
    type: str
    required: true
  on_missing:
    description:
      - What O(state=info) does about a host that nobody enrolled. V(report) returns RV(enrolled=false), V(fail) fails
        with the code V(enrolment.missing), for whoever is to speak to the host next.
    type: str
    choices: [report, fail]
    default: report
  ek_certificates:
    description: Kind of endorsement key to its certificate, DER in base64.
    type: dict
    default: {}
  ek_chain:
    description: Intermediate certificates from the TPM, DER in base64.
    type: list
    elements: str
    default: []
  ek_ca:
    description: PEM files of the authorities whose TPMs are trusted, with intermediates that help to reach them.
    type: list
    elements: path
    default: []
  ek_sha256:
    description: If given, the only endorsement key that is accepted, as SHA-256 of its SubjectPublicKeyInfo.
    type: str
    default: ""
  ak_public:
    description: TPMT_PUBLIC of the attestation key, base64. Empty in check mode before one was made.
    type: str
    default: ""
  event_log:
    description: The firmware's event log, base64.
    type: str
    default: ""
  pcrs:
    description: Registers of that boot.
    type: dict
    default: {}
  secret:
    description: Answer of the TPM, base64.
    type: str
    default: ""
  roti:
    description: The install proof, base64. Empty in check mode before one was made.
    type: str
    default: ""
  ssh_host_key:
    description: SSH host key that the installation reported.
    type: str
    default: ""
  release:
    description: The signed release file (DSSE) that was installed.
    type: path
  release_keys:
    description: Public keys, PEM files, of which one must have signed the release.
    type: list
    elements: path
    default: []
  installer_pcr4:
    description: PCR 4 of the trusted installers, hexadecimal.
    type: list
    elements: str
    default: []
requirements:
  - tpm2-pytss
  - cryptography
attributes:
  check_mode:
    description: Verifies everything and records nothing.
    support: full
  diff_mode:
    description: Shows what is recorded of the host, before and after.
    support: full
author:
  - The Vouch developers
"""

EXAMPLES = r"""
- name: Verify what the TPM shows and make a challenge
  vouch_enroll:
    state: challenged
    directory: /var/lib/vouch/enrolments
    host_id: "{{ host_id }}"
    ek_certificates: "{{ machine.ek_certificates }}"
    ek_chain: "{{ machine.ek_chain }}"
    ek_ca: [/etc/vouch/ek-ca/infineon-root.pem]
    ak_public: "{{ machine.ak_public }}"
    event_log: "{{ machine.event_log }}"
    pcrs: "{{ machine.pcrs }}"
  delegate_to: localhost
  register: challenge

- name: Compare the answer
  vouch_enroll:
    state: activated
    directory: /var/lib/vouch/enrolments
    host_id: "{{ host_id }}"
    secret: "{{ answer.secret }}"
  delegate_to: localhost

- name: Record the host
  vouch_enroll:
    state: present
    directory: /var/lib/vouch/enrolments
    host_id: "{{ host_id }}"
    roti: "{{ slot.roti }}"
    ssh_host_key: "{{ slot.ssh_host_key }}"
    release: /srv/images/releases/vouch-host.dsse.json
    release_keys: [/etc/vouch/release.pub]
    installer_pcr4: ["{{ installer_pcr4 }}"]
  delegate_to: localhost

- name: Read the SSH host key of a host that has to be enrolled
  vouch_enroll:
    state: info
    directory: /var/lib/vouch/enrolments
    host_id: "{{ host_id }}"
    on_missing: fail
  delegate_to: localhost
  register: known
"""

RETURN = r"""
enrolled:
  description: Whether the host is recorded.
  returned: always
  type: bool
  sample: true
enrolment:
  description: What is recorded; empty when nothing is.
  returned: always
  type: dict
  sample: {"host_id": "3d9a6f5e-0c0e-5c53-9d0e-0c1d5f5c8a11", "release_id": "9f86d081"}
challenge:
  description: Whether the TPM has to answer a challenge.
  returned: with O(state=challenged)
  type: bool
  sample: true
kind:
  description: Endorsement key the challenge was made for.
  returned: with O(state=challenged)
  type: str
  sample: rsa2048
credential_blob:
  description: Credential of the challenge, base64.
  returned: with O(state=challenged)
  type: str
  sample: AEQAIL
encrypted_secret:
  description: Seed of the challenge, encrypted to the endorsement key, base64.
  returned: with O(state=challenged)
  type: str
  sample: AQCK
tpm:
  description: Maker and model of the TPM, as certified, and the digest of its endorsement key.
  returned: with O(state=challenged)
  type: dict
  sample: {"manufacturer": "id:00001014", "model": "swtpm", "ek_sha256": "2c26b46b"}
code:
  description: Why nothing was done, as a stable code. Codes are listed in docs/findings.md.
  returned: failure
  type: str
  sample: enrolment.missing
findings:
  description: Why something was refused.
  returned: failure
  type: list
  elements: dict
  sample: [{"code": "ek.chain.untrusted", "severity": "deny", "subject": "ek"}]
"""

import base64
import binascii
import json
import traceback
from pathlib import Path
from typing import Any

from ansible.module_utils.basic import AnsibleModule, missing_required_lib
from ansible.module_utils.vouch.errors import EvidenceError, UsageError, VouchError
from ansible.module_utils.vouch.model.enrolment import Enrolment
from ansible.module_utils.vouch.model.evidence import Roti, bank_from_json
from ansible.module_utils.vouch.port.clock import SystemClock
from ansible.module_utils.vouch.port.files import read_bounded
from ansible.module_utils.vouch.port.publickeys import read_public_keys
from ansible.module_utils.vouch.store.anyenrolments import open_enrolments, peek_enrolments
from ansible.module_utils.vouch.store.pending import PendingStore

try:
    from ansible.module_utils.vouch.check.signature import VerifiedRelease, verify_release
    from ansible.module_utils.vouch.install.enrol import Candidate, Enroller
    from cryptography.hazmat.primitives.serialization import Encoding
    from cryptography.x509 import load_pem_x509_certificates
except ImportError:
    LIBRARY_ERROR: str | None = traceback.format_exc()
else:
    LIBRARY_ERROR = None

MAX_FILE_BYTES = 16 << 20


def argument_spec() -> dict[str, Any]:
    """Return the options of this module."""
    return {
        "state": {"type": "str", "choices": ["challenged", "activated", "present", "info", "absent"], "required": True},
        "directory": {"type": "path", "required": True},
        "pending": {"type": "path"},
        "host_id": {"type": "str", "required": True},
        "on_missing": {"type": "str", "choices": ["report", "fail"], "default": "report"},
        "ek_certificates": {"type": "dict", "default": {}},
        "ek_chain": {"type": "list", "elements": "str", "default": []},
        "ek_ca": {"type": "list", "elements": "path", "default": []},
        "ek_sha256": {"type": "str", "default": ""},
        "ak_public": {"type": "str", "default": ""},
        "event_log": {"type": "str", "default": ""},
        "pcrs": {"type": "dict", "default": {}},
        "secret": {"type": "str", "default": "", "no_log": True},
        "roti": {"type": "str", "default": ""},
        "ssh_host_key": {"type": "str", "default": "", "no_log": False},
        "release": {"type": "path"},
        "release_keys": {"type": "list", "elements": "path", "default": [], "no_log": False},
        "installer_pcr4": {"type": "list", "elements": "str", "default": []},
    }


def blob(text: str, what: str) -> bytes:
    """Return the bytes of base64 text."""
    try:
        return base64.b64decode(text, validate=True)
    except (ValueError, binascii.Error):
        raise UsageError(f"{what} is not base64") from None


def ca_certificates(paths: list[str]) -> list[bytes]:
    """Return every certificate in the files, DER."""
    found: list[bytes] = []
    for path in paths:
        try:
            certificates = load_pem_x509_certificates(read_bounded(path, limit_bytes=MAX_FILE_BYTES))
        except ValueError as error:
            raise UsageError(f"{path} is no PEM file of certificates: {error}", code="ek.ca.malformed") from None
        found += [certificate.public_bytes(Encoding.DER) for certificate in certificates]
    return found


def candidate(params: dict[str, Any]) -> Candidate:
    """Return what the machine showed."""
    return Candidate(
        host_id=params["host_id"],
        ek_certificates={kind: blob(der, f"EK certificate {kind}") for kind, der in params["ek_certificates"].items()},
        ek_chain=tuple(blob(der, "ek_chain") for der in params["ek_chain"]),
        ak_public=blob(params["ak_public"], "ak_public"),
        event_log=blob(params["event_log"], "event_log"),
        pcrs=bank_from_json(params["pcrs"], "pcrs"),
    )


def release_of(params: dict[str, Any]) -> VerifiedRelease:
    """Return the release, its signature verified."""
    keys = read_public_keys(params["release_keys"])
    return verify_release(read_bounded(params["release"], limit_bytes=MAX_FILE_BYTES), keys)


def shown(enrolment: Enrolment | None) -> dict[str, Any]:
    """Return what is recorded of a host, for people and templates."""
    return {} if enrolment is None else json.loads(enrolment.to_bytes())


def apply(params: dict[str, Any], *, check_mode: bool) -> dict[str, Any]:
    """Do one step and return the module's result."""
    only_looks = check_mode or params["state"] == "info"
    store = (peek_enrolments if only_looks else open_enrolments)(params["directory"])
    if params["pending"] is None and "://" in params["directory"]:
        raise UsageError(
            "a store in a database needs pending, a private directory of this controller", code="usage.pending"
        )
    pending = PendingStore(Path(params["pending"] or params["directory"]))
    clock = SystemClock()
    host_id, state = params["host_id"], params["state"]
    before = after = (store.get if state == "info" and params["on_missing"] == "fail" else store.find)(host_id)
    result: dict[str, Any] = {"changed": False}
    if state == "absent":
        result["changed"] = before is not None
        if not check_mode:
            pending.end(host_id)
            store.remove(host_id)
        after = None
    elif state != "info":
        enroller = Enroller(
            store,
            pending,
            ca_certificates=ca_certificates(params["ek_ca"]),
            clock=clock,
            ek_sha256=bytes.fromhex(params["ek_sha256"]) if params["ek_sha256"] else None,
        )
        if state == "challenged":
            challenge = enroller.begin(candidate(params), rehearse=check_mode)
            result |= {
                "changed": challenge.open or not params["ak_public"],
                "challenge": challenge.open,
                "kind": challenge.ek.kind,
                "credential_blob": base64.b64encode(challenge.credential_blob).decode(),
                "encrypted_secret": base64.b64encode(challenge.encrypted_secret).decode(),
                "tpm": {
                    "manufacturer": challenge.ek.manufacturer,
                    "model": challenge.ek.model,
                    "ek_sha256": challenge.ek_sha256.hex(),
                },
            }
        elif state == "activated":
            result["changed"] = True
            if not check_mode:
                enroller.answer(host_id, blob(params["secret"], "secret"))
        elif check_mode and not params["roti"]:
            result["changed"] = True
        else:
            after, result["changed"] = enroller.conclude(
                host_id,
                Roti.from_bytes(blob(params["roti"], "roti")),
                release=release_of(params),
                ssh_host_key=params["ssh_host_key"],
                installer_pcr4=[bytes.fromhex(value) for value in params["installer_pcr4"]],
                rehearse=check_mode,
            )
    result |= {"enrolled": after is not None, "enrolment": shown(after)}
    result["diff"] = {"before": shown(before), "after": shown(after)}
    return result


def main() -> None:
    """Run the module."""
    module = AnsibleModule(
        argument_spec=argument_spec(),
        supports_check_mode=True,
        required_if=[
            ("state", "challenged", ("ek_certificates", "ek_ca", "event_log", "pcrs")),
            ("state", "activated", ("secret",)),
            ("state", "present", ("release", "release_keys", "installer_pcr4")),
        ],
    )
    if LIBRARY_ERROR is not None:
        module.fail_json(msg=missing_required_lib("tpm2-pytss and cryptography"), exception=LIBRARY_ERROR)
    try:
        result = apply(module.params, check_mode=module.check_mode)
    except EvidenceError as exc:
        module.fail_json(msg=str(exc), code=exc.code, findings=[finding.as_dict() for finding in exc.findings])
    except VouchError as exc:
        module.fail_json(msg=str(exc), code=exc.code)
    except ValueError as exc:
        module.fail_json(msg=f"an argument is malformed: {exc}", code="usage.invalid")
    module.exit_json(**result)


if __name__ == "__main__":
    main()
