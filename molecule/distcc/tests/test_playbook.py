# SPDX-License-Identifier: GPL-3.0-or-later
"""The playbook ``distcc``, as everybody runs it, on the farm that has built: it takes over what is proven, once."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from farm import CONTROLLER, NODES, OUTPUT, STATE

from vouch.parse.buildresult import parse_build_result

ROOT = Path(__file__).resolve().parents[3]
INVENTORY = Path(__file__).resolve().parents[1] / "inventory"
LIMIT_S = 1200


def play(*options: str) -> str:
    """Return what the playbook said of the controller alone: a node was attacked, and stays as it is."""
    tree = json.loads((OUTPUT / "local.json").read_text())["tree"]
    argv = [sys.executable, "-m", "ansible.cli.playbook", f"--inventory={INVENTORY}", f"--limit={CONTROLLER},localhost"]
    argv += [*options, "--extra-vars", json.dumps({"distcc_tree": tree, "distcc_builder": "localhost"})]
    done = subprocess.run(
        [*argv, str(ROOT / "playbooks" / "distcc.yml")],
        cwd=ROOT,
        env={**os.environ, "ANSIBLE_CONFIG": str(ROOT / "ansible.cfg"), "XDG_STATE_HOME": str(STATE.parent)},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=LIMIT_S,
        check=False,
    )
    assert done.returncode == 0, (done.stdout + done.stderr)[-4000:]
    return done.stdout


@pytest.fixture(scope="module")
def told() -> str:
    """What its first run said."""
    return play()


def test_what_was_proven_is_here_and_equal_to_a_local_build(told: str) -> None:
    result = parse_build_result((OUTPUT / "result.tar").read_bytes())
    for name, data in result.files.items():
        assert (OUTPUT / "farm" / name).read_bytes() == data
    assert "equal to those of a local build" in told
    assert all(f"of the objects compiled by {node}" in told for node in NODES)


def test_a_second_run_and_check_mode_change_nothing(told: str) -> None:
    for options in ([], ["--check", "--diff"]):
        recap = play(*options).splitlines()[-8:]
        (line,) = [line for line in recap if line.startswith(CONTROLLER)]
        assert "changed=0" in line, line
