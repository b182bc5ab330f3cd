# SPDX-License-Identifier: GPL-3.0-or-later
"""Updates on a real machine: what fails goes back by itself, what is proven stays, and nothing goes back after that."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest


@pytest.mark.parametrize("name", ["panics", "unconfirmed"])
def test_a_failed_update_ends_where_it_began(kept: Any, name: str) -> None:
    trial = kept("trials", name)
    assert [step["action"] for step in trial["steps"]] == ["stage", "try"]
    before, after = trial["steps"][0]["status"], trial["back"]["status"]
    assert (after["state"], after["running"], after["confirmed"]) == (
        "fallen-back",
        before["running"],
        before["confirmed"],
    )


def test_the_release_that_nobody_confirmed_did_run(kept: Any) -> None:
    runs = kept("trials", "unconfirmed")["runs"]
    assert (runs["status"]["state"], runs["status"]["running"]) == ("trial", runs["release_id"])


EXPECTED = (
    # The old release, with every register as it was: neither staging nor BootNext shows in PCRs 1 and 5.
    ("after-panic", "affirming", []),
    ("after-unconfirmed", "affirming", []),
    ("updated", "affirming", []),
    ("rolled-back", "contraindicated", ["release.retired"]),
    ("chain-cut", "contraindicated", ["update.chain"]),
)


@pytest.mark.parametrize(("name", "verdict", "codes"), EXPECTED, ids=[row[0] for row in EXPECTED])
def test_outcome(kept: Any, name: str, verdict: str, codes: list[str]) -> None:
    appraisal = kept("attacks", name)["appraisal"]
    found = (appraisal["verdict"], list(dict.fromkeys(appraisal["row"]["reasons"])))
    assert found == (verdict, codes), appraisal["findings"]


def test_the_updated_host_runs_the_new_release(kept: Any) -> None:
    updated, before = (kept("attacks", name)["appraisal"]["result"] for name in ("updated", "after-unconfirmed"))
    assert (before["release_name"], updated["release_name"]) == ("up-installed", "up-good")


def test_the_evidence_brings_the_way_it_came(kept: Any) -> None:
    evidence = json.loads(Path(kept("attacks", "updated")["evidence"]["dest"]).read_text())
    assert len(evidence["updates"]) == 1


def test_check_mode_and_a_second_run_change_nothing(log: Any) -> None:
    assert "failed=0" in log("check")
    assert "changed=0" in log("again").split("PLAY RECAP")[1]
