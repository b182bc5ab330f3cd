# SPDX-License-Identifier: GPL-3.0-or-later
"""An intent file is YAML or JSON; nothing in it is dropped silently."""

from __future__ import annotations

import json
import sys

import pytest
from ansible.module_utils.vouch.cli.intents import MAX_INTENT_BYTES, read_intent
from ansible.module_utils.vouch.errors import ParseError, UsageError
from ansible.module_utils.vouch.model.integrity import Intent

INTENT = Intent(tcb=frozenset({"kernel_t"}), applications=frozenset({"app_t"}))


@pytest.mark.parametrize(
    "data",
    [
        b"version: 1\ntcb: [kernel_t]\napplications:\n  - app_t\n",
        b"{version: 1, tcb: [kernel_t], applications: [app_t]}",
        json.dumps(INTENT.to_json(), indent=2).encode(),
        INTENT.to_bytes(),
    ],
    ids=["block", "flow", "json", "canonical"],
)
def test_either_form(data: bytes) -> None:
    assert read_intent(data, name="intent.yml") == INTENT


@pytest.mark.parametrize(
    ("data", "code"),
    [
        (b"", "parse.field.type"),
        (b"\xff\xfe\x00", "parse.yaml"),
        (b"version: 1\ntcb: [a_t]\ntcb: [b_t]\n", "parse.yaml"),
        (b'{"version":1,"tcb":["a_t"],"tcb":["b_t"]}', "parse.json.duplicate"),
        (b"version: 1\ntcb: [a_t\n", "parse.yaml"),
        (b"version: 1\n1: x\n", "parse.yaml"),
        (b"version: 1\n? [a]\n: b\n", "parse.yaml"),
        (b"version: !!python/object:os.system {}\n", "parse.yaml"),
        (b"version: 1\ntcb: 2026-99-99\n", "parse.yaml"),
        (b"[" * 5000, "parse.yaml"),
        (b"version: 1\ntcb: [a_t]\nmore: 1\n", "parse.field.unknown"),
        (b" " * (MAX_INTENT_BYTES + 1), "parse.too-large"),
    ],
)
def test_bad_files(data: bytes, code: str) -> None:
    with pytest.raises(ParseError) as caught:
        read_intent(data, name="intent.yml")
    assert caught.value.code == code


def test_without_a_yaml_library_json_still_works(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "yaml", None)
    assert read_intent(INTENT.to_bytes(), name="intent.json") == INTENT
    with pytest.raises(UsageError) as caught:
        read_intent(b"version: 1\n", name="intent.yml")
    assert caught.value.code == "python.library"
