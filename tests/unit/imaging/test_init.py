# SPDX-License-Identifier: GPL-3.0-or-later
"""The scripts of both initrds go on with the built command line only: words that somebody appends end them."""

from __future__ import annotations

import pathlib
import subprocess
from collections.abc import Callable

import pytest

from conftest import ROOT

BUILT = "kernel console=hvc0 quiet vouch.verity=aa,bb,7 --"
Read = Callable[[str], subprocess.CompletedProcess[str]]


@pytest.fixture(params=["host_image", "guest_image"])
def read_command_line(request: pytest.FixtureRequest, tmp_path: pathlib.Path) -> Read:
    """Return what runs the part of a role's script that reads the command line, on a line."""
    text = (ROOT / "roles" / request.param / "files" / "init").read_text()
    begin = text.index("read -r command_line")
    part = text[begin : text.index("root=${verity", begin)].replace("/proc/cmdline", str(tmp_path / "cmdline"))

    def read(line: str) -> subprocess.CompletedProcess[str]:
        (tmp_path / "cmdline").write_text(line + "\n")
        stub = 'fail() { echo "REFUSED: $*"; exit 1; }\n'
        return subprocess.run(
            ["sh", "-c", f'{stub}{part}echo "$verity"'], capture_output=True, text=True, timeout=10, check=False
        )

    return read


def test_the_built_line_is_accepted(read_command_line: Read) -> None:
    done = read_command_line(BUILT)
    assert (done.returncode, done.stdout, done.stderr) == (0, "aa,bb,7\n", "")


@pytest.mark.parametrize(
    "added", ["rdinit=/bin/sh", "vouch.verity=cc,dd,8", "systemd.run=/x", "single", "--", "-- vouch.verity=cc,dd,8 --"]
)
def test_a_word_behind_it_is_refused(read_command_line: Read, added: str) -> None:
    done = read_command_line(f"{BUILT} {added}")
    assert done.returncode == 1
    assert done.stdout.startswith("REFUSED: ")
    assert added.split()[0] in done.stdout


def test_a_line_without_its_end_is_refused(read_command_line: Read) -> None:
    done = read_command_line(BUILT.removesuffix(" --"))
    assert (done.returncode, done.stdout) == (1, "REFUSED: the command line is not the built one\n")


@pytest.mark.parametrize("role", ["host_image", "guest_image"])
def test_the_shell_reads_the_script(role: str) -> None:
    """Both are run by busybox's shell; any POSIX shell knows whether they are well formed."""
    script = ROOT / "roles" / role / "files" / "init"
    assert subprocess.run(["sh", "-n", script], capture_output=True, timeout=10, check=False).returncode == 0
