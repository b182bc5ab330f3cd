# SPDX-License-Identifier: GPL-3.0-or-later
"""Our replay against ``tpm2_eventlog`` on logs of real machines, with the differences that are known.

tpm2_eventlog starts PCR 0 at zero whatever a StartupLocality event says, extends the digests of EV_NO_ACTION events,
stops at register 0xffffffff and crashes on some SHA-1 logs. ``expected.json`` of the collection says which log meets
which of these (``tpm2_eventlog_5_4``); for all others both must agree on every register of every bank.
"""

from __future__ import annotations

import json
import pathlib
import re
import shutil
import subprocess
from collections.abc import Callable

import pytest
from ansible.module_utils.vouch.check.replay import read_event_log, replay
from ansible.module_utils.vouch.model.digest import HASH_SIZE_BYTES

AGREES = "agrees on every PCR"
DIFFERS = re.compile(r"PCR (\d+) (\w+)")


def tool_registers(tool: str, path: pathlib.Path) -> dict[str, dict[int, str]]:
    """Return the ``pcrs`` part of the tool's output; its YAML is read by line, since data in it break YAML parsers."""
    done = subprocess.run([tool, str(path)], capture_output=True, check=True, timeout=60, stdin=subprocess.DEVNULL)
    registers: dict[str, dict[int, str]] = {}
    bank = ""
    for line in done.stdout.decode("utf-8", "replace").rpartition("\npcrs:\n")[2].splitlines():
        if heading := re.fullmatch(r"  (\w+):", line):
            bank = heading[1]
            registers[bank] = {}
        elif value := re.fullmatch(r"    (\d+)\s*: 0x([0-9a-f]+)", line):
            registers[bank][int(value[1])] = value[2]
    return registers


def test_registers_agree(shared_data: Callable[[str], pathlib.Path]) -> None:
    tool = shutil.which("tpm2_eventlog")
    if tool is None:
        pytest.skip("tpm2_eventlog is not installed (package tpm2-tools)")
    folder = shared_data("eventlog")
    compared, wrong = 0, []
    for entry in json.loads((folder / "expected.json").read_text())["files"]:
        verdict = entry["expect"].get("tpm2_eventlog_5_4", "")
        if verdict != AGREES and not verdict.startswith("differs in"):
            continue
        known = {(bank, int(pcr)) for pcr, bank in DIFFERS.findall(verdict)}
        path = folder / entry["file"]
        log = read_event_log(path.read_bytes())
        for bank, theirs in tool_registers(tool, path).items():
            assert bank in HASH_SIZE_BYTES
            ours = {i: value.hex() for i, value in replay(log, bank).values.items()}
            for pcr in sorted(set(ours) | set(theirs)):
                compared += 1
                if (ours.get(pcr) == theirs.get(pcr)) is ((bank, pcr) in known):
                    wrong.append((entry["file"], bank, pcr, ours.get(pcr), theirs.get(pcr)))
    assert not wrong
    assert compared > 400
