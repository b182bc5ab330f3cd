# SPDX-License-Identifier: GPL-3.0-or-later
"""Keylime beside us: installed apart, run in a process of its own on the same measurement list.

The package of Keylime on the Python index names no dependencies and imports the GnuPG binding, which is not there.
What is measured needs neither GnuPG nor a configuration, so an empty module ``gpg`` stands in for it.
"""

from __future__ import annotations

import json
import os
import pathlib
import subprocess
import sys
import tempfile

from .harness import REPEATS, NotMeasuredError

VERSION = "7.14.3"
NAME = f"keylime {VERSION}, process_measurement_list"
PACKAGES = (f"keylime=={VERSION}", "lark==1.3.1")
INSTALL_TIMEOUT_S = 300
RUN_TIMEOUT_S = 300

DRIVER = """
import gc, json, sys, time
from keylime.ima import ima
from keylime.agentstates import AgentAttestState
from keylime.common.algorithms import Hash

folder, repeats = sys.argv[1], int(sys.argv[2])
lines = open(folder + "/list.txt").read().split("\\n")
policy = json.load(open(folder + "/policy.json"))
pcr10 = open(folder + "/pcr10.txt").read()
best = float("inf")
for _ in range(repeats):
    gc.collect()
    state = AgentAttestState("bench")
    began = time.process_time()
    running, failure = ima.process_measurement_list(state, lines, policy, pcr10, None, None, Hash.SHA256)
    best = min(best, time.process_time() - began)
    if failure or running != pcr10:
        sys.exit("keylime refused the list")
print(json.dumps({"seconds": best}))
"""


def measure(ascii_list: str, digests: dict[str, list[str]], pcr10: bytes, entries: int) -> float:
    """Return entries per second of processor time for the same list.

    Raises:
        NotMeasuredError: when Keylime cannot be installed, imported, or refuses the list.
    """
    folder = installed()
    policy = {
        "meta": {"version": 1, "generator": 1},
        "release": 0,
        "digests": digests,
        "excludes": [],
        "keyrings": {},
        "ima": {"ignored_keyrings": [], "log_hash_alg": "sha1", "dm_policy": None},
        "ima-buf": {},
        "verification-keys": "",
    }
    with tempfile.TemporaryDirectory(prefix="vouch-bench-") as name:
        work = pathlib.Path(name)
        (work / "gpg.py").write_text('"""Stands in for the GnuPG binding, which is not called."""\n')
        (work / "driver.py").write_text(DRIVER)
        (work / "list.txt").write_text(ascii_list)
        (work / "policy.json").write_text(json.dumps(policy))
        (work / "pcr10.txt").write_text(pcr10.hex())
        done = subprocess.run(
            [sys.executable, str(work / "driver.py"), str(work), str(REPEATS)],
            env={**os.environ, "PYTHONPATH": f"{folder}{os.pathsep}{work}"},
            capture_output=True,
            text=True,
            check=False,
            timeout=RUN_TIMEOUT_S,
        )
    if done.returncode != 0:
        raise NotMeasuredError(f"keylime did not run: {last_line(done.stderr)}")
    return entries / float(json.loads(done.stdout.splitlines()[-1])["seconds"])


def installed() -> pathlib.Path:
    """Return the folder Keylime is installed in: a cache outside the tree, made once."""
    base = pathlib.Path(os.environ.get("XDG_CACHE_HOME") or pathlib.Path.home() / ".cache") / "vouch" / "bench"
    folder = base / f"keylime-{VERSION}-py{sys.version_info.major}.{sys.version_info.minor}"
    if folder.is_dir():
        return folder
    base.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=base) as name:
        target = pathlib.Path(name) / "new"
        command = [
            sys.executable,
            "-m",
            "pip",
            "install",
            "--quiet",
            "--no-deps",
            "--no-input",
            "--target",
            str(target),
        ]
        done = subprocess.run(
            [*command, *PACKAGES], capture_output=True, text=True, check=False, timeout=INSTALL_TIMEOUT_S
        )
        if done.returncode != 0:
            raise NotMeasuredError(f"keylime could not be installed: {last_line(done.stderr)}")
        target.rename(folder)
    return folder


def last_line(text: str) -> str:
    """Return the last line of ``text`` that says something."""
    lines = [line for line in text.splitlines() if line.strip()]
    return lines[-1][:200] if lines else "no message"
