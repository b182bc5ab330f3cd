# SPDX-License-Identifier: GPL-3.0-or-later
"""Bundles of updated hosts: what a host ran before is in them, and nothing else of that kind."""

from __future__ import annotations

import dataclasses

import pytest
from ansible.module_utils.vouch.appraise.recheck import Outcome, Recheck
from ansible.module_utils.vouch.make.sign import generate_private_key, public_key
from ansible.module_utils.vouch.model.digest import sha256
from ansible.module_utils.vouch.parse.bundle import former_name

from bundles import Site, anchors, check
from sim.attester import NOW_S, SimRelease
from sim.updates import UpdatedHost

NEW = SimRelease(name="dom0-2", xen_efi=b"newer xen.efi", root_img=b"newer root")
NEWEST = SimRelease(name="dom0-3", xen_efi=b"newest xen.efi", root_img=b"newest root")


def codes(found: Recheck) -> list[str]:
    """Return the codes of what speaks against a bundle."""
    return [finding.code for finding in found.findings]


def updated(*releases: SimRelease) -> Site:
    """Return the site of a host that was updated to each release in turn, with the store that still has them all."""
    host = UpdatedHost()
    before = (host.release, *releases[:-1])
    for release in releases:
        host.update(release)
        known = host.enrolment.expecting(host.release_id, until_s=NOW_S + 60)
        assert known.next is not None
        accepted = dataclasses.replace(known.next, accepted_at_s=NOW_S)
        host.enrolment = dataclasses.replace(known, next=accepted).updated(host.release_id)
    return Site(host, releases=before)


def former(parts: dict[str, bytes]) -> dict[str, bytes]:
    """Return the releases that the host ran before."""
    return {name: data for name, data in parts.items() if name.startswith("former/")}


@pytest.mark.parametrize("releases", [(NEW,), (NEW, NEWEST)])
def test_the_bundle_of_an_updated_host_is_proven(releases: tuple[SimRelease, ...]) -> None:
    site = updated(*releases)
    parts = site.parts()
    found = check(parts)
    assert (codes(found), found.outcome) == ([], Outcome.PROVEN)
    before = {former_name(sha256(item.envelope)): item.envelope for item in site.releases[1:]}
    assert former(parts) == before
    assert former(Site().parts()) == {}, "who runs what was installed needs none"


def test_a_bundle_without_what_a_host_ran_before_is_false() -> None:
    parts = updated(NEW).parts()
    found = check({name: data for name, data in parts.items() if name not in former(parts)})
    assert found.again.stage == "roti"
    assert "bundle.result.mismatch" in codes(found)


def test_an_update_from_a_release_that_nobody_has_comes_out_again() -> None:
    site = updated(NEW)
    site.releases = site.releases[:1]
    parts = site.parts()
    found = check(parts)
    assert (found.again.stage, found.again.codes) == ("roti", ("release.unknown",))
    assert (codes(found), found.outcome, former(parts)) == ([], Outcome.REFUSED, {})


def test_an_update_from_a_release_that_nobody_signed_comes_out_again() -> None:
    forged = SimRelease(signing_key=generate_private_key("ed25519"))
    host = UpdatedHost(forged)
    host.update(NEW)
    host.enrolment = dataclasses.replace(host.enrolment, release_id=host.release_id, installed=sha256(forged.envelope))
    parts = Site(host, releases=(forged,)).parts()
    found = check(parts)
    assert (found.again.stage, codes(found), found.outcome) == ("roti", [], Outcome.REFUSED)
    assert list(former(parts)) == [former_name(sha256(forged.envelope))]


def test_what_a_host_ran_before_is_by_who_is_trusted_too() -> None:
    parts = updated(NEW).parts()
    other = SimRelease(signing_key=(key := generate_private_key("ed25519")))
    found = check({**parts, former_name(sha256(other.envelope)): other.envelope})
    assert {"bundle.part.unused", "bundle.anchor.release"} <= set(codes(found))
    found = check(parts, anchors(release_keys=(public_key(key),)))
    assert codes(found)[0] == "bundle.anchor.release"


def test_a_former_release_that_the_result_did_not_need() -> None:
    parts = Site().parts()
    for extra in (SimRelease(name="dom0-0").envelope, parts["release.json"]):
        assert "bundle.part.unused" in codes(check({**parts, former_name(sha256(extra)): extra}))
