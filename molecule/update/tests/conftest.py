# SPDX-License-Identifier: GPL-3.0-or-later
"""What this run kept."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[3] / "module_utils"))

OUTPUT = Path(os.environ["VOUCH_SCENARIO"])


@pytest.fixture(scope="session")
def kept() -> Any:
    """Return what reads an outcome by its folder and name; a missing one fails the test."""

    def read(folder: str, name: str) -> Any:
        return json.loads((OUTPUT / folder / f"{name}.json").read_text())

    return read


@pytest.fixture(scope="session")
def log() -> Any:
    """Return what reads the output of a run of the playbook."""
    return lambda name: (OUTPUT / f"{name}.log").read_text()
