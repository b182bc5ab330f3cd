#!/usr/bin/python
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Files that guests built, taken for what their provenance proves."""

from __future__ import annotations

DOCUMENTATION = r"""
module: vouch_build_result
short_description: Take over what guests built, when its provenance holds
version_added: "0.1.0"
description:
  - Reads the tar in which a guest gives out what was built, checks the provenance bundle in it by what is trusted here,
    and writes the built files, and the bundle beside them as C(provenance.tar), below O(dest).
  - The files have to be those that the bundle is about, all of them and by their names. Every object in it has to have
    its signed statement, and every guest that signed has to have been judged good by the criteria of this task. Else
    nothing is written.
  - Runs on the controller. C(tools/vouch-verify) checks the bundle again, later and elsewhere.
options:
  src:
    description: The tar.
    type: path
    required: true
  dest:
    description: Folder of the files. Made when missing.
    type: path
    required: true
  enrolment_keys:
    description: PEM files of the public keys of those who may have enrolled the hosts.
    type: list
    elements: path
    required: true
  release_keys:
    description: PEM files of the public keys that sign host releases.
    type: list
    elements: path
    required: true
  installer_pcr4:
    description: PCR 4 of the installers that may have written the hosts.
    type: list
    elements: str
    required: true
  package_keys:
    description: PEM files of the public keys that sign guest packages.
    type: list
    elements: path
    required: true
  guests:
    description: Names of the packages that guests of the build may have.
    type: list
    elements: str
    required: true
  allow_debug:
    description: Whether hosts and guests may be debug ones, into which whoever has the host can look, and reach.
    type: bool
    default: false
seealso:
  - module: vouch_guest_fetch
  - module: vouch_guest_package
  - module: vouch_local_build
attributes:
  check_mode:
    description: Can predict changes without making any.
    support: full
  diff_mode:
    description: Shows what changes.
    support: full
author:
  - Vouch authors
"""

EXAMPLES = r"""
- name: Take over what was built
  vouch_build_result:
    src: build/liblua.tar
    dest: build/lua
    enrolment_keys: [vouch-enrolment.pub.pem]
    release_keys: [vouch-host-production.pub.pem]
    installer_pcr4: ["{{ (lookup('ansible.builtin.file', 'installer.json') | from_json).pcr4 }}"]
    package_keys: [packages.pub.pem]
    guests: [distcc_controller, distcc_node]
"""

RETURN = r"""
files:
  description: SHA-256 of each file, by name.
  returned: success
  type: dict
  sample: {liblua.a: 1f9a4f3c6cf8d0c35ad2c5b3f9b4a38e4f0a8a8c4dbe1b0e5f9fdd8fd0b3a1c2}
objects:
  description: How many objects they were made of, by the guest that compiled them.
  returned: success
  type: dict
  sample: {node-a.5b0f2c1e-0d38-4c57-9a51-0c1f6a3d7701: 17, node-b.5b0f2c1e-0d38-4c57-9a51-0c1f6a3d7701: 16}
digest:
  description:
    - SHA-256 over the SHA-256s of the objects, ascending, each once, in hexadecimal, a line each.
    - M(vouch_local_build) returns the same when it makes the same objects.
  returned: success
  type: str
  sample: 3c3c2ec70878654284b9cbd52c5e001dfb4d80287a2c85792e04d3984ea9d4c6
builder:
  description: The guest that put the files together.
  returned: success
  type: str
  sample: controller.5b0f2c1e-0d38-4c57-9a51-0c1f6a3d7701
findings:
  description: Why the provenance does not hold; each has C(code), C(subject), C(expected), C(actual).
  returned: failure
  type: list
  elements: dict
code:
  description: Stable code of the failure.
  returned: failure
  type: str
  sample: provenance.anchor.evidence
"""

from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible.module_utils.vouch.appraise.anchors import Hold
from ansible.module_utils.vouch.appraise.provenance import ProvenanceRecheck, recheck_provenance
from ansible.module_utils.vouch.appraise.provenancejudge import PeerJudge, ProvenanceAnchors
from ansible.module_utils.vouch.appraise.recheck import Outcome
from ansible.module_utils.vouch.errors import EvidenceError, ParseError, UsageError, VouchError
from ansible.module_utils.vouch.make.objects import digest_of
from ansible.module_utils.vouch.model.digest import sha256
from ansible.module_utils.vouch.model.finding import Finding, deny
from ansible.module_utils.vouch.model.provenance import Builder
from ansible.module_utils.vouch.parse.buildresult import FORM, PROVENANCE, parse_build_result
from ansible.module_utils.vouch.parse.hexdigest import parse_sha256
from ansible.module_utils.vouch.parse.provenancebundle import parse_provenance_bundle
from ansible.module_utils.vouch.port.files import PUBLIC_MODE, file_digest, read_bounded, write_atomic
from ansible.module_utils.vouch.port.publickeys import read_public_keys


def argument_spec() -> dict[str, Any]:
    """Return the options' specification."""
    paths, words = {"type": "list", "elements": "path"}, {"type": "list", "elements": "str"}
    return {
        "src": {"type": "path", "required": True},
        "dest": {"type": "path", "required": True},
        "enrolment_keys": {**paths, "required": True, "no_log": False},
        "release_keys": {**paths, "required": True, "no_log": False},
        "installer_pcr4": {**words, "required": True},
        "package_keys": {**paths, "required": True, "no_log": False},
        "guests": {**words, "required": True},
        "allow_debug": {"type": "bool", "default": False},
    }


def anchors_of(params: dict[str, Any]) -> ProvenanceAnchors:
    """Return what is trusted.

    Raises:
        UsageError: a register or a key is none, or nothing is trusted in one respect.
    """
    anchors = ProvenanceAnchors(
        enrolment_keys=tuple(read_public_keys(params["enrolment_keys"])),
        release_keys=tuple(read_public_keys(params["release_keys"])),
        installer_pcr4=tuple(_register(text) for text in params["installer_pcr4"]),
        package_keys=tuple(read_public_keys(params["package_keys"])),
        names=tuple(params["guests"]),
        allow_debug=params["allow_debug"],
    )
    if not anchors.complete:
        raise UsageError(
            "enrolment_keys, release_keys, installer_pcr4, package_keys and guests must all name something",
            code="provenance.anchors",
        )
    return anchors


def _register(text: str) -> bytes:
    try:
        return parse_sha256(text)
    except ParseError as error:
        raise UsageError(f"installer_pcr4: {error.problem}", code="provenance.anchors") from None


def proven(provenance: bytes, files: Mapping[str, bytes], anchors: ProvenanceAnchors) -> ProvenanceRecheck:
    """Return what the bundle proves of the files.

    Args:
        provenance: The bundle.
        files: Name to SHA-256.
        anchors: What is trusted.

    Raises:
        EvidenceError: with the findings that speak against it.
        ParseError: it is no bundle.
    """
    found = recheck_provenance(parse_provenance_bundle(provenance), PeerJudge(anchors), files=files)
    if found.outcome is not Outcome.PROVEN:
        missing = [
            Finding.deny("provenance.anchor.evidence", claim.name, "evidence that holds", claim.by)
            for claim in found.claims
            if claim.hold is Hold.MISSING
        ]
        raise EvidenceError([*found.findings, *missing])
    _require_whole(found, files)
    return found


def _require_whole(found: ProvenanceRecheck, files: Mapping[str, bytes]) -> None:
    """Return when the files are those of the build: the bundle alone says that none is of another build."""
    built: Mapping[str, bytes] = found.build.build.subjects if found.build else {}
    for name in sorted(built.keys() | files.keys()):
        if built.get(name) != files.get(name):
            raise deny(
                "provenance.answer", name, expected=built.get(name, "no such file"), actual=files.get(name, "none")
            )


def _named(builder: Builder) -> str:
    return f"{builder.guest}.{builder.host_id}"


def apply(params: dict[str, Any], *, check_mode: bool) -> dict[str, Any]:
    """Check, write what differs, and return the module's result."""
    anchors = anchors_of(params)
    result = parse_build_result(read_bounded(params["src"], limit_bytes=FORM.max_bytes))
    digests = {name: sha256(data) for name, data in result.files.items()}
    found = proven(result.provenance, digests, anchors)
    folder = Path(params["dest"])
    wanted = {**result.files, PROVENANCE: result.provenance}
    before = {name: file_digest(folder / name).hex() for name in wanted if (folder / name).is_file()}
    after = {name: sha256(data).hex() for name, data in wanted.items()}
    changed = [name for name in wanted if before.get(name) != after[name]]
    if changed and not check_mode:
        folder.mkdir(parents=True, exist_ok=True)
        for name in changed:
            write_atomic(folder / name, wanted[name], mode=PUBLIC_MODE)
    made = Counter(_named(done.job.builder) for done in found.jobs.values())
    return {
        "changed": bool(changed),
        "files": {name: digest.hex() for name, digest in digests.items()},
        "objects": dict(sorted(made.items())),
        "digest": digest_of(found.jobs).hex(),
        "builder": _named(found.build.build.builder) if found.build else "",
        "diff": {"before": _listed(before), "after": _listed(after)},
    }


def _listed(digests: dict[str, str]) -> str:
    return "".join(f"{digest}  {name}\n" for name, digest in sorted(digests.items()))


def main() -> None:
    """Run the module."""
    module = AnsibleModule(argument_spec=argument_spec(), supports_check_mode=True)
    try:
        result = apply(module.params, check_mode=module.check_mode)
    except EvidenceError as exc:
        module.fail_json(msg=str(exc), code=exc.code, findings=[finding.as_dict() for finding in exc.findings])
    except VouchError as exc:
        module.fail_json(msg=str(exc), code=exc.code)
    except OSError as exc:
        module.fail_json(msg=f"{exc.filename}: {exc.strerror}", code="files.unwritable")
    module.exit_json(**result)


if __name__ == "__main__":
    main()
