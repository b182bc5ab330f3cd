# SPDX-License-Identifier: GPL-3.0-or-later
"""The small checker: a proof that holds, and each way in which one does not, by code."""

from __future__ import annotations

import ast
import dataclasses
import json
import pathlib
import sys
import time
from collections.abc import Callable
from typing import Any

import pytest
from ansible.module_utils.vouch.check.cwlite import check_policy
from ansible.module_utils.vouch.check.flowproof import verify_proof
from ansible.module_utils.vouch.errors import EvidenceError
from ansible.module_utils.vouch.make.flowproof import make_proof
from ansible.module_utils.vouch.model.integrity import Entry, Filter, Intent
from ansible.module_utils.vouch.parse.canonical import dump_canonical
from ansible.module_utils.vouch.parse.sepolicy import parse_policy

from sim.buildnode import intent, policy, proof
from sim.policy import SimPolicy, allow

CORE = pathlib.Path(__file__).resolve().parents[3] / "module_utils" / "vouch"


def refused(data: bytes, sim: SimPolicy | None = None, wanted: Intent | None = None) -> str:
    """Return the code with which a proof is refused."""
    with pytest.raises(EvidenceError) as caught:
        verify_proof(data, policy=(sim or policy()).to_bytes(), intent=wanted)
    return caught.value.code


def forged(sim: SimPolicy, wanted: Intent) -> bytes:
    """Return the proof that a lying builder makes: as if nothing had been found."""
    data = sim.to_bytes()
    verdict = check_policy(parse_policy(data), wanted)
    return make_proof(data, parse_policy(data), wanted, dataclasses.replace(verdict, faults=(), groups=()))


def test_what_is_proven() -> None:
    data = policy().to_bytes()
    verified = verify_proof(proof(), policy=data, intent=intent())
    assert verified.intent == intent()
    assert verified.unused_filters == 0
    assert verify_proof(proof(), policy=data) == verified
    assert proof() == proof()


def put(*path: str | int, value: Any) -> Callable[[dict[str, Any]], object]:
    """Return what sets the member at ``path``."""

    def change(document: dict[str, Any]) -> None:
        place: Any = document
        for step in path[:-1]:
            place = place[step]
        place[path[-1]] = value

    return change


def with_intent(change: Callable[[dict[str, Any]], object]) -> Callable[[dict[str, Any]], None]:
    """Return what changes the intent inside a proof and puts the digest right: the change of somebody who can count."""

    def both(document: dict[str, Any]) -> None:
        change(document["intent"])
        changed = Intent.from_json(document["intent"])
        document["intent"] = changed.to_json()
        document["intent_sha256"] = changed.digest().hex()

    return both


def without_filter(document: dict[str, Any]) -> None:
    """Take the first filter out, and what it is needed for."""
    with_intent(lambda value: value["filters"].pop(0))(document)
    document["filter_uses"].pop(0)


ALTERED: dict[str, tuple[Callable[[dict[str, Any]], object], str]] = {
    "type": (put("type", value="urn:vouch:flow-proof:2"), "proof.malformed"),
    "policy digest": (put("policy", "sha256", value="00" * 32), "proof.policy"),
    "semantic digest": (put("policy", "semantic", value="00" * 32), "proof.semantic"),
    "map": (put("flow_map", value="00" * 32), "proof.map"),
    "intent digest": (put("intent_sha256", value="00" * 32), "proof.malformed"),
    "tcb, digest left": (put("intent", "tcb", value=["kernel_t"]), "proof.malformed"),
    "tcb less one": (with_intent(put("tcb", value=["kernel_t"])), "proof.labelling"),
    "tcb and an unknown type": (with_intent(put("tcb", value=["init_t", "kernel_t", "ghost_t"])), "proof.name"),
    "an untrusted subject trusted": (with_intent(put("tcb", value=["cc_t", "init_t", "kernel_t"])), "proof.read"),
    "a filter less": (without_filter, "proof.read"),
    "a permission less": (with_intent(put("filters", 0, "permissions", value=["write"])), "proof.read"),
    "a permission more": (with_intent(put("filters", 0, "permissions", value=["read", "rotate"])), "proof.name"),
    "a filter elsewhere": (with_intent(put("filters", 0, "object", value="etc_t")), "proof.read"),
    "a filter of another class": (with_intent(put("filters", 0, "class", value="dir")), "proof.read"),
    "a filter of no class": (with_intent(put("filters", 0, "class", value="ghost")), "proof.name"),
    "labelling too small": (lambda d: d["low"].pop("file"), "proof.labelling"),
    "labelling too large": (lambda d: d["low"].update(dir="3fe"), "proof.labelling"),
    "labelling larger by one": (
        lambda d: d["low"].update(file=f"{int(d['low']['file'], 16) | 2:x}"),
        "proof.labelling",
    ),
    "labelling of no class": (lambda d: d["low"].update(ghost="2"), "proof.name"),
    "labelling of no type": (
        lambda d: d["low"].update(file=f"{int(d['low']['file'], 16) | 1 << 60:x}"),
        "proof.labelling",
    ),
    "uses": (put("filter_uses", 0, value=[]), "proof.uses"),
    "uses of more": (put("filter_uses", 0, value=["read", "write"]), "proof.uses"),
    "entry uses": (put("entry_uses", value=[True]), "proof.malformed"),
}


@pytest.mark.parametrize("field", ALTERED)
def test_every_altered_field_is_refused(field: str) -> None:
    change, code = ALTERED[field]
    document = json.loads(proof())
    change(document)
    assert refused(dump_canonical(document)) == code


def test_the_tool_is_all_that_may_differ() -> None:
    """Which program made a proof does not matter, and the digest of the proof tells them apart."""
    document = json.loads(proof())
    document["tool"] = "other 1"
    data = policy().to_bytes()
    verified = verify_proof(dump_canonical(document), policy=data)
    assert verified.proof_sha256 != verify_proof(proof(), policy=data).proof_sha256


def test_another_intent_mode_or_policy() -> None:
    assert refused(proof(), wanted=intent().with_booleans("current")) == "proof.intent"
    other = policy()
    other.rules.append(allow("init_t etc_t:dir search"))
    assert refused(proof(), other) == "proof.policy"
    assert refused(b"{}") == "proof.malformed"
    assert refused(proof() + b" ") == "proof.malformed"


def test_a_verdict_for_the_booleans_as_set_is_none_for_every_setting() -> None:
    sim = policy()
    sim.conditionals = [("cc_debug", [allow("cc_t etc_t:file write")], [])]
    current = proof(sim, intent().with_booleans("current"))
    verify_proof(current, policy=sim.to_bytes(), intent=intent().with_booleans("current"))
    document = json.loads(current)
    with_intent(put("boolean_mode", value="all"))(document)
    assert refused(dump_canonical(document), sim) == "proof.labelling"
    sim.booleans = {"cc_debug": True}
    assert refused(forged(sim, intent().with_booleans("current")), sim) == "proof.read"


def changed(*rules: str, **fields: Any) -> SimPolicy:
    """Return the build node's policy with more rules, or other fields."""
    sim = dataclasses.replace(policy(), **fields)
    sim.rules += [allow(rule) for rule in rules]
    return sim


BROKEN: dict[str, tuple[SimPolicy, str]] = {
    "permissive": (changed(permissive=["cc_t"]), "proof.permissive"),
    "unknown allowed": (changed(handle_unknown="allow"), "proof.unknown"),
    "C1: written by attribute": (changed("domain etc_t:file append"), "proof.read"),
    "C1: code": (changed("cc_t distccd_exec_t:file write"), "proof.read"),
    "C1: unlabelled": (changed("init_t unlabeled_t:file read"), "proof.read"),
    "C1: network": (changed("init_t init_t:tcp_socket read"), "proof.read"),
    "C1: more than the filter": (changed("distccd_t cc_tmp_t:file execute"), "proof.read"),
    "C2: signal": (changed("cc_t init_t:process signal"), "proof.write"),
    "C2: self by attribute": (changed("cc_t domain:process ptrace"), "proof.write"),
    "C2: socket": (changed("cc_t distccd_t:unix_stream_socket connectto"), "proof.write"),
    "C3: policy": (changed("cc_t kernel_t:security load_policy"), "proof.kernel"),
    "C3: modules": (changed("cc_t cc_t:capability sys_module"), "proof.kernel"),
    "C4: relabel": (
        changed("init_t cc_tmp_t:file relabelfrom", "init_t cc_exec_t:file relabelto"),
        "proof.relabel",
    ),
    "C5: start": (changed("cc_t distccd_t:process transition"), "proof.entry"),
    "C5: become": (changed("cc_t init_t:process dyntransition"), "proof.entry"),
    "C5: unclean start": (changed("cc_t distccd_t:process noatsecure"), "proof.entry"),
}


@pytest.mark.parametrize("fault", BROKEN)
def test_a_forged_proof_of_a_broken_policy_is_refused(fault: str) -> None:
    sim, code = BROKEN[fault]
    assert not check_policy(parse_policy(sim.to_bytes()), intent()).passed
    assert refused(forged(sim, intent()), sim) == code


def test_filters_and_entries_clear_what_they_name() -> None:
    sim = changed(
        "cc_t distccd_t:process transition",
        "init_t cc_tmp_t:file relabelfrom",
        "init_t cc_exec_t:file relabelto",
        "cc_t init_t:process signal",
    )
    wanted = dataclasses.replace(
        intent(),
        filters=(
            *intent().filters,
            Filter(
                subject="init_t",
                object="cc_tmp_t",
                class_name="file",
                permissions=("relabelfrom",),
                reason="checked before",
                relabel_to="cc_exec_t",
            ),
            Filter(subject="init_t", object="init_t", class_name="process", permissions=("signal",), reason="counted"),
        ),
        entries=(Entry(source="cc_t", target="distccd_t", entrypoint="distccd_exec_t", reason="no arguments"),),
    )
    verified = verify_proof(proof(sim, wanted), policy=sim.to_bytes(), intent=wanted)
    assert verified.unused_filters == 0
    document = json.loads(proof(sim, wanted))
    assert document["entry_uses"] == [True]
    document["entry_uses"] = [False]
    assert refused(dump_canonical(document), sim) == "proof.uses"


def test_a_filter_in_vain_is_counted() -> None:
    spare = Filter(subject="init_t", object="etc_t", class_name="dir", permissions=("read",), reason="was needed once")
    wanted = dataclasses.replace(intent(), filters=(*intent().filters, spare))
    assert verify_proof(proof(wanted=wanted), policy=policy().to_bytes()).unused_filters == 1


def test_noise_is_refused_and_quickly() -> None:
    good = proof()
    began = time.process_time()
    for at in range(0, len(good), 7):
        noisy = bytearray(good)
        noisy[at] ^= 0x15
        try:
            verified = verify_proof(bytes(noisy), policy=policy().to_bytes())
        except EvidenceError:
            continue
        # Only the name of the tool, and reasons with a digest of their own, say nothing about the policy.
        assert verified.policy_sha256 == verify_proof(good, policy=policy().to_bytes()).policy_sha256
        assert b'"tool"' in good[at - 30 : at + 1]
    assert time.process_time() - began < 30


def imports_of(path: pathlib.Path) -> set[tuple[int, str, tuple[str, ...]]]:
    """Return (level, module, names) of each import in ``path``."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {(0, alias.name, ()) for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            found.add((node.level, node.module or "", tuple(alias.name for alias in node.names)))
    return found


def test_it_needs_only_python_and_not_the_other_checker() -> None:
    todo, seen = [CORE / "check" / "flowproof.py"], set()
    while todo:
        path = todo.pop()
        if path in seen or not path.is_file():
            continue
        seen.add(path)
        for level, module, names in imports_of(path):
            if level == 0:
                assert module.split(".")[0] in sys.stdlib_module_names, f"{path}: {module}"
                continue
            base = path.parents[level - 1].joinpath(*module.split(".")) if module else path.parents[level - 1]
            todo += [base.with_suffix(".py"), *(base / f"{name}.py" for name in names)]
    reached = {path.relative_to(CORE).as_posix() for path in seen}
    assert {"check/flowproof.py", "parse/sepolicy.py", "model/flowmap.py", "model/integrity.py"} <= reached
    assert {name for name in reached if name.startswith("check/")} == {"check/flowproof.py"}
    assert not {name for name in reached if name.split("/")[0] in {"make", "explain", "cli", "port"}}
