# SPDX-License-Identifier: GPL-3.0-or-later
"""The record of a proof: one spelling, every member there, nothing else."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
from ansible.module_utils.vouch.errors import ParseError
from ansible.module_utils.vouch.model.flowproof import FlowProof
from ansible.module_utils.vouch.model.integrity import Entry, Filter, Intent
from ansible.module_utils.vouch.parse.canonical import dump_canonical

PROOF = FlowProof(
    tool="vouch 0.1.0",
    policy_sha256=b"p" * 32,
    policy_semantic=b"s" * 32,
    flow_map=b"m" * 32,
    intent=Intent(
        tcb=frozenset({"kernel_t"}),
        applications=frozenset({"app_t"}),
        filters=(
            Filter(subject="app_t", object="app_t", class_name="tcp_socket", permissions=("read",), reason="framed"),
        ),
        entries=(Entry(source="user_t", target="app_t", entrypoint="app_exec_t", reason="no arguments"),),
    ),
    low={"tcp_socket": 0b1110, "file": 1 << 200, "dir": 0},
    filter_uses=(("read",),),
    entry_uses=(True,),
)


def test_it_survives_its_bytes() -> None:
    again = FlowProof.from_bytes(PROOF.to_bytes())
    assert again == PROOF
    assert dict(again.low) == {"file": 1 << 200, "tcp_socket": 0b1110}
    assert json.loads(PROOF.to_bytes())["low"]["tcp_socket"] == "e"


def put(*path: str | int, value: Any) -> Callable[[dict[str, Any]], None]:
    """Return what sets the member at ``path``."""

    def change(document: dict[str, Any]) -> None:
        place: Any = document
        for step in path[:-1]:
            place = place[step]
        place[path[-1]] = value

    return change


FAULTS: dict[str, tuple[Callable[[dict[str, Any]], object], str]] = {
    "other type": (put("type", value="urn:vouch:flow-proof:2"), "parse.field.value"),
    "unknown member": (put("note", value=""), "parse.field.unknown"),
    "unknown member of policy": (put("policy", "note", value=""), "parse.field.unknown"),
    "no tool": (lambda document: document.pop("tool"), "parse.field.missing"),
    "short digest": (put("policy", "sha256", value="00"), "parse.field.value"),
    "intent with another digest": (put("intent", "tcb", value=["init_t"]), "proof.intent.digest"),
    "intent in another order": (put("intent", "entries", 0, "program", value=""), "parse.field.unknown"),
    "intent without what may be left out": (lambda d: d["intent"]["filters"][0].pop("program"), "proof.intent.form"),
    "another digest": (put("intent_sha256", value="00" * 32), "proof.intent.digest"),
    "low is a list": (put("low", value=[]), "parse.field.type"),
    "low with a leading zero": (put("low", "file", value="0f"), "parse.field.value"),
    "low in capitals": (put("low", "file", value="F"), "parse.field.value"),
    "low that is empty": (put("low", "file", value="0"), "parse.field.value"),
    "low with a number": (put("low", "file", value=3), "parse.field.value"),
    "low with a sign": (put("low", "file", value="+f"), "parse.field.value"),
    "low of a strange class": (put("low", value={"a b": "1"}), "parse.field.value"),
    "huge low": (put("low", "file", value="f" * 20_000), "parse.field.value"),
    "too few uses": (put("filter_uses", value=[]), "parse.field.value"),
    "uses of no list": (put("filter_uses", value=["read"]), "parse.field.type"),
    "too many entry uses": (put("entry_uses", value=[True, True]), "parse.field.value"),
    "entry use as a number": (put("entry_uses", value=[1]), "parse.field.value"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_faults(fault: str) -> None:
    change, code = FAULTS[fault]
    document = json.loads(PROOF.to_bytes())
    change(document)
    with pytest.raises(ParseError) as caught:
        FlowProof.from_bytes(dump_canonical(document))
    assert caught.value.code == code


def test_another_spelling_is_refused() -> None:
    with pytest.raises(ParseError) as caught:
        FlowProof.from_bytes(json.dumps(json.loads(PROOF.to_bytes())).encode())
    assert caught.value.code == "parse.json.not-canonical"
