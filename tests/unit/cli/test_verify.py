# SPDX-License-Identifier: GPL-3.0-or-later
"""The command: exit codes, forms of output, hostile text, and one clear error for each bundle that cannot be read."""

from __future__ import annotations

import datetime
import io
import json
import os
import pathlib
import re
import subprocess
import sys
from typing import Any

import pytest
from ansible.module_utils.vouch.appraise.jwks import jwks_bytes
from ansible.module_utils.vouch.cli.verify import FALSE, NOT_AFFIRMING, PROVEN, UNANCHORED, UNUSABLE, main
from ansible.module_utils.vouch.make.bundle import write_bundle
from ansible.module_utils.vouch.make.sign import generate_private_key, public_pem
from ansible.module_utils.vouch.parse.canonical import dump_canonical, load_json
from ansible.module_utils.vouch.port.clock import ManualClock, utc_text

from bundles import APPRAISER_KEY, PACKAGE_KEY, UNREACHED, Site, installer_pcr4
from sim.attester import NOW_S, RELEASE_KEY, SimHost

ROOT = pathlib.Path(__file__).resolve().parents[3]
GOOD = Site(guest=True).parts()


@pytest.fixture
def folder(tmp_path: pathlib.Path) -> pathlib.Path:
    """Return a folder with a good bundle and what carries it."""
    (tmp_path / "b.tar").write_bytes(write_bundle(GOOD))
    (tmp_path / "appraiser.pub").write_bytes(public_pem(APPRAISER_KEY))
    (tmp_path / "jwks.json").write_bytes(
        jwks_bytes([public_pem(generate_private_key("ecdsa-p256-sha256")), public_pem(APPRAISER_KEY)])
    )
    (tmp_path / "release.pub").write_bytes(public_pem(RELEASE_KEY))
    (tmp_path / "package.pub").write_bytes(public_pem(PACKAGE_KEY))
    return tmp_path


def run(*words: str | pathlib.Path, now_s: int = NOW_S) -> tuple[int, str, str]:
    """Return exit code, output and errors of the command."""
    out, err = io.StringIO(), io.StringIO()
    clock = ManualClock(datetime.datetime.fromtimestamp(now_s, datetime.UTC))
    code = main([str(word) for word in words], out, err, clock)
    return code, out.getvalue(), err.getvalue()


def trust(folder: pathlib.Path, appraiser: str = "appraiser.pub") -> list[str]:
    """Return the options that carry everything."""
    return [
        *("--appraiser-key", str(folder / appraiser), "--release-key", str(folder / "release.pub")),
        *("--installer-pcr4", installer_pcr4().hex(), "--package-key", str(folder / "package.pub")),
    ]


@pytest.mark.parametrize("appraiser", ["appraiser.pub", "jwks.json"])
def test_a_proven_bundle(folder: pathlib.Path, appraiser: str) -> None:
    code, out, err = run(folder / "b.tar", *trust(folder, appraiser))
    assert (code, err) == (PROVEN, "")
    assert "verdict   affirming, stage done" in out
    assert "guest     web: affirming" in out
    assert out.splitlines()[-1].startswith("outcome   PROVEN")
    assert "not anchored" not in out


def test_nothing_anchored(folder: pathlib.Path) -> None:
    code, out, err = run(folder / "b.tar")
    assert (code, err) == (UNANCHORED, "")
    assert "self-consistent, nothing anchored" in out
    for option in ("--appraiser-key", "--release-key", "--installer-pcr4", "--package-key"):
        assert f"({option})" in out


def test_something_anchored(folder: pathlib.Path) -> None:
    code, out, _ = run(folder / "b.tar", "--appraiser-key", folder / "appraiser.pub")
    assert code == UNANCHORED
    assert out.splitlines()[-1].endswith("nothing given carries: release, installer, packages")
    assert "nothing anchored" not in out


def test_a_host_that_was_refused(folder: pathlib.Path) -> None:
    site = Site()
    site.host.measure("/tmp/\x1b[31mimplant\u202e", b"x")
    (folder / "b.tar").write_bytes(write_bundle(site.parts()))
    code, out, _ = run(folder / "b.tar", *trust(folder), "--why")
    assert code == NOT_AFFIRMING
    assert "ima.entry.unknown" in out
    assert re.search(r"^ 9\. contents +REFUSED", out, re.MULTILINE)
    assert re.search(r"^10\. roti +NOT REACHED", out, re.MULTILINE)
    assert "\x1b" not in out


def test_a_host_that_was_not_reached(folder: pathlib.Path) -> None:
    (folder / "b.tar").write_bytes(write_bundle(Site().parts(UNREACHED)))
    code, out, _ = run(folder / "b.tar", *trust(folder))
    assert code == NOT_AFFIRMING
    assert "verdict   none, stage unreached (ssh.connect)" in out
    assert run(folder / "b.tar")[0] == UNANCHORED


def test_a_false_bundle(folder: pathlib.Path) -> None:
    parts = {**GOOD, "result.json": GOOD["result.json"].replace(b'"ima_entries":6', b'"ima_entries":7')}
    (folder / "b.tar").write_bytes(write_bundle(parts))
    for words in ([], trust(folder)):
        code, out, _ = run(folder / "b.tar", *words)
        assert code == FALSE
        assert "bundle.result.mismatch: expected ima_entries 6, found ima_entries 7" in out
        assert out.splitlines()[-1].startswith("outcome   FALSE")


def test_why_tells_every_step(folder: pathlib.Path) -> None:
    _, out, _ = run(folder / "b.tar", *trust(folder), "--why")
    names = re.findall(r"^ ?\d+\. (\w+(?: web)?) +PROVEN", out, re.MULTILINE)
    assert names == [
        *("bundle", "signature", "evidence", "identity", "quote", "counters", "boot", "logs", "contents", "roti"),
        *("channel", "guest web", "result"),
    ]
    assert out.count("      expected  ") == out.count("      found     ") == out.count("      see       ") == 13
    assert run(folder / "b.tar", *trust(folder), "--why")[1] == out


def test_json(folder: pathlib.Path) -> None:
    code, out, _ = run(folder / "b.tar", *trust(folder), "--json")
    told = json.loads(out)
    assert (code, told["exit_code"], told["outcome"]) == (PROVEN, PROVEN, "proven")
    assert (told["host_id"], told["verdict"], told["standing"]) == (SimHost().host_id, "affirming", "counts")
    assert {claim["hold"] for claim in told["claims"]} == {"held"}
    assert [step["step"] for step in told["steps"]][:3] == ["bundle", "signature", "evidence"]
    assert told["guests"] == [{"guest": "web", "verdict": "affirming", "reasons": []}]
    code, out, _ = run(folder / "b.tar", "--json")
    assert (code, json.loads(out)["outcome"]) == (UNANCHORED, "not anchored")


@pytest.mark.parametrize(
    ("at_s", "standing", "words"),
    [
        (NOW_S - 11, "future", "issued AFTER"),
        (NOW_S, "counts", "counts at"),
        (NOW_S + 289, "counts", "counts at"),
        (NOW_S + 290, "expired", "EXPIRED at"),
        (NOW_S + 10_000_000, "expired", "EXPIRED at"),
    ],
)
def test_when_it_counts(folder: pathlib.Path, at_s: int, standing: str, words: str) -> None:
    for options, now_s in ((["--at", utc_text(at_s)], 0), ([], at_s)):
        code, out, _ = run(folder / "b.tar", *trust(folder), *options, now_s=now_s)
        assert code == PROVEN
        assert f"{words} {utc_text(at_s)}" in out
        _, out, _ = run(folder / "b.tar", *options, "--json", now_s=now_s)
        assert (json.loads(out)["standing"], json.loads(out)["at"]) == (standing, at_s)


MALFORMED: dict[str, tuple[bytes, str]] = {
    "nothing": (b"", "bundle.truncated"),
    "no bundle": (b"PK\x03\x04" * 200, "bundle.malformed"),
    "more behind it": (write_bundle(GOOD) + b"\0" * 512, "bundle.trailing"),
    "an altered byte": (write_bundle(GOOD).replace(b"simulation", b"simulatiom"), "bundle.digest.mismatch"),
    "a part that is none": (write_bundle({**GOOD, "policy.json": b"\x1b[2J"}), "bundle.part.malformed"),
    "another host": (
        write_bundle({**GOOD, "enrolment.json": SimHost(seed=2).enrolment.to_bytes()}),
        "bundle.context.mismatch",
    ),
}


@pytest.mark.parametrize("fault", MALFORMED)
def test_bundles_that_cannot_be_read(folder: pathlib.Path, fault: str) -> None:
    data, expected = MALFORMED[fault]
    (folder / "b.tar").write_bytes(data)
    code, out, err = run(folder / "b.tar", *trust(folder))
    assert (code, out) == (FALSE, "")
    assert f"[{expected}]" in err
    assert "b.tar" in err
    assert len(err.splitlines()) == 1
    assert "Traceback" not in err
    code, out, err = run(folder / "b.tar", "--json")
    told = json.loads(out)
    assert (code, told["exit_code"], told["outcome"]) == (FALSE, FALSE, "false")
    assert [finding["code"] for finding in told["findings"]] == [expected]


@pytest.mark.parametrize("form", [[], ["--why"], ["--json"]])
def test_hostile_text_does_not_reach_the_terminal(folder: pathlib.Path, form: list[str]) -> None:
    """Names that a bundle's maker chose; the parts agree with each other."""
    site = Site()
    site.policy["name"] = "\x1b]0;owned\x07\u202epolicy"
    hostile = site.parts({**UNREACHED, "code": "\x1b[2J.code", "message": "\x9b31m\nline"})
    for parts in (site.parts(), hostile):
        (folder / "b\x1b[31m.tar").write_bytes(write_bundle(parts))
        code, out, err = run(folder / "b\x1b[31m.tar", *form)
        assert (code, err) == (UNANCHORED, "")
        assert all(c == "\n" or c.isprintable() for c in out)


def test_a_time_that_no_calendar_has(folder: pathlib.Path) -> None:
    """The largest time that JSON can carry, in a bundle made up around it."""
    parts = Site().parts(UNREACHED, ear_key=None)
    far = 2**53 - 1 - 300
    context = load_json(parts["context.json"], limit_bytes=1 << 20) | {"now": far}
    result = load_json(parts["result.json"], limit_bytes=1 << 20) | {"issued_at": far, "expires_at": far + 300}
    parts |= {"context.json": dump_canonical(context), "result.json": dump_canonical(result)}
    (folder / "b.tar").write_bytes(write_bundle(parts))
    code, out, _ = run(folder / "b.tar")
    assert code == UNANCHORED
    assert f"issued    {far} s" in out


@pytest.mark.parametrize(
    ("words", "code", "named"),
    [
        (["none.tar"], "files.missing", "none.tar"),
        (["b.tar", "--appraiser-key", "none.pub"], "files.missing", "none.pub"),
        (["b.tar", "--appraiser-key", "release.pub"], "ear.key", "release.pub"),
        (["b.tar", "--appraiser-key", "bad.json"], "ear.jwks", "bad.json"),
        (["b.tar", "--release-key", "b.tar"], "files.too-large", "b.tar"),
        (["b.tar", "--release-key", "jwks.json"], "parse.key.pem", "jwks.json"),
        (["b.tar", "--package-key", "jwks.json"], "parse.key.pem", "jwks.json"),
    ],
)
def test_inputs_that_cannot_be_used(folder: pathlib.Path, words: list[str], code: str, named: str) -> None:
    (folder / "bad.json").write_text('{"keys": []}')
    found, out, err = run(*(str(folder / word) if "." in word else word for word in words))
    assert (found, out) == (UNUSABLE, "")
    assert f"[{code}]" in err
    assert named in err


@pytest.mark.parametrize(
    "words",
    [
        [],
        ["a", "b"],
        ["b.tar", "--installer-pcr4", "00"],
        ["b.tar", "--installer-pcr4", "x" * 64],
        ["b.tar", "--at", "yesterday"],
        ["b.tar", "--trust-me"],
    ],
)
def test_bad_usage(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        main(words)
    assert caught.value.code == UNUSABLE
    assert "usage: vouch-verify" in capsys.readouterr().err


def test_help_tells_the_exit_codes(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        main(["--help"])
    assert caught.value.code == 0
    text = capsys.readouterr().out
    for number in (PROVEN, NOT_AFFIRMING, UNUSABLE, FALSE, UNANCHORED):
        assert re.search(rf"^  {number}  ", text, re.MULTILINE)


def script(folder: pathlib.Path, *words: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run the command as people do."""
    return subprocess.run(
        [sys.executable, str(ROOT / "tools" / "vouch-verify"), *words],
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
        env={**os.environ, **environment},
    )


def test_the_script_runs_from_anywhere(folder: pathlib.Path) -> None:
    done = script(folder, "b.tar", *trust(folder))
    assert (done.returncode, done.stderr) == (PROVEN, "")
    assert os.access(ROOT / "tools" / "vouch-verify", os.X_OK)


def test_a_terminal_that_knows_no_unicode(folder: pathlib.Path) -> None:
    site: Any = Site()
    site.policy["name"] = "pr\N{LATIN SMALL LETTER U WITH DIAERESIS}fung"
    (folder / "b.tar").write_bytes(write_bundle(site.parts()))
    done = script(folder, "b.tar", PYTHONIOENCODING="ascii")
    assert (done.returncode, done.stderr) == (UNANCHORED, "")
    assert "policy    pr?fung" in done.stdout


def test_a_reader_that_leaves_makes_no_noise(folder: pathlib.Path) -> None:
    command = f"{sys.executable} {ROOT / 'tools' / 'vouch-verify'} {folder / 'b.tar'} --why | true"
    done = subprocess.run(["sh", "-c", command], capture_output=True, text=True, check=False, timeout=60)
    assert done.stderr == ""
