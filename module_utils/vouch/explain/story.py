# SPDX-License-Identifier: GPL-3.0-or-later
"""One conflict, told to a person: who writes, what lies between, who takes it, and the rules that allow both.

A story is text alone: no policy and no verdict is needed to print, draw or export it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

KINDS: Mapping[str, str] = MappingProxyType(
    {
        "C1": "a trusted subject reads what an untrusted one may have written",
        "C2": "an untrusted subject acts on a trusted one itself",
        "C3": "an untrusted subject may change the kernel or the policy",
        "C4": "an object is given a trusted type whatever was written to it before",
        "C5": "an untrusted subject starts a trusted program with arguments, environment and files of its choice",
    }
)
"""Kind of conflict to what it means."""

SEVERITIES: Mapping[str, str] = MappingProxyType(
    {
        "code": "what was written is run",
        "kernel": "the kernel takes it in",
        "data": "what was written is read as data",
        "ipc": "a message or signal arrives",
        "name": "a name may lead to something else than expected",
        "net": "it comes from the network",
    }
)
"""Severity to what happens, the worst first."""

SHOWN_WRITERS = 8
"""Writers that a story names one by one."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """Half of a path: one subject, what it may do, and one of the rules that allow it.

    Attributes:
        subject: Type of the subject.
        permissions: Those that let information flow, in order.
        rule: The rule as a person writes it.
        rule_number: Its place in the policy.
        rules: How many rules allow this step.
        condition: The boolean expression it stands under; empty for a rule that always holds.
    """

    subject: str
    permissions: tuple[str, ...]
    rule: str
    rule_number: int
    rules: int = 1
    condition: str = ""

    def to_json(self) -> dict[str, Any]:
        """Return the JSON form; ``condition`` is left out where there is none."""
        out: dict[str, Any] = {
            "subject": self.subject,
            "permissions": list(self.permissions),
            "rule": self.rule,
            "rule_number": self.rule_number,
            "rules": self.rules,
        }
        return {**out, "condition": self.condition} if self.condition else out


@dataclass(frozen=True, slots=True, kw_only=True)
class Story:
    """One conflict.

    Attributes:
        kind: ``C1`` to ``C5``.
        severity: One of ``SEVERITIES``.
        high: The trusted subject it is about.
        object: Type of the object between the two; for a direct act, the trusted subject itself.
        class_name: Its class.
        writers: Untrusted subjects that can do it: the first ``SHOWN_WRITERS`` by name.
        writer_count: How many there are.
        write: What one of them may do; None where nobody has to (an object that counts as written to begin with).
        read: What the trusted one does; None for a direct act.
        becomes: C4: the type that it gives the object.
        cures: What would clear it, as sentences; the likeliest first.
    """

    kind: str
    severity: str
    high: str
    object: str
    class_name: str
    writers: tuple[str, ...]
    writer_count: int
    write: Step | None
    read: Step | None
    becomes: str = ""
    cures: tuple[str, ...] = ()

    @property
    def key(self) -> str:
        """What the conflict is about: the same from run to run and from version to version."""
        key = f"{self.kind} {self.high} {self.object}:{self.class_name}"
        return f"{key} becomes {self.becomes}" if self.becomes else key

    def title(self) -> str:
        """Return the path in one line."""
        low = self.writers[0] if self.writers else "anybody"
        if self.writer_count > 1:
            low += f" (and {self.writer_count - 1:,} more)"
        if self.read is None:
            return f"{low} -> {self.object}:{self.class_name}"
        return f"{low} -> {self.object}:{self.class_name} -> {self.high}"

    def sentence(self) -> str:
        """Return what is wrong, in one sentence."""
        where = f"{self.object}:{self.class_name}"
        if self.becomes:
            who = "anybody" if self.write is None else self.write.subject
            return f"{self.high} may give {where}, which {who} may have written, the type {self.becomes}."
        if self.write is None:
            return f"{self.high} reads {where}, which counts as written by anybody."
        can = f"{self.write.subject} may {_listed(self.write.permissions)} {where}"
        if self.read is None:
            return f"{can}: {KINDS[self.kind]}."
        return f"{can}, and {self.high} may {_listed(self.read.permissions)} it: {SEVERITIES[self.severity]}."

    def to_json(self) -> dict[str, Any]:
        """Return the JSON form."""
        return {
            "kind": self.kind,
            "severity": self.severity,
            "high": self.high,
            "object": self.object,
            "class": self.class_name,
            "writers": list(self.writers),
            "writer_count": self.writer_count,
            "write": None if self.write is None else self.write.to_json(),
            "read": None if self.read is None else self.read.to_json(),
            **({"becomes": self.becomes} if self.becomes else {}),
            "cures": list(self.cures),
            "sentence": self.sentence(),
        }


def _listed(words: tuple[str, ...]) -> str:
    """Return ``a, b and c``."""
    if len(words) < 2:
        return "".join(words) or "use"
    return f"{', '.join(words[:-1])} and {words[-1]}"
