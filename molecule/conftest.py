# SPDX-License-Identifier: GPL-3.0-or-later
"""What failed, in a few lines, for the end of a long log: ``make test-lab`` shows them once more."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

SCENARIO = Path(os.environ.get("VOUCH_SCENARIO", "scenario")).name
FAILURES = Path(__file__).resolve().parents[1] / "build" / "molecule" / f"{SCENARIO}.failures.txt"
HEAD_CHARS, TAIL_CHARS = 300, 500
"""Of a message: it begins with what was waited for and ends with the last lines of a console. Whoever reads a log may
see its last screen alone, so that a failure must stay shorter than that."""


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    """Write down each failure as it happens: a run that is killed has told what it knows."""
    if report.failed:
        crash = getattr(report.longrepr, "reprcrash", None)
        place = f"{crash.path}:{crash.lineno}" if crash else ""
        message = crash.message if crash else str(report.longrepr)
        with FAILURES.open("a", encoding="utf-8") as stream:
            stream.write(f"{report.nodeid} ({report.when}) {place}\n{_shortened(message)}\n\n")


def _shortened(message: str) -> str:
    if len(message) <= HEAD_CHARS + TAIL_CHARS:
        return message
    return f"{message[:HEAD_CHARS]}\n[...]\n{message[-TAIL_CHARS:]}"
