# SPDX-License-Identifier: GPL-3.0-or-later
"""Findings in results: their JSON form, there and back."""

from __future__ import annotations

from typing import Any

from ..model.finding import Finding, Locator, Severity
from ..parse.fields import Fields

MAX_SHOWN_CHARS = 1024
MAX_CODE_CHARS = 128


def finding_json(finding: Finding) -> dict[str, Any]:
    """Return the JSON form; absent values are null."""
    where = finding.where
    return {
        "code": finding.code,
        "severity": finding.severity.value,
        "subject": finding.subject,
        "where": None
        if where is None
        else {"part": where.part, "offset_bytes": where.offset_bytes, "entry": where.entry},
        "expected": finding.expected,
        "actual": finding.actual,
        "source": finding.source,
    }


def read_finding(value: Any) -> Finding:
    """Return the finding of a JSON value; raises ``ParseError``."""
    fields = Fields(value, "result.findings")
    where = None
    if (raw := fields.take("where")) is not None:
        place = Fields(raw, "result.findings.where")
        where = Locator(
            part=place.text("part", maximum_chars=128),
            offset_bytes=optional_integer(place, "offset_bytes"),
            entry=optional_integer(place, "entry"),
        )
        place.done()
    finding = Finding(
        code=fields.text("code", maximum_chars=MAX_CODE_CHARS),
        severity=Severity(fields.choice("severity", *(item.value for item in Severity))),
        subject=fields.text("subject", maximum_chars=128),
        where=where,
        expected=optional_text(fields, "expected"),
        actual=optional_text(fields, "actual"),
        source=fields.text("source", maximum_chars=256, empty=True),
    )
    fields.done()
    return finding


def optional_text(fields: Fields, name: str) -> str | None:
    """Take a short text or null."""
    value = fields.take(name)
    if value is not None and (not isinstance(value, str) or len(value) > MAX_SHOWN_CHARS):
        raise fields.fail(name, "is no short text", "parse.field.type")
    return value


def optional_integer(fields: Fields, name: str) -> int | None:
    """Take a count or null."""
    value = fields.take(name)
    if value is not None and (type(value) is not int or value < 0):
        raise fields.fail(name, "is no count", "parse.field.type")
    return value
