# SPDX-License-Identifier: GPL-3.0-or-later
"""The command: exit codes, forms of output, and errors that name file and cure."""

from __future__ import annotations

import io
import json
import os
import pathlib
import subprocess
import sys

import pytest
from ansible.module_utils.vouch.cli.cwlite import CONFLICTS, PASS, UNUSABLE, main

from sim.buildnode import INTENT, policy, proof
from sim.policy import allow

ROOT = pathlib.Path(__file__).resolve().parents[3]


@pytest.fixture
def folder(tmp_path: pathlib.Path) -> pathlib.Path:
    """Return a folder with a policy that passes, one that does not, and an intent."""
    (tmp_path / "policy.33").write_bytes(policy().to_bytes())
    bad = policy()
    bad.rules.append(allow("cc_t etc_t:file write"))
    (tmp_path / "bad.33").write_bytes(bad.to_bytes())
    (tmp_path / "intent.yml").write_text(INTENT)
    return tmp_path


def run(*words: str | pathlib.Path) -> tuple[int, str, str]:
    """Return exit code, output and errors of the command."""
    out, err = io.StringIO(), io.StringIO()
    code = main([str(word) for word in words], out, err)
    return code, out.getvalue(), err.getvalue()


def test_check(folder: pathlib.Path) -> None:
    code, out, err = run("check", folder / "policy.33", "--intent", folder / "intent.yml")
    assert (code, err) == (PASS, "")
    assert "verdict   pass: 0 conflicts" in out
    code, out, err = run("check", folder / "bad.33", "--intent", folder / "intent.yml", "--limit", "1")
    assert (code, err) == (CONFLICTS, "")
    assert "verdict   FAIL: 3 conflicts" in out
    assert "2 more conflicts not told one by one" in out


def test_check_in_other_forms(folder: pathlib.Path) -> None:
    words = ("check", folder / "bad.33", "--intent", folder / "intent.yml", "--html", folder / "report.html")
    code, out, _ = run(*words, "--format", "json")
    assert code == CONFLICTS
    report = json.loads(out)
    assert report["conflicts"] == 3
    assert report["keys"]["C1 init_t file"] == ["etc_t"]
    assert "etc_t:file" in (folder / "report.html").read_text()
    code, out, _ = run(*words, "--format", "sarif")
    assert code == CONFLICTS
    log = json.loads(out)
    assert log["version"] == "2.1.0"
    assert log["runs"][0]["properties"]["conflicts"] == 3
    assert run(*words, "--format", "sarif")[1] == out


def test_booleans(folder: pathlib.Path) -> None:
    sim = policy()
    sim.conditionals = [("cc_debug", [allow("cc_t etc_t:file write")], [])]
    (folder / "policy.33").write_bytes(sim.to_bytes())
    words = ("check", folder / "policy.33", "--intent", folder / "intent.yml")
    assert run(*words)[0] == CONFLICTS
    assert run(*words, "--booleans", "current")[0] == PASS


def test_explain(folder: pathlib.Path) -> None:
    words = ("explain", folder / "bad.33", "--intent", folder / "intent.yml", "--subject", "init_t", "--class", "file")
    code, out, _ = run(*words, "--object", "etc_t", "--svg", folder / "c.svg")
    assert code == CONFLICTS
    assert "rule 9: allow cc_t etc_t:file { write };" in out
    assert (folder / "c.svg").read_text().startswith("<svg")
    code, out, _ = run(*words, "--object", "cc_tmp_t")
    assert (code, out) == (PASS, "no conflict: init_t on cc_tmp_t:file\n")
    code, _, err = run(*words, "--object", "ghost_t")
    assert code == UNUSABLE
    assert "[cwlite.name]" in err


def test_cut(folder: pathlib.Path) -> None:
    code, out, _ = run("cut", folder / "bad.33", "--intent", folder / "intent.yml")
    assert code == CONFLICTS
    assert "split etc_t:file" in out
    code, out, _ = run("cut", folder / "bad.33", "--intent", folder / "intent.yml", "--format", "json")
    assert [cure["kind"] for cure in json.loads(out)] == ["split"]
    assert run("cut", folder / "policy.33", "--intent", folder / "intent.yml")[:2] == (PASS, "nothing to clear\n")


def test_map() -> None:
    code, out, _ = run("map")
    assert code == PASS
    assert out.count("\n\n") > 50
    code, one, _ = run("map", "file")
    assert code == PASS
    assert "  execute                  r code" in one
    assert one.splitlines()[0] == out.splitlines()[0]
    code, _, err = run("map", "ghost")
    assert (code, "[cwlite.class]" in err) == (UNUSABLE, True)


def test_prove_and_verify(folder: pathlib.Path) -> None:
    code, out, _ = run("prove", folder / "policy.33", "--intent", folder / "intent.yml", "--out", folder / "proof.json")
    assert code == PASS
    assert "sha256" in out
    assert (folder / "proof.json").read_bytes() == proof()
    words = ("verify", folder / "policy.33", folder / "proof.json")
    assert run(*words)[0] == PASS
    assert run(*words, "--intent", folder / "intent.yml")[0] == PASS
    (folder / "intent.yml").write_text(INTENT.replace("framed", "wild"))
    code, out, err = run(*words, "--intent", folder / "intent.yml")
    assert (code, out) == (CONFLICTS, "")
    assert "[proof.intent]" in err
    code, _, err = run("verify", folder / "bad.33", folder / "proof.json")
    assert (code, "[proof.policy]" in err) == (CONFLICTS, True)


def test_no_proof_of_a_policy_that_fails(folder: pathlib.Path) -> None:
    code, out, _ = run("prove", folder / "bad.33", "--intent", folder / "intent.yml", "--out", folder / "proof.json")
    assert code == CONFLICTS
    assert out.endswith("no proof written\n")
    assert not (folder / "proof.json").exists()


@pytest.mark.parametrize(
    ("name", "content", "code"),
    [
        ("policy.33", b"# CIL", "parse.magic"),
        ("policy.33", b"", "parse.truncated"),
        ("policy.33", policy().to_bytes()[:-3], "parse.truncated"),
        ("policy.33", None, "files.missing"),
        ("intent.yml", b"version: 3\n", "parse.field.value"),
        ("intent.yml", b"[", "parse.yaml"),
        ("intent.yml", None, "files.missing"),
        ("intent.yml", INTENT.replace("cc_tmp_t", "cc_temp_t").encode(), "cwlite.name"),
    ],
)
def test_inputs_that_cannot_be_used(folder: pathlib.Path, name: str, content: bytes | None, code: str) -> None:
    if content is None:
        (folder / name).unlink()
    else:
        (folder / name).write_bytes(content)
    found, out, err = run("check", folder / "policy.33", "--intent", folder / "intent.yml")
    assert (found, out) == (UNUSABLE, "")
    assert f"[{code}]" in err
    assert name in err or code == "cwlite.name"
    assert "Traceback" not in err


@pytest.mark.parametrize(
    "words",
    [
        [],
        ["check"],
        ["check", "p"],
        ["guess", "p"],
        ["check", "p", "--intent", "i", "--limit", "0"],
        ["check", "p", "--intent", "i", "--booleans", "some"],
    ],
)
def test_bad_usage(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        main(words)
    assert caught.value.code == UNUSABLE
    assert "usage: vouch-cwlite" in capsys.readouterr().err


def test_help_tells_the_exit_codes(capsys: pytest.CaptureFixture[str]) -> None:
    for words in (["--help"], ["check", "--help"], ["verify", "--help"]):
        with pytest.raises(SystemExit) as caught:
            main(words)
        assert caught.value.code == 0
        assert "exit codes:" in capsys.readouterr().out


def test_the_script_runs_from_anywhere(folder: pathlib.Path) -> None:
    words = [sys.executable, str(ROOT / "tools" / "vouch-cwlite"), "check", "policy.33", "--intent", "intent.yml"]
    done = subprocess.run(words, cwd=folder, capture_output=True, text=True, check=False, timeout=60)
    assert (done.returncode, done.stderr) == (PASS, "")
    assert "verdict   pass" in done.stdout
    assert os.access(ROOT / "tools" / "vouch-cwlite", os.X_OK)


def test_a_reader_that_leaves_makes_no_noise(folder: pathlib.Path) -> None:
    script = f"{sys.executable} {ROOT / 'tools' / 'vouch-cwlite'} map | true"
    done = subprocess.run(["sh", "-c", script], capture_output=True, text=True, check=False, timeout=60)
    assert done.stderr == ""
