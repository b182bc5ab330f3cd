# SPDX-License-Identifier: GPL-3.0-or-later
"""Role ``distcc``, run by Ansible: a host behind a real sshd, a guest that says its result, evidence that holds.

What the objects are compared with is made in a tree that is really entered.
"""

from __future__ import annotations

import dataclasses
import json
import os
import pathlib
import re
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest
import yaml
from ansible.module_utils.vouch.model.digest import sha256
from ansible.module_utils.vouch.store.enrolments import EnrolmentStore

from attestedbuild import AttestedBuild, anchors_of_the_build, digest_of_objects
from conftest import ROOT
from fetchparts import FetchHost, GuestService, says
from sim.attester import SimAppraiser
from smalltree import OWN_MAKE, enterable_tree
from sshd_harness import Sshd
from swtpm_fixture import free_port

LONG_S = 300
"""Longer than any of these tests waits."""


CONNECTION = ("address", "port", "user", "private_key", "enrolments", "host_id")
INVENTORY = {
    *(f"distcc_{name}" for name in ("enrolment_keys", "release_keys", "installer_pcr4", "package_keys", "guests")),
    *(f"distcc_{name}" for name in ("dest", "service_port", "delay", "wait", "build")),
}
"""What the playbook takes from role ``guest``, and what it leaves to the inventory."""


class Farm:
    """A guest that gives a result out once ``open`` was called, its host, and who may ask."""

    def __init__(self, folder: pathlib.Path) -> None:
        self.folder, self.dest = folder, folder / "built/app"
        self.build = AttestedBuild()
        self.port = free_port()
        self.service: GuestService | None = None
        self.host = FetchHost(folder, ("tcp", self.port))
        (folder / "sshd").mkdir()
        self.sshd = Sshd(folder / "sshd", self.host.path)
        known = SimAppraiser(host=self.build.host.attester).accept().enrolment
        assert known is not None
        EnrolmentStore(folder / "enrolments").add(dataclasses.replace(known, ssh_host_key=self.sshd.host_key))
        trusted = {f"distcc_{name}": value for name, value in anchors_of_the_build(folder / "keys").items()}
        self.variables: dict[str, Any] = {
            **trusted,
            "distcc_guest": "web",
            "distcc_service_port": self.port,
            "distcc_dest": str(self.dest),
            "distcc_address": "127.0.0.1",
            "distcc_port": self.sshd.port,
            "distcc_user": self.sshd.user,
            "distcc_private_key": str(self.sshd.key_file),
            "distcc_enrolments": str(folder / "enrolments"),
            "distcc_host_id": known.host_id,
            "distcc_delay": 1,
            "distcc_wait": LONG_S,
            "distcc_build": {"source": "hello", "folder": "src", "arguments": ["lib.a"]},
        }

    def open(self, result: bytes | None = None) -> None:
        """Give the result out from now on."""
        self.service = GuestService(says(result or self.build.result({"app": b"app"})), port=self.port)

    def run(self, *options: str, **changes: Any) -> subprocess.CompletedProcess[str]:
        keep = {
            "name": "Keep the result",
            "ansible.builtin.copy": {"content": "{{ distcc_result | to_json }}", "dest": f"{self.folder}/result.json"},
            "when": "distcc_result is defined",
            "check_mode": False,
            "changed_when": False,
            "delegate_to": "localhost",
        }
        play = {"hosts": "builder1", "gather_facts": False, "roles": ["distcc"], "post_tasks": [keep]}
        return self.play([play], {"builder1": {}}, *options, **{**self.variables, **changes})

    def play(
        self, plays: list[Any], hosts: dict[str, dict[str, Any]], *options: str, **variables: Any
    ) -> subprocess.CompletedProcess[str]:
        """Run plays on hosts of group ``distcc_controllers``."""
        (self.folder / "play.yml").write_text(yaml.safe_dump(plays))
        (self.folder / "hosts.yml").write_text(yaml.safe_dump({"distcc_controllers": {"hosts": hosts}}))
        environment = {name: value for name, value in os.environ.items() if not name.startswith("ANSIBLE_")}
        program = pathlib.Path(sys.executable).parent / "ansible-playbook"
        words = ["-i", str(self.folder / "hosts.yml"), "-e", json.dumps(variables)]
        return subprocess.run(
            [str(program), *words, *options, str(self.folder / "play.yml")],
            env={**environment, "ANSIBLE_CONFIG": str(ROOT / "ansible.cfg"), "ANSIBLE_HOME": str(self.folder)},
            cwd=ROOT,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
            timeout=LONG_S,
        )

    def result(self) -> dict[str, Any]:
        """Return ``distcc_result`` of the last run, and forget it."""
        path = self.folder / "result.json"
        found: dict[str, Any] = json.loads(path.read_text())
        path.unlink()
        return found

    def close(self) -> None:
        self.sshd.stop()
        if self.service is not None:
            self.service.close()
        self.host.close()


@pytest.fixture
def farm(tmp_path: pathlib.Path) -> Iterator[Farm]:
    farm = Farm(tmp_path)
    yield farm
    farm.close()


def changed(done: subprocess.CompletedProcess[str]) -> int:
    assert done.returncode == 0, done.stdout + done.stderr
    found = re.search(r"builder1 .*changed=(\d+)", done.stdout)
    assert found is not None
    return int(found[1])


def refusal(done: subprocess.CompletedProcess[str]) -> str:
    """Return what a run that failed says, as one line."""
    assert done.returncode != 0, done.stdout
    return " ".join(done.stdout.split())


def test_a_result_is_waited_for_and_taken_over(farm: Farm) -> None:
    later = threading.Timer(5, farm.open)
    later.start()
    assert changed(farm.run()) == 3, "the folder, the tar, what is in it"
    later.join()
    files = {path.name: path.read_bytes() for path in farm.dest.iterdir()}
    assert set(files) == {"app", "provenance.tar", "result.tar"}
    assert files["app"] == b"app"
    host_id = farm.build.host.host_id
    assert farm.result() == {
        "files": {"app": sha256(b"app").hex()},
        "objects": {f"node1.{host_id}": 1, f"node2.{host_id}": 1},
        "builder": f"control.{host_id}",
        "digest": digest_of_objects(),
        "local_digest": "",
        "dest": str(farm.dest),
    }


@pytest.mark.thorough
def test_check_mode_writes_nothing(farm: Farm) -> None:
    farm.open()
    assert changed(farm.run("--check")) == 1
    assert not farm.dest.exists()
    farm.dest.mkdir(parents=True)
    (farm.dest / "result.tar").write_bytes(b"older")
    assert changed(farm.run("--check")) == 1
    assert [path.read_bytes() for path in farm.dest.iterdir()] == [b"older"]
    assert not (farm.folder / "result.json").exists()


@pytest.mark.thorough
def test_objects_are_those_of_one_machine(farm: Farm) -> None:
    tree = enterable_tree(farm.folder)
    farm.open()
    done = farm.run(distcc_tree=str(tree))
    assert changed(done) == 3
    compared = farm.result()
    assert compared["local_digest"] == digest_of_objects()
    assert changed(farm.run(distcc_tree="/nonexistent", distcc_compare=False)) == 0
    farm.result()
    again = farm.run("--check")
    assert changed(again) == 0
    assert farm.result() == {**compared, "local_digest": ""}
    assert "compared with nothing" in again.stdout


@pytest.mark.thorough
def test_other_objects_than_on_one_machine(farm: Farm) -> None:
    tree = enterable_tree(farm.folder, OWN_MAKE.replace("object 1", "object 2"))
    farm.open()
    said = refusal(farm.run(distcc_tree=str(tree)))
    other = sha256("".join(f"{line}\n" for line in sorted(sha256(b"object %d" % n).hex() for n in (0, 2))).encode())
    assert "other objects than localhost of the same sources" in said
    assert digest_of_objects() in said
    assert other.hex() in said


@pytest.mark.thorough
@pytest.mark.parametrize(("state", "code"), [("violated", "fetch.state"), ("", "guest.unknown")])
def test_a_guest_that_ended_is_not_waited_for(farm: Farm, state: str, code: str) -> None:
    if state:
        farm.host.records["web"] = farm.host.record._replace(state=state)
    else:
        farm.host.records.clear()
    began_s = time.monotonic()
    said = refusal(farm.run())
    assert time.monotonic() - began_s < LONG_S / 2
    assert "Guest web gave no result out: " in said
    assert code in said
    assert (state or "there is no guest web") in said


@pytest.mark.thorough
def test_a_result_that_does_not_come(farm: Farm) -> None:
    said = refusal(farm.run(distcc_wait=2))
    assert re.search(r"Guest web gave no result out in 2 s: \S+ TCP port \d+ of guest web: Connection refused", said)


@pytest.mark.thorough
def test_a_result_that_is_not_proven(farm: Farm) -> None:
    farm.open(farm.build.result({"app": b"implant"}))
    said = refusal(farm.run())
    assert "provenance.answer" in said
    assert [path.name for path in farm.dest.iterdir()] == ["result.tar"]


def test_a_host_that_nobody_enrolled(farm: Farm) -> None:
    other = "11111111-2222-4333-8444-555555555555"
    said = refusal(farm.run(distcc_host_id=other))
    assert "[enrolment.missing]" in said
    assert other in said
    assert not farm.dest.exists()


@pytest.mark.thorough
def test_the_playbook_says_who_made_what(farm: Farm) -> None:
    """Without its first play, which starts the guests."""
    plays = yaml.safe_load((ROOT / "playbooks/distcc.yml").read_text())[1:]
    tree = enterable_tree(farm.folder)
    farm.open()
    given = {name: value for name, value in farm.variables.items() if name in INVENTORY}
    of_role = {f"guest_{name}": farm.variables[f"distcc_{name}"] for name in CONNECTION}
    builder = {"ansible_connection": "local", "ansible_python_interpreter": sys.executable}
    hosts = {
        "web": {**given, **of_role, "guest_image": "image"},
        "image": {**builder, "guest_image_result": {"tree": str(tree)}},
    }
    done = farm.play(plays, hosts, "--limit", "web")
    assert done.returncode == 0, done.stdout + done.stderr
    host_id = farm.build.host.host_id
    for line in (
        f"{sha256(b'app').hex()}  app",
        f"1 of the objects compiled by node1.{host_id}",
        f"1 of the objects compiled by node2.{host_id}",
        f"put together by control.{host_id}, in {farm.dest}",
        "objects are equal to those of a local build",
    ):
        assert line in done.stdout, done.stdout
