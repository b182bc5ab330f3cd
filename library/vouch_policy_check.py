#!/usr/bin/python
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Check the information flow of a SELinux policy, and prove it."""

from __future__ import annotations

DOCUMENTATION = r"""
module: vouch_policy_check
short_description: Check the information flow of a SELinux policy, and prove it
version_added: "0.1.0"
description:
  - Reads a binary SELinux policy and says whether it keeps to an intent by the rules of Clark-Wilson-Lite. A trusted
    subject may take in what an untrusted one can have written at declared filters alone.
  - Writes reports for people and for tools, and, when the policy passes, the proof that goes into a guest package.
  - Runs where the policy is built. Neither SELinux nor its libraries are needed there.
  - The same check as C(vouch-cwlite check); docs/cwlite.md explains the model.
options:
  policy:
    description: Path of the binary policy, such as C(policy.33).
    type: path
    required: true
  intent:
    description:
      - Who is trusted, and where a trusted subject may read what others wrote.
      - Keys V(version), V(tcb), V(applications), V(filters), V(entries), V(boolean_mode).
      - Exactly one of O(intent) and O(intent_file) is needed.
    type: dict
  intent_file:
    description: Path of a file with the same, in YAML or JSON. YAML needs PyYAML where the module runs.
    type: path
  booleans:
    description:
      - Whether the verdict holds for every setting of the policy's booleans, or for the one in the policy.
      - What the intent says when left out.
    type: str
    choices: [all, current]
  proof:
    description:
      - File to write the proof to. Its directory must exist.
      - A file that stands there is removed when the policy does not pass.
    type: path
  reports:
    description: Reports to write. Their directories must exist.
    type: dict
    suboptions:
      text:
        description: File for plain text.
        type: path
      json:
        description:
          - File for JSON. One that stands there is what this verdict is compared with.
          - Without one, a proof that stands at O(proof) says that there were no conflicts.
        type: path
      sarif:
        description: File for SARIF 2.1.0, which code-scanning tools read.
        type: path
      html:
        description: File for one self-contained page.
        type: path
  limit:
    description: How many conflicts and groups are told one by one. All are counted.
    type: int
    default: 20
  fail_on:
    description:
      - When the task fails. Reports are written before.
      - With V(conflicts), when the policy does not pass.
      - With V(added), when there is a conflict that the last verdict did not have, or a fault of the policy as a whole.
      - With V(never), not at all; the play looks at RV(passed).
    type: str
    choices: [conflicts, added, never]
    default: conflicts
requirements:
  - PyYAML, for O(intent_file) in YAML
attributes:
  check_mode:
    description: Checks the policy and says which files would change.
    support: full
  diff_mode:
    description: Shows the conflicts that came and went since the last verdict.
    support: full
author:
  - The Vouch developers
"""

EXAMPLES = r"""
- name: Prove the policy of a guest
  vouch_policy_check:
    policy: /var/tmp/guest/policy.33
    intent: "{{ guest.intent }}"
    proof: /var/tmp/guest/proof.json
    reports:
      html: /var/tmp/guest/policy.html
      sarif: /var/tmp/guest/policy.sarif

- name: Look at a policy that is not there yet, and refuse to get worse
  vouch_policy_check:
    policy: policy.33
    intent_file: intent.yml
    reports:
      json: policy-report.json
    fail_on: added
  register: checked
"""

RETURN = r"""
passed:
  description: Whether the policy keeps to the intent.
  returned: always
  type: bool
  sample: true
conflicts:
  description: Number of conflicts.
  returned: always
  type: int
  sample: 0
by_severity:
  description: Number of conflicts by severity, the worst first.
  returned: always
  type: dict
  sample: {"code": 3, "data": 41}
faults:
  description: What is wrong with the policy as a whole, such as a permissive type.
  returned: always
  type: list
  elements: str
  sample: []
stories:
  description: The first conflicts, the worst first, each with its path and the rules that allow it.
  returned: always
  type: list
  elements: dict
  sample: []
unused_filters:
  description: Filters and entries of the intent that nothing needs.
  returned: always
  type: list
  elements: str
  sample: []
added:
  description: Conflicts that the last verdict did not have, at most O(limit).
  returned: always
  type: list
  elements: str
  sample: ["C1 init_t user_tmp_t:file"]
added_count:
  description: How many there are. All, when there was no last verdict.
  returned: always
  type: int
  sample: 1
removed:
  description: Conflicts that only the last verdict had, at most O(limit).
  returned: always
  type: list
  elements: str
  sample: []
removed_count:
  description: How many there are.
  returned: always
  type: int
  sample: 0
policy_sha256:
  description: SHA-256 of the policy.
  returned: always
  type: str
  sample: 3c9d5a0e4b5f1d0e8a7f5b1c2d3e4f5061728394a5b6c7d8e9fa0b1c2d3e4f50
intent_sha256:
  description: SHA-256 of the intent in its one form.
  returned: always
  type: str
  sample: 9f1c5a0e4b5f1d0e8a7f5b1c2d3e4f5061728394a5b6c7d8e9fa0b1c2d3e4f50
proof_sha256:
  description: SHA-256 of the proof; empty when the policy does not pass.
  returned: always
  type: str
  sample: 5d0c2f6e0d4c7a8fb2a2d5bd5b6dbd3c7cf4f7ad8f3a5b1c1b6a1ff04a6d5f0e
files:
  description: Files that were written or removed, or in check mode would be.
  returned: always
  type: list
  elements: str
  sample: [/var/tmp/guest/proof.json]
"""

from pathlib import Path
from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible.module_utils.vouch.cli.policycheck import PolicyCheck, check_file
from ansible.module_utils.vouch.errors import VouchError

REPORTS = ("text", "json", "sarif", "html")


def argument_spec() -> dict[str, Any]:
    """Return the options of this module."""
    return {
        "policy": {"type": "path", "required": True},
        "intent": {"type": "dict"},
        "intent_file": {"type": "path"},
        "booleans": {"type": "str", "choices": ["all", "current"]},
        "proof": {"type": "path"},
        "reports": {"type": "dict", "options": {name: {"type": "path"} for name in REPORTS}},
        "limit": {"type": "int", "default": 20},
        "fail_on": {"type": "str", "choices": ["conflicts", "added", "never"], "default": "conflicts"},
    }


def apply(params: dict[str, Any], *, check_mode: bool) -> tuple[dict[str, Any], PolicyCheck]:
    """Check the policy and write what is asked for; return the module's result and the check."""
    reports = {name: Path(path) for name, path in (params["reports"] or {}).items() if path}
    checked = check_file(
        Path(params["policy"]),
        intent=params["intent"],
        intent_file=Path(params["intent_file"]) if params["intent_file"] else None,
        booleans=params["booleans"],
        limit=params["limit"],
    )
    proof = Path(params["proof"]) if params["proof"] else None
    change = checked.change_since(reports.get("json"), proof)
    wanted = {path: checked.render(name) for name, path in reports.items()}
    if proof is not None:
        wanted[proof] = checked.proof
    files = [str(path) for path, data in wanted.items() if checked.settle(path, data, only_look=check_mode)]
    return {
        "changed": bool(files),
        "files": files,
        **checked.summary(),
        **change.summary(params["limit"]),
        "diff": {"before": change.before(params["limit"]), "after": change.after(params["limit"])},
    }, checked


def main() -> None:
    """Run the module."""
    module = AnsibleModule(
        argument_spec=argument_spec(),
        mutually_exclusive=[("intent", "intent_file")],
        required_one_of=[("intent", "intent_file")],
        supports_check_mode=True,
    )
    if module.params["limit"] < 1:
        module.fail_json(msg="limit must be at least 1", code="usage.invalid")
    try:
        result, checked = apply(module.params, check_mode=module.check_mode)
    except VouchError as error:
        module.fail_json(msg=str(error), code=error.code)
    why = checked.reason_to_fail(module.params["fail_on"], added=result["added_count"])
    if why:
        module.fail_json(msg=why, code="policy.conflicts", **result)
    module.exit_json(**result)


if __name__ == "__main__":
    main()
