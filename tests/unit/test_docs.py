# SPDX-License-Identifier: GPL-3.0-or-later
"""The documents against the tree: links lead somewhere, and the verbs, playbooks and codes they name exist."""

from __future__ import annotations

import pathlib
import re

import pytest

ROOT = pathlib.Path(__file__).resolve().parents[2]
DOCUMENTS = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md"), *(ROOT / "roles").glob("*/README.md")])
CODES = ROOT / "module_utils" / "vouch" / "model" / "codes.py"


def name_of(path: pathlib.Path) -> str:
    """Return the id of a parametrised test."""
    return str(path.relative_to(ROOT))


def heading_anchor(heading: str) -> str:
    """Return the anchor a Markdown viewer gives a heading."""
    return re.sub(r"[^\w\- ]", "", heading.strip().lower()).replace(" ", "-")


@pytest.mark.parametrize("document", DOCUMENTS, ids=name_of)
def test_links_lead_somewhere(document: pathlib.Path) -> None:
    broken = []
    for target in re.findall(r"\]\(([^)\s]+)\)", document.read_text(encoding="utf-8")):
        if re.match(r"[a-z]+:", target):
            continue
        path, _, anchor = target.partition("#")
        file = (document.parent / path).resolve() if path else document
        if not file.exists():
            broken.append(target)
        elif anchor and file.suffix == ".md":
            headings = re.findall(r"^#+ (.+)$", file.read_text(encoding="utf-8"), re.MULTILINE)
            if anchor not in {heading_anchor(heading) for heading in headings}:
                broken.append(target)
    assert not broken, f"{name_of(document)}: {broken}"


@pytest.mark.parametrize("document", DOCUMENTS, ids=name_of)
def test_named_verbs_and_playbooks_exist(document: pathlib.Path) -> None:
    text = document.read_text(encoding="utf-8")
    verbs = set(re.findall(r"^([a-z][a-z-]*):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE))
    unknown = set(re.findall(r"(?:^|`)make ([a-z][a-z-]*)", text, re.MULTILINE)) - verbs
    assert not unknown, f"{name_of(document)}: make {sorted(unknown)}"
    missing = [name for name in re.findall(r"playbooks/\w+\.yml", text) if not (ROOT / name).is_file()]
    assert not missing, f"{name_of(document)}: {missing}"


def test_readme_names_registered_codes() -> None:
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    section = readme.split("## When a host is refused")[1].split("\n## ")[0]
    codes = re.findall(r"^\| `([a-z0-9.-]+)`", section, re.MULTILINE)
    assert codes
    registry = CODES.read_text(encoding="utf-8")
    assert not [code for code in codes if f'"{code}"' not in registry]


def test_every_bench_row_is_documented() -> None:
    text = (ROOT / "docs" / "bench.md").read_text(encoding="utf-8")
    names = [
        name
        for path in sorted((ROOT / "tests" / "bench").glob("rows_*.py"))
        for name in re.findall(r'^@row\(\s*"([\w.]+)"', path.read_text(encoding="utf-8"), re.MULTILINE)
    ]
    assert names
    assert not [name for name in names if f"`{name}`" not in text]
