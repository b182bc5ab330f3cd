# SPDX-License-Identifier: GPL-3.0-or-later
"""A builder, or somebody on the way, wants a guest started whose policy does not keep to its intent."""

from __future__ import annotations

import dataclasses
import json

import pytest
from ansible.module_utils.vouch.check.cwlite import check_policy
from ansible.module_utils.vouch.check.flowproof import verify_proof
from ansible.module_utils.vouch.errors import EvidenceError
from ansible.module_utils.vouch.make.flowproof import make_proof
from ansible.module_utils.vouch.model.digest import sha256
from ansible.module_utils.vouch.model.policydigest import semantic_digest
from ansible.module_utils.vouch.parse.canonical import dump_canonical
from ansible.module_utils.vouch.parse.sepolicy import parse_policy

from sim.buildnode import intent, policy, proof
from sim.policy import SimPolicy, allow


def opened() -> SimPolicy:
    """Return the policy with one rule more: the compiler may write what init reads."""
    sim = policy()
    sim.rules.append(allow("cc_t etc_t:file write"))
    return sim


def verdict_on(data: bytes, sim: SimPolicy) -> str:
    """Return the code with which the proof is refused for a policy."""
    with pytest.raises(EvidenceError) as caught:
        verify_proof(data, policy=sim.to_bytes(), intent=intent())
    return caught.value.code


def test_the_old_proof_beside_the_opened_policy() -> None:
    assert verdict_on(proof(), opened()) == "proof.policy"


def test_the_old_proof_with_the_new_digests() -> None:
    data = opened().to_bytes()
    document = json.loads(proof())
    document["policy"] = {"sha256": sha256(data).hex(), "semantic": semantic_digest(parse_policy(data)).hex()}
    assert verdict_on(dump_canonical(document), opened()) == "proof.labelling"


def test_and_with_the_labelling_put_right() -> None:
    data = opened().to_bytes()
    db = parse_policy(data)
    found = check_policy(db, intent())
    lying = make_proof(data, db, intent(), dataclasses.replace(found, groups=()))
    assert verdict_on(lying, opened()) == "proof.read"


def test_a_proof_for_a_more_generous_intent() -> None:
    generous = dataclasses.replace(intent(), tcb=intent().tcb | {"cc_t"}, filters=intent().filters)
    sim = opened()
    db = parse_policy(sim.to_bytes())
    found = check_policy(db, generous)
    lying = make_proof(sim.to_bytes(), db, generous, dataclasses.replace(found, groups=()))
    assert verdict_on(lying, sim) == "proof.intent"


def test_a_permissive_compiler() -> None:
    sim = policy()
    sim.permissive = ["cc_t"]
    db = parse_policy(sim.to_bytes())
    found = check_policy(db, intent())
    lying = make_proof(sim.to_bytes(), db, intent(), dataclasses.replace(found, faults=()))
    assert verdict_on(lying, sim) == "proof.permissive"
