# SPDX-License-Identifier: GPL-3.0-or-later
"""A report as plain text, for a terminal of 100 columns or a log."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator

from .cut import TRUST, WEIGHTS_TEXT, Cure
from .report import Report
from .story import KINDS, SEVERITIES, Step, Story

SHORT_DIGEST_CHARS = 16


def report_lines(report: Report, *, limit: int) -> Iterator[str]:
    """Yield the lines of ``report``.

    Args:
        report: What was found.
        limit: Groups and stories told at most; the counts are always those of all.
    """
    policy = report.policy
    yield f"policy    {policy.path}"
    yield (
        f"          sha256 {policy.sha256[:SHORT_DIGEST_CHARS]}..., {policy.types:,} types, "
        f"{policy.rules:,} allow rules, {policy.subjects:,} subjects"
    )
    yield f"intent    sha256 {policy.intent_sha256[:SHORT_DIGEST_CHARS]}..., booleans: {policy.boolean_mode}"
    yield f"verdict   {'pass' if report.passed else 'FAIL'}: {_counted(report.conflicts, 'conflict')}"
    for fault in report.faults:
        yield f"          {fault}"
    for line in report.unused_filters:
        yield f"unused    {line}"
    if report.passed:
        return
    if report.by_severity:
        yield ""
        yield "by severity, the worst first"
        for severity, count in report.by_severity.items():
            yield f"  {count:>9,}  {severity:<7} {SEVERITIES[severity]}"
        yield "by kind"
        for kind, count in report.by_kind.items():
            yield f"  {count:>9,}  {kind:<7} {KINDS[kind]}"
    yield from _groups(report, limit)
    if report.sole_writers:
        yield ""
        yield "one writer alone makes these objects low: look there first"
        for item in report.sole_writers[:limit]:
            yield f"  {item.conflicts:>9,}  {item.writer} ({_counted(item.objects, 'object')})"
    for story in report.stories[:limit]:
        yield ""
        yield from story_lines(story)
    if report.conflicts > len(report.stories[:limit]):
        yield ""
        yield (
            f"{_counted(report.conflicts - len(report.stories[:limit]), 'more conflict')} not told one by one; "
            "--limit shows more, `explain` any one of them, `cut` what would clear them"
        )


def story_lines(story: Story) -> Iterator[str]:
    """Yield the lines of one conflict."""
    yield f"{story.kind} {story.severity}: {story.title()}"
    yield f"  {story.sentence()}"
    for word, step in (("low", story.write), ("high", story.read)):
        if step is not None:
            yield from _step(word, step)
    if story.writer_count > 1:
        named = ", ".join(story.writers)
        rest = story.writer_count - len(story.writers)
        yield f"  writers  {named}{f' and {rest:,} more' if rest else ''}"
    for cure in story.cures:
        yield f"  cure     {cure}"


def cure_lines(cures: Iterable[Cure], *, limit: int) -> Iterator[str]:
    """Yield the lines of a set of changes.

    Args:
        cures: All of them, by severity.
        limit: Told at most of each severity; all are counted.
    """
    told = list(cures)
    if not told:
        yield "nothing to clear"
        return
    yield f"{_counted(len(told), 'change')}, weight {sum(cure.weight for cure in told):,}, clear every conflict"
    kinds = Counter(cure.kind for cure in told)
    yield f"among them: {', '.join(f'{count:,} x {kind}' for kind, count in sorted(kinds.items()))}"
    yield f"weights: {WEIGHTS_TEXT}"
    for severity, meaning in SEVERITIES.items():
        part = [cure for cure in told if cure.severity == severity]
        if not part:
            continue
        yield ""
        yield f"{severity}: {meaning}"
        for cure in part[:limit]:
            yield f"  {cure.conflicts:>9,}  {cure.sentence()} (weight {cure.weight})"
        if more := part[limit:]:
            cleared = sum(cure.conflicts for cure in more)
            yield f"  {cleared:>9,}  {_counted(len(more), 'more change')} (weight {sum(c.weight for c in more):,})"
    if any(cure.kind == TRUST for cure in told):
        yield ""
        yield "A subject that becomes trusted can open conflicts of its own: check again after the change."


def _groups(report: Report, limit: int) -> Iterator[str]:
    if not report.groups:
        return
    yield ""
    yield f"by object ({min(limit, len(report.groups)):,} of {report.group_count:,})"
    for group in report.groups[:limit]:
        yield (
            f"  {group.conflicts:>9,}  {group.severity:<7} {group.object}:{group.class_name}  "
            f"{group.written_by()} -> {_counted(group.readers, 'trusted subject')}"
        )


def _step(word: str, step: Step) -> Iterator[str]:
    more = f" (and {_counted(step.rules - 1, 'more rule')})" if step.rules > 1 else ""
    yield f"  {word:<8} rule {step.rule_number}: {step.rule}{more}"
    if step.condition:
        yield f"           only where {step.condition}"


def _counted(number: int, noun: str) -> str:
    return f"{number:,} {noun}{'' if number == 1 else 's'}"
