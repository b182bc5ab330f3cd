# SPDX-License-Identifier: GPL-3.0-or-later
"""The initrd's script goes on with the built command line only: words that Xen appends from a boot entry end it."""

from __future__ import annotations

import pathlib
import subprocess

import pytest

from conftest import ROOT

SCRIPT = ROOT / "roles" / "host_image" / "files" / "init"
BUILT = "kernel console=hvc0 quiet vouch.verity=aa,bb,7 --"


def read_command_line(line: str, folder: pathlib.Path) -> subprocess.CompletedProcess[str]:
    """Run the part of the script that reads the command line, on ``line``."""
    text = SCRIPT.read_text()
    begin = text.index("read -r command_line")
    part = text[begin : text.index("root=${verity", begin)].replace("/proc/cmdline", str(folder / "cmdline"))
    (folder / "cmdline").write_text(line + "\n")
    stub = 'fail() { echo "REFUSED: $*"; exit 1; }\n'
    return subprocess.run(
        ["sh", "-c", f'{stub}{part}echo "$verity"'], capture_output=True, text=True, timeout=10, check=False
    )


def test_the_built_line_is_accepted(tmp_path: pathlib.Path) -> None:
    done = read_command_line(BUILT, tmp_path)
    assert (done.returncode, done.stdout, done.stderr) == (0, "aa,bb,7\n", "")


@pytest.mark.parametrize(
    "added", ["rdinit=/bin/sh", "vouch.verity=cc,dd,8", "systemd.run=/x", "single", "--", "-- vouch.verity=cc,dd,8 --"]
)
def test_a_word_behind_it_is_refused(tmp_path: pathlib.Path, added: str) -> None:
    done = read_command_line(f"{BUILT} {added}", tmp_path)
    assert done.returncode == 1
    assert done.stdout.startswith("REFUSED: the boot entry adds ")


def test_a_line_without_its_end_is_refused(tmp_path: pathlib.Path) -> None:
    done = read_command_line(BUILT.removesuffix(" --"), tmp_path)
    assert (done.returncode, done.stdout) == (1, "REFUSED: the command line is not the built one\n")
