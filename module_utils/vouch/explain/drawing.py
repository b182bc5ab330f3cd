# SPDX-License-Identifier: GPL-3.0-or-later
"""One conflict as an SVG: writers on the left, the object, the trusted reader on the right, the rules below.

The picture needs nothing from outside, runs no script, and follows the reader's light or dark setting. All text in it
is escaped: names come from a policy that somebody else made.

Source: W3C SVG 2; CSS Media Queries 5, 11.2 (prefers-color-scheme).
"""

from __future__ import annotations

import html
from collections.abc import Iterator

from .story import SEVERITIES, Step, Story

CHAR_PX = 7.3
"""Width of one character of the monospaced text below; a guess on the wide side."""

BOX_HEIGHT_PX = 40
ROW_PX = 54
MARGIN_PX = 20
ARROW_PX = 190
LINE_PX = 20
MAX_NAME_CHARS = 44
MAX_RULE_CHARS = 140
DRAWN_WRITERS = 6

STYLE = """
.vouch .paper{fill:#fff}
.vouch text{font:12px ui-monospace,Menlo,Consolas,"DejaVu Sans Mono",monospace;fill:#1c2126}
.vouch .head{font-weight:700}
.vouch .dim{fill:#5b6670}
.vouch .box{stroke-width:1.5;stroke:#8a949e;fill:#f1f3f5}
.vouch .low{fill:#fbe3df;stroke:#b3372b}
.vouch .high{fill:#dff0e3;stroke:#23713a}
.vouch .arrow{stroke:#8a949e;stroke-width:1.5;fill:none}
.vouch .tip{fill:#8a949e}
@media (prefers-color-scheme:dark){
.vouch .paper{fill:#15191d}
.vouch text{fill:#e6e9ec}
.vouch .dim{fill:#a2acb5}
.vouch .box{stroke:#7c8791;fill:#262c32}
.vouch .low{fill:#4a221e;stroke:#f0897d}
.vouch .high{fill:#1c3a25;stroke:#6fc488}
.vouch .arrow{stroke:#7c8791}
.vouch .tip{fill:#7c8791}
}
"""
"""Colours by the reader's setting. No custom properties: what converts pictures often does not know them."""


def draw(story: Story, *, styled: bool = True) -> str:
    """Return ``story`` as one SVG document, self-contained, with a title and a description for those who do not see it.

    Args:
        story: What to draw; its names may be hostile.
        styled: Put ``STYLE`` into it; a page that has it once leaves it out.
    """
    left = _left(story)
    middle = f"{story.object}:{story.class_name}"
    ends_in_subject = story.read is None
    left_width = max(_width(text) for text, _ in left)
    middle_width = _width(middle)
    right_width = 0.0 if ends_in_subject else _width(story.high)
    rows = len(left)
    centre = MARGIN_PX + LINE_PX + rows * ROW_PX / 2
    middle_x = MARGIN_PX + left_width + ARROW_PX
    right_x = middle_x + middle_width + ARROW_PX
    rules = [_cut(line, MAX_RULE_CHARS) for line in _rule_lines(story)]
    top_of_rules = MARGIN_PX + LINE_PX + rows * ROW_PX + LINE_PX
    width = max(
        (middle_x + middle_width if ends_in_subject else right_x + right_width) + MARGIN_PX,
        max((len(line) for line in [*rules, story.sentence()[:MAX_RULE_CHARS]]), default=0) * CHAR_PX + 2 * MARGIN_PX,
    )
    height = top_of_rules + (len(rules) + 1) * LINE_PX

    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" class="vouch" role="img" width="{width:.0f}" height="{height:.0f}"'
        f' viewBox="0 0 {width:.0f} {height:.0f}">',
        f"<title>{_safe(story.title())}</title><desc>{_safe(story.sentence())}</desc>"
        + (f"<style>{STYLE}</style>" if styled else ""),
        f'<rect class="paper" width="{width:.0f}" height="{height:.0f}"/>',
        _text(MARGIN_PX, MARGIN_PX + 4, _cut(story.sentence(), MAX_RULE_CHARS), "head"),
    ]
    for row, (text, kind) in enumerate(left):
        at = MARGIN_PX + LINE_PX + row * ROW_PX + ROW_PX / 2
        parts.append(_box(MARGIN_PX, at, left_width, text, kind))
        parts.append(_arrow(MARGIN_PX + left_width, at, middle_x, centre))
    if story.write is not None:
        # Below the object: on the left, arrows may lie under any height.
        text = _cut(_permissions(story.write), int((middle_width + ARROW_PX) / CHAR_PX))
        below = centre + BOX_HEIGHT_PX / 2 + 16
        parts.append(_text(middle_x + middle_width / 2, below, text, "dim", anchor="middle"))
    parts.append(_box(middle_x, centre, middle_width, middle, "high" if ends_in_subject else ""))
    if story.read is not None:
        parts.append(_arrow(middle_x + middle_width, centre, right_x, centre))
        parts.append(_label(middle_x + middle_width, right_x, centre, _permissions(story.read)))
        parts.append(_box(right_x, centre, right_width, story.high, "high"))
    for row, line in enumerate(rules):
        parts.append(_text(MARGIN_PX, top_of_rules + row * LINE_PX, line, "dim"))
    parts.append("</svg>")
    return "\n".join(parts) + "\n"


def _left(story: Story) -> list[tuple[str, str]]:
    """Return text and kind of each box on the left."""
    if not story.writers:
        return [("anybody", "low")]
    drawn = story.writers[:DRAWN_WRITERS]
    boxes = [(name, "low") for name in drawn]
    if story.writer_count > len(drawn):
        boxes.append((f"and {story.writer_count - len(drawn):,} more", "low"))
    return boxes


def _rule_lines(story: Story) -> Iterator[str]:
    for step in (story.write, story.read):
        if step is None:
            continue
        yield f"rule {step.rule_number}: {step.rule}"
        if step.condition:
            yield f"  only where: {step.condition}"
        if step.rules > 1:
            yield f"  and {step.rules - 1:,} more rules allow it"
    yield f"severity {story.severity}: {SEVERITIES[story.severity]}"


def _permissions(step: Step) -> str:
    return " ".join(step.permissions)


def _box(x: float, centre: float, width: float, text: str, kind: str) -> str:
    top = centre - BOX_HEIGHT_PX / 2
    return (
        f'<rect class="box {kind}" x="{x:.1f}" y="{top:.1f}" width="{width:.1f}" height="{BOX_HEIGHT_PX}" rx="5"/>'
        + _text(x + width / 2, centre + 4, _cut(text, MAX_NAME_CHARS), "", anchor="middle")
    )


def _arrow(x1: float, y1: float, x2: float, y2: float) -> str:
    bend = (x2 - x1) / 2
    end = x2 - 8
    return (
        f'<path class="arrow" d="M{x1:.1f} {y1:.1f} C{x1 + bend:.1f} {y1:.1f} {end - bend:.1f} {y2:.1f} '
        f'{end:.1f} {y2:.1f}"/>'
        f'<path class="tip" d="M{x2:.1f} {y2:.1f} l-9 -4.5 v9 z"/>'
    )


def _label(x1: float, x2: float, y: float, text: str) -> str:
    most = int((x2 - x1 - 16) / CHAR_PX)
    return _text((x1 + x2) / 2, y - 8, _cut(text, most), "dim", anchor="middle")


def _text(x: float, y: float, text: str, kind: str, *, anchor: str = "start") -> str:
    css = f' class="{kind}"' if kind else ""
    return f'<text{css} x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" xml:space="preserve">{_safe(text)}</text>'


def _width(text: str) -> float:
    return min(len(text), MAX_NAME_CHARS) * CHAR_PX + 24


def _cut(text: str, most: int) -> str:
    return text if len(text) <= most else text[: most - 1] + "…"


def _safe(text: str) -> str:
    """Return ``text`` for XML: markup escaped, and no character that XML 1.0 has not."""
    return html.escape("".join(c if c.isprintable() else "?" for c in text))
