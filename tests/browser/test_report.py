# SPDX-License-Identifier: GPL-3.0-or-later
"""The report in a real browser: it loads nothing, fits a phone, can be read in light and dark, by keyboard and by ear.

Pictures of what was tested are kept under ``build/report``.
"""

from __future__ import annotations

import json
import pathlib
from collections.abc import Iterator
from typing import Any

import pytest
from ansible.module_utils.vouch.report.page import page

from chromium import Chromium, need_chromium
from sim.fleet import HOSTILE, hostile, large, small

pytestmark = pytest.mark.thorough

KEPT = pathlib.Path(__file__).resolve().parents[2] / "build" / "report"
TAB, ENTER = "\ue004", "\ue007"
"""WebDriver, 17.4.2: normalised keys."""

PHONE, DESK = 360, 1280
FLEETS = ("small", "large", "hostile")
TEXT_CONTRAST, LARGE_CONTRAST = 4.5, 3.0
"""WCAG 2.2, 1.4.3: text; text of 24 pixels, or of 18.66 bold."""

UNFOLD = "document.querySelectorAll('details').forEach(item => { item.open = true })"

CONTRASTS = """
const parse = text => { const n = text.match(/[\\d.]+/g).map(Number); return n.length < 4 ? [...n, 1] : n };
const light = ([r, g, b]) => [r, g, b].map(v => v / 255)
    .map(v => v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4)
    .reduce((sum, v, at) => sum + v * [0.2126, 0.7152, 0.0722][at], 0);
const behind = element => {
    const box = element.closest('svg') && element.parentElement.querySelector('rect.box');
    if (box) return parse(getComputedStyle(box).fill);
    for (let at = element; at; at = at.parentElement) {
        const colour = parse(getComputedStyle(at).backgroundColor);
        if (colour[3] === 1) return colour;
    }
    return [255, 255, 255, 1];
};
const seen = new Map();
const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
while (walker.nextNode()) {
    const element = walker.currentNode.parentElement;
    if (!walker.currentNode.data.trim() || element.closest('title, desc, style, .hide')) continue;
    const style = getComputedStyle(element);
    const colour = parse(element.closest('svg') ? style.fill : style.color);
    const [a, b] = [light(colour), light(behind(element))];
    const ratio = (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
    const size = parseFloat(style.fontSize);
    const large = size >= 24 || (size >= 18.66 && parseInt(style.fontWeight) >= 700);
    const key = `${element.tagName}.${element.getAttribute('class') || ''} ${colour} on ${behind(element)}`;
    seen.set(key, [ratio, large]);
}
return [...seen].map(([key, [ratio, large]]) => [key, ratio, large]);
"""


@pytest.fixture(scope="module")
def pages(tmp_path_factory: pytest.TempPathFactory) -> dict[str, pathlib.Path]:
    """Return the pages that are looked at."""
    folder = tmp_path_factory.mktemp("pages")
    made = {"small": small(), "large": large(10_000), "hostile": hostile(" ".join(HOSTILE[:10]) + "x" * 500)}
    paths = {}
    for name in FLEETS:
        paths[name] = folder / f"{name}.html"
        paths[name].write_text(page(made[name]), encoding="utf-8")
    return paths


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Chromium]:
    """Return a browser for all tests of this file."""
    need_chromium()
    with Chromium(tmp_path_factory.mktemp("chromium")) as started:
        yield started


@pytest.mark.parametrize("fleet", FLEETS)
def test_it_asks_for_nothing_and_complains_of_nothing(
    browser: Chromium, pages: dict[str, pathlib.Path], fleet: str
) -> None:
    browser.look(width=DESK)
    browser.log("browser")
    browser.log("performance")
    browser.open(pages[fleet])
    browser.script(UNFOLD)
    asked = [
        event["params"]["request"]["url"]
        for line in browser.log("performance")
        for event in [json.loads(line["message"])["message"]]
        if event["method"] == "Network.requestWillBeSent"
    ]
    assert asked == [pages[fleet].as_uri()]
    assert browser.log("browser") == []
    assert browser.script("return performance.getEntriesByType('resource').length") == 0


def test_the_content_policy_is_in_force(browser: Chromium, pages: dict[str, pathlib.Path]) -> None:
    browser.open(pages["small"])
    tried = browser.script(
        """
        const add = (tag, parts) => document.body.appendChild(Object.assign(document.createElement(tag), parts));
        const image = add('img', {src: 'data:image/gif;base64,R0lGODlhAQABAAAAACw='});
        add('style', {textContent: 'body{color:rgb(1,2,3)}'});
        add('script', {textContent: 'window.ran = 1'});
        const box = add('p', {});
        box.setAttribute('style', 'color:rgb(1,2,3)');
        return [window.ran === undefined, getComputedStyle(document.body).color, getComputedStyle(box).color,
            image.naturalWidth];
        """
    )
    assert tried[0] is True
    assert "rgb(1, 2, 3)" not in tried
    assert tried[3] == 0
    assert {line["source"] for line in browser.log("browser")} == {"security"}


@pytest.mark.parametrize("fleet", FLEETS)
@pytest.mark.parametrize("width", [320, PHONE, 768, 840, 1024, DESK])
def test_nothing_is_wider_than_the_screen(
    browser: Chromium, pages: dict[str, pathlib.Path], fleet: str, width: int
) -> None:
    browser.look(width=width)
    browser.open(pages[fleet])
    browser.script(UNFOLD)
    wide = browser.script(
        """
        const limit = document.documentElement.clientWidth;
        return [...document.querySelectorAll('body *')]
            .filter(item => !item.closest('.hide, .skip, thead, svg') && item.getBoundingClientRect().right > limit + 1)
            .slice(0, 5).map(item => `${item.tagName} ${item.className} ${item.textContent.slice(0, 60)}`);
        """
    )
    assert wide == []
    assert browser.script("return document.documentElement.scrollWidth <= document.documentElement.clientWidth")


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
@pytest.mark.parametrize("fleet", FLEETS)
def test_every_text_stands_out(browser: Chromium, pages: dict[str, pathlib.Path], fleet: str, dark: bool) -> None:
    browser.look(width=DESK, dark=dark)
    browser.open(pages[fleet])
    browser.script(UNFOLD)
    found = browser.script(CONTRASTS)
    assert len(found) > 20
    weak = [(key, round(ratio, 2)) for key, ratio, big in found if ratio < (LARGE_CONTRAST if big else TEXT_CONTRAST)]
    assert weak == []
    paper = browser.script("return getComputedStyle(document.body).backgroundColor")
    assert (paper == "rgb(255, 255, 255)") != dark


def test_the_keyboard_reaches_and_opens_everything(browser: Chromium, pages: dict[str, pathlib.Path]) -> None:
    browser.look(width=DESK)
    browser.open(pages["small"])
    browser.script("window.reached = []; addEventListener('focusin', event => reached.push(event.target))")
    wanted = browser.script("return document.querySelectorAll('a, summary').length")
    browser.press(TAB)
    assert browser.script("return document.activeElement.textContent") == "Skip to the content"
    assert browser.script("return document.activeElement.getBoundingClientRect().top >= 0")
    # What lies in folded parts cannot be reached, and must not be: unfold each part by its own key when it is reached.
    for _ in range(wanted + 5):
        browser.press(TAB)
        if browser.script("return document.activeElement === document.body || reached.length > 5000"):
            break
        if browser.script(
            "const at = document.activeElement; return at.tagName === 'SUMMARY' && !at.parentElement.open"
        ):
            browser.press(ENTER)
            assert browser.script("return document.activeElement.parentElement.open")
    missed = browser.script(
        "return [...document.querySelectorAll('a, summary')].filter(item => !reached.includes(item))"
        ".map(item => item.textContent.slice(0, 60))"
    )
    assert missed == []
    assert browser.script("return [...document.querySelectorAll('details')].every(item => item.open)")


def test_what_has_the_focus_can_be_seen(browser: Chromium, pages: dict[str, pathlib.Path]) -> None:
    browser.open(pages["small"])
    for _ in range(3):
        browser.press(TAB)
    ring = browser.script(
        "const style = getComputedStyle(document.activeElement);"
        "return [style.outlineStyle, parseFloat(style.outlineWidth)]"
    )
    assert ring[0] == "solid"
    assert ring[1] >= 2


def test_the_skip_link_leads_to_the_content(browser: Chromium, pages: dict[str, pathlib.Path]) -> None:
    browser.open(pages["small"])
    browser.press(TAB, ENTER)
    assert browser.script("return document.activeElement.id") == "main"


def test_a_link_to_a_folded_host_unfolds_it(browser: Chromium, pages: dict[str, pathlib.Path]) -> None:
    browser.look(width=DESK)
    browser.open(pages["small"])
    name = browser.script("return [...document.querySelectorAll('details.host:not([open]) .body')][0].id")
    assert name
    browser.script("document.querySelector(`#hosts a[href='#${arguments[0]}']`).click()", name)
    state = browser.script(
        "const item = document.getElementById(arguments[0]);"
        "return [item.closest('details').open, item.getBoundingClientRect().top]",
        name,
    )
    assert state[0] is True
    assert 0 <= state[1] < 900


def nodes(browser: Chromium) -> list[dict[str, Any]]:
    """Return what a screen reader is given: role and name of each node that is not left out."""
    tree = browser.devtools("Accessibility.getFullAXTree")["nodes"]
    return [
        {
            "role": node.get("role", {}).get("value", ""),
            "name": node.get("name", {}).get("value", "").strip(),
            "properties": {item["name"]: item["value"].get("value") for item in node.get("properties", [])},
        }
        for node in tree
        if not node.get("ignored")
    ]


@pytest.mark.parametrize("width", [PHONE, DESK])
def test_a_screen_reader_is_told_everything(browser: Chromium, pages: dict[str, pathlib.Path], width: int) -> None:
    browser.look(width=width)
    browser.open(pages["small"])
    browser.script(UNFOLD)
    found = nodes(browser)
    by_role: dict[str, list[str]] = {}
    for node in found:
        by_role.setdefault(node["role"], []).append(node["name"])
    pictures = browser.script("return document.querySelectorAll('svg').length")
    assert len(by_role["image"]) == pictures
    for role in ("image", "link", "table", "columnheader", "rowheader", "navigation", "region", "heading"):
        assert by_role[role], role
        assert all(by_role[role]), (role, by_role[role])
    assert len(by_role["main"]) == 1
    assert len(by_role["banner"]) == 1
    # A phone shows rows as blocks; they have to stay rows for those who hear them.
    tables = browser.script("return document.querySelectorAll('table').length")
    rows = browser.script("return document.querySelectorAll('tr').length")
    assert (len(by_role["table"]), len(by_role["row"])) == (tables, rows)
    folds = browser.script("return document.querySelectorAll('summary').length")
    assert sum("expanded" in node["properties"] for node in found) == folds


def test_no_state_is_told_by_colour_alone(browser: Chromium, pages: dict[str, pathlib.Path]) -> None:
    browser.open(pages["small"])
    tags = browser.script("return [...document.querySelectorAll('.tag')].map(item => item.textContent)")
    assert tags
    assert all(len(text) > 3 and not text[0].isalpha() and text[1:].strip()[0].isalpha() for text in tags)
    boxes = browser.script(
        "return [...document.querySelectorAll('.chain g')].map(item => "
        "[item.querySelectorAll('.sign').length, [...item.querySelectorAll('text')].pop().textContent])"
    )
    assert boxes
    assert all(signs and text for signs, text in boxes)


def test_letters_of_a_picture_stay_inside_their_box(browser: Chromium, pages: dict[str, pathlib.Path]) -> None:
    for fleet in FLEETS:
        browser.look(width=PHONE)
        browser.open(pages[fleet])
        browser.script(UNFOLD)
        outside = browser.script(
            """
            return [...document.querySelectorAll('.chain g')].flatMap(group => {
                const box = group.querySelector('rect.box').getBoundingClientRect();
                return [...group.querySelectorAll('text')].filter(item => {
                    const text = item.getBoundingClientRect();
                    return text.right > box.right || text.left < box.left || text.bottom > box.bottom + 1;
                }).map(item => item.textContent);
            });
            """
        )
        assert outside == [], fleet


def test_paper_shows_what_is_folded(browser: Chromium, pages: dict[str, pathlib.Path]) -> None:
    browser.look(width=DESK, media="print")
    browser.open(pages["small"])
    hidden = browser.script(
        "return [...document.querySelectorAll('.body, .facts')].filter(item => !item.checkVisibility()).length"
    )
    assert hidden == 0
    assert browser.script("return getComputedStyle(document.querySelector('nav')).display") == "none"


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
@pytest.mark.parametrize("width", [PHONE, DESK], ids=["phone", "desk"])
@pytest.mark.parametrize("fleet", FLEETS)
def test_pictures_are_kept(
    browser: Chromium, pages: dict[str, pathlib.Path], fleet: str, width: int, dark: bool
) -> None:
    browser.look(width=width, dark=dark)
    browser.open(pages[fleet])
    path = KEPT / f"{fleet}-{'phone' if width == PHONE else 'desk'}-{'dark' if dark else 'light'}.png"
    path.unlink(missing_ok=True)
    browser.picture(path)
    data = path.read_bytes()
    assert data.startswith(b"\x89PNG")
    assert int.from_bytes(data[16:20], "big") == width
