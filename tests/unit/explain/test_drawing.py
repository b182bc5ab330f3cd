# SPDX-License-Identifier: GPL-3.0-or-later
"""The picture of a conflict is well-formed, self-contained, and nothing in a name escapes into it."""

from __future__ import annotations

import re
import xml.etree.ElementTree as ET

import pytest
from ansible.module_utils.vouch.explain.drawing import DRAWN_WRITERS, STYLE, draw
from ansible.module_utils.vouch.explain.story import Story

from sim.conflicts import READ, STORIES, hostile

SVG = "{http://www.w3.org/2000/svg}"


@pytest.mark.parametrize("story", STORIES, ids=lambda story: story.key)
def test_it_shows_the_path(story: Story) -> None:
    root = ET.fromstring(draw(story))
    said = " ".join(root.itertext())
    for name in (story.high, f"{story.object}:{story.class_name}", *story.writers):
        assert name in said
    for step in (story.write, story.read):
        if step is not None:
            assert step.rule in said
            assert step.condition in said
    assert root.findtext(f"{SVG}title") == story.title()


def test_everything_lies_inside() -> None:
    root = ET.fromstring(draw(READ))
    width, height = (float(root.attrib[name]) for name in ("width", "height"))
    for box in root.iter(f"{SVG}rect"):
        x, y = (float(box.attrib.get(name, 0)) for name in ("x", "y"))
        assert 0 <= x <= x + float(box.attrib["width"]) <= width
        assert 0 <= y <= y + float(box.attrib["height"]) <= height


def test_names_are_escaped_and_cut() -> None:
    root = ET.fromstring(draw(hostile()))
    known = {"svg", "title", "desc", "style", "rect", "text", "path"}
    assert {element.tag.removeprefix(SVG) for element in root.iter()} == known
    assert len(list(root.iter(f"{SVG}rect"))) == 1 + DRAWN_WRITERS + 1 + 2
    assert float(root.attrib["width"]) < 2000
    assert "\x1b" not in draw(hostile())


def test_it_needs_nothing_from_outside_and_knows_the_dark() -> None:
    text = draw(READ)
    for word in ("href", "url(", "@import", "<script", "<image"):
        assert word not in text
    assert "prefers-color-scheme" in text
    assert "<style>" not in draw(READ, styled=False)


def luminance(colour: str) -> float:
    """Return the relative luminance of ``#rgb`` or ``#rrggbb`` (WCAG 2.2)."""
    digits = colour.lstrip("#")
    digits = "".join(c * 2 for c in digits) if len(digits) == 3 else digits
    parts = [int(digits[at : at + 2], 16) / 255 for at in (0, 2, 4)]
    red, green, blue = (part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def fills(css: str) -> dict[str, str]:
    """Return the fill of each class that has one; ``text`` for text without."""
    found = re.findall(r"\.vouch \.?(\w+)\{[^}]*?(?<![\w-])fill:(#[0-9a-f]+)", css)
    return dict(found)


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
def test_text_stands_out_from_what_is_behind_it(dark: bool) -> None:
    light_css, dark_css = STYLE.split("@media")
    colours = fills(light_css) | (fills(dark_css) if dark else {})
    for text, behind in (("text", "paper"), ("text", "box"), ("text", "low"), ("text", "high"), ("dim", "paper")):
        lighter, darker = sorted((luminance(colours[text]), luminance(colours[behind])), reverse=True)
        assert (lighter + 0.05) / (darker + 0.05) >= 4.5, (text, behind)
    assert dark == (luminance(colours["paper"]) < 0.5)
