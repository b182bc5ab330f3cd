# SPDX-License-Identifier: GPL-3.0-or-later
"""The command on provenance bundles: told apart by themselves, exit codes, forms of output."""

from __future__ import annotations

import io
import json
import pathlib

import pytest
from ansible.module_utils.vouch.appraise.provenance import recheck_provenance
from ansible.module_utils.vouch.cli.provenancetext import provenance_lines
from ansible.module_utils.vouch.cli.verify import FALSE, PROVEN, UNANCHORED, UNUSABLE, main
from ansible.module_utils.vouch.make.bundle import write_bundle
from ansible.module_utils.vouch.make.provenance import write_provenance_bundle
from ansible.module_utils.vouch.make.sign import generate_private_key
from ansible.module_utils.vouch.model.digest import sha256
from ansible.module_utils.vouch.parse.provenancebundle import PAPERS, parse_provenance_bundle, part_name

from attestedbuild import AttestedBuild, anchors_of_the_build
from bundles import Site
from provenanceparts import Build, believe
from sim.attester import SimRelease

GOOD = write_provenance_bundle(Build().parts())


@pytest.fixture
def folder(tmp_path: pathlib.Path) -> pathlib.Path:
    """Return a folder with a bundle and the file that was built."""
    (tmp_path / "b.tar").write_bytes(GOOD)
    (tmp_path / "app").write_bytes(b"app")
    return tmp_path


def run(*words: str | pathlib.Path) -> tuple[int, str, str]:
    """Return exit code, output and errors of the command."""
    out, err = io.StringIO(), io.StringIO()
    code = main([str(word) for word in words], out, err)
    return code, out.getvalue(), err.getvalue()


def test_a_bundle_that_nothing_carries(folder: pathlib.Path) -> None:
    code, out, err = run(folder / "b.tar", "--file", folder / "app")
    assert (code, err) == (UNANCHORED, "")
    assert f"file      {sha256(b'app').hex()}  app" in out
    assert "objects   1 by urn:vouch:guest:" in out
    assert out.splitlines()[-1].startswith(
        "outcome   NOT ANCHORED: self-consistent, but nothing given carries: control."
    )
    assert "-O2" not in out


def test_every_step(folder: pathlib.Path) -> None:
    code, out, _ = run(folder / "b.tar", "--why")
    assert code == UNANCHORED
    for number, name in enumerate(("parts", "keys", "chain", "statements", "whole", "files", "guests"), 1):
        assert f"{number:>2}. {name:<12} CONSISTENT" in out
    assert f"object    {sha256(b'object 0').hex()}  gcc -O2 -c a.c -o a.o" in out


def test_json(folder: pathlib.Path) -> None:
    code, out, _ = run(folder / "b.tar", "--json")
    found = json.loads(out)
    assert (found["outcome"], found["exit_code"]) == ("not anchored", code)
    assert found["files"] == {"app": sha256(b"app").hex()}
    assert [item["arguments"][0] for item in found["objects"]] == ["gcc", "gcc"]
    assert len(found["steps"]) == 7
    assert {guest["hold"] for guest in found["guests"]} == {"missing"}


def test_a_file_of_another_build(folder: pathlib.Path) -> None:
    (folder / "app").write_bytes(b"implant")
    code, out, _ = run(folder / "b.tar", "--file", folder / "app", "--why")
    assert code == FALSE
    assert " 6. files        FALSE" in out
    assert " 7. guests       NOT REACHED" in out
    assert "provenance.answer" in out


@pytest.mark.parametrize("form", [[], ["--json"]])
def test_an_altered_bundle(folder: pathlib.Path, form: list[str]) -> None:
    (folder / "b.tar").write_bytes(GOOD[:-1])
    code, out, err = run(folder / "b.tar", *form)
    assert code == FALSE
    assert "bundle.truncated" in err
    assert bool(out) == bool(form)


def test_a_chain_that_does_not_hold(folder: pathlib.Path) -> None:
    build = Build()
    build.controller.signer = Build().controller.signer
    (folder / "b.tar").write_bytes(write_provenance_bundle(build.parts()))
    code, out, _ = run(folder / "b.tar", "--json")
    found = json.loads(out)
    assert (code, found["builder"], found["objects"]) == (FALSE, None, [])
    assert run(folder / "b.tar")[1].splitlines()[-1].startswith("outcome   FALSE")


def test_a_proven_bundle_says_so() -> None:
    found = recheck_provenance(parse_provenance_bundle(GOOD), believe)
    lines = list(provenance_lines(found, name="b.tar", why=True))
    assert lines[-1].startswith("outcome   PROVEN: every object")
    assert sum("PROVEN " in line for line in lines) == 7


def test_files_are_about_builds(folder: pathlib.Path) -> None:
    (folder / "b.tar").write_bytes(write_bundle(Site().parts()))
    code, _, err = run(folder / "b.tar", "--file", folder / "app")
    assert code == UNUSABLE
    assert "verify.file" in err
    code, _, err = run(folder / "b.tar", "--allow-debug")
    assert (code, "verify.file" in err) == (UNUSABLE, True)
    (folder / "b.tar").write_bytes(GOOD)
    assert run(folder / "b.tar", "--file", folder / "none")[0] == UNUSABLE


def words_of_the_build(keys: pathlib.Path) -> list[str]:
    """Return the options that an attested build is proven by."""
    trusted = anchors_of_the_build(keys)
    words = ["--installer-pcr4", *trusted["installer_pcr4"]]
    for kind in ("enrolment", "release", "package"):
        words += [f"--{kind}-key", *trusted[f"{kind}_keys"]]
    for guest in trusted["guests"]:
        words += ["--guest", guest]
    return words


@pytest.mark.parametrize("variant", ["production", "debug"])
def test_a_bundle_that_evidence_carries(tmp_path: pathlib.Path, variant: str) -> None:
    """Debug hosts and guests are told apart only by the option that lets them pass."""
    (tmp_path / "b.tar").write_bytes(AttestedBuild(variant).provenance())
    words = words_of_the_build(tmp_path / "keys")
    asked, out, _ = run(tmp_path / "b.tar", *words, "--allow-debug", "--why")
    assert (asked, "7. guests       PROVEN" in out) == (PROVEN, True)
    code, out, _ = run(tmp_path / "b.tar", *words, "--why")
    assert code == (PROVEN if variant == "production" else FALSE)
    assert ("provenance.anchor.evidence" in out) == (variant == "debug")
    assert run(tmp_path / "b.tar", *words[:-2])[0] == FALSE, "a guest that nobody named"
    assert run(tmp_path / "b.tar", *words[2:], "--allow-debug")[0] == UNANCHORED, "no installer is trusted"


def test_a_build_on_a_host_that_was_updated(tmp_path: pathlib.Path) -> None:
    """The proof of installation is about the release before: it is in the bundle, or nothing is proven."""
    words = words_of_the_build(tmp_path / "keys")
    before = SimRelease()
    parts = AttestedBuild(before=before).parts()
    (tmp_path / "b.tar").write_bytes(write_provenance_bundle(parts))
    assert run(tmp_path / "b.tar", *words)[0] == PROVEN
    del parts[part_name(PAPERS, sha256(before.envelope))]
    (tmp_path / "b.tar").write_bytes(write_provenance_bundle(parts))
    code, out, _ = run(tmp_path / "b.tar", *words, "--why")
    assert (code, "its former release" in out) == (FALSE, True)


def test_what_a_host_ran_before_is_not_anybodys(tmp_path: pathlib.Path) -> None:
    words = words_of_the_build(tmp_path / "keys")
    before = SimRelease(signing_key=generate_private_key())
    (tmp_path / "b.tar").write_bytes(AttestedBuild(before=before).provenance())
    code, out, _ = run(tmp_path / "b.tar", *words, "--why")
    assert (code, "peer.host" in out) == (FALSE, True)
