# SPDX-License-Identifier: GPL-3.0-or-later
"""Provenance bundles again: every step can fail, and nothing is proven that evidence does not carry."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

import pytest
from ansible.module_utils.vouch.appraise.anchors import Hold
from ansible.module_utils.vouch.appraise.chain import State
from ansible.module_utils.vouch.appraise.provenance import JudgedGuest, ProvenanceRecheck, recheck_provenance
from ansible.module_utils.vouch.appraise.recheck import Outcome
from ansible.module_utils.vouch.make.provenance import seal, write_provenance_bundle
from ansible.module_utils.vouch.model.acceptance import Acceptance
from ansible.module_utils.vouch.model.digest import sha256
from ansible.module_utils.vouch.model.finding import deny
from ansible.module_utils.vouch.model.image import IN_TOTO_PAYLOAD_TYPE
from ansible.module_utils.vouch.parse.provenancebundle import (
    ACCEPTANCES,
    CERTIFICATES,
    CHAIN,
    KEYS,
    PAPERS,
    STATEMENTS,
    parse_provenance_bundle,
    part_name,
)

from provenanceparts import NOW_S, Build, Worker, believe
from sim.portauthority import accepted_with

STEPS = ("parts", "keys", "chain", "statements", "whole", "files", "guests")
Parts = dict[str, bytes]


def found_of(parts: Mapping[str, bytes], judge: object = believe, **files: bytes) -> ProvenanceRecheck:
    """Return what is found of a bundle of parts."""
    bundle = parse_provenance_bundle(write_provenance_bundle(parts))
    return recheck_provenance(bundle, judge, files=files)  # type: ignore[arg-type]


def failed(found: ProvenanceRecheck) -> tuple[str, str]:
    """Return the step that failed and its first code."""
    assert found.outcome is Outcome.FALSE
    states = [step.state for step in found.steps]
    at = states.index(State.FALSE)
    assert states == [State.CONSISTENT] * at + [State.FALSE] + [State.SKIPPED] * (len(STEPS) - at - 1)
    return found.steps[at].name, found.findings[0].code


def test_a_bundle_that_evidence_carries() -> None:
    found = found_of(Build().parts(), app=sha256(b"app"))
    assert (found.outcome, found.findings) == (Outcome.PROVEN, ())
    assert [(step.name, step.state) for step in found.steps] == [(name, State.PROVEN) for name in STEPS]
    assert [claim.hold for claim in found.claims] == [Hold.HELD] * 3
    assert found.build is not None
    assert dict(found.build.build.subjects) == {"app": sha256(b"app")}
    assert len(found.jobs) == 2


def test_nothing_given() -> None:
    found = found_of(Build().parts(), None)
    assert (found.outcome, found.findings) == (Outcome.UNANCHORED, ())
    assert {step.state for step in found.steps} == {State.CONSISTENT}
    assert {claim.hold for claim in found.claims} == {Hold.MISSING}


@pytest.mark.parametrize("who", range(3))
def test_evidence_about_every_guest_is_needed(who: int) -> None:
    build = Build()
    del build.accepted[who]
    found = found_of(build.parts())
    assert found.outcome is Outcome.UNANCHORED
    missing = [claim for claim in found.claims if claim.hold is Hold.MISSING]
    assert [claim.by for claim in missing] == ["the bundle holds no evidence about it"]
    assert missing[0].name.startswith(("control", "node1", "node2")[who])


def without(folder: str, index: int = 0) -> Callable[[Build], Parts]:
    """Return what leaves a part out."""

    def change(build: Build) -> Parts:
        parts = build.parts()
        del parts[[name for name in parts if name.startswith(f"{folder}/")][index]]
        return parts

    return change


def with_part(folder: str, content: bytes) -> Callable[[Build], Parts]:
    """Return what adds a part."""
    return lambda build: {**build.parts(), part_name(folder, sha256(content)): content}


def statement_of_another(build: Build) -> Parts:
    """Both objects with the statement about the first one."""
    build.objects = dict.fromkeys(build.objects, sha256(build.statements[0]))
    return build.parts()


def by_a_stranger(build: Build) -> Parts:
    """A statement by a key that nobody endorsed."""
    stranger = Worker("node1", "fd00::2")
    made = sha256(b"object 0")
    build.statements[0] = stranger.signer.seal(build.nodes[0].job(object=made))
    build.objects[made] = sha256(build.statements[0])
    return build.parts()


def by_a_stranger_named_as_node(build: Build) -> Parts:
    """The same, and its envelope names the endorsed key."""
    made, node = sha256(b"object 0"), build.nodes[0]
    payload = node.job(object=made).to_bytes()
    stranger = Worker("node1", "fd00::2").signer
    build.statements[0] = seal(IN_TOTO_PAYLOAD_TYPE, payload, keyid=node.signer.public.keyid, sign=stranger.sign)
    build.objects[made] = sha256(build.statements[0])
    return build.parts()


def chain_by_a_stranger(build: Build) -> Parts:
    """A chain by a key that nobody endorsed."""
    build.controller.signer = Worker("control", "fd00::1").signer
    return build.parts()


def chain_for_another(build: Build) -> Parts:
    """A chain that names another guest than the one whose key signed it."""
    build.build["builder"] = build.nodes[0].builder
    return build.parts()


def key_by_a_stranger(build: Build) -> Parts:
    """An endorsement by another channel key than that of the certificate it names."""
    node = build.nodes[0]
    stranger = Worker("node1", "fd00::2").guest
    node.endorsement = stranger.endorse(
        node.signer.public.spki, NOW_S, channel_certificate=sha256(node.guest.certificate)
    )
    return build.parts()


def two_packages(build: Build) -> Parts:
    """One guest, two packages: it cannot have been both."""
    node, made = build.nodes[0], sha256(b"another object")
    builder = dataclasses.replace(node.builder, package=sha256(b"another"))
    build.statements.append(node.signer.seal(node.job(object=made, builder=builder)))
    build.objects[made] = sha256(build.statements[-1])
    return build.parts()


def early_work(build: Build) -> Parts:
    """Evidence that is an hour younger than the work."""
    worker = build.nodes[0]
    build.accepted[1] = accepted_with(worker.guest, build.controller.guest, NOW_S + 3600)
    return build.parts()


def other_paper(build: Build) -> Parts:
    """An acceptance whose package is another than the one that statements name."""
    worker = build.nodes[0]
    papers = {**build.accepted[1].papers, "package": b"another package"}
    build.accepted[1] = accepted_with(worker.guest, build.controller.guest, NOW_S, papers)
    return build.parts()


FAULTS: dict[str, tuple[Callable[[Build], Parts], str, str]] = {
    "a certificate that is none": (with_part(CERTIFICATES, b"x"), "parts", "provenance.certificate"),
    "an acceptance that is none": (with_part(ACCEPTANCES, b"{}"), "parts", "provenance.bundle.acceptance"),
    "an endorsement that is none": (with_part(KEYS, b"{}"), "keys", "provenance.key"),
    "a key without its certificate": (without(CERTIFICATES), "keys", "provenance.key.owner"),
    "a key by a stranger": (key_by_a_stranger, "keys", "envelope.signature.invalid"),
    "a chain without its key": (without(KEYS, 0), "chain", "envelope.signature.invalid"),
    "a chain by a stranger": (chain_by_a_stranger, "chain", "envelope.signature.invalid"),
    "a chain for another": (chain_for_another, "chain", "provenance.builder"),
    "a chain that is none": (lambda build: {**build.parts(), CHAIN: b"{}"}, "chain", "envelope.malformed"),
    "a job as the chain": (
        lambda build: {**build.parts(), CHAIN: build.statements[0]},
        "chain",
        "provenance.malformed",
    ),
    "no statement": (without(STATEMENTS), "statements", "provenance.bundle.chain"),
    "a statement about another object": (statement_of_another, "statements", "provenance.bundle.chain"),
    "a statement by a stranger": (by_a_stranger, "statements", "envelope.signature.invalid"),
    "a statement by a stranger, named as a node": (
        by_a_stranger_named_as_node,
        "statements",
        "envelope.signature.invalid",
    ),
    "a paper too many": (with_part(PAPERS, b"x"), "whole", "provenance.bundle.unused"),
    "a statement too many": (with_part(STATEMENTS, b"x"), "whole", "provenance.bundle.unused"),
    "a certificate too many": (
        with_part(CERTIFICATES, Worker("node3", "fd00::4").guest.certificate),
        "whole",
        "provenance.bundle.unused",
    ),
    "two packages": (two_packages, "guests", "provenance.package"),
    "a paper too few": (without(PAPERS), "guests", "provenance.anchor.evidence"),
    "another package": (other_paper, "guests", "provenance.anchor.evidence"),
    "work before the evidence": (early_work, "guests", "provenance.anchor.evidence"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_faults(fault: str) -> None:
    change, step, code = FAULTS[fault]
    assert failed(found_of(change(Build()))) == (step, code)


def test_a_file_that_is_not_of_this_build() -> None:
    assert failed(found_of(Build().parts(), app=sha256(b"implant"))) == ("files", "provenance.answer")


def test_evidence_that_does_not_hold() -> None:
    def judge(acceptance: Acceptance, *shown: Any) -> JudgedGuest:
        if acceptance.address == "fd00::3":
            raise deny("ima.entry.unknown", "pcr:10")
        return believe(acceptance, *shown)

    found = found_of(Build().parts(), judge)
    assert failed(found) == ("guests", "provenance.anchor.evidence")
    assert [finding.code for finding in found.findings] == ["provenance.anchor.evidence", "ima.entry.unknown"]
    assert [claim.hold for claim in found.claims].count(Hold.REFUTED) == 1


@pytest.mark.parametrize("name", ["host_id", "guest", "certificate", "package"])
def test_evidence_about_another_guest(name: str) -> None:
    def judge(acceptance: Acceptance, *shown: Any) -> JudgedGuest:
        found = believe(acceptance, *shown)
        return dataclasses.replace(found, **{name: b"" if isinstance(getattr(found, name), bytes) else "another"})

    found = found_of(Build().parts(), judge)
    assert failed(found)[0] == "guests"
    assert found.findings[1].code == "provenance.builder"


def test_a_later_acceptance_is_judged_as_well() -> None:
    build = Build()
    build.accepted.append(accepted_with(build.nodes[0].guest, build.controller.guest, NOW_S + 1000))
    assert found_of(build.parts()).outcome is Outcome.PROVEN

    def judge(acceptance: Acceptance, *shown: Any) -> JudgedGuest:
        if acceptance.accepted_at_s > NOW_S:
            raise deny("guest.violated", "guest:node1")
        return believe(acceptance, *shown)

    assert failed(found_of(build.parts(), judge))[0] == "guests"


def test_former_releases_are_shown_to_the_judge() -> None:
    shown: list[tuple[bytes, ...]] = []

    def judge(acceptance: Acceptance, papers: Any, certificate: bytes, former: tuple[bytes, ...]) -> JudgedGuest:
        assert tuple(sha256(release) for release in former) == acceptance.former
        shown.append(former)
        return believe(acceptance, papers, certificate, former)

    build = Build(former=(b"first", b"second"))
    assert found_of(build.parts(), judge).outcome is Outcome.PROVEN
    assert [set(former) for former in shown] == [{b"first", b"second"}] * 3


def test_a_former_release_that_is_missing() -> None:
    parts = Build(former=(b"first", b"second")).parts()
    del parts[part_name(PAPERS, sha256(b"first"))]
    found = found_of(parts)
    assert failed(found) == ("guests", "provenance.anchor.evidence")
    missed = [item for item in found.findings if item.code == "provenance.bundle.acceptance"]
    assert {item.expected for item in missed} == {"its former release"}
    assert len(missed) == 3
    assert found_of(parts, None).outcome is Outcome.UNANCHORED


def test_a_former_release_that_no_acceptance_names() -> None:
    parts = Build(former=(b"first",)).parts()
    found = found_of({**parts, part_name(PAPERS, sha256(b"second")): b"second"})
    assert failed(found) == ("whole", "provenance.bundle.unused")


def test_one_key_under_two_certificates() -> None:
    """A node renewed its certificate between two jobs: its work key is endorsed twice, and evidence is needed twice."""
    build = Build()
    node = build.nodes[0]
    build.workers = [build.controller, build.nodes[1]]
    first = (node.endorsement, node.guest.certificate)
    node.guest.renew(NOW_S + 5)
    node.endorsement = node.guest.endorse(node.signer.public.spki, NOW_S + 5)
    made = sha256(b"later object")
    build.statements.append(node.signer.seal(node.job(object=made)))
    build.objects[made] = sha256(build.statements[-1])
    parts = build.parts()
    for folder, content in zip(
        (KEYS, CERTIFICATES, KEYS, CERTIFICATES), (*first, node.endorsement, node.guest.certificate), strict=True
    ):
        parts[part_name(folder, sha256(content))] = content
    found = found_of(parts)
    assert found.outcome is Outcome.UNANCHORED
    again = accepted_with(node.guest, build.controller.guest, NOW_S + 5)
    build.accepted.append(again)
    assert found_of({**parts, **build.parts()}).outcome is Outcome.PROVEN
