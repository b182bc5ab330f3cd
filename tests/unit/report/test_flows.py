# SPDX-License-Identifier: GPL-3.0-or-later
"""Guest packages on the page: what is only stated is never called proven."""

from __future__ import annotations

import dataclasses

from ansible.module_utils.vouch.appraise.guestpackage import inspect_package
from ansible.module_utils.vouch.make.sign import public_key
from ansible.module_utils.vouch.model.package import package_id
from ansible.module_utils.vouch.report.flows import Claim, Flows, flows_of
from ansible.module_utils.vouch.report.summary import summarise
from ansible.module_utils.vouch.report.view import FleetInput, Limits, PackageInput

from sim.fleet import BASE, KEY, SIGNED, fleet, hosts, packages, small

BASE_ID, NODE_ID = package_id(SIGNED["base"]), package_id(SIGNED["distcc_node"])


def told(made: FleetInput, limits: Limits | None = None) -> dict[bytes, Flows]:
    """Return the packages of a fleet by id."""
    limits = limits or Limits()
    return {item.package_id: item for item in flows_of(made, summarise(made, limits).places, limits)[0]}


def test_a_proof_that_was_checked_shows_its_reasons() -> None:
    base = told(small())[BASE_ID]
    assert (base.claim, base.signed, base.unused, base.trusted) == (Claim.HOLDS, True, 0, 2)
    assert [item.reason for item in base.filters] == ["the daemon checks each request"]
    assert base.size is not None
    assert base.size.rules == 1204
    assert (base.guests, base.guests_then) == (3, 0)


def test_a_package_without_its_files_is_stated() -> None:
    node = told(small())[NODE_ID]
    assert (node.claim, node.filters, node.unused, node.size) == (Claim.STATED, (), None, None)
    assert node.package is not None
    assert node.package.cwlite.filters == 1
    assert (node.guests, node.guests_then) == (4, 1)


def broken(**files: bytes) -> PackageInput:
    """Return the package whose files are not all its own."""
    return PackageInput(
        report=inspect_package(
            SIGNED["base"],
            [public_key(KEY)],
            lambda _: {**BASE.open(), **{name: dataclasses.replace(BASE).open()["vmlinuz"] for name in files}},
        )
    )


def test_a_policy_that_is_another_is_broken_and_first() -> None:
    made = small(packages={**small().packages, BASE_ID: broken(policy=b"")})
    item = told(made)[BASE_ID]
    assert item.claim is Claim.BROKEN
    assert next(iter(told(made))) == BASE_ID


def test_a_missing_file_speaks_neither_for_nor_against() -> None:
    report = inspect_package(SIGNED["base"], [public_key(KEY)], lambda _: {})
    item = told(small(packages={BASE_ID: PackageInput(report=report)}))[BASE_ID]
    assert item.claim is Claim.STATED
    assert item.findings


def test_an_unsigned_package_says_so() -> None:
    report = inspect_package(SIGNED["base"], [])
    assert not told(small(packages={BASE_ID: PackageInput(report=report)}))[BASE_ID].signed


def test_a_package_that_runs_and_nobody_knows() -> None:
    item = told(small(packages={}))[NODE_ID]
    assert (item.claim, item.package, item.verdict, item.guests) == (Claim.UNKNOWN, None, None, 4)


def test_packages_are_cut() -> None:
    made = fleet(*hosts())
    items, left_out = flows_of(made, summarise(made, Limits()).places, Limits(packages=1))
    assert (len(items), left_out) == (1, 1)


def test_filters_are_cut() -> None:
    report = packages()[BASE_ID].report
    assert report.proof is not None
    (one,) = report.proof.intent.filters
    more = tuple(dataclasses.replace(one, object=f"t{number}_t") for number in range(5))
    proof = dataclasses.replace(report.proof, intent=dataclasses.replace(report.proof.intent, filters=more))
    given = PackageInput(report=dataclasses.replace(report, proof=proof))
    item = told(small(packages={BASE_ID: given}), Limits(filters=2))[BASE_ID]
    assert ([entry.object for entry in item.filters], item.filters_left_out) == (["t0_t", "t1_t"], 3)
