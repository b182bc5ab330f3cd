# SPDX-License-Identifier: GPL-3.0-or-later
"""A bundle checked again: every kind of result comes out as it was, and what does not belong to it is named.

What somebody may alter is in tests/attack/test_altered_bundle.py.
"""

from __future__ import annotations

import functools
from typing import Any

import pytest
from ansible.module_utils.vouch.appraise.anchors import Anchors, Hold
from ansible.module_utils.vouch.appraise.ear import ear_claims, sign_ear
from ansible.module_utils.vouch.appraise.jwks import jwks, key_set
from ansible.module_utils.vouch.appraise.recheck import Outcome, Recheck, passed
from ansible.module_utils.vouch.appraise.result import DONE, STAGES, AttestationResult
from ansible.module_utils.vouch.errors import EvidenceError, UsageError
from ansible.module_utils.vouch.make.guestpackage import sign_guest_package
from ansible.module_utils.vouch.make.sign import generate_private_key, private_pem, public_key, public_pem
from ansible.module_utils.vouch.model.digest import sha256
from ansible.module_utils.vouch.model.enrolment import Enrolment
from ansible.module_utils.vouch.model.finding import Verdict
from ansible.module_utils.vouch.model.key import ECDSA_P256, PublicKey
from ansible.module_utils.vouch.parse.canonical import dump_canonical, load_json

from bundles import APPRAISER_KEY, PACKAGE, UNREACHED, Site, anchors, check
from sim.attester import NOW_S, SimHost, SimRelease, ssh_key


@functools.cache
def good() -> dict[str, bytes]:
    """Return the parts of a good host's bundle, with a guest."""
    return Site(guest=True).parts()


def holds(found: Recheck) -> dict[str, str]:
    """Return the claims and how they stand."""
    return {claim.name: claim.hold.value for claim in found.claims}


def codes(found: Recheck) -> list[str]:
    """Return the codes of what speaks against a bundle."""
    return [finding.code for finding in found.findings]


def test_a_good_bundle_is_proven() -> None:
    found = check(good())
    assert (found.outcome, found.findings) == (Outcome.PROVEN, ())
    assert found.again.verdict is Verdict.AFFIRMING
    assert found.again == found.parts.result
    assert holds(found) == dict.fromkeys(("appraiser", "inputs", "release", "installer", "packages"), "held")


def test_nothing_is_trusted_by_itself() -> None:
    found = check(good(), Anchors())
    assert found.outcome is Outcome.UNANCHORED
    assert set(holds(found).values()) == {"missing"}


@pytest.mark.parametrize(
    ("absent", "missing"),
    [
        ("appraiser_keys", {"appraiser", "inputs"}),
        ("release_keys", {"release"}),
        ("installer_pcr4", {"installer"}),
        ("package_keys", {"packages"}),
    ],
)
def test_each_anchor_carries_its_claim(absent: str, missing: set[str]) -> None:
    found = check(good(), anchors(**{absent: None if absent == "appraiser_keys" else ()}))
    assert found.outcome is Outcome.UNANCHORED
    assert {name for name, hold in holds(found).items() if hold != "held"} == missing


OTHERS: dict[str, tuple[dict[str, Any], str, str]] = {
    "another appraiser": (
        {"appraiser_keys": key_set(public_pem(generate_private_key(ECDSA_P256)))},
        "appraiser",
        "ear.kid.unknown",
    ),
    "another release key": (
        {"release_keys": (public_key(generate_private_key()),)},
        "release",
        "bundle.anchor.release",
    ),
    "another installer": ({"installer_pcr4": (bytes(32),)}, "installer", "bundle.anchor.installer"),
    "another package key": (
        {"package_keys": (public_key(generate_private_key()),)},
        "packages",
        "bundle.anchor.package",
    ),
}


@pytest.mark.parametrize("case", OTHERS)
def test_what_is_not_what_was_given_is_false(case: str) -> None:
    given, claim, code = OTHERS[case]
    found = check(good(), anchors(**given))
    assert found.outcome is Outcome.FALSE
    assert codes(found)[0] == code
    assert found.holds(claim) is Hold.REFUTED


def test_a_given_key_that_is_none_is_the_callers_fault() -> None:
    off_curve = PublicKey.p256(b"\x01" * 32, b"\x01" * 32)
    with pytest.raises(UsageError) as caught:
        check(good(), anchors(release_keys=(off_curve,)))
    assert caught.value.code == "key.unusable"


def test_one_of_several_is_enough() -> None:
    other = generate_private_key(ECDSA_P256)
    given = anchors(
        appraiser_keys=key_set(jwks([public_pem(other), public_pem(APPRAISER_KEY)])),
        release_keys=(public_key(other), *anchors().release_keys),
        installer_pcr4=(bytes(32), *anchors().installer_pcr4),
        package_keys=(public_key(other), *anchors().package_keys),
    )
    assert check(good(), given).outcome is Outcome.PROVEN


def refusals() -> dict[str, tuple[Site, dict[str, Any]]]:
    """Return a way to be refused at each stage; the site, and changes of what the module is given."""
    sites: dict[str, tuple[Site, dict[str, Any]]] = {}

    def site(stage: str, **options: Any) -> SimHost:
        host = SimHost(options.pop("release", None))
        sites[stage] = (Site(host, releases=options.pop("releases", ())), options)
        return host

    host = site("evidence: no evidence")
    sites["evidence: no evidence"][0].answer = b"x"
    host = site("quote: another nonce")
    sites["quote: another nonce"][1]["evidence"] = {"nonce": "00" * 32}
    host = site("quote: put aside", age_s=300)
    host = site("quote: no TPM made it")
    host.tpm.magic = 0
    host = site("counters: the clock went back")
    host.tpm.reset_count -= 2
    host.tpm.clock_ms = 1
    host = site("boot: an image nobody knows")
    host.boot(sha256(b"changed"))
    other = SimRelease(name="other", xen_efi=b"other xen.efi")
    host = site("boot: an image of another release", releases=(other,))
    host.boot(other.authenticode)
    host = site("boot: a release that is not in the store")
    host.statement_changes["release_id"] = bytes(32)
    host = site("boot: a release that states none")
    host.statement_changes["release_id"] = b""
    host = site("boot: a debug release", release=SimRelease(variant="debug"))
    host = site("boot: a forged release", release=SimRelease(signing_key=generate_private_key()))
    host = site("boot: a retired release")
    sites["boot: a retired release"][0].policy["releases"] = ["00" * 32]
    host = site("logs: a cut event log")
    host.event_log = b""
    host = site("logs: no measurements")
    host.ima_log = host.ima_log[:100]
    host = site("contents: an unknown file")
    host.measure("/tmp/implant", b"x")
    host = site("roti: no proof")
    host.roti = None
    host = site("roti: another installer")
    sites["roti: another installer"][0].policy["installer_pcr4"] = ["00" * 32]
    host = site("channel: a relay")
    sites["channel: a relay"][1]["evidence"] = {"ssh_host_key": ssh_key(9)}
    host = site("identity: not enrolled")
    sites["identity: not enrolled"][0].enrolment = SimHost(seed=2).enrolment
    return sites


@pytest.mark.parametrize("case", refusals())
def test_every_refusal_comes_out_again(case: str) -> None:
    site, options = refusals()[case]
    found = check(site.parts(options.pop("evidence", None), **options))
    assert found.again.stage == case.split(":")[0]
    assert found.again.verdict is Verdict.CONTRAINDICATED
    assert (codes(found), found.outcome) == ([], Outcome.REFUSED)


def test_a_warning_is_not_affirming() -> None:
    site = Site(SimHost(SimRelease(variant="debug")))
    site.policy["allow_debug"] = True
    found = check(site.parts())
    assert (found.again.verdict, found.outcome) == (Verdict.WARNING, Outcome.REFUSED)


def test_a_bad_guest_does_not_touch_its_host() -> None:
    site = Site(guest=True)
    site.host.log_event(
        {
            "event": "guest.violation",
            "time": NOW_S,
            "guest": "web",
            "package": site.host.statement_changes["guests"][0].package.hex(),  # type: ignore[index]
            "codes": "guest.text.changed",
            "expected": "a",
            "found": "b",
        }
    )
    found = check(site.parts(), anchors(package_keys=()))
    assert found.again.guests[0].verdict is Verdict.CONTRAINDICATED
    assert found.outcome is Outcome.PROVEN
    assert found.holds("packages") is None


def test_no_evidence_is_no_verdict() -> None:
    found = check(Site().parts(UNREACHED))
    assert (found.again.verdict, found.outcome) == (Verdict.NONE, Outcome.REFUSED)
    assert holds(found) == {"appraiser": "held", "inputs": "held"}
    assert check(Site().parts(UNREACHED), Anchors()).outcome is Outcome.UNANCHORED


def older(parts: dict[str, bytes]) -> dict[str, bytes]:
    """Return the bundle as it was before results named what they were made from."""
    claims = ear_claims(AttestationResult.from_bytes(parts["result.json"]), build="vouch 0.1.0")
    return {**parts, "result.jwt": sign_ear(claims, private_pem(APPRAISER_KEY)).encode()}


def test_older_bundles() -> None:
    unreached = check(older(Site().parts(UNREACHED)))
    assert (unreached.outcome, unreached.findings) == (Outcome.REFUSED, ())
    found = check(older(good()))
    assert (found.outcome, found.findings) == (Outcome.UNANCHORED, ())
    assert found.holds("inputs") is Hold.MISSING


def test_a_bundle_without_a_signed_result_is_never_anchored() -> None:
    for site in (Site(), Site(guest=True)):
        found = check(site.parts(ear_key=None))
        assert (found.outcome, found.findings) == (Outcome.UNANCHORED, ())
    assert check(Site().parts(UNREACHED, ear_key=None)).outcome is Outcome.UNANCHORED


def member(part: bytes, **changes: Any) -> bytes:
    """Return a JSON part with other members; None takes one away."""
    value = {**load_json(part, limit_bytes=1 << 24), **changes}
    return dump_canonical({key: item for key, item in value.items() if item is not None or key not in changes})


MISFITS: dict[str, tuple[dict[str, Any], str]] = {
    "evidence that was not asked for": (
        {"context.json": member(good()["context.json"], nonce=None, channel_key=None, asked_at=None)},
        "bundle.context.mismatch",
    ),
    "a request without evidence": ({"evidence.json": None}, "bundle.context.mismatch"),
    "another host was asked": (
        {"context.json": member(good()["context.json"], host_id=SimHost(seed=2).host_id)},
        "bundle.context.mismatch",
    ),
    "another host's enrolment": (
        {"enrolment.json": SimHost(seed=2).enrolment.to_bytes()},
        "bundle.context.mismatch",
    ),
    "another host's result": (
        {"result.json": Site(SimHost(seed=2)).parts()["result.json"]},
        "bundle.context.mismatch",
    ),
    "a context that is none": ({"context.json": b"{}"}, "bundle.part.malformed"),
    "a policy in another spelling": ({"policy.json": good()["policy.json"] + b"\n"}, "bundle.part.malformed"),
    "a policy that is none": ({"policy.json": member(good()["policy.json"], ttl_s=0)}, "bundle.part.malformed"),
    "an enrolment in another spelling": (
        {"enrolment.json": good()["enrolment.json"].replace(b":", b": ", 1)},
        "bundle.part.malformed",
    ),
    "a result in another spelling": ({"result.json": good()["result.json"] + b" "}, "bundle.part.malformed"),
    "a result with another verdict": (
        {"result.json": member(good()["result.json"], verdict="none")},
        "bundle.part.malformed",
    ),
}


@pytest.mark.parametrize("fault", MISFITS)
def test_parts_that_no_appraisal_can_be_made_of(fault: str) -> None:
    changes, code = MISFITS[fault]
    parts = {name: data for name, data in {**good(), **changes}.items() if data is not None}
    with pytest.raises(EvidenceError) as caught:
        check(parts)
    assert caught.value.code == code


def test_a_policy_whose_key_is_none() -> None:
    off_curve = PublicKey.p256(b"\x01" * 32, b"\x01" * 32).spki.hex()
    policy = member(good()["policy.json"], release_keys=[off_curve])
    with pytest.raises(EvidenceError) as caught:
        check({**good(), "policy.json": policy})
    assert caught.value.code == "bundle.context.mismatch"


def test_an_unreached_result_without_a_reason() -> None:
    parts = Site().parts(UNREACHED)
    with pytest.raises(EvidenceError) as caught:
        check({**parts, "result.json": member(parts["result.json"], findings=[])})
    assert caught.value.code == "bundle.context.mismatch"


def test_an_unreached_result_with_a_long_reason() -> None:
    parts = Site().parts({**UNREACHED, "message": "no route\n" * 1000})
    found = check(parts)
    assert (codes(found), found.outcome) == ([], Outcome.REFUSED)


def test_parts_that_were_not_used() -> None:
    extra = sign_guest_package(PACKAGE, generate_private_key())
    found = check({**good(), f"packages/{sha256(extra).hex()}.json": extra})
    assert "bundle.part.unused" in codes(found)
    unreached = Site().parts(UNREACHED)
    found = check({**unreached, "release.json": good()["release.json"], "manifest": good()["manifest"]})
    assert "bundle.part.unused" in codes(found)


def test_a_name_of_another_release_is_the_only_thing_that_may_differ() -> None:
    other = SimRelease(name="other", xen_efi=b"other xen.efi")
    site = Site(releases=(other,))
    site.host.boot(other.authenticode)
    parts = site.parts()
    assert b"(production release other)" in parts["result.json"]
    for old, new in ((b" (production", b"; (production"), (b"boot.pcr4.unexpected", b"boot.pcr4.unexpectee")):
        found = check({**parts, "result.json": parts["result.json"].replace(old, new)}, Anchors())
        assert "bundle.result.mismatch" in codes(found)


def test_a_result_claims_no_more_than_it_came_to() -> None:
    """The installer's quote is in the evidence, but was not judged any more."""
    site = Site()
    site.host.measure("/tmp/implant", b"x")
    found = check(site.parts(), anchors(installer_pcr4=(), package_keys=()))
    assert (found.holds("installer"), found.holds("release")) == (None, Hold.HELD)
    assert found.outcome is Outcome.REFUSED
    site.host.tpm.magic = 0
    found = check(site.parts(), anchors(installer_pcr4=(), release_keys=()))
    assert (found.again.stage, found.holds("release"), found.outcome) == ("quote", None, Outcome.REFUSED)


def test_what_was_passed() -> None:
    done = check(good()).again
    assert all(passed(done, stage) for stage in STAGES)
    unreached = check(Site().parts(UNREACHED)).again
    assert not any(passed(unreached, stage) for stage in STAGES)
    site = Site()
    site.host.measure("/tmp/implant", b"x")
    refused = check(site.parts()).again
    assert [stage for stage in STAGES if passed(refused, stage)] == list(STAGES[: STAGES.index("contents")])
    assert done.stage == DONE


def test_the_enrolment_is_the_one_before() -> None:
    found = check(good())
    assert found.parts.enrolment == Enrolment.from_bytes(good()["enrolment.json"])
    assert found.parts.enrolment is not None
    assert found.parts.enrolment.accepted_at_s == 0
