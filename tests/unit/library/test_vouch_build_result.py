# SPDX-License-Identifier: GPL-3.0-or-later
"""The module as Ansible runs it, on the result of a build that is proven by evidence: nothing stands in for a judge."""

from __future__ import annotations

import dataclasses
import json
import os
import pathlib
import stat
from collections.abc import Callable
from typing import Any

import pytest
import vouch_build_result
from ansible.module_utils.testing import patch_module_args
from ansible.module_utils.vouch.make.bundle import write_tar
from ansible.module_utils.vouch.make.provenance import Accepted, write_provenance_bundle
from ansible.module_utils.vouch.make.sign import generate_private_key, public_pem
from ansible.module_utils.vouch.model.digest import sha256
from ansible.module_utils.vouch.parse.buildresult import BUILD_RESULT_TYPE, parse_build_result

from attestedbuild import AttestedBuild, anchors_of_the_build, digest_of_objects
from provenanceparts import Build
from sim.attester import SimRelease

HOST_ID = AttestedBuild().host.host_id
FILES = {"app": b"app", "liblua.a": b"library"}


class Controller:
    """A result in a file, what is trusted, and the module run in this process."""

    def __init__(self, folder: pathlib.Path, capsys: pytest.CaptureFixture[str]) -> None:
        self.folder, self._capsys = folder, capsys
        self.src, self.dest = folder / "result.tar", folder / "built/here"
        self.build = AttestedBuild()
        self.build.build["subjects"] = {name: sha256(data) for name, data in FILES.items()}
        self.options = anchors_of_the_build(folder / "keys")

    def run(self, result: bytes | None = None, **changes: Any) -> dict[str, Any]:
        self.src.write_bytes(self.build.result(FILES) if result is None else result)
        given = {"src": str(self.src), "dest": str(self.dest), **self.options, **changes}
        with patch_module_args(given), pytest.raises(SystemExit):
            vouch_build_result.main()
        found: dict[str, Any] = json.loads(self._capsys.readouterr().out)
        return found

    def refusal(self, result: bytes | None = None, **changes: Any) -> str:
        """Return the code of a refusal, which has to leave everything as it was."""
        before = self.files()
        found = self.run(result, **changes)
        assert found["failed"]
        assert self.files() == before
        code: str = found["code"]
        return code

    def files(self) -> dict[str, bytes]:
        """Return what stands in the folder of the files."""
        return {path.name: path.read_bytes() for path in self.dest.glob("*")}


@pytest.fixture
def controller(tmp_path: pathlib.Path, capsys: pytest.CaptureFixture[str]) -> Controller:
    return Controller(tmp_path, capsys)


def test_what_is_proven_is_taken_over(controller: Controller) -> None:
    result = controller.build.result(FILES)
    wanted = {
        "changed": True,
        "files": {name: sha256(data).hex() for name, data in FILES.items()},
        "objects": {f"node1.{HOST_ID}": 1, f"node2.{HOST_ID}": 1},
        "digest": digest_of_objects(),
        "builder": f"control.{HOST_ID}",
    }
    foretold = controller.run(result, _ansible_check_mode=True)
    assert ({name: foretold[name] for name in wanted}, controller.dest.exists()) == (wanted, False)
    done = controller.run(result)
    assert {name: done[name] for name in wanted} == wanted
    assert controller.files() == {**FILES, "provenance.tar": parse_build_result(result).provenance}
    assert {stat.S_IMODE(path.stat().st_mode) for path in controller.dest.iterdir()} == {0o644}
    before = {path.name: path.stat() for path in controller.dest.iterdir()}
    for check_mode in (True, False):
        again = controller.run(result, _ansible_check_mode=check_mode)
        assert {name: again[name] for name in wanted} == {**wanted, "changed": False}
        assert again["diff"]["before"] == again["diff"]["after"] == done["diff"]["after"]
    assert {path.name: path.stat() for path in controller.dest.iterdir()} == before, "nothing was touched"


def test_the_difference_is_shown(controller: Controller) -> None:
    result = controller.build.result(FILES)
    lines = [f"{sha256(data).hex()}  {name}" for name, data in FILES.items()]
    first = controller.run(result, _ansible_check_mode=True)["diff"]
    assert first["before"] == ""
    assert first["after"].splitlines()[:2] == lines
    controller.dest.mkdir(parents=True)
    (controller.dest / "app").write_bytes(b"older")
    (controller.dest / "notes").write_bytes(b"mine")
    for check_mode in (True, False):
        shown = controller.run(result, _ansible_check_mode=check_mode)["diff"]
        assert shown["before"] == f"{sha256(b'older').hex()}  app\n"
        assert shown["after"] == first["after"]
    assert controller.files()["app"] == b"app"
    assert controller.files()["notes"] == b"mine", "what is no file of the build is nobody's business"


OTHER_FILES = {
    "altered": {**FILES, "app": b"implant"},
    "foreign": {**FILES, "more": b"implant"},
    "left out": {"app": b"app"},
    "renamed": {"app": b"app", "other": b"library"},
    "exchanged": {"app": b"library", "liblua.a": b"app"},
    "none": {},
}


@pytest.mark.parametrize("files", OTHER_FILES.values(), ids=OTHER_FILES)
def test_other_files_than_the_bundle_is_about(controller: Controller, files: dict[str, bytes]) -> None:
    assert controller.refusal(controller.build.result(files)) == "provenance.answer"
    assert not controller.dest.exists()
    controller.run()
    for check_mode in (True, False):
        result = controller.build.result(files)
        assert controller.refusal(result, _ansible_check_mode=check_mode) == "provenance.answer"


def test_what_speaks_against_it_is_told(controller: Controller) -> None:
    found = controller.run(controller.build.result({**FILES, "app": b"implant"}))
    (finding,) = found["findings"]
    assert (finding["code"], finding["subject"]) == ("provenance.answer", "app")
    assert finding["actual"] == sha256(b"implant").hex()
    assert "app" in found["msg"]


def foreign_key(controller: Controller, name: str) -> dict[str, Any]:
    path = controller.folder / "foreign.pem"
    path.write_bytes(public_pem(generate_private_key()))
    return {name: [str(path)]}


OTHER_ANCHORS: dict[str, Callable[[Controller], dict[str, Any]]] = {
    "enrolment key": lambda c: foreign_key(c, "enrolment_keys"),
    "release key": lambda c: foreign_key(c, "release_keys"),
    "package key": lambda c: foreign_key(c, "package_keys"),
    "installer": lambda c: {"installer_pcr4": ["00" * 32]},
    "node": lambda c: {"guests": ["distcc_controller"]},
    "controller": lambda c: {"guests": ["distcc_node"]},
}


@pytest.mark.parametrize("changes", OTHER_ANCHORS.values(), ids=OTHER_ANCHORS)
def test_other_criteria(controller: Controller, changes: Callable[[Controller], dict[str, Any]]) -> None:
    assert controller.refusal(**changes(controller)) == "provenance.anchor.evidence"


@pytest.mark.parametrize("name", ["enrolment_keys", "release_keys", "installer_pcr4", "package_keys", "guests"])
def test_something_has_to_be_trusted_in_every_respect(controller: Controller, name: str) -> None:
    assert controller.refusal(**{name: []}) == "provenance.anchors"


@pytest.mark.parametrize("text", ["", "00" * 31, "zz" * 32, "00" * 33])
def test_what_is_no_register(controller: Controller, text: str) -> None:
    assert controller.refusal(installer_pcr4=[text]) == "provenance.anchors"


def test_keys_that_are_none(controller: Controller) -> None:
    path = controller.folder / "none.pem"
    assert controller.refusal(package_keys=[str(path)]) == "files.missing"
    path.write_text("no key\n")
    assert controller.refusal(package_keys=[str(path)]) == "parse.key.pem"


def test_evidence_of_a_guest_is_missing(controller: Controller) -> None:
    controller.build.accepted = controller.build.accepted[:-1]
    found = controller.run()
    assert found["code"] == "provenance.anchor.evidence"
    assert [finding["subject"] for finding in found["findings"]] == [f"node2.{HOST_ID}"]


def test_evidence_that_nothing_stands_behind(controller: Controller) -> None:
    build = Build()
    bundle = write_provenance_bundle(build.parts())
    result = write_tar(BUILD_RESULT_TYPE, {"files/app": b"app", "provenance.tar": bundle})
    assert controller.refusal(result) == "provenance.anchor.evidence"


def test_debug_hosts_are_believed_only_when_asked_to(controller: Controller) -> None:
    controller.build = AttestedBuild(variant="debug")
    result = controller.build.result({"app": b"app"})
    assert controller.refusal(result) == "provenance.anchor.evidence"
    assert controller.run(result, allow_debug=True)["files"] == {"app": sha256(b"app").hex()}


def test_a_build_on_a_host_that_was_updated(controller: Controller) -> None:
    controller.build = AttestedBuild(before=SimRelease())
    result = controller.build.result({"app": b"app"})
    assert controller.run(result)["files"] == {"app": sha256(b"app").hex()}
    controller.build.accepted = [shown_without_former(item) for item in controller.build.accepted]
    assert controller.refusal(controller.build.result({"app": b"app"})) == "provenance.anchor.evidence"


def shown_without_former(item: Accepted) -> Accepted:
    """Return an acceptance as if the host were running what it was installed with."""
    return dataclasses.replace(item, acceptance=dataclasses.replace(item.acceptance, former=()), former=())


def test_a_tar_that_is_no_result(controller: Controller) -> None:
    good = controller.build.result(FILES)
    assert controller.refusal(b"") == "bundle.truncated"
    assert controller.refusal(good[:-1]) == "bundle.truncated"
    assert controller.refusal(controller.build.provenance()).startswith("bundle.")
    broken = write_tar(BUILD_RESULT_TYPE, {"files/app": b"app", "provenance.tar": b"none"})
    assert controller.refusal(broken) == "bundle.truncated"
    hidden = write_tar(BUILD_RESULT_TYPE, {"files/../app": b"app", "provenance.tar": b""})
    assert controller.refusal(hidden) == "bundle.part.unknown"
    at = good.index(b"library")
    assert controller.refusal(good[:at] + b"L" + good[at + 1 :]) == "bundle.digest.mismatch"


def test_there_is_none(controller: Controller) -> None:
    assert controller.refusal(src=str(controller.folder / "nowhere")) == "files.missing"


def test_where_it_cannot_be_written(controller: Controller) -> None:
    controller.dest.parent.write_bytes(b"no folder")
    assert controller.run()["code"] == "files.unwritable"
    controller.dest.parent.unlink()
    (controller.dest / "app").mkdir(parents=True)
    assert controller.run()["code"] == "files.unwritable"
    assert os.listdir(controller.dest / "app") == []
