# SPDX-License-Identifier: GPL-3.0-or-later
"""The page as markup: whatever a host says stays text, nothing is loaded, its size is bounded."""

from __future__ import annotations

import base64
import dataclasses
import functools
import hashlib
import itertools
import re

import jinja2
import pytest
from ansible.module_utils.vouch.errors import UsageError
from ansible.module_utils.vouch.explain import page as policy_page
from ansible.module_utils.vouch.explain.palette import ROOT
from ansible.module_utils.vouch.report import page as page_module
from ansible.module_utils.vouch.report.page import TEMPLATES, page
from ansible.module_utils.vouch.report.standing import STANDINGS
from ansible.module_utils.vouch.report.view import FleetInput, Limits
from hypothesis import given, settings
from hypothesis import strategies as st

from sim.fleet import HOSTILE, fleet, hostile, hosts, large, small
from sim.markup import Outline
from thorough import examples

MAX_BYTES = 1_500_000
"""What a page may have whatever the fleet; a phone opens it."""

FREE = frozenset({"aria-label", "content", "data-label", "datetime", "d", "lang"})
"""Attributes whose values are not compared: text that was escaped, numbers, and our own paths."""


@functools.cache
def plain() -> Outline:
    """Return the page of the fleet without any malice."""
    return Outline(page(small()))


@functools.cache
def reference() -> Outline:
    """Return the page of the hostile fleet that says a harmless word everywhere."""
    return Outline(page(hostile("harmless")))


def test_it_nests_and_says_what_it_is_about() -> None:
    outline = plain()
    assert outline.faults == []
    for word in ("3 of 12 hosts", "xen-05", "ima.entry.unknown", "/usr/bin/nmap", "distcc_node", "guest.text.changed"):
        assert word in outline.text
    for standing in STANDINGS.values():
        assert standing.meaning in outline.text


@pytest.mark.parametrize("text", HOSTILE, ids=range(len(HOSTILE)))
def test_what_hosts_say_stays_text(text: str) -> None:
    check_inert(text)


@given(
    st.text(st.sampled_from("<>\"'&/=! -{}%#\\`;:\x00\x1b\u202e\u2028aé日\ud800"), max_size=60) | st.text(max_size=60)
)
@settings(max_examples=examples(60), deadline=None)
def test_no_text_at_all_becomes_markup(text: str) -> None:
    check_inert(text)


def check_inert(text: str) -> None:
    """Hold the page that says ``text`` everywhere against the one that says a harmless word."""
    outline = Outline(page(hostile(text)))
    assert outline.faults == []
    assert outline.names() <= reference().names() | plain().names()
    assert not [name for _, name in outline.names() if name.startswith("on") or name in ("style", "src", "srcset")]
    mine = {item for item in outline.elements if item[1] not in FREE}
    allowed = {item for item in reference().elements + plain().elements if item[1] not in FREE}
    # Heights and places depend on whether a text is empty; everything that could act is compared.
    strange = {item for item in mine - allowed if item[1] not in ("x", "y", "height", "width", "viewbox", "cx", "cy")}
    assert not strange
    assert all(char.isprintable() or char == "\n" for char in outline.text + "".join(outline.values("aria-label")))
    assert outline.style == reference().style


def test_hostile_text_is_told_not_swallowed() -> None:
    outline = Outline(page(hostile("<b>\u202e{{ 7*7 }}")))
    assert "<b>\\u202e{{ 7*7 }}" in outline.text
    assert "49" not in re.findall(r"\{\{.*?\}\}", outline.text)


def test_links_lead_inside_the_page() -> None:
    for outline in (plain(), Outline(page(large(300)))):
        ids = outline.values("id")
        assert len(ids) == len(set(ids))
        targets = outline.values("href")
        assert targets
        assert all(target.startswith("#") and target[1:] in ids for target in targets)
        for value in outline.values("aria-labelledby"):
            assert set(value.split()) <= set(ids)


def test_it_forbids_itself_everything_but_its_style() -> None:
    outline = plain()
    policy = next(value for value in outline.values("content") if "default-src" in value)
    digest = base64.b64encode(hashlib.sha256(outline.style.encode()).digest()).decode()
    assert policy == f"default-src 'none'; style-src 'sha256-{digest}'; base-uri 'none'; form-action 'none'"
    assert not re.search(r"url\(|@import|@font-face|expression", outline.style)
    elements = {element for element, _, _ in outline.elements}
    assert not elements & {
        "script",
        "link",
        "img",
        "iframe",
        "object",
        "embed",
        "form",
        "input",
        "base",
        "image",
        "use",
    }


def test_pictures_have_a_role_and_a_name() -> None:
    text = page(small())
    pictures = re.findall(r"<svg [^>]*>", text)
    assert len(pictures) > 20
    for picture in pictures:
        assert 'role="img"' in picture
        assert re.search(r'aria-label(ledby)?="[^"]+"', picture)


def test_tables_name_their_columns_and_what_they_hold() -> None:
    outline = plain()
    tables = outline.values("role").count("table")
    assert tables == [element for element, name, value in outline.elements if value == "table"].count("table")
    assert page(small()).count("<caption>") == tables
    assert {value for element, name, value in outline.elements if element == "th" and name == "scope"} == {"col", "row"}
    headings = [element for element, name, _ in outline.elements if re.fullmatch(r"th", element) and name == "scope"]
    assert len(headings) == page(small()).count("<th ")


def test_headings_leave_no_level_out() -> None:
    levels = [int(level) for level in re.findall(r"<h([1-6])[ >]", page(small()))]
    assert levels[0] == 1
    assert levels.count(1) == 1
    assert all(after <= before + 1 for before, after in itertools.pairwise(levels))


def test_the_same_input_gives_the_same_bytes() -> None:
    assert page(small()) == page(small())
    assert page(fleet(*reversed(hosts()))) == page(fleet(*hosts()))


@pytest.mark.parametrize("count", [0, 1, 300])
def test_any_number_of_hosts(count: int) -> None:
    outline = Outline(page(large(count)))
    assert outline.faults == []
    assert ("There are no hosts." in outline.text) == (count == 0)


def test_ten_thousand_hosts_fit_a_page_and_none_is_kept_quiet() -> None:
    text = page(large(10_000))
    outline = Outline(text)
    assert outline.faults == []
    assert len(text.encode()) < MAX_BYTES
    told = " ".join(outline.text.split())
    for line in (
        "9,910 of 10,000 hosts are proven",
        "The first 100 of 10,000 hosts, the worst first",
        "The first 60 of 10,000 hosts, the worst first.",
        "24 names of 9,900",
    ):
        assert line in told


def test_long_texts_do_not_make_a_long_page() -> None:
    short, long = (len(page(hostile(text)).encode()) for text in ("a" * 400, "a" * 200_000))
    assert long < short * 1.2


def test_what_a_host_has_too_much_of_is_cut_and_counted() -> None:
    host = hosts()[0]
    assert host.result is not None
    guests = tuple(dataclasses.replace(host.result.guests[0], guest=f"g{number}", record=None) for number in range(500))
    made = fleet(dataclasses.replace(host, result=dataclasses.replace(host.result, guests=guests)))
    told = " ".join(Outline(page(made)).text.split())
    assert "The first 12 of 500 guests, the worst first; 488 left out" in told
    assert "and 494 more below" in told


def test_older_lines_are_cut_and_counted() -> None:
    told = " ".join(Outline(page(small(), Limits(lines=1, events=2))).text.split())
    assert "Results and events, the newest first; 1 older line left out" in told
    assert "The newest 2 events; 5 older ones left out" in told


def test_a_limit_of_nothing_is_refused() -> None:
    with pytest.raises(UsageError) as caught:
        Limits(lines=0)
    assert caught.value.code == "report.limit"


def test_a_template_writes_text_and_whole_numbers_alone() -> None:
    environment = page_module._environment()
    assert environment.from_string("{{ a }}{{ b }}").render(a="<\x1b>", b=7) == "&lt;\\x1b&gt;7"
    for value in (None, True, 1.5, b"x", [1], STANDINGS["none"]):
        with pytest.raises(UsageError) as caught:
            environment.from_string("{{ a }}").render(a=value)
        assert caught.value.code == "report.value"
    with pytest.raises(jinja2.UndefinedError):
        environment.from_string("{{ a }}").render()


def test_no_template_switches_escaping_off() -> None:
    for path in TEMPLATES.glob("*.j2"):
        text = path.read_text(encoding="utf-8")
        assert not re.search(r"\|\s*safe\b|autoescape|Markup", text), path.name


def test_both_pages_have_one_palette() -> None:
    assert ROOT in plain().style
    assert ROOT in policy_page._STYLE


def colours(css: str) -> dict[str, str]:
    """Return the custom properties of a rule."""
    return dict(re.findall(r"--(\w+):(#[0-9a-f]+)", css))


def luminance(colour: str) -> float:
    """Return the relative luminance of ``#rgb`` or ``#rrggbb`` (WCAG 2.2)."""
    digits = colour.lstrip("#")
    digits = "".join(c * 2 for c in digits) if len(digits) == 3 else digits
    parts = [int(digits[at : at + 2], 16) / 255 for at in (0, 2, 4)]
    red, green, blue = (part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
def test_the_palette_can_be_read(dark: bool) -> None:
    light_css, dark_css = ROOT.split("@media")
    found = colours(light_css) | (colours(dark_css) if dark else {})
    pairs = [(text, "paper") for text in ("ink", "dim", "pass", "fail", "warn")]
    pairs += [("ink", behind) for behind in ("box", "high", "low", "mid")]
    pairs += [("pass", "high"), ("fail", "low"), ("warn", "mid"), ("dim", "box")]
    for text, behind in pairs:
        lighter, darker = sorted((luminance(found[text]), luminance(found[behind])), reverse=True)
        assert (lighter + 0.05) / (darker + 0.05) >= 4.5, (text, behind)


def test_an_empty_fleet_has_a_page() -> None:
    outline = Outline(page(FleetInput(title="", generated_at_s=0)))
    assert outline.faults == []
    assert "There are no hosts." in outline.text
