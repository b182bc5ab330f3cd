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


def recap(text: str, host: str) -> str:
    (line,) = [line for line in text.split("PLAY RECAP")[1].splitlines() if line.startswith(f"{host} ")]
    return line


def table(text: str) -> dict[str, list[str]]:
    """Return status and reasons by the names of the table at a run's end."""
    rows = (line.split() for line in text.rpartition("machine ")[2].splitlines()[2:])
    return {row[0]: row[1:3] for row in rows if row}


def test_a_guest_is_brought_to_its_next_package(log: Any) -> None:
    assert "failed=0" in recap(log("guest-check"), "web1")
    assert table(log("guest-check"))["up1/web1"][0] == "affirming"
    assert table(log("guest-update"))["up1/web1"] == ["affirming", "guest.package.next"]
    assert "changed=0" in recap(log("guest-again"), "web1")
    assert table(log("guest-again"))["up1/web1"] == ["affirming", "-"]


def test_a_guest_that_cannot_be_updated_gets_its_package_back(log: Any) -> None:
    assert "store.missing" in log("guest-fails")
    assert "rescued=1" in recap(log("guest-fails"), "web1")
    assert table(log("guest-after"))["up1/web1"] == ["affirming", "-"]


def test_a_guest_does_not_go_back(log: Any) -> None:
    assert "guest.package.retired" in log("guest-back")
    assert "changed=0" in recap(log("guest-back"), "web1")
