# SPDX-License-Identifier: GPL-3.0-or-later
"""The module as Ansible runs it: verdict, files, check mode, and what came and went since the last verdict."""

from __future__ import annotations

import json
import pathlib
from collections.abc import Callable
from typing import Any

import pytest
import vouch_policy_check
from ansible.module_utils.testing import patch_module_args

from sim.buildnode import INTENT, document, intent, policy, proof
from sim.policy import allow

Run = Callable[..., dict[str, Any]]


@pytest.fixture
def run(tmp_path: pathlib.Path, capsys: pytest.CaptureFixture[str]) -> Run:
    def module(*, check: bool = False, **options: Any) -> dict[str, Any]:
        given = {"policy": str(tmp_path / "policy.33"), **options, "_ansible_check_mode": check}
        with patch_module_args(given), pytest.raises(SystemExit):
            vouch_policy_check.main()
        found: dict[str, Any] = json.loads(capsys.readouterr().out)
        return found

    (tmp_path / "policy.33").write_bytes(policy().to_bytes())
    (tmp_path / "intent.yml").write_text(INTENT)
    return module


def opened(tmp_path: pathlib.Path, *rules: str) -> None:
    """Write a policy with more rules than the intent allows."""
    sim = policy()
    sim.rules += [allow(rule) for rule in rules]
    (tmp_path / "policy.33").write_bytes(sim.to_bytes())


def test_a_policy_that_passes(run: Run, tmp_path: pathlib.Path) -> None:
    reports = {name: str(tmp_path / f"r.{name}") for name in ("text", "json", "sarif", "html")}
    options = {"intent": document(), "proof": str(tmp_path / "proof.json"), "reports": reports}
    foretold = run(check=True, **options)
    assert foretold["changed"]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["intent.yml", "policy.33"]
    first = run(**options)
    assert first["passed"]
    assert sorted(first["files"]) == sorted([*reports.values(), options["proof"]]) == sorted(foretold["files"])
    assert (tmp_path / "proof.json").read_bytes() == proof()
    assert first["intent_sha256"] == intent().digest().hex()
    assert first["proof_sha256"] == foretold["proof_sha256"] != ""
    again = run(**options)
    assert not again["changed"]
    assert again["files"] == []


def test_the_intent_may_stand_in_a_file(run: Run, tmp_path: pathlib.Path) -> None:
    found = run(intent_file=str(tmp_path / "intent.yml"))
    assert found["passed"]
    assert not found["changed"]
    assert found["intent_sha256"] == intent().digest().hex()
    current = run(intent_file=str(tmp_path / "intent.yml"), booleans="current")
    assert current["intent_sha256"] == intent().with_booleans("current").digest().hex()


def test_a_policy_that_does_not_pass(run: Run, tmp_path: pathlib.Path) -> None:
    options = {
        "intent": document(),
        "proof": str(tmp_path / "proof.json"),
        "reports": {"json": str(tmp_path / "r.json")},
    }
    assert run(**options)["passed"]
    opened(tmp_path, "cc_t etc_t:file write")
    assert run(check=True, **options)["failed"]
    assert (tmp_path / "proof.json").is_file()
    found = run(**options)
    assert found["failed"]
    assert found["code"] == "policy.conflicts"
    assert "cc_t may write etc_t:file" in found["msg"]
    # A proof that does not hold any more must not lie about where a package is made of it.
    assert not (tmp_path / "proof.json").exists()
    assert found["conflicts"] == found["added_count"] == 3
    assert found["by_severity"] == {"data": 3}
    assert found["stories"][0]["object"] == "etc_t"
    assert json.loads((tmp_path / "r.json").read_text())["conflicts"] == 3
    assert run(**options)["added_count"] == 0


def test_what_came_and_went(run: Run, tmp_path: pathlib.Path) -> None:
    options = {"intent": document(), "reports": {"json": str(tmp_path / "r.json")}, "fail_on": "added"}
    opened(tmp_path, "cc_t etc_t:file write")
    (tmp_path / "r.json").write_text("{}")
    first = run(**options, _ansible_diff=True)
    assert first["failed"]
    assert first["diff"]["before"] == "no earlier verdict\n"
    assert not run(**options).get("failed")
    opened(tmp_path, "cc_t init_t:process signal")
    second = run(**options, limit=2)
    assert second["failed"]
    assert second["added"] == ["C2 init_t process on cc_t"]
    assert (second["removed_count"], len(second["removed"])) == (3, 2)
    assert second["diff"]["before"].endswith("and 1 more\n")
    assert second["diff"]["after"] == "C2 init_t process on cc_t\n"


def test_a_proof_is_a_verdict_too(run: Run, tmp_path: pathlib.Path) -> None:
    options = {"intent": document(), "proof": str(tmp_path / "proof.json"), "fail_on": "never", "_ansible_diff": True}
    (tmp_path / "proof.json").write_text("{}")
    assert run(**options)["diff"] == {"before": "no earlier verdict\n", "after": "no conflicts\n"}
    opened(tmp_path, "cc_t init_t:process signal")
    assert run(**options)["diff"] == {"before": "", "after": "C2 init_t process on cc_t\n"}


def test_the_play_may_decide(run: Run, tmp_path: pathlib.Path) -> None:
    opened(tmp_path, "cc_t etc_t:file write")
    found = run(intent=document(), fail_on="never")
    assert not found.get("failed")
    assert not found["passed"]
    assert found["conflicts"] == 3


def test_faults_fail_whatever_the_conflicts(run: Run, tmp_path: pathlib.Path) -> None:
    sim = policy()
    sim.permissive = ["cc_t"]
    (tmp_path / "policy.33").write_bytes(sim.to_bytes())
    for fail_on in ("conflicts", "added"):
        found = run(intent=document(), fail_on=fail_on)
        assert found["failed"]
        assert found["faults"] == ["type cc_t is permissive: nothing is enforced for it"]


@pytest.mark.parametrize(
    ("options", "code"),
    [
        ({"intent": {"version": 1}}, "parse.field.missing"),
        ({"intent": {"version": 1, "tcb": ["ghost_t"]}}, "cwlite.name"),
        ({"intent_file": "/nowhere/intent.yml"}, "files.missing"),
        ({"intent": {"version": 1, "tcb": ["kernel_t"]}, "policy": "/nowhere/policy.33"}, "files.missing"),
        ({"intent": {"version": 1, "tcb": ["kernel_t"]}, "limit": 0}, "usage.invalid"),
        ({"intent": document(), "proof": "/nowhere/proof.json"}, "files.unwritable"),
    ],
)
def test_inputs_that_cannot_be_used(run: Run, options: dict[str, Any], code: str) -> None:
    found = run(**options)
    assert found["failed"]
    assert found["code"] == code


def test_one_intent_is_needed(run: Run) -> None:
    assert "one of the following is required" in run()["msg"]
    assert "mutually exclusive" in run(intent=document(), intent_file="i.yml")["msg"]
