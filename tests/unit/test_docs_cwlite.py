# SPDX-License-Identifier: GPL-3.0-or-later
"""docs/cwlite.md shows an intent, commands and what they answer: all of it is run, on the policy it tells of."""

from __future__ import annotations

import pathlib
import re
import shlex
import subprocess
import sys

import pytest

from sim.buildnode import INTENT, policy

ROOT = pathlib.Path(__file__).resolve().parents[2]
DOCUMENT = ROOT / "docs" / "cwlite.md"
EXIT = re.compile(r"\[exit code (\d)\]")


def blocks(kind: str) -> list[str]:
    """Return the fenced blocks of a kind."""
    return re.findall(rf"^```{kind}\n(.*?)^```$", DOCUMENT.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)


def commands() -> list[tuple[str, list[str], int]]:
    """Return each command with the lines it answers and its exit code."""
    found = []
    for block in blocks("console"):
        for part in re.split(r"^\$ ", block, flags=re.MULTILINE)[1:]:
            command, *lines = part.splitlines()
            codes = [int(match[1]) for line in lines if (match := EXIT.fullmatch(line))]
            found.append((command, [line for line in lines if not EXIT.fullmatch(line)], codes[0] if codes else 0))
    return found


@pytest.fixture
def folder(tmp_path: pathlib.Path) -> pathlib.Path:
    """Return a folder with the files of the example."""
    (written,) = blocks("yaml")
    hasty = re.sub(r"  - subject: distccd_t\n    object: cc_tmp_t\n(?:    .*\n)+", "", written)
    assert hasty != written
    (tmp_path / "intent.yml").write_text(written)
    (tmp_path / "hasty.yml").write_text(hasty)
    (tmp_path / "policy.33").write_bytes(policy().to_bytes())
    (tmp_path / "tools").symlink_to(ROOT / "tools")
    return tmp_path


def test_the_intent_is_the_one_that_tests_use() -> None:
    (written,) = blocks("yaml")
    assert written == f"# intent.yml{INTENT}"


def test_every_command_answers_as_shown(folder: pathlib.Path) -> None:
    shown = commands()
    assert len(shown) >= 6
    for command, lines, code in shown:
        words = shlex.split(command)
        assert words[0] == "tools/vouch-cwlite", command
        done = subprocess.run(
            [sys.executable, *words], cwd=folder, capture_output=True, text=True, check=False, timeout=60
        )
        assert (done.returncode, done.stderr) == (code, ""), command
        for line in lines:
            assert line in done.stdout, f"{command}: {line!r} is not in\n{done.stdout}"
    assert (folder / "conflict.svg").is_file()
    assert (folder / "report.html").is_file()


def test_the_kinds_and_severities_are_all_there() -> None:
    from ansible.module_utils.vouch.explain.story import KINDS, SEVERITIES

    text = DOCUMENT.read_text(encoding="utf-8")
    assert all(f"| {kind} |" in text for kind in KINDS)
    assert all(f"`{severity}`" in text for severity in SEVERITIES)
