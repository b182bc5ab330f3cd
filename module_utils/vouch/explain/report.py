# SPDX-License-Identifier: GPL-3.0-or-later
"""The verdict on one policy, cut down to what a person can read: counts, the worst groups, some stories, cures.

Half a million conflicts are a handful of causes. A report counts all of them and tells the first few of each severity;
``conflicts`` is the number of all, whatever was told.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

from ..errors import ParseError, shown
from ..parse.canonical import load_json
from ..parse.fields import Fields
from .story import SEVERITIES, Story

REPORT_TYPE = "urn:vouch:policy-report:1"
MAX_REPORT_BYTES = 64 << 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Group:
    """Conflicts over one object: how many, how bad, between whom.

    Attributes:
        object: Type of the object.
        class_name: Its class.
        severity: The worst among them.
        conflicts: How many.
        readers: Trusted subjects it concerns.
        writers: Untrusted subjects that may write it.
        sole_writer: The only one of those, where there is just one; else empty.
    """

    object: str
    class_name: str
    severity: str
    conflicts: int
    readers: int
    writers: int
    sole_writer: str = ""

    def written_by(self) -> str:
        """Return who writes it, in words; nobody in particular where it counts as written whatever the rules say."""
        if self.sole_writer or not self.writers:
            return self.sole_writer or "anybody"
        return f"{self.writers:,} untrusted subjects"

    def to_json(self) -> dict[str, Any]:
        """Return the JSON form."""
        return {
            "object": self.object,
            "class": self.class_name,
            "severity": self.severity,
            "conflicts": self.conflicts,
            "readers": self.readers,
            "writers": self.writers,
            "sole_writer": self.sole_writer,
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class SoleWriter:
    """One untrusted subject that alone makes objects low: the cheapest place to look first.

    Attributes:
        writer: Its type.
        objects: Objects (by type and class) that nobody else untrusted writes.
        conflicts: Conflicts that go away with it.
    """

    writer: str
    objects: int
    conflicts: int

    def to_json(self) -> dict[str, Any]:
        """Return the JSON form."""
        return {"writer": self.writer, "objects": self.objects, "conflicts": self.conflicts}


@dataclass(frozen=True, slots=True, kw_only=True)
class PolicyFacts:
    """What was checked.

    Attributes:
        path: Where the policy was read, as the caller named it.
        sha256: Of its bytes.
        types: Number of types.
        rules: Number of allow rules.
        subjects: Number of subject types.
        boolean_mode: ``all`` or ``current``.
        intent_sha256: Digest of the intent.
    """

    path: str
    sha256: str
    types: int
    rules: int
    subjects: int
    boolean_mode: str
    intent_sha256: str

    def to_json(self) -> dict[str, Any]:
        """Return the JSON form."""
        return {
            "path": self.path,
            "sha256": self.sha256,
            "types": self.types,
            "rules": self.rules,
            "subjects": self.subjects,
            "boolean_mode": self.boolean_mode,
            "intent_sha256": self.intent_sha256,
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """What was found.

    Attributes:
        policy: What was checked.
        passed: Whether the policy keeps to the intent.
        conflicts: Number of all conflicts.
        by_severity: Severity to number, the worst first; zeros are left out.
        by_kind: Kind to number.
        faults: What is wrong with the policy as a whole, as sentences.
        groups: Conflicts by object, the worst first, at most as many as asked for.
        group_count: Number of all groups.
        stories: Some conflicts in full.
        sole_writers: Where one subject is the only cause.
        unused_filters: Filters and entries that nothing needs, each in one line.
    """

    policy: PolicyFacts
    passed: bool
    conflicts: int
    by_severity: Mapping[str, int]
    by_kind: Mapping[str, int]
    faults: tuple[str, ...] = ()
    groups: tuple[Group, ...] = ()
    group_count: int = 0
    stories: tuple[Story, ...] = ()
    sole_writers: tuple[SoleWriter, ...] = ()
    unused_filters: tuple[str, ...] = ()

    def to_json(self, keys: Mapping[str, list[str]] = MappingProxyType({})) -> dict[str, Any]:
        """Return the JSON form.

        Args:
            keys: What every conflict is about (``Survey.keys``), where a later report shall be compared with this one.
        """
        return {
            "type": REPORT_TYPE,
            "policy": self.policy.to_json(),
            "passed": self.passed,
            "conflicts": self.conflicts,
            "by_severity": dict(self.by_severity),
            "by_kind": dict(self.by_kind),
            "faults": list(self.faults),
            "groups": [group.to_json() for group in self.groups],
            "group_count": self.group_count,
            "stories": [story.to_json() for story in self.stories],
            "sole_writers": [item.to_json() for item in self.sole_writers],
            "unused_filters": list(self.unused_filters),
            "keys": dict(keys),
        }


def keys_of(report: bytes) -> frozenset[str]:
    """Return what the conflicts of an earlier report are about.

    Raises:
        ParseError: when it is no report of ours.

    Trust: only compared and shown; nothing is decided by it.
    """
    fields = Fields(load_json(report, limit_bytes=MAX_REPORT_BYTES), "policy-report")
    fields.literal("type", REPORT_TYPE)
    keys = fields.object("keys").rest()
    for head, names in keys.items():
        if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
            raise ParseError(f"policy-report.keys.{shown(head)}", 0, "is no list of names", code="parse.field.type")
    return flat_keys(keys)


def flat_keys(keys: Mapping[str, list[str]]) -> frozenset[str]:
    """Return one text for each conflict."""
    return frozenset(f"{head} on {name}" for head, names in keys.items() for name in names)


def worst_first(counts: Mapping[str, int]) -> dict[str, int]:
    """Return severities and their numbers in order of ``SEVERITIES``, zeros left out."""
    return {name: counts[name] for name in SEVERITIES if counts.get(name)}
