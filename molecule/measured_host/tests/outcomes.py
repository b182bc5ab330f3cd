# SPDX-License-Identifier: GPL-3.0-or-later
"""What ``side_effect`` kept of this run, and where everything is."""

from __future__ import annotations

import json
import os
import tarfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

OUTPUT = Path(os.environ["VOUCH_SCENARIO"])
STATE = OUTPUT.parent / "vouch"
KEY = STATE / "keys" / "controller"
PORTS = {"mh1": 22701, "mh2": 22702}
CONSOLE_LINES = 40


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What came of one attack."""

    name: str
    evidence: Mapping[str, Any]
    appraisal: Mapping[str, Any]
    tampered: Mapping[str, Any]
    console_line: str

    @property
    def verdict(self) -> str:
        """Verdict of the appraisal."""
        return str(self.appraisal["verdict"])

    @property
    def codes(self) -> list[str]:
        """Reasons of the verdict, none twice."""
        return list(dict.fromkeys(self.appraisal["row"]["reasons"]))

    def finding(self, code: str) -> Mapping[str, Any]:
        """Return the one finding with ``code``."""
        (found,) = [finding for finding in self.appraisal["findings"] if finding["code"] == code]
        return found

    def bundle(self) -> dict[str, bytes]:
        """Return the parts of the bundle that the appraisal left."""
        with tarfile.open(self.appraisal["bundle"]) as archive:
            return {entry.name: archive.extractfile(entry).read() for entry in archive}  # type: ignore[union-attr]


def outcome(name: str) -> Outcome:
    """Return what ``side_effect`` kept under ``name``; a missing one fails the test."""
    kept = json.loads((OUTPUT / "attacks" / f"{name}.json").read_text())
    return Outcome(name=name, **kept)


def console_tail(name: str) -> str:
    """Return the last lines that the machine of an attack wrote."""
    path = OUTPUT / "attacks" / f"{name}.console.log"
    return "\n".join(path.read_text(errors="replace").splitlines()[-CONSOLE_LINES:]) if path.exists() else "no console"
