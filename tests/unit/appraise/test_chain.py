# SPDX-License-Identifier: GPL-3.0-or-later
"""The chain of reasons: its order is that of the appraisal, and no step claims more than what carries it."""

from __future__ import annotations

import functools
import pathlib
import re
from typing import Any

import pytest
from ansible.module_utils.vouch.appraise.anchors import Anchors
from ansible.module_utils.vouch.appraise.chain import State, Step, chain
from ansible.module_utils.vouch.appraise.jwks import key_set
from ansible.module_utils.vouch.appraise.result import STAGES
from ansible.module_utils.vouch.make.sign import generate_private_key, public_key, public_pem

from bundles import UNREACHED, Site, anchors, check, installer_pcr4
from sim.attester import SimHost

ROOT = pathlib.Path(__file__).resolve().parents[3]


@functools.cache
def good() -> dict[str, bytes]:
    """Return the parts of a good host's bundle, with a guest."""
    return Site(guest=True).parts()


def steps(parts: dict[str, bytes], **changes: Any) -> dict[str, Step]:
    """Return the steps by name."""
    return {step.name: step for step in chain(check(parts, anchors(**changes)))}


def states(parts: dict[str, bytes], **changes: Any) -> dict[str, str]:
    """Return how each step stands."""
    return {name: step.state.value for name, step in steps(parts, **changes).items()}


def test_the_order_is_that_of_the_document() -> None:
    text = (ROOT / "docs" / "proof.md").read_text(encoding="utf-8").split("\n## Appraisal\n")[1]
    documented = re.findall(r"^\| \d+ (\w+) \|", text, re.MULTILINE)
    assert documented == list(STAGES)
    told = list(steps(good()))
    assert told == ["bundle", "signature", *documented[:-1], "guest web", "result"]
    assert list(steps(Site().parts())) == ["bundle", "signature", *documented, "result"]


def test_everything_is_proven_and_says_by_what() -> None:
    found = steps(good())
    assert {step.state for step in found.values()} == {State.PROVEN}
    for step in found.values():
        assert step.checked
        assert step.against
        assert step.expected
        assert step.found
        assert (ROOT / step.source.split(",")[0]).is_file()
    assert found["roti"].expected == found["roti"].found == f"PCR 4 {installer_pcr4().hex()}"
    assert "production release dom0-1" in found["boot"].expected
    assert [item.code for item in found["counters"].findings] == ["quote.reset.changed"]
    assert {item.code for item in found["boot"].findings} == {"boot.baseline.unpinned"}


def test_without_anchors_nothing_is_proven() -> None:
    found = chain(check(good(), Anchors()))
    assert {step.state for step in found} == {State.CONSISTENT}


@pytest.mark.parametrize(
    ("absent", "consistent"),
    [
        ("release_keys", {"boot", "contents", "roti"}),
        ("installer_pcr4", {"roti"}),
        ("package_keys", {"guest web"}),
    ],
)
def test_a_step_rests_on_what_carries_it(absent: str, consistent: set[str]) -> None:
    found = states(good(), **{absent: ()})
    assert {name for name, state in found.items() if state == "consistent"} == consistent
    assert set(found.values()) == {"consistent", "proven"}


@pytest.mark.parametrize(
    ("changes", "step", "code"),
    [
        ({"installer_pcr4": (bytes(32),)}, "roti", "bundle.anchor.installer"),
        ({"release_keys": (public_key(generate_private_key()),)}, "boot", "bundle.anchor.release"),
        ({"package_keys": (public_key(generate_private_key()),)}, "guest web", "bundle.anchor.package"),
        (
            {"appraiser_keys": key_set(public_pem(generate_private_key("ecdsa-p256-sha256")))},
            "signature",
            "ear.kid.unknown",
        ),
    ],
)
def test_what_is_refuted_is_told_at_its_step(changes: dict[str, Any], step: str, code: str) -> None:
    found = steps(good(), **changes)
    false = {name: item.findings[0].code for name, item in found.items() if item.state is State.FALSE}
    assert false == {step: code}


def test_where_a_host_was_refused() -> None:
    site = Site()
    site.host.measure("/tmp/implant", b"x")
    found = steps(site.parts())
    refused = STAGES.index("contents")
    assert [found[name].state for name in STAGES[:refused]] == [State.PROVEN] * refused
    assert found["contents"].state is State.REFUSED
    assert [item.code for item in found["contents"].findings] == ["ima.entry.unknown"]
    assert {found[name].state for name in STAGES[refused + 1 :]} == {State.SKIPPED}
    assert not any(found[name].expected for name in STAGES[refused + 1 :])
    assert found["result"].state is State.PROVEN


@pytest.mark.parametrize("part", ["evidence", "quote"])
def test_little_is_known_of_an_early_refusal(part: str) -> None:
    site = Site()
    if part == "evidence":
        site.answer = b"x"
    else:
        site.host.tpm.magic = 0
    found = steps(site.parts())
    assert found[part].state is State.REFUSED
    assert found["boot"].found == ""


def test_a_host_that_was_not_reached() -> None:
    found = steps(Site().parts(UNREACHED))
    assert {found[name].state for name in STAGES} == {State.SKIPPED}
    assert found["result"].state is State.PROVEN


def test_a_host_that_is_not_enrolled() -> None:
    site = Site()
    site.enrolment = SimHost(seed=2).enrolment
    found = steps(site.parts())
    assert found["identity"].state is State.REFUSED
    assert [item.code for item in found["identity"].findings] == ["ak.unknown"]


def test_guests_that_are_not_good() -> None:
    site = Site(guest=True)
    record = site.host.statement_changes["guests"][0]  # type: ignore[index]
    site.host.statement_changes["guests"] = (record._replace(state="paused"),)
    assert states(site.parts())["guest web"] == "not reached"
    site.host.statement_changes["guests"] = ()
    found = steps(site.parts())["guest web"]
    assert found.state is State.REFUSED
    assert [item.code for item in found.findings] == ["guest.statement.missing"]


def test_an_altered_result_is_false_where_it_is_compared() -> None:
    parts = dict(good())
    parts["result.json"] = parts["result.json"].replace(b'"ima_entries":6', b'"ima_entries":7')
    found = states(parts)
    assert (found["result"], found["signature"]) == ("false", "false")
    assert found["boot"] == "proven"
