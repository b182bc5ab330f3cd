#!/usr/bin/python
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a measured host shows to guests of other hosts: its credential, and what its evidence is judged by."""

from __future__ import annotations

DOCUMENTATION = r"""
module: vouch_host_papers
short_description: Issue a host's credential and have the host keep its papers
version_added: "0.1.0"
description:
  - A guest that is to talk to a guest of another host judges that host's evidence by itself. What it needs for that
    comes from the other side, as papers that are what their signatures say, a credential, the signed release of the
    host, the list of files of that release, and the keys that signed all this.
  - Issues the credential out of what is recorded of the host, signed by O(enrolment_key). Guests believe the keys that
    their own packages name as O(ignore:enrolment_keys) of their peers' hosts.
  - Runs on the controller and speaks to the host through the SSH subsystem C(vouch). What the host has is not sent
    again. A credential is issued anew when half of its time is over, and when what is recorded of the host changed.
extends_documentation_fragment: vouch_host
options:
  host_id:
    description: UUID of the host.
    type: str
    required: true
  enrolments:
    description: Directory of the enrolments, or URL of the store that holds them.
    type: path
    required: true
  enrolment_key:
    description: Private key, PEM file, of the enrolment authority.
    type: path
    required: true
  credential:
    description: File on the controller that keeps the credential that was issued last.
    type: path
    required: true
  release:
    description: Signed release file (DSSE) that the host runs.
    type: path
    required: true
  former_releases:
    description: Signed release files that the host was installed with and updated from.
    type: list
    elements: path
    default: []
  image_store:
    description: Folder of the image store, for the list of files of the release.
    type: path
    required: true
  keys:
    description: Public keys, PEM files, that signed the release and the packages of guests. That of the enrolment
      authority is added.
    type: list
    elements: path
    required: true
  valid_for:
    description: Seconds that a credential counts.
    type: int
    default: 2592000
requirements:
  - cryptography
attributes:
  check_mode:
    description: Asks the host what it has and says what would be sent. Issues nothing.
    support: full
  diff_mode:
    description: Shows the digest of each paper before and after.
    support: full
seealso:
  - module: vouch_enroll
author:
  - The Vouch developers
"""

EXAMPLES = r"""
- name: Let guests of other hosts judge this host
  vouch_host_papers:
    host: "{{ ansible_host }}"
    private_key_file: /etc/vouch/id_ed25519
    host_key: "{{ enrolment.ssh_host_key }}"
    host_id: "{{ enrolment.host_id }}"
    enrolments: /var/lib/vouch/enrolments
    enrolment_key: /etc/vouch/enrolment.pem
    credential: /var/lib/vouch/credentials/h1.dsse.json
    release: /srv/images/releases/vouch-host.dsse.json
    image_store: /srv/images
    keys: [/etc/vouch/release.pub, /etc/vouch/package.pub]
  delegate_to: localhost
"""

RETURN = r"""
sent:
  description: Papers that were sent, or would be.
  returned: success
  type: list
  elements: str
  sample: [credential, former, keys, manifest, release]
papers:
  description: SHA-256 of each paper that the host has, or would have.
  returned: success
  type: dict
  sample: {"credential": "9f86d081", "keys": "2c26b46b", "manifest": "e3b0c442", "release": "6b86b273"}
expires_at:
  description: When the credential ends, in UTC.
  returned: success
  type: str
  sample: "2026-12-27T20:00:00Z"
code:
  description: Why nothing was done, as a stable code.
  returned: failure
  type: str
  sample: credential.unpinned
"""

import traceback
from pathlib import Path
from typing import Any

from ansible.module_utils.basic import AnsibleModule, missing_required_lib
from ansible.module_utils.vouch.errors import UsageError, VouchError
from ansible.module_utils.vouch.model.credential import MAX_LIFE_S, HostCredential
from ansible.module_utils.vouch.parse.envelope import parse_envelope
from ansible.module_utils.vouch.port.clock import SystemClock, utc_text
from ansible.module_utils.vouch.port.files import read_bounded, write_atomic
from ansible.module_utils.vouch.port.hostoptions import HOST_OPTIONS
from ansible.module_utils.vouch.port.publickeys import read_public_keys
from ansible.module_utils.vouch.store.anyenrolments import peek_enrolments

try:
    from ansible.module_utils.vouch.check.signature import verify_release
    from ansible.module_utils.vouch.install.papers import (
        CREDENTIAL,
        FORMER,
        KEYS,
        MANIFEST,
        RELEASE,
        credential_for,
        deliver,
        former_paper,
        keys_paper,
    )
    from ansible.module_utils.vouch.make.sign import load_private_key, public_key
    from ansible.module_utils.vouch.port.hostclient import HostClient
    from ansible.module_utils.vouch.port.ssh import Limits, connect
except ImportError:
    LIBRARY_ERROR: str | None = traceback.format_exc()
else:
    LIBRARY_ERROR = None

MAX_FILE_BYTES = 16 << 20
MIN_LIFE_S = 60 * 60
ANSWER_S = 60.0


def argument_spec() -> dict[str, Any]:
    """Return the options of this module."""
    return {
        **HOST_OPTIONS,
        "host_id": {"type": "str", "required": True},
        "enrolments": {"type": "path", "required": True},
        "enrolment_key": {"type": "path", "required": True, "no_log": False},
        "credential": {"type": "path", "required": True},
        "release": {"type": "path", "required": True},
        "former_releases": {"type": "list", "elements": "path", "default": []},
        "image_store": {"type": "path", "required": True},
        "keys": {"type": "list", "elements": "path", "required": True, "no_log": False},
        "valid_for": {"type": "int", "default": 2592000},
    }


def papers_of(params: dict[str, Any], now_s: int) -> dict[str, bytes]:
    """Return what the host is to keep."""
    if not MIN_LIFE_S <= params["valid_for"] <= MAX_LIFE_S:
        raise UsageError(f"valid_for runs from {MIN_LIFE_S} to {MAX_LIFE_S} seconds")
    key = load_private_key(read_bounded(params["enrolment_key"], limit_bytes=MAX_FILE_BYTES))
    keys = [*read_public_keys(params["keys"]), public_key(key)]
    kept = Path(params["credential"])
    last = read_bounded(str(kept), limit_bytes=MAX_FILE_BYTES) if kept.exists() else b""
    known = peek_enrolments(params["enrolments"]).get(params["host_id"])
    envelope = read_bounded(params["release"], limit_bytes=MAX_FILE_BYTES)
    verified = verify_release(envelope, keys)
    if verified.release_id != known.release_id:
        raise UsageError(
            f"host {params['host_id']} is recorded with another release",
            code="release.unexpected",
            hint="name that one",
        )
    manifest = Path(params["image_store"], "sha256", verified.release.manifest_sha256.hex())
    return {
        CREDENTIAL: credential_for(known, last, key, now_s=now_s, life_s=params["valid_for"]),
        RELEASE: envelope,
        MANIFEST: read_bounded(str(manifest), limit_bytes=MAX_FILE_BYTES),
        KEYS: keys_paper(keys),
        FORMER: former_paper(read_bounded(path, limit_bytes=MAX_FILE_BYTES) for path in params["former_releases"]),
    }


def apply(params: dict[str, Any], *, check_mode: bool) -> dict[str, Any]:
    """Do it and return the module's result."""
    papers = papers_of(params, int(SystemClock().now().timestamp()))
    with connect(params, Limits(answer_s=ANSWER_S)) as verifier:
        done = deliver(HostClient(verifier), papers, rehearse=check_mode)
    if CREDENTIAL in done.sent and not check_mode:
        write_atomic(params["credential"], papers[CREDENTIAL], mode=0o644)
    said = HostCredential.from_bytes(parse_envelope(papers[CREDENTIAL]).payload)
    return {
        "changed": bool(done.sent),
        "sent": list(done.sent),
        "papers": dict(done.after),
        "expires_at": utc_text(said.expires_at_s),
        "diff": {"before": dict(done.before), "after": dict(done.after)},
    }


def main() -> None:
    """Run the module."""
    module = AnsibleModule(argument_spec=argument_spec(), supports_check_mode=True)
    if LIBRARY_ERROR is not None:
        module.fail_json(msg=missing_required_lib("paramiko and cryptography"), exception=LIBRARY_ERROR)
    try:
        result = apply(module.params, check_mode=module.check_mode)
    except VouchError as error:
        module.fail_json(msg=f"host {module.params['host_id']}: {error}", code=error.code)
    except OSError as error:
        module.fail_json(msg=f"{error.filename}: {error.strerror}", code="papers.files")
    module.exit_json(**result)


if __name__ == "__main__":
    main()
