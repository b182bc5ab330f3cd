# SPDX-License-Identifier: GPL-3.0-or-later
"""The intent of a guest policy: one form, one digest, and nothing in it that says nothing."""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Callable
from typing import Any

import pytest
import yaml
from ansible.module_utils.vouch.errors import ParseError
from ansible.module_utils.vouch.model.integrity import Entry, Filter, Intent
from ansible.module_utils.vouch.parse.canonical import load_canonical

WRITTEN = """
version: 1
boolean_mode: all
tcb: [kernel_t, init_t]
applications: [distccd_t]
filters:
  - subject: distccd_t
    object: distccd_t
    class: tcp_socket
    permissions: [read, recv_msg]
    program: ""
    reason: distccd checks each job's length and protocol
  - {subject: init_t, object: upload_t, class: file, permissions: [relabelfrom], relabel_to: lib_t, reason: vetted}
entries:
  - {source: cc_t, target: distccd_t, entrypoint: distccd_exec_t, reason: takes no arguments}
"""


def written() -> dict[str, Any]:
    """Return the document above, parsed anew."""
    value: dict[str, Any] = yaml.safe_load(WRITTEN)
    return value


def test_what_is_written_is_what_is_read() -> None:
    intent = Intent.from_json(written())
    assert intent.high == {"kernel_t", "init_t", "distccd_t"}
    assert intent.filters[0] == Filter(
        subject="distccd_t",
        object="distccd_t",
        class_name="tcp_socket",
        permissions=("read", "recv_msg"),
        reason="distccd checks each job's length and protocol",
    )
    assert intent.filters[1].relabel_to == "lib_t"
    assert intent.entries == (
        Entry(source="cc_t", target="distccd_t", entrypoint="distccd_exec_t", reason="takes no arguments"),
    )


def test_one_meaning_one_digest() -> None:
    first = Intent.from_json(written())
    value = written()
    for name in ("tcb", "filters", "entries"):
        value[name].reverse()
    value["filters"][1]["permissions"].reverse()
    value["filters"][1].pop("program")
    second = Intent.from_json(value)
    assert first == second
    assert first.digest() == second.digest()
    assert Intent.from_json(load_canonical(first.to_bytes(), limit_bytes=1 << 16)) == first


def test_what_is_left_out_is_empty_and_strict() -> None:
    intent = Intent.from_json({"version": 1, "tcb": ["kernel_t"]})
    assert (intent.boolean_mode, intent.applications, intent.filters, intent.entries) == ("all", frozenset(), (), ())
    assert intent.with_booleans("current").boolean_mode == "current"
    assert intent.with_booleans("current").digest() != intent.digest()


@pytest.mark.parametrize(
    "change",
    [
        lambda intent: {"tcb": intent.tcb | {"udev_t"}},
        lambda intent: {"applications": intent.applications | {"udev_t"}},
        lambda intent: {"filters": intent.filters[:1]},
        lambda intent: {"filters": (dataclasses.replace(intent.filters[0], reason="other"), intent.filters[1])},
        lambda intent: {"entries": ()},
        lambda intent: {"boolean_mode": "current"},
    ],
)
def test_every_member_counts_in_the_digest(change: Callable[[Intent], dict[str, Any]]) -> None:
    intent = Intent.from_json(written())
    assert dataclasses.replace(intent, **change(intent)).digest() != intent.digest()


def put(*path: str | int, value: Any) -> Callable[[dict[str, Any]], None]:
    """Return what sets the member at ``path``."""

    def change(document: dict[str, Any]) -> None:
        place: Any = document
        for step in path[:-1]:
            place = place[step]
        place[path[-1]] = value

    return change


def drop(*path: str | int) -> Callable[[dict[str, Any]], None]:
    """Return what removes the member at ``path``."""

    def change(document: dict[str, Any]) -> None:
        place: Any = document
        for step in path[:-1]:
            place = place[step]
        del place[path[-1]]

    return change


def twice(name: str) -> Callable[[dict[str, Any]], None]:
    """Return what repeats the first item of a list."""

    def change(document: dict[str, Any]) -> None:
        document[name].append(copy.deepcopy(document[name][0]))

    return change


FAULTS: dict[str, tuple[Callable[[dict[str, Any]], None], str]] = {
    "other version": (put("version", value=2), "parse.field.value"),
    "version is true": (put("version", value=True), "parse.field.value"),
    "no version": (drop("version"), "parse.field.missing"),
    "no tcb": (drop("tcb"), "parse.field.missing"),
    "empty tcb": (put("tcb", value=[]), "intent.tcb.empty"),
    "tcb is text": (put("tcb", value="kernel_t"), "parse.field.type"),
    "a type is a number": (put("tcb", 0, value=3), "parse.field.type"),
    "a type with a blank": (put("tcb", 0, value="a b"), "parse.field.value"),
    "a type with a newline": (put("tcb", 0, value="kernel_t\n"), "parse.field.value"),
    "a type twice": (twice("tcb"), "intent.duplicate"),
    "tcb and application": (put("applications", value=["init_t"]), "intent.overlap"),
    "unknown mode": (put("boolean_mode", value="none"), "parse.field.value"),
    "unknown member": (put("exceptions", value=[]), "parse.field.unknown"),
    "unknown member of a filter": (put("filters", 0, "note", value=""), "parse.field.unknown"),
    "unknown member of an entry": (put("entries", 0, "note", value=""), "parse.field.unknown"),
    "filter without reason": (drop("filters", 0, "reason"), "parse.field.missing"),
    "filter with empty reason": (put("filters", 0, "reason", value=""), "parse.field.value"),
    "filter with blank reason": (put("filters", 0, "reason", value="  "), "parse.field.value"),
    "filter without permissions": (put("filters", 0, "permissions", value=[]), "parse.field.value"),
    "filter with a permission twice": (put("filters", 0, "permissions", value=["read"] * 2), "intent.duplicate"),
    "filter without class": (drop("filters", 0, "class"), "parse.field.missing"),
    "filter with a short digest": (put("filters", 0, "program", value="sha256:00"), "parse.field.value"),
    "filter twice": (twice("filters"), "intent.duplicate"),
    "filter of a low subject": (put("filters", 0, "subject", value="cc_t"), "intent.filter.subject"),
    "filter is text": (put("filters", 0, value="distccd_t"), "parse.field.type"),
    "entry without reason": (drop("entries", 0, "reason"), "parse.field.missing"),
    "entry twice": (twice("entries"), "intent.duplicate"),
    "entry from a high type": (put("entries", 0, "source", value="init_t"), "intent.entry.source"),
    "entry to a low type": (put("entries", 0, "target", value="cc_t"), "intent.entry.target"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_faults(fault: str) -> None:
    change, code = FAULTS[fault]
    value = written()
    change(value)
    with pytest.raises(ParseError) as caught:
        Intent.from_json(value)
    assert caught.value.code == code


def test_a_mode_of_our_own_is_checked_as_well() -> None:
    with pytest.raises(ParseError) as caught:
        Intent.from_json(written()).with_booleans("some")
    assert caught.value.code == "intent.booleans"
