#!/usr/bin/python
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Appraise the evidence of a host: enrolment, releases and policy in, a result that expires out."""

from __future__ import annotations

DOCUMENTATION = r"""
module: vouch_appraise
short_description: Appraise the evidence of a measured host
version_added: "0.1.0"
description:
  - Runs on the controller, on evidence that M(vouch_evidence) collected a moment ago.
  - Judges in a fixed order and stops at the first stage that denies. A bad verdict is a result, not a failure of this
    module; the play decides.
  - Writes the result, its signed form (EAR, a JWT) and a bundle with everything the result was made from.
  - When the evidence is accepted, the enrolment is advanced, namely the TPM's counters, the place in IMA's list and,
    the first time, the registers 1 and 5.
options:
  name:
    description: Name of the machine, for files and display.
    type: str
    required: true
  host_id:
    description: UUID of the host that was asked.
    type: str
    required: true
  enrolments:
    description: Directory of the enrolments, or URL of the store that holds them.
    type: path
    required: true
  evidence:
    description: Result of M(vouch_evidence).
    type: dict
    required: true
  releases:
    description:
      - Signed release files (DSSE) that may run. The policy decides which of them do.
      - For a host that was updated also those that it ran before, from the installed one on. They are needed to verify
        its install proof and its update proofs.
    type: list
    elements: path
    required: true
  packages:
    description: Signed guest packages (DSSE) that guests may run. The policy decides which of them do.
    type: list
    elements: path
    default: []
  image_store:
    description: Directory of the image store, in which the file lists of the releases are.
    type: path
    required: true
  policy:
    description: The appraisal policy. A key that does not exist is refused.
    type: dict
    required: true
    suboptions:
      name:
        description: Name, for people.
        type: str
        required: true
      ttl_s:
        description: Seconds a result counts.
        type: int
        default: 600
      release_keys:
        description: Public keys, PEM files, that may sign releases.
        type: list
        elements: path
        required: true
      releases:
        description: Ids of the releases that are accepted. Without it every signed one is.
        type: list
        elements: str
      retired:
        description: Ids of releases that no host may run any more, whoever signed them.
        type: list
        elements: str
        default: []
      installer_pcr4:
        description: PCR 4 of the trusted installers, hexadecimal.
        type: list
        elements: str
        required: true
      max_failed_boot_attempts:
        description: Boot options that may have failed before the host's own one.
        type: int
        default: 0
      allow_debug:
        description: Whether a debug release or guest is a warning instead of a refusal. It is never affirmed.
        type: bool
        default: false
      package_keys:
        description: Public keys, PEM files, that may sign guest packages. Without one no guest is trusted.
        type: list
        elements: path
        default: []
      packages:
        description: Ids of the guest packages that are accepted. Without it every signed one is.
        type: list
        elements: str
      guest_max_age_s:
        description: Seconds that the last check of a guest may lie back when its host answers.
        type: int
        default: 60
  ear_key:
    description:
      - Private P-256 key, PEM file, that signs the result and seals what goes into O(store). Without it there is no
        signed form.
    type: path
  store:
    description:
      - URL of the result store, V(sqlite:////absolute/path) or V(postgresql://user@host/name), which steers the groups
        of the inventory. Made when missing. Without it the result is written to files only.
    type: str
  bundles:
    description: Directory in which the store's evidence bundles are kept by their digest.
    type: path
  directory:
    description: Directory for the result files. Made when missing.
    type: path
    required: true
requirements:
  - alembic
  - cryptography
  - joserfc
  - sqlalchemy
attributes:
  check_mode:
    description: Judges and returns everything, writes nothing.
    support: full
  diff_mode:
    description: Shows what the enrolment gains.
    support: full
notes:
  - RV(ignore:changed) is true only when registers of the firmware were pinned for the first time. A result is news
    about a host and no change of it.
author:
  - The Vouch developers
"""

EXAMPLES = r"""
- name: Appraise the evidence
  vouch_appraise:
    name: "{{ inventory_hostname }}"
    host_id: "{{ host_id }}"
    enrolments: /var/lib/vouch/enrolments
    evidence: "{{ evidence }}"
    releases: [/srv/images/releases/vouch-host.dsse.json]
    image_store: /srv/images
    policy:
      name: production
      release_keys: [/etc/vouch/release.pub]
      installer_pcr4: ["{{ installer_pcr4 }}"]
    ear_key: /etc/vouch/ear.key
    directory: /var/lib/vouch/results
  delegate_to: localhost
  register: appraisal

- name: Go on with proven hosts only
  ansible.builtin.assert:
    that: appraisal.verdict == 'affirming'
    fail_msg: "{{ appraisal.findings }}"
"""

RETURN = r"""
verdict:
  description: V(affirming), V(warning), V(contraindicated), or V(none) when there was no evidence.
  returned: always
  type: str
  sample: affirming
stage:
  description: Where the appraisal stopped; V(done) when nothing denied.
  returned: always
  type: str
  sample: done
findings:
  description: Reasons, notes included.
  returned: always
  type: list
  elements: dict
  sample: [{"code": "boot.pcr4.unexpected", "severity": "deny", "subject": "pcr:4"}]
evidence_digest:
  description: SHA-256 of the evidence; empty when there was none.
  returned: always
  type: str
  sample: 2c26b46b68ffc68ff99b453c1d30413413422d706483bfa0f98a5e886266e7ae
ear:
  description: The signed result (JWT); empty without a key.
  returned: always
  type: str
  sample: eyJhbGciOiJFUzI1NiJ9.e30.c2ln
bundle:
  description: File with everything the result was made from.
  returned: always
  type: path
  sample: /var/lib/vouch/results/host1.bundle.tar
result_file:
  description: File of the result.
  returned: always
  type: path
  sample: /var/lib/vouch/results/host1.result.json
result:
  description: The result as written.
  returned: always
  type: dict
  sample: {"type": "urn:vouch:attestation-result:1", "verdict": "affirming"}
row:
  description: One line for a table.
  returned: always
  type: dict
  sample: {"machine": "host1", "status": "affirming", "reasons": [], "age": "0 s", "expires": "2026-01-01T00:10:00Z"}
guests:
  description: One line for each guest of the host, with a verdict of its own.
  returned: always
  type: list
  elements: dict
  sample: [{"machine": "host1/web", "guest": "web", "status": "affirming", "reasons": [], "package": "base"}]
ansible_facts:
  description: The same for display. Facts are never a verdict, since a host can forge its own.
  returned: always
  type: dict
  sample: {"attestation": {"verdict": "affirming", "reasons": []}}
"""

import json
import re
import traceback
from pathlib import Path
from typing import Any, NamedTuple

from ansible.module_utils.basic import AnsibleModule, missing_required_lib
from ansible.module_utils.vouch.errors import EvidenceError, UnreachableError, UsageError, VouchError
from ansible.module_utils.vouch.make.bundle import write_bundle
from ansible.module_utils.vouch.model.enrolment import Enrolment
from ansible.module_utils.vouch.model.evidence import MAX_EVIDENCE_BYTES
from ansible.module_utils.vouch.port.clock import SystemClock, utc_seconds, utc_text
from ansible.module_utils.vouch.port.files import PUBLIC_MODE, make_private_folder, read_bounded, write_atomic

try:
    from ansible.module_utils.vouch.appraise.result import AttestationResult
    from ansible.module_utils.vouch.fleet.appraiser import Answer, Appraiser
    from ansible.module_utils.vouch.fleet.inputs import MAX_FILE_BYTES, read_policy, read_releases
    from ansible.module_utils.vouch.fleet.recorder import Found, Recorder
    from ansible.module_utils.vouch.make.sign import load_private_key
    from ansible.module_utils.vouch.store.anyenrolments import open_enrolments, peek_enrolments
    from ansible.module_utils.vouch.store.bundles import BundleStore
    from ansible.module_utils.vouch.store.schema import open_store
except ImportError:
    LIBRARY_ERROR: str | None = traceback.format_exc()
else:
    LIBRARY_ERROR = None

FILE_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}")


def argument_spec() -> dict[str, Any]:
    """Return the options of this module."""
    policy = {
        "name": {"type": "str", "required": True},
        "ttl_s": {"type": "int", "default": 600},
        "release_keys": {"type": "list", "elements": "path", "required": True, "no_log": False},
        "releases": {"type": "list", "elements": "str"},
        "retired": {"type": "list", "elements": "str", "default": []},
        "installer_pcr4": {"type": "list", "elements": "str", "required": True},
        "max_failed_boot_attempts": {"type": "int", "default": 0},
        "allow_debug": {"type": "bool", "default": False},
        "package_keys": {"type": "list", "elements": "path", "default": [], "no_log": False},
        "packages": {"type": "list", "elements": "str"},
        "guest_max_age_s": {"type": "int", "default": 60},
    }
    return {
        "name": {"type": "str", "required": True},
        "host_id": {"type": "str", "required": True},
        "enrolments": {"type": "path", "required": True},
        "evidence": {"type": "dict", "required": True},
        "releases": {"type": "list", "elements": "path", "required": True},
        "packages": {"type": "list", "elements": "path", "default": []},
        "image_store": {"type": "path", "required": True},
        "policy": {"type": "dict", "required": True, "options": policy},
        "ear_key": {"type": "path", "no_log": False},
        "store": {"type": "str"},
        "bundles": {"type": "path"},
        "directory": {"type": "path", "required": True},
    }


class Appraised(NamedTuple):
    """A result with all it was made from."""

    result: AttestationResult
    before: Enrolment | None
    after: Enrolment | None
    ear: str
    parts: dict[str, bytes]


def appraise(params: dict[str, Any], now_s: int) -> Appraised:
    """Return what the evidence is worth at ``now_s``."""
    if not FILE_NAME.fullmatch(params["name"]):
        raise UsageError(f"{params['name']!r} does not serve as a file name", hint="letters, digits and ._- do")
    appraiser = Appraiser(
        read_policy(params["policy"]),
        read_releases(params["releases"], params["image_store"]),
        [read_bounded(path, limit_bytes=MAX_FILE_BYTES) for path in params["packages"]],
        ear_key=read_bounded(params["ear_key"], limit_bytes=MAX_FILE_BYTES) if params["ear_key"] else None,
    )
    before = peek_enrolments(params["enrolments"]).find(params["host_id"])
    done = appraiser.appraise(params["host_id"], answer_of(params["evidence"]), before, now_s=now_s)
    return Appraised(result=done.result, before=before, after=done.enrolment, ear=done.ear, parts=done.parts)


def answer_of(seen: dict[str, Any]) -> Answer | UnreachableError:
    """Return what ``vouch_evidence`` collected, or why it collected nothing."""
    if not seen.get("collected"):
        return UnreachableError(str(seen.get("message", "no evidence")), code=str(seen.get("code", "unreachable")))
    return Answer(
        evidence=read_bounded(seen["dest"], limit_bytes=MAX_EVIDENCE_BYTES),
        nonce=bytes.fromhex(seen["nonce"]),
        channel_key=seen["ssh_host_key"],
        asked_at_s=utc_seconds(str(seen["requested_at"])),
    )


def save(params: dict[str, Any], appraised: Appraised, now_s: int) -> None:
    """Write enrolment, store, result, signed result and bundle."""
    if appraised.before is not None and appraised.after is not None:
        open_enrolments(params["enrolments"]).update(appraised.before, appraised.after)
    folder = make_private_folder(params["directory"])
    names = files_of(params)
    write_atomic(names["bundle"], write_bundle(appraised.parts), mode=PUBLIC_MODE)
    if appraised.ear:
        write_atomic(folder / f"{params['name']}.result.jwt", appraised.ear.encode(), mode=PUBLIC_MODE)
    # Last: who sees the result finds what it was made from.
    write_atomic(names["result_file"], appraised.parts["result.json"], mode=PUBLIC_MODE)
    if params["store"]:
        record(params, appraised, now_s)


def record(params: dict[str, Any], appraised: Appraised, now_s: int) -> None:
    """Write the result to the store, sealed: from then on it steers plays."""
    key = load_private_key(read_bounded(params["ear_key"], limit_bytes=MAX_FILE_BYTES))
    database = open_store(params["store"], make=True)
    try:
        bundles = BundleStore(params["bundles"]) if params["bundles"] else None
        found = Found(name=params["name"], result=appraised.result, ear=appraised.ear, parts=appraised.parts)
        Recorder(database, key, bundles=bundles).record([found], now_s=now_s)
    finally:
        database.close()


def files_of(params: dict[str, Any]) -> dict[str, str]:
    """Return where result and bundle are."""
    folder = Path(params["directory"])
    return {
        "bundle": str(folder / f"{params['name']}.bundle.tar"),
        "result_file": str(folder / f"{params['name']}.result.json"),
    }


def table_row(name: str, result: AttestationResult, now_s: int) -> dict[str, Any]:
    """Return one line for a table."""
    return {
        "machine": name,
        "status": result.verdict.value,
        "reasons": list(result.codes) or ([finding.code for finding in result.findings] if not result.nonce else []),
        "pcr4_expected": "" if result.pcr4_expected is None else result.pcr4_expected.hex()[:16],
        "pcr4_found": "" if result.pcr4_found is None else result.pcr4_found.hex()[:16],
        "age": f"{max(0, now_s - result.issued_at_s)} s",
        "expires": utc_text(result.expires_at_s),
    }


def guest_rows(name: str, result: AttestationResult) -> list[dict[str, Any]]:
    """Return one line for each guest."""
    return [
        {
            "machine": f"{name}/{guest.guest}",
            "guest": guest.guest,
            "status": guest.verdict.value,
            "reasons": list(guest.codes) or [finding.code for finding in guest.findings],
            "package": "" if guest.record is None else guest.record.name,
            "state": "" if guest.record is None else guest.record.state,
            "checks": 0 if guest.record is None else guest.record.rounds,
            "violations": [] if guest.record is None else list(guest.record.violations),
        }
        for guest in result.guests
    ]


def shown(params: dict[str, Any], appraised: Appraised) -> dict[str, Any]:
    """Return the module's result."""
    result, before, after = appraised.result, appraised.before, appraised.after
    row = table_row(params["name"], result, result.issued_at_s)
    guests = guest_rows(params["name"], result)
    pinned = {} if before is None else {str(i): v.hex() for i, v in before.baseline.items()}
    gained = pinned if after is None else {str(i): v.hex() for i, v in after.baseline.items()}
    return {
        "changed": pinned != gained,
        "verdict": result.verdict.value,
        "stage": result.stage,
        "findings": [finding.as_dict() for finding in result.findings],
        "evidence_digest": "" if result.evidence_digest is None else result.evidence_digest.hex(),
        "ear": appraised.ear,
        "row": row,
        "guests": guests,
        "result": json.loads(appraised.parts["result.json"]),
        "ansible_facts": {
            "attestation": {
                "verdict": result.verdict.value,
                "reasons": row["reasons"],
                "release": result.release_name or "",
                "guests": {row["guest"]: {"verdict": row["status"], "reasons": row["reasons"]} for row in guests},
                "issued_at": utc_text(result.issued_at_s),
                "expires_at": utc_text(result.expires_at_s),
                "evidence_digest": "" if result.evidence_digest is None else result.evidence_digest.hex(),
            }
        },
        "diff": {"before": {"baseline": pinned}, "after": {"baseline": gained}},
        **files_of(params),
    }


def main() -> None:
    """Run the module."""
    module = AnsibleModule(
        argument_spec=argument_spec(),
        required_by={"store": ["ear_key"], "bundles": ["store"]},
        supports_check_mode=True,
    )
    if LIBRARY_ERROR is not None:
        module.fail_json(
            msg=missing_required_lib("alembic, cryptography, joserfc and sqlalchemy"), exception=LIBRARY_ERROR
        )
    try:
        now_s = int(SystemClock().now().timestamp())
        appraised = appraise(module.params, now_s)
        if not module.check_mode:
            save(module.params, appraised, now_s)
    except EvidenceError as exc:
        module.fail_json(msg=str(exc), code=exc.code, findings=[finding.as_dict() for finding in exc.findings])
    except VouchError as exc:
        module.fail_json(msg=str(exc), code=exc.code)
    except (ValueError, KeyError) as exc:
        module.fail_json(msg=f"evidence is no result of vouch_evidence: {exc!r}", code="usage.invalid")
    module.exit_json(**shown(module.params, appraised))


if __name__ == "__main__":
    main()
