# SPDX-License-Identifier: GPL-3.0-or-later
"""Statements about jobs and builds: the SLSA form as documented, one spelling, nothing unknown, nothing missing."""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Callable
from typing import Any

import pytest
from ansible.module_utils.vouch.errors import ParseError
from ansible.module_utils.vouch.model.digest import sha256
from ansible.module_utils.vouch.model.provenance import BuildStatement, JobStatement
from ansible.module_utils.vouch.parse.canonical import dump_canonical, load_json

from provenanceparts import ANSWER, NONCE, NOW_S, REQUEST, Worker
from sim.portauthority import HOST_ID

WORKER = Worker("node1", "fd00::2")
JOB = WORKER.job()
FAILED = WORKER.job(status=1 << 8, object=b"")
BUILD = BuildStatement(
    builder=WORKER.builder,
    run=WORKER.run(),
    subjects={"app": sha256(b"app"), "Lib.so": sha256(b"lib")},
    objects={sha256(b"b"): sha256(b"1"), sha256(b"a"): sha256(b"2")},
)


def value(statement: JobStatement | BuildStatement = JOB) -> Any:
    """Return the JSON of a statement."""
    return load_json(statement.to_bytes(), limit_bytes=1 << 20)


@pytest.mark.parametrize("statement", [JOB, FAILED, BUILD], ids=["job", "failed", "build"])
def test_round_trip(statement: JobStatement | BuildStatement) -> None:
    data = statement.to_bytes()
    assert type(statement).from_bytes(data) == statement
    assert dump_canonical(value(statement)) == data


def test_the_form_of_a_job_is_slsa_provenance() -> None:
    found = value()
    assert found["_type"] == "https://in-toto.io/Statement/v1"
    assert found["predicateType"] == "https://slsa.dev/provenance/v1"
    assert found["subject"] == [{"name": "object", "digest": {"sha256": sha256(ANSWER.object).hex()}}]
    definition, details = found["predicate"]["buildDefinition"], found["predicate"]["runDetails"]
    assert definition["buildType"] == "urn:vouch:distcc-job:1"
    assert definition["externalParameters"] == {
        "arguments": list(REQUEST.arguments),
        "source": {"digest": {"sha256": sha256(REQUEST.source).hex()}},
        "nonce": NONCE.hex(),
    }
    names = [item.get("name", item.get("uri")) for item in definition["resolvedDependencies"]]
    assert names == [
        "/usr/bin/x86_64-linux-gnu-gcc-14",
        "/usr/libexec/gcc/cc1",
        "urn:vouch:guest-package",
        "urn:vouch:verity-root",
    ]
    assert details["builder"] == {"id": f"urn:vouch:guest:{HOST_ID}:node1"}
    assert details["metadata"] == {
        "startedOn": "2027-01-15T08:00:10Z",
        "finishedOn": "2027-01-15T08:00:12Z",
        "vouch_channel_certificate": sha256(WORKER.guest.certificate).hex(),
        "vouch_evidence": sha256(b"evidence").hex(),
        "vouch_status": 0,
    }


def test_a_failed_job_has_a_status_and_no_object() -> None:
    found = value(FAILED)
    assert found["subject"] == []
    assert found["predicate"]["runDetails"]["metadata"]["vouch_status"] == 256


def test_a_build_lists_objects_with_their_statements() -> None:
    found = value(BUILD)
    assert [item["name"] for item in found["subject"]] == ["Lib.so", "app"]
    objects = found["predicate"]["buildDefinition"]["resolvedDependencies"][:-2]
    assert [item["digest"]["sha256"] for item in objects] == sorted(digest.hex() for digest in BUILD.objects)
    assert objects[0]["annotations"].keys() == {"vouch_statement"}


def test_a_job_has_an_object_exactly_when_it_succeeded() -> None:
    for changes in ({"status": 256}, {"object": b""}):
        with pytest.raises(ParseError):
            dataclasses.replace(JOB, **changes)


def test_a_build_is_about_something() -> None:
    for changes in ({"subjects": {}}, {"objects": {}}):
        with pytest.raises(ParseError):
            dataclasses.replace(BUILD, **changes)


def definition(found: Any) -> Any:
    """Return the build definition."""
    return found["predicate"]["buildDefinition"]


def metadata(found: Any) -> Any:
    """Return the metadata."""
    return found["predicate"]["runDetails"]["metadata"]


FAULTS: dict[str, Callable[[Any], object]] = {
    "another statement type": lambda f: f.update(_type="https://in-toto.io/Statement/v0.1"),
    "another predicate": lambda f: f.update(predicateType="https://slsa.dev/provenance/v0.2"),
    "another build type": lambda f: definition(f).update(buildType="urn:vouch:build:1"),
    "another subject": lambda f: f["subject"][0].update(name="a.o"),
    "two subjects": lambda f: f["subject"].append({"name": "b", "digest": {"sha256": "00" * 32}}),
    "no subject": lambda f: f.update(subject=[]),
    "a subject without digest": lambda f: f["subject"][0].update(digest={}),
    "more": lambda f: f.update(more=1),
    "more in the predicate": lambda f: f["predicate"].update(more=1),
    "internal parameters": lambda f: definition(f).update(internalParameters={}),
    "more parameters": lambda f: definition(f)["externalParameters"].update(more=1),
    "no argument": lambda f: definition(f)["externalParameters"].update(arguments=[]),
    "an argument that is none": lambda f: definition(f)["externalParameters"].update(arguments=["gcc", 1]),
    "an argument with NUL": lambda f: definition(f)["externalParameters"].update(arguments=["gcc", "\0"]),
    "a long argument": lambda f: definition(f)["externalParameters"].update(arguments=["g", "x" * 4097]),
    "a short nonce": lambda f: definition(f)["externalParameters"].update(nonce="00"),
    "no compiler": lambda f: definition(f).update(resolvedDependencies=definition(f)["resolvedDependencies"][2:]),
    "no package": lambda f: definition(f)["resolvedDependencies"].pop(),
    "nothing": lambda f: definition(f).update(resolvedDependencies=[]),
    "compilers in another order": lambda f: definition(f)["resolvedDependencies"].insert(
        0, definition(f)["resolvedDependencies"].pop(1)
    ),
    "another builder": lambda f: f["predicate"]["runDetails"].update(builder={"id": "https://example.org/"}),
    "a builder without host": lambda f: f["predicate"]["runDetails"].update(builder={"id": "urn:vouch:guest:x:node1"}),
    "a builder without guest": lambda f: f["predicate"]["runDetails"].update(
        builder={"id": f"urn:vouch:guest:{HOST_ID}:"}
    ),
    "a time that is none": lambda f: metadata(f).update(startedOn="yesterday"),
    "a time in another spelling": lambda f: metadata(f).update(startedOn="2027-1-15T08:00:10Z"),
    "an end before the start": lambda f: metadata(f).update(finishedOn="2027-01-15T08:00:09Z"),
    "no certificate": lambda f: metadata(f).update(vouch_channel_certificate=""),
    "more metadata": lambda f: metadata(f).update(invocationId="1"),
    "a status with an object": lambda f: metadata(f).update(vouch_status=1),
    "no wait status": lambda f: metadata(f).update(vouch_status=1 << 16),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_faults(fault: str) -> None:
    found = copy.deepcopy(value())
    FAULTS[fault](found)
    with pytest.raises(ParseError):
        JobStatement.from_bytes(dump_canonical(found))


BUILD_FAULTS: dict[str, Callable[[Any], object]] = {
    "a job": lambda f: definition(f).update(buildType="urn:vouch:distcc-job:1"),
    "no file": lambda f: f.update(subject=[]),
    "a file twice": lambda f: f["subject"].append(f["subject"][0]),
    "files in another order": lambda f: f["subject"].reverse(),
    "no object": lambda f: definition(f).update(resolvedDependencies=definition(f)["resolvedDependencies"][2:]),
    "an object twice": lambda f: definition(f)["resolvedDependencies"].insert(
        0, definition(f)["resolvedDependencies"][0]
    ),
    "objects in another order": lambda f: definition(f)["resolvedDependencies"].insert(
        0, definition(f)["resolvedDependencies"].pop(1)
    ),
    "an object without statement": lambda f: definition(f)["resolvedDependencies"][0].pop("annotations"),
    "another annotation": lambda f: definition(f)["resolvedDependencies"][0]["annotations"].update(more=""),
    "a parameter": lambda f: definition(f)["externalParameters"].update(more=1),
    "a status": lambda f: metadata(f).update(vouch_status=0),
}


@pytest.mark.parametrize("fault", BUILD_FAULTS)
def test_faults_of_builds(fault: str) -> None:
    found = copy.deepcopy(value(BUILD))
    BUILD_FAULTS[fault](found)
    with pytest.raises(ParseError):
        BuildStatement.from_bytes(dump_canonical(found))


def test_another_spelling_is_refused() -> None:
    for statement in (JOB, BUILD):
        with pytest.raises(ParseError):
            type(statement).from_bytes(statement.to_bytes() + b"\n")


def test_arguments_may_be_any_text() -> None:
    odd = WORKER.job(arguments=("gcc", "-DX=\u2028\x01\U0001f600", ""))
    assert JobStatement.from_bytes(odd.to_bytes()) == odd
    assert odd.run.finished_s == NOW_S + 12
