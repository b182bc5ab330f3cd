# SPDX-License-Identifier: GPL-3.0-or-later
"""The judge asks the appraisal of peers with what the acceptance says, and by what was given; no more is its own."""

from __future__ import annotations

import dataclasses
import types
from typing import Any

import pytest
from ansible.module_utils.vouch.appraise import provenancejudge
from ansible.module_utils.vouch.appraise.provenancejudge import PeerJudge, ProvenanceAnchors
from ansible.module_utils.vouch.errors import EvidenceError
from ansible.module_utils.vouch.make.sign import generate_private_key, public_key
from ansible.module_utils.vouch.model.digest import sha256

from provenanceparts import NOW_S, Worker
from sim.portauthority import accepted_with

KEYS = [public_key(generate_private_key()) for _ in range(3)]
ANCHORS = ProvenanceAnchors(
    enrolment_keys=(KEYS[0],),
    release_keys=(KEYS[1],),
    installer_pcr4=(sha256(b"installer"),),
    package_keys=(KEYS[2],),
    names=("distcc_node",),
)
NODE, CONTROLLER = Worker("node1", "fd00::2").guest, Worker("control", "fd00::1").guest
ACCEPTED = accepted_with(NODE, CONTROLLER, NOW_S, former=(b"first", b"second"))
ASKED = (ACCEPTED.acceptance, ACCEPTED.papers, ACCEPTED.certificate, ACCEPTED.former)


@pytest.mark.parametrize(
    "name", [field.name for field in dataclasses.fields(ProvenanceAnchors) if field.name != "allow_debug"]
)
def test_every_question_needs_an_answer(name: str) -> None:
    assert ANCHORS.complete
    assert not dataclasses.replace(ANCHORS, **{name: ()}).complete


def test_criteria_are_what_was_given() -> None:
    criteria = ANCHORS.criteria()
    assert criteria.keys == tuple(KEYS)
    assert criteria.named(criteria.peers.enrolment_keys) == (KEYS[0],)
    assert criteria.named(criteria.peers.release_keys) == (KEYS[1],)
    assert criteria.named(criteria.peers.package_keys) == (KEYS[2],)
    assert (criteria.peers.names, criteria.peers.installer_pcr4) == (("distcc_node",), ANCHORS.installer_pcr4)
    assert not criteria.allow_debug
    assert dataclasses.replace(ANCHORS, allow_debug=True).criteria().allow_debug


def test_what_the_appraisal_is_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: dict[str, Any] = {}

    def accept(self: object, evidence: bytes, papers: Any, **given: Any) -> Any:
        asked.update(given, evidence=evidence, papers=papers)
        return types.SimpleNamespace(
            host_id=NODE.host_id, guest="node1", certificate=NODE.certificate, package_id=NODE.package
        )

    monkeypatch.setattr(provenancejudge.PeerAppraiser, "accept", accept)
    judged = PeerJudge(ANCHORS)(*ASKED)
    assert (judged.host_id, judged.guest, judged.package) == (NODE.host_id, "node1", NODE.package)
    assert judged.certificate == sha256(NODE.certificate)
    assert (asked["asker"], asked["address"], asked["now_s"]) == ("fd00::1", "fd00::2", NOW_S)
    assert asked["nonce"] == ACCEPTED.acceptance.nonce
    assert asked["evidence"] == ACCEPTED.papers["evidence"]
    assert asked["papers"].certificate == ACCEPTED.certificate
    assert asked["papers"].former == ACCEPTED.former
    assert {name: getattr(asked["papers"], name) for name in ("credential", "release", "manifest", "package")} == {
        name: paper for name, paper in ACCEPTED.papers.items() if name != "evidence"
    }


def test_papers_that_are_none_are_refused() -> None:
    with pytest.raises(EvidenceError) as caught:
        PeerJudge(ANCHORS)(*ASKED)
    assert caught.value.code == "peer.credential.malformed"
