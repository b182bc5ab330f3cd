# SPDX-License-Identifier: GPL-3.0-or-later
"""docs/verify.md shows commands and what they answer: all of it is run, on bundles like those it tells of."""

from __future__ import annotations

import os
import pathlib
import re
import shlex
import string
import subprocess
import sys

import pytest
from ansible.module_utils.vouch.appraise.anchors import APPRAISER, INPUTS, INSTALLER, PACKAGES, RELEASE
from ansible.module_utils.vouch.appraise.chain import State
from ansible.module_utils.vouch.appraise.jwks import jwks_bytes
from ansible.module_utils.vouch.cli.verify import main
from ansible.module_utils.vouch.cli.verifytext import OPTIONS
from ansible.module_utils.vouch.make.bundle import write_bundle
from ansible.module_utils.vouch.make.sign import public_pem
from ansible.module_utils.vouch.parse.bundle import PART_BYTES

from bundles import APPRAISER_KEY, PACKAGE_KEY, UNREACHED, Site, installer_pcr4
from sim.attester import RELEASE_KEY

ROOT = pathlib.Path(__file__).resolve().parents[2]
DOCUMENT = ROOT / "docs" / "verify.md"
TEXT = DOCUMENT.read_text(encoding="utf-8")
EXIT = re.compile(r"\[exit code (\d)\]")


def commands() -> list[tuple[str, list[str], int]]:
    """Return each command with the lines it answers and its exit code."""
    found = []
    for block in re.findall(r"^```console\n(.*?)^```$", TEXT, re.MULTILINE | re.DOTALL):
        command, *lines = block.removeprefix("$ ").splitlines()
        (code,) = [int(match[1]) for line in lines if (match := EXIT.fullmatch(line))]
        found.append((command, [line for line in lines if not EXIT.fullmatch(line)], code))
    return found


@pytest.fixture
def folder(tmp_path: pathlib.Path) -> pathlib.Path:
    """Return a folder with the files of the examples."""
    good, bad = Site(guest=True), Site()
    bad.host.measure("/tmp/implant", b"x")
    refused = bad.parts()
    bundles = {
        "host1": good.parts(),
        "host2": refused,
        "silent": Site().parts(UNREACHED),
        "altered": {**good.parts(), "evidence.json": refused["evidence.json"]},
    }
    for name, parts in bundles.items():
        (tmp_path / f"{name}.bundle.tar").write_bytes(write_bundle(parts))
    for name, key in (("appraiser", APPRAISER_KEY), ("release", RELEASE_KEY), ("package", PACKAGE_KEY)):
        (tmp_path / f"{name}.pub").write_bytes(public_pem(key))
    (tmp_path / "jwks.json").write_bytes(jwks_bytes([public_pem(APPRAISER_KEY)]))
    (tmp_path / "tools").symlink_to(ROOT / "tools")
    return tmp_path


def test_every_command_answers_as_shown(folder: pathlib.Path) -> None:
    shown = commands()
    assert len(shown) >= 6
    for command, lines, code in shown:
        words = shlex.split(string.Template(command).substitute(INSTALLER=installer_pcr4().hex()))
        assert words[0] == "tools/vouch-verify", command
        done = subprocess.run(
            [sys.executable, *words],
            cwd=folder,
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
            env={**os.environ, "LC_ALL": "C.UTF-8"},
        )
        assert (done.returncode, done.stderr) == (code, ""), command
        for line in lines:
            assert line in done.stdout, f"{command}: {line!r} is not in\n{done.stdout}"


def test_exit_codes_are_those_of_the_help(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["--help"])
    text = capsys.readouterr().out
    told = re.findall(r"^  (\d)  (.+)$", text, re.MULTILINE)
    assert told == re.findall(r"^\| (\d) \| (.+) \|$", TEXT, re.MULTILINE)
    assert len(told) == 5


def test_claims_options_and_states_are_all_there() -> None:
    for claim in (APPRAISER, INPUTS, RELEASE, INSTALLER, PACKAGES):
        assert f"| `{claim}` |" in TEXT
    for option in OPTIONS.values():
        assert f"`{option} " in TEXT
    for state in State:
        assert f"| `{state.value.upper()}` |" in TEXT


def test_the_parts_of_a_bundle_are_all_there() -> None:
    text = (ROOT / "docs" / "proof.md").read_text(encoding="utf-8").split("\n## Evidence bundle\n")[1]
    assert not [name for name in PART_BYTES if f"`{name}`" not in text]
