# SPDX-License-Identifier: GPL-3.0-or-later
"""Conflicts as SARIF 2.1.0, so that code-scanning tools show them, and show each once from run to run.

A policy has no lines to point at: a result is located logically, by subject, object and class, and physically by the
policy's file alone.

Source: OASIS SARIF 2.1.0 (sarif-v2.1.0-os), 3.14 (run), 3.27 (result), 3.33 (logicalLocation), 3.36 (codeFlow).
"""

from __future__ import annotations

import hashlib
import urllib.parse
from collections.abc import Iterable
from typing import Any

from .story import KINDS, SEVERITIES, Step, Story

SARIF_VERSION = "2.1.0"
SCHEMA_URI = "https://docs.oasis-open.org/sarif/sarif/v2.1.0/os/schemas/sarif-schema-2.1.0.json"
FINGERPRINT = "vouchConflict/v1"
"""Name of our fingerprint: what a conflict is about, without rule numbers, which any change of the policy moves."""

_HELP = {
    "C1": "Take the write away from the untrusted subject or the read from the trusted one; give the two objects of "
    "different types; or, where the program is written to cope with hostile input, declare a filter with the reason.",
    "C2": "Take the permission away. Signals, sockets and keys of a trusted subject are part of it.",
    "C3": "Take the permission away, or trust the subject. No filter helps: who writes the kernel is the kernel.",
    "C4": "Do not relabel it; copy what was checked into a new object. Or declare a filter that names the new type.",
    "C5": "Take the transition away, or declare an entry with the reason why the program copes with hostile arguments.",
}
_LEVEL = {"code": "error", "kernel": "error", "data": "error", "ipc": "warning", "name": "warning", "net": "warning"}
_SECURITY_SEVERITY = {"code": "9.0", "kernel": "9.5", "data": "7.0", "ipc": "5.5", "name": "4.5", "net": "5.0"}
"""How code-scanning tools rank rules, 0 to 10."""


def rule_id(kind: str, severity: str) -> str:
    """Return the stable id of a rule, ``cwlite.c1.code``."""
    return f"cwlite.{kind.lower()}.{severity}"


def to_sarif(stories: Iterable[Story], *, policy: str, version: str, total: int) -> dict[str, Any]:
    """Return the SARIF log of one check.

    Args:
        stories: What is reported, in this order.
        policy: Path of the policy, as it shall be shown.
        version: Of this tool.
        total: How many conflicts there are, reported or not.
    """
    told = list(stories)
    pairs = sorted(
        {(story.kind, story.severity) for story in told}, key=lambda pair: (pair[0], list(SEVERITIES).index(pair[1]))
    )
    place = {pair: at for at, pair in enumerate(pairs)}
    run: dict[str, Any] = {
        "tool": {
            "driver": {
                "name": "vouch-cwlite",
                "semanticVersion": version,
                "rules": [_rule(kind, severity) for kind, severity in pairs],
            }
        },
        "automationDetails": {"id": "vouch-cwlite/"},
        "columnKind": "unicodeCodePoints",
        "artifacts": [{"location": _artifact(policy), "roles": ["analysisTarget"]}],
        "invocations": [{"executionSuccessful": True}],
        "properties": {"conflicts": total, "reported": len(told)},
        "results": [_result(story, place[story.kind, story.severity], policy) for story in told],
    }
    return {"$schema": SCHEMA_URI, "version": SARIF_VERSION, "runs": [run]}


def _rule(kind: str, severity: str) -> dict[str, Any]:
    meaning = KINDS[kind]
    text = f"{meaning[0].upper()}{meaning[1:]}: {SEVERITIES[severity]}."
    return {
        "id": rule_id(kind, severity),
        "name": f"{kind}{severity.capitalize()}",
        "shortDescription": {"text": text},
        "fullDescription": {"text": f"{text} Clark-Wilson-Lite allows it at declared filters and entries alone."},
        "help": {"text": _HELP[kind]},
        "defaultConfiguration": {"level": _LEVEL[severity]},
        "properties": {"tags": ["security", "selinux"], "security-severity": _SECURITY_SEVERITY[severity]},
    }


def _result(story: Story, rule_index: int, policy: str) -> dict[str, Any]:
    steps = [(step, acts) for step, acts in ((story.write, "writes"), (story.read, "reads")) if step is not None]
    return {
        "ruleId": rule_id(story.kind, story.severity),
        "ruleIndex": rule_index,
        "level": _LEVEL[story.severity],
        "kind": "fail",
        "message": {"text": " ".join([story.sentence(), *story.cures])},
        "locations": [_location(story.high, f"{story.object}:{story.class_name}", policy)],
        "partialFingerprints": {FINGERPRINT: hashlib.sha256(story.key.encode()).hexdigest()},
        "codeFlows": [
            {
                "message": {"text": story.title()},
                "threadFlows": [{"locations": [_flow_step(step, acts, story, policy) for step, acts in steps]}],
            }
        ]
        if steps
        else [],
        "properties": {"writers": list(story.writers), "writerCount": story.writer_count},
    }


def _location(subject: str, target: str, policy: str, text: str = "") -> dict[str, Any]:
    location: dict[str, Any] = {
        "physicalLocation": {"artifactLocation": _artifact(policy)},
        "logicalLocations": [{"name": subject, "fullyQualifiedName": f"{subject} {target}", "kind": "type"}],
    }
    return {**location, "message": {"text": text}} if text else location


def _flow_step(step: Step, acts: str, story: Story, policy: str) -> dict[str, Any]:
    text = f"{step.subject} {acts}: {step.rule}"
    if step.condition:
        text += f" (where {step.condition})"
    return {"location": _location(step.subject, f"{story.object}:{story.class_name}", policy, text)}


def _artifact(policy: str) -> dict[str, Any]:
    """Return the artifact location of a path, relative or absolute, as a URI reference (3.4)."""
    quoted = urllib.parse.quote(policy)
    return {"uri": f"file://{quoted}" if policy.startswith("/") else quoted}
