# SPDX-License-Identifier: GPL-3.0-or-later
"""Sums over the rules of a policy: who reads and writes what, by source symbol."""

from __future__ import annotations

from ansible.module_utils.vouch.check.flowsums import class_masks, sum_up, tables_of
from ansible.module_utils.vouch.model.flowmap import SEVERITIES
from ansible.module_utils.vouch.parse.sepolicy import parse_policy

from sim.policy import CLASSES, SimPolicy, allow


def kind(name: str) -> int:
    """Return the number of a kind of flow."""
    return SEVERITIES.index(name)


def test_masks_of_a_class() -> None:
    permissions = {name: bit for bit, name in enumerate(CLASSES["file"])}
    masks = class_masks("file", permissions)
    assert dict(masks.reads)[kind("data")] == 1 << permissions["read"]
    assert dict(masks.reads)[kind("code")] & 1 << permissions["entrypoint"]
    assert masks.entrypoint == 1 << permissions["entrypoint"]
    assert masks.start == masks.never == 0


def test_what_the_map_does_not_know_is_read_and_written() -> None:
    masks = class_masks("tomorrow", {"rotate": 3})
    assert masks.reads == masks.writes == ((kind("data"), 8),)


def test_rules_of_one_symbol_are_put_together() -> None:
    sim = SimPolicy(
        types=["kernel_t", "user_t", "etc_t", "tmp_t", "unlabeled_t"],
        attributes={"files": ["etc_t", "tmp_t"]},
        rules=[
            allow("user_t files:file write"),
            allow("user_t unlabeled_t:file append"),
            allow("kernel_t files:file read"),
            allow("user_t kernel_t:process signal transition"),
        ],
    )
    db = parse_policy(sim.to_bytes())
    tclass = db.classes["file"].value
    user, kernel = sim.value("user_t"), sim.value("kernel_t")
    low = 0b111100
    sums = sum_up(db, boolean_mode="all", high=1 << kernel, low=low, places=[(kernel, sim.value("tmp_t"), tclass)])
    assert sums.written[user][tclass, kind("data")] == sum(1 << sim.value(n) for n in ("etc_t", "tmp_t", "unlabeled_t"))
    assert set(sums.read) == {kernel}
    assert sums.started[user] == 1 << kernel
    assert sums.acted[user] == {(db.classes["process"].value, kind("ipc")): 1 << kernel}
    assert sums.at == {(kernel, sim.value("tmp_t"), tclass): 1 << db.classes["file"].permissions["read"]}


def test_tables_of_a_boolean_mode() -> None:
    sim = SimPolicy(
        types=["kernel_t", "unlabeled_t"],
        booleans={"door": True},
        conditionals=[("door", [allow("kernel_t kernel_t:fd use")], [])],
    )
    db = parse_policy(sim.to_bytes())
    assert [table.count for table in tables_of(db, "all")] == [0, 1, 0]
    assert [table.count for table in tables_of(db, "current")] == [0, 1]
