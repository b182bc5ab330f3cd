# SPDX-License-Identifier: GPL-3.0-or-later
"""One policy file checked against one intent, with everything that is written about it: what the command and the module
of Ansible have in common.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..check.cwlite import PolicyVerdict, check_policy
from ..check.flowproof import verify_proof
from ..errors import ParseError, UsageError, VouchError
from ..explain.cut import Cure, find_cures
from ..explain.page import page
from ..explain.report import MAX_REPORT_BYTES, Report, flat_keys, keys_of
from ..explain.sarif import to_sarif
from ..explain.survey import Survey
from ..explain.text import report_lines
from ..make.flowproof import TOOL_VERSION, make_proof
from ..model.digest import sha256
from ..model.flowproof import MAX_PROOF_BYTES, FlowProof
from ..model.integrity import Intent
from ..parse.sepolicy import MAX_POLICY_BYTES, PolicyDb, parse_policy
from ..port.files import PUBLIC_MODE, read_bounded, write_atomic
from .intents import MAX_INTENT_BYTES, read_intent


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """What came and went since the last verdict.

    Attributes:
        known: Whether there was one.
        added: Conflicts that it did not have; all, when there was none.
        removed: Conflicts that only it had.
    """

    known: bool
    added: tuple[str, ...]
    removed: tuple[str, ...]

    def summary(self, limit: int) -> dict[str, Any]:
        """Return the part of a result that tells it, with at most ``limit`` conflicts each way."""
        return {
            "added": list(self.added[:limit]),
            "added_count": len(self.added),
            "removed": list(self.removed[:limit]),
            "removed_count": len(self.removed),
        }

    def before(self, limit: int) -> str:
        """Return what a diff shows as the state before."""
        return _diff_text(self.removed, limit) if self.known else "no earlier verdict\n"

    def after(self, limit: int) -> str:
        """Return what a diff shows as the state after."""
        return _diff_text(self.added, limit) if self.known or self.added else "no conflicts\n"


@dataclass(frozen=True, slots=True, kw_only=True)
class PolicyCheck:
    """A checked policy.

    Attributes:
        report: What was found.
        survey: The verdict, to be asked for more.
        proof: The proof; empty when the policy does not pass.
    """

    report: Report
    survey: Survey
    proof: bytes

    def cures(self) -> tuple[Cure, ...]:
        """Return the cheapest set of changes that would clear every conflict."""
        if self.report.passed:
            return ()
        return find_cures(self.survey.spots(), self.survey.policy.types, self.survey.low_reads())

    def render(self, form: str) -> bytes:
        """Return the report as ``text``, ``json``, ``sarif`` or ``html``; the same check, the same bytes."""
        limit = max(len(self.report.stories), len(self.report.groups), 1)
        if form == "text":
            return "".join(f"{line}\n" for line in report_lines(self.report, limit=limit)).encode()
        if form == "html":
            return page(self.report, self.cures()[:limit]).encode()
        if form == "json":
            return _json(self.report.to_json(self.survey.keys()))
        if form == "sarif":
            return _json(
                to_sarif(
                    self.report.stories,
                    policy=self.report.policy.path,
                    version=TOOL_VERSION,
                    total=self.report.conflicts,
                )
            )
        raise UsageError(f"no report has the form {form}", code="policy.report.form")

    def summary(self) -> dict[str, Any]:
        """Return what a caller decides by."""
        report = self.report
        return {
            "passed": report.passed,
            "conflicts": report.conflicts,
            "by_severity": dict(report.by_severity),
            "faults": list(report.faults),
            "stories": [story.to_json() for story in report.stories],
            "unused_filters": list(report.unused_filters),
            "policy_sha256": report.policy.sha256,
            "intent_sha256": report.policy.intent_sha256,
            "proof_sha256": sha256(self.proof).hex() if self.proof else "",
        }

    def change_since(self, json_report: Path | None, proof: Path | None = None) -> Change:
        """Compare with the last verdict.

        Args:
            json_report: Where a JSON report may stand; what is none of ours counts as absent.
            proof: Where a proof may stand, for want of a report: the policy passed then, so there were no conflicts.

        Raises:
            UnreachableError: when a file is there and cannot be read.
        """
        old: frozenset[str] | None = None
        try:
            if json_report is not None and json_report.is_file():
                old = keys_of(read_bounded(json_report, limit_bytes=MAX_REPORT_BYTES))
            elif proof is not None and proof.is_file():
                FlowProof.from_bytes(read_bounded(proof, limit_bytes=MAX_PROOF_BYTES))
                old = frozenset()
        except ParseError:
            old = None
        new = flat_keys(self.survey.keys())
        before = old or frozenset()
        return Change(known=old is not None, added=tuple(sorted(new - before)), removed=tuple(sorted(before - new)))

    def settle(self, path: Path, data: bytes, *, only_look: bool) -> bool:
        """Make ``path`` hold ``data``, or not be there when that is empty; return whether it had to change.

        Raises:
            UnreachableError: when it cannot be read or written.
        """
        there = path.is_file()
        if not data:
            if there and not only_look:
                path.unlink()
            return there
        if there and read_bounded(path, limit_bytes=MAX_REPORT_BYTES) == data:
            return False
        if not only_look:
            write_atomic(path, data, mode=PUBLIC_MODE)
        return True

    def reason_to_fail(self, fail_on: str, *, added: int) -> str:
        """Return why the caller wants this to be a failure, or nothing."""
        report = self.report
        if fail_on == "conflicts" and not report.passed:
            first = report.stories[0].sentence() if report.stories else "; ".join(report.faults)
            return f"{report.policy.path}: {report.conflicts:,} conflicts, {len(report.faults)} faults. First: {first}"
        if fail_on == "added" and (added or report.faults):
            return f"{report.policy.path}: {added:,} conflicts that the last verdict did not have"
        return ""


def check_file(
    policy: Path,
    *,
    intent: dict[str, Any] | None = None,
    intent_file: Path | None = None,
    booleans: str | None = None,
    limit: int,
) -> PolicyCheck:
    """Check the policy at ``policy``.

    Args:
        policy: Binary policy.
        intent: The intent as parsed YAML; or
        intent_file: the file it stands in.
        booleans: Boolean mode in the place of the intent's.
        limit: Groups and conflicts told one by one.

    Raises:
        VouchError: when an input cannot be read or is malformed; the message names the file and the cure.
    """
    data, db = load_policy(policy)
    wanted = load_intent(intent_file) if intent_file is not None else Intent.from_json(intent)
    if booleans is not None:
        wanted = wanted.with_booleans(booleans)
    return check_data(data, db, wanted, path=str(policy), limit=limit)


def check_data(data: bytes, policy: PolicyDb, intent: Intent, *, path: str, limit: int) -> PolicyCheck:
    """Check a policy that was read; a proof is made, and verified, when it passes."""
    verdict: PolicyVerdict = check_policy(policy, intent)
    survey = Survey(verdict)
    proof = b""
    if verdict.passed:
        proof = make_proof(data, policy, intent, verdict)
        verify_proof(proof, policy=data, intent=intent)
    return PolicyCheck(report=survey.report(data, path=path, limit=limit), survey=survey, proof=proof)


def load_policy(path: Path) -> tuple[bytes, PolicyDb]:
    """Return the bytes and the record of the policy at ``path``.

    Raises:
        VouchError: when it cannot be read, or is no policy.
    """
    data = read_bounded(path, limit_bytes=MAX_POLICY_BYTES)
    try:
        return data, parse_policy(data)
    except VouchError as error:
        hint = "Give the binary policy, such as /etc/selinux/NAME/policy/policy.33, not a module or CIL."
        raise UsageError(f"{path}: {error.message}", code=error.code, hint=hint) from None


def load_intent(path: Path) -> Intent:
    """Return the intent at ``path``.

    Raises:
        VouchError: when it cannot be read, or is no intent.
    """
    data = read_bounded(path, limit_bytes=MAX_INTENT_BYTES)
    try:
        return read_intent(data, name=path.name)
    except VouchError as error:
        hint = error.hint or "docs/cwlite.md shows how an intent is written."
        raise UsageError(f"{path}: {error.message}", code=error.code, hint=hint) from None


def _json(value: object) -> bytes:
    return json.dumps(value, indent=2).encode() + b"\n"


def _diff_text(keys: tuple[str, ...], limit: int) -> str:
    lines = [*keys[:limit], *([f"and {len(keys) - limit:,} more"] if len(keys) > limit else [])]
    return "".join(f"{line}\n" for line in lines)
