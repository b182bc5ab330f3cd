# SPDX-License-Identifier: GPL-3.0-or-later
"""Channels between real guests of the lab, from what molecule scenario ``distcc`` wrote about its last run."""

from __future__ import annotations

import json
from typing import Any

from .harness import ROOT, Measured, NotMeasuredError, at_most, row

FOLDER = ROOT / "build" / "molecule" / "distcc"
PAPER_S = 1.53
"""What a tunnel took in the paper, evidence included (Schiffman et al., ACSAC 2009, the lesser of its two figures)."""


def last_run(name: str) -> dict[str, Any]:
    """Return what the scenario wrote into a file."""
    path = FOLDER / name
    if not path.is_file():
        raise NotMeasuredError(f"{path.relative_to(ROOT)} is not there; `make test-lab SCENARIO=distcc` writes it")
    found: dict[str, Any] = json.loads(path.read_text())
    return found


@row("farm.channel.setup", "s", baseline="the paper's tunnel, on its hardware", target=at_most(0.5))
def setup() -> Measured:
    """The slowest of the controller's channels, from the wish to ESP; four guests share one emulated processor."""
    steps = last_run("connected.json")
    slowest = max(steps.values(), key=lambda item: item["all"])
    parts = ", ".join(f"{name} {ms}" for name, ms in slowest.items() if name != "all")
    return Measured(value=slowest["all"] / 1000, baseline_value=PAPER_S, note=f"{len(steps)} channels; ms: {parts}")


@row("farm.revoked", "s", target=at_most(0.5))
def revoked() -> Measured:
    """From a node's violation in its host's log to its peer's word that the channel has ended, by dom0's clock."""
    seen = last_run("ended.json")
    if "ended" not in seen:
        raise NotMeasuredError("the controller ended no channel in the last run")
    told = seen["told"] - seen["violation"]
    noticed = seen["violation"] - seen["attacked"]
    note = f"told after {told:.2f} s; the violation itself was noticed after {noticed:.1f} s"
    return Measured(value=seen["ended"] - seen["violation"], note=note)
