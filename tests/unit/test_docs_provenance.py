# SPDX-License-Identifier: GPL-3.0-or-later
"""docs/provenance.md against the code: tokens, members, requests, parts and steps are those that it names."""

from __future__ import annotations

import pathlib
import re
from collections.abc import Iterator
from typing import Any

import pytest
from ansible.module_utils.vouch.appraise.provenance import recheck_provenance
from ansible.module_utils.vouch.authority.control import HOLD_S
from ansible.module_utils.vouch.notary import authority, control, dispatch
from ansible.module_utils.vouch.notary.__main__ import MEMORY_MIB, _parser
from ansible.module_utils.vouch.parse import distcc
from ansible.module_utils.vouch.parse.canonical import load_json
from ansible.module_utils.vouch.parse.envelope import parse_envelope
from ansible.module_utils.vouch.parse.provenancebundle import FOLDER_BYTES, ProvenanceBundle

from provenanceparts import Build, Worker

ROOT = pathlib.Path(__file__).resolve().parents[2]
TEXT = (ROOT / "docs" / "provenance.md").read_text(encoding="utf-8")
WORKER = Worker("node1", "fd00::2")


def members(value: Any) -> Iterator[str]:
    """Yield the name of every member of a document."""
    if isinstance(value, dict):
        for name, item in value.items():
            yield name
            yield from members(item)
    elif isinstance(value, list):
        for item in value:
            yield from members(item)


DOCUMENTS = {
    "job": WORKER.job().to_bytes(),
    "build": parse_envelope(Build().chain()).payload,
    "work key": parse_envelope(WORKER.endorsement).payload,
    "acceptance": Build().accepted[0].acceptance.to_bytes(),
}


@pytest.mark.parametrize("document", DOCUMENTS)
def test_every_member_is_documented(document: str) -> None:
    found = set(members(load_json(DOCUMENTS[document], limit_bytes=1 << 20)))
    assert {name for name in found if name not in TEXT} == set()


def test_every_type_is_documented() -> None:
    for document in DOCUMENTS.values():
        for word in re.findall(rb"urn:vouch:[a-z-]+(?::1)?(?=\")", document):
            assert word.decode() in TEXT


def test_tokens_and_limits() -> None:
    table = dict(re.findall(r"^\| `([A-Z]{4})`(?:, `SOUT`)? \|.*\|([^|]*)\|$", TEXT, re.MULTILINE))
    request, answer = ("NOTA", "DIST", "ARGC", "ARGV", "DOTI"), ("DONE", "STAT", "SERR", "DOTO", "WKEY", "PROV")
    assert tuple(table) == (*request, *answer)
    limits = {
        "NOTA": f"{distcc.NONCE_BYTES} bytes",
        "ARGC": f"1 to {distcc.MAX_ARGUMENTS:,}",
        "ARGV": f"{distcc.MAX_ARGUMENT_BYTES >> 10} KiB, {distcc.MAX_ARGUMENTS_BYTES >> 10} KiB together",
        "DOTI": f"{distcc.MAX_SOURCE_BYTES >> 20} MiB",
        "SERR": f"{distcc.MAX_OUTPUT_BYTES >> 20} MiB each",
        "DOTO": f"{distcc.MAX_OBJECT_BYTES >> 20} MiB",
        "WKEY": f"{distcc.MAX_ENDORSEMENT_BYTES >> 10} KiB",
        "PROV": f"{distcc.MAX_STATEMENT_BYTES >> 20} MiB",
    }
    assert {name: table[name].strip() for name in limits} == limits


def test_numbers_of_the_text() -> None:
    assert f"exit code {dispatch.NO_HOSTS}" in TEXT
    assert dispatch.TRIES == 3
    assert f"{dispatch.JOB_LIMIT_S / 60:.0f} minutes" in TEXT
    assert f"after {HOLD_S:.0f} s the same" in TEXT
    assert f"After {authority.CHANGED_LIMIT_S:.0f} s of silence" in TEXT
    assert authority.CHANGED_LIMIT_S > HOLD_S + 1
    assert f"{MEMORY_MIB} MiB at most" in TEXT


def test_requests_of_both_sockets() -> None:
    for module in (authority, control):
        assert module.__doc__ is not None
        named = set(re.findall(r"^``(\w+)`` \{", module.__doc__, re.MULTILINE))
        assert named
        if module is authority:
            told = re.findall(r"^\| `(identity|endorse|changed|list|accepted|ask|connect)` \|", TEXT, re.MULTILINE)
            assert named == set(told)
    assert authority.SOCKET in TEXT


def test_parts_and_steps() -> None:
    for folder in FOLDER_BYTES:
        assert f"`{folder}/SHA256`" in TEXT
    steps = recheck_provenance(ProvenanceBundle(parts={"chain.json": b""}, size_bytes=0), None).steps
    table = TEXT[TEXT.index("## Checking a bundle") :]
    assert re.findall(r"^\| `(\w+)` \|", table, re.MULTILINE)[: len(steps)] == [step.name for step in steps]


def test_the_commands_are_understood() -> None:
    found = re.findall(r"^notary (.+)$", TEXT, re.MULTILINE)
    assert [line.split()[0] for line in found] == ["node", "dispatch", "seal"]
    for line in found:
        _parser().parse_args(line.split())
