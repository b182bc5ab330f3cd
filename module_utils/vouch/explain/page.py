# SPDX-License-Identifier: GPL-3.0-or-later
"""A report as one HTML page that needs nothing else: no script, no request, light or dark as its reader has it.

Everything in it that comes from a policy is escaped. The page forbids itself, by its own content policy, to load
anything at all.

Source: WHATWG HTML; W3C Content Security Policy 3, 3.3 (meta element).
"""

from __future__ import annotations

import html
from collections.abc import Iterable, Iterator

from .cut import WEIGHTS_TEXT, Cure
from .drawing import STYLE, draw
from .palette import MONO, ROOT, SANS
from .report import Report
from .story import KINDS, SEVERITIES

_STYLE = f"""{ROOT}body{{background:var(--paper);color:var(--ink);font:15px/1.5 {SANS};margin:2rem auto;max-width:75rem;
padding:0 1rem}}
h1,h2,h3{{line-height:1.2}}
code,td.n,.mono{{font-family:{MONO};font-size:.9em}}
.pass{{color:var(--pass)}}.fail{{color:var(--fail)}}.dim{{color:var(--dim)}}
table{{border-collapse:collapse;margin:.5rem 0 1.5rem}}
th,td{{border-bottom:1px solid var(--line);padding:.25rem .75rem;text-align:left;vertical-align:top}}
td.n{{text-align:right}}
figure{{margin:1rem 0 2rem;overflow-x:auto;border:1px solid var(--line);border-radius:6px}}
"""


def page(report: Report, cures: Iterable[Cure] = ()) -> str:
    """Return the page of ``report``.

    Args:
        report: What was found; its names may be hostile.
        cures: Changes that would clear it, when they were looked for.
    """
    verdict = "pass" if report.passed else "fail"
    parts = [
        '<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8">',
        "<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'\">",
        '<meta name="viewport" content="width=device-width, initial-scale=1">',
        f"<title>{_safe(report.policy.path)}: {verdict}</title><style>{_STYLE}{STYLE}</style></head><body>",
        f'<h1>Information flow of a SELinux policy: <span class="{verdict}">{verdict}</span></h1>',
        *_facts(report),
        *_counts(report),
        *_groups(report),
        *_sole_writers(report),
        *_cures(list(cures)),
        *_stories(report),
        "</body></html>\n",
    ]
    return "\n".join(parts)


def _facts(report: Report) -> Iterator[str]:
    policy = report.policy
    yield _table(
        (),
        [
            ("policy", policy.path),
            ("SHA-256", policy.sha256),
            ("intent", policy.intent_sha256),
            ("booleans", "every setting" if policy.boolean_mode == "all" else "as set in the policy"),
            ("size", f"{policy.types:,} types, {policy.rules:,} allow rules, {policy.subjects:,} subjects"),
            ("conflicts", f"{report.conflicts:,}"),
        ],
    )
    for fault in report.faults:
        yield f'<p class="fail">{_safe(fault)}</p>'
    for line in report.unused_filters:
        yield f'<p class="dim">Nothing needs {_safe(line)}.</p>'


def _counts(report: Report) -> Iterator[str]:
    if not report.by_severity:
        return
    yield "<h2>How bad</h2>"
    yield _table(
        ("conflicts", "severity", "what happens"),
        [(count, severity, SEVERITIES[severity]) for severity, count in report.by_severity.items()],
    )
    yield _table(
        ("conflicts", "kind", "what it is"), [(count, kind, KINDS[kind]) for kind, count in report.by_kind.items()]
    )


def _groups(report: Report) -> Iterator[str]:
    if not report.groups:
        return
    yield f"<h2>Where</h2><p>{len(report.groups):,} of {report.group_count:,} objects, the worst first.</p>"
    yield _table(
        ("conflicts", "severity", "object", "written by", "read by"),
        [
            (
                group.conflicts,
                group.severity,
                f"{group.object}:{group.class_name}",
                group.written_by(),
                f"{group.readers:,} trusted",
            )
            for group in report.groups
        ],
    )


def _sole_writers(report: Report) -> Iterator[str]:
    if not report.sole_writers:
        return
    yield "<h2>One writer alone</h2><p>These subjects are the only untrusted writers of what trusted ones read.</p>"
    rows = [(item.conflicts, item.writer, item.objects) for item in report.sole_writers]
    yield _table(("conflicts", "writer", "objects"), rows)


def _cures(cures: list[Cure]) -> Iterator[str]:
    if not cures:
        return
    yield f"<h2>What would clear it</h2><p>The cheapest set of changes. Weights: {_safe(WEIGHTS_TEXT)}.</p>"
    yield _table(
        ("conflicts", "severity", "change", "weight"),
        [(cure.conflicts, cure.severity, cure.sentence(), cure.weight) for cure in cures],
    )


def _stories(report: Report) -> Iterator[str]:
    if not report.stories:
        return
    rest = report.conflicts - len(report.stories)
    yield f"<h2>One by one</h2><p>{len(report.stories):,} told, {rest:,} not.</p>"
    for story in report.stories:
        yield f"<h3>{_safe(story.title())}</h3>"
        yield f"<figure>{draw(story, styled=False)}</figure>"
        for cure in story.cures:
            yield f"<p>{_safe(cure)}</p>"


def _table(head: tuple[str, ...], rows: Iterable[tuple[str | int, ...]]) -> str:
    """Return a table; whole numbers stand on the right."""
    lines = ["<table>"]
    if head:
        lines.append(f"<tr>{''.join(f'<th>{_safe(text)}</th>' for text in head)}</tr>")
    for row in rows:
        cells = (
            f'<td class="n">{cell:,}</td>' if isinstance(cell, int) else f'<td class="mono">{_safe(cell)}</td>'
            for cell in row
        )
        lines.append(f"<tr>{''.join(cells)}</tr>")
    return "\n".join([*lines, "</table>"])


def _safe(text: str) -> str:
    return html.escape("".join(c if c.isprintable() else "?" for c in text))
