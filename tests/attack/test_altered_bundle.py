# SPDX-License-Identifier: GPL-3.0-or-later
"""Somebody alters an evidence bundle, or makes one up, and hands it to a person who checks it again.

Three attackers: one who changes bytes, one who makes the index fit again, and one with every key but those that the
other person trusts. None of them gets a bundle proven.
"""

from __future__ import annotations

import base64
import functools
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest
from ansible.module_utils.vouch.appraise.anchors import Anchors, Hold
from ansible.module_utils.vouch.appraise.ear import ear_claims, sign_ear, verify_ear
from ansible.module_utils.vouch.appraise.recheck import Outcome
from ansible.module_utils.vouch.appraise.result import AttestationResult
from ansible.module_utils.vouch.errors import EvidenceError, ParseError
from ansible.module_utils.vouch.make.bundle import write_bundle
from ansible.module_utils.vouch.make.sign import generate_private_key, private_pem, public_key, public_pem
from ansible.module_utils.vouch.model.digest import sha256
from ansible.module_utils.vouch.model.enrolment import Enrolment
from ansible.module_utils.vouch.parse.bundle import parse_bundle, parts_digest
from ansible.module_utils.vouch.parse.canonical import dump_canonical, load_json

from bundles import APPRAISER_KEY, SIGNED_PACKAGE, UNREACHED, Site, check, installer_pcr4
from sim.attester import NOW_S, SimHost, SimRelease

REGIONS = 24
"""Each part is cut into so many regions; a byte of each is altered."""

PACKAGE = f"packages/{sha256(SIGNED_PACKAGE).hex()}.json"
NAMES = (
    "context.json",
    "enrolment.json",
    "evidence.json",
    "manifest",
    PACKAGE,
    "policy.json",
    "release.json",
    "result.json",
    "result.jwt",
)


@functools.cache
def good() -> dict[str, bytes]:
    """Return the parts of a good bundle, with a guest."""
    parts = Site(guest=True).parts()
    assert tuple(sorted(parts)) == NAMES
    assert check(parts).outcome is Outcome.PROVEN
    return parts


def alterations(data: bytes) -> Iterator[bytes]:
    """Yield ``data`` with a byte of each region altered, a byte missing, and one more."""
    step = max(1, len(data) // REGIONS)
    for at in range(0, len(data), step):
        for mask in (0x01, 0x20):
            yield data[:at] + bytes([data[at] ^ mask]) + data[at + 1 :]
    yield data[:-1] + bytes([data[-1] ^ 1])
    yield data[:-1]
    yield data[1:]
    yield data + b"\n"
    yield b""


def outcome(parts: dict[str, bytes], given: Anchors | None = None) -> Outcome:
    """Return what a bundle is worth; one that cannot be read is FALSE, as for the command."""
    try:
        return check(parts, given).outcome
    except (ParseError, EvidenceError) as error:
        if not error.code.startswith("bundle."):
            raise
        return Outcome.FALSE


each_part = pytest.mark.parametrize("name", NAMES, ids=lambda name: "package" if name == PACKAGE else name)
"""A package's name is its digest, and is another one in each process that makes the bundle."""


@each_part
def test_an_altered_byte_without_a_new_index(name: str) -> None:
    whole = write_bundle(good())
    begin = whole.index(good()[name])
    for altered in alterations(good()[name]):
        if len(altered) == len(good()[name]):
            with pytest.raises(ParseError) as caught:
                parse_bundle(whole[:begin] + altered + whole[begin + len(altered) :])
            assert caught.value.code.startswith("bundle.")


@each_part
def test_an_altered_part_with_a_new_index(name: str) -> None:
    for altered in alterations(good()[name]):
        place = f"packages/{sha256(altered).hex()}.json" if name == PACKAGE else name
        parts = {other: data for other, data in good().items() if other != name} | {place: altered}
        assert outcome(parts) is Outcome.FALSE
        # Nor does it help that nobody looks: nothing is proven without anchors.
        assert outcome(parts, Anchors()) in (Outcome.FALSE, Outcome.UNANCHORED)


@each_part
def test_a_part_that_is_missing(name: str) -> None:
    parts = {other: data for other, data in good().items() if other != name}
    wanted = Outcome.UNANCHORED if name == "result.jwt" else Outcome.FALSE
    assert outcome(parts) is wanted


def members(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Yield the path of each plain member."""
    if isinstance(value, dict):
        for name, item in value.items():
            yield from members(item, (*path, name))
    elif isinstance(value, list):
        for index, item in enumerate(value):
            yield from members(item, (*path, index))
    else:
        yield path


def changed(value: Any) -> Any:
    """Return a value of the same type that looks as good."""
    if isinstance(value, bool):
        return not value
    if isinstance(value, int):
        return value + 1
    if isinstance(value, str) and value:
        return value[:-1] + ("1" if value[-1] != "1" else "2")
    return "x" if value == "" else 1


@pytest.mark.parametrize("name", ["context.json", "enrolment.json", "policy.json", "result.json"])
def test_every_member_counts(name: str) -> None:
    """Also those that no check reads: what an appraiser signed, it signed with all of it."""
    for path in members(load_json(good()[name], limit_bytes=1 << 24)):
        value = load_json(good()[name], limit_bytes=1 << 24)
        holder = value
        for step in path[:-1]:
            holder = holder[step]
        holder[path[-1]] = changed(holder[path[-1]])
        assert outcome({**good(), name: dump_canonical(value)}) is Outcome.FALSE, path


def resigned(parts: dict[str, bytes], key: Any, *, bound: bool = True) -> dict[str, bytes]:
    """Return the parts with a signed result that fits them, by ``key``."""
    result = AttestationResult.from_bytes(parts["result.json"])
    bundle = parts_digest(parts) if bound else None
    return {**parts, "result.jwt": sign_ear(ear_claims(result, build="x", bundle=bundle), private_pem(key)).encode()}


def judged(parts: dict[str, bytes]) -> dict[str, bytes]:
    """Return the parts with the result that they lead to."""
    unsigned = {name: data for name, data in parts.items() if name != "result.jwt"}
    return {**unsigned, "result.json": check(unsigned, Anchors()).again.to_bytes()}


def test_a_bundle_made_up_whole_agrees_with_itself_and_proves_nothing() -> None:
    appraiser, releaser = generate_private_key("ecdsa-p256-sha256"), generate_private_key()
    parts = Site(SimHost(SimRelease(xen_efi=b"evil xen.efi", signing_key=releaser))).parts()
    policy = load_json(parts["policy.json"], limit_bytes=1 << 20)
    policy["release_keys"] = [public_key(releaser).spki.hex()]
    parts = resigned(judged({**parts, "policy.json": dump_canonical(policy)}), appraiser)
    alone = check(parts, Anchors())
    assert (alone.again.verdict.value, alone.findings) == ("affirming", ())
    assert alone.outcome is Outcome.UNANCHORED
    found = check(parts)
    assert found.outcome is Outcome.FALSE
    assert [found.holds(name) for name in ("appraiser", "release")] == [Hold.REFUTED, Hold.REFUTED]
    # Whoever trusts only the installer's value, which anybody can copy, has proven nothing either.
    assert check(parts, Anchors(installer_pcr4=(installer_pcr4(),))).outcome is Outcome.UNANCHORED


def test_a_result_of_another_key_in_the_place_of_ours() -> None:
    parts = resigned(good(), generate_private_key("ecdsa-p256-sha256"))
    assert check(parts, Anchors()).findings == ()
    assert outcome(parts) is Outcome.FALSE


def test_the_other_form_of_the_same_signature() -> None:
    """An ECDSA signature has two forms, and anybody can make the second one out of the first."""
    signed, _, text = good()["result.jwt"].rpartition(b".")
    signature = base64.urlsafe_b64decode(text + b"==")
    order = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551
    other = signature[:32] + (order - int.from_bytes(signature[32:], "big")).to_bytes(32, "big")
    token = signed + b"." + base64.urlsafe_b64encode(other).rstrip(b"=")
    # As a token it is a good one; as a part of a bundle it is another one.
    assert verify_ear(token, public_pem(APPRAISER_KEY)) == verify_ear(good()["result.jwt"], public_pem(APPRAISER_KEY))
    assert outcome({**good(), "result.jwt": token}) is Outcome.FALSE


def test_a_refusal_turned_into_a_proof() -> None:
    site = Site()
    site.host.measure("/tmp/implant", b"x")
    refused = site.parts()
    affirmed = AttestationResult.from_bytes(Site(SimHost()).parts()["result.json"])
    for parts in (
        {**refused, "result.json": affirmed.to_bytes()},
        {**good(), "evidence.json": refused["evidence.json"]},
    ):
        assert outcome(parts) is Outcome.FALSE
        assert outcome(parts, Anchors()) is Outcome.FALSE


def test_parts_of_two_good_bundles() -> None:
    """Each part is good, and signed; they are of two appraisals."""
    later = Site(guest=True)
    later.host.measure("/usr/sbin/xenstored", b"xenstored")
    other = later.parts()
    assert check(other).outcome is Outcome.PROVEN
    for name in NAMES:
        if other[name] != good()[name]:
            assert outcome({**good(), name: other[name]}) is Outcome.FALSE, name
    both = {name: other[name] for name in ("evidence.json", "enrolment.json", "context.json", "result.json")}
    assert outcome({**good(), **both}) is Outcome.FALSE


def test_an_enrolment_that_no_check_reads() -> None:
    """The appraiser's signature is over the enrolment as well, even where the appraisal does not look at it."""
    enrolment = Enrolment.from_bytes(good()["enrolment.json"])
    parts = {**good(), "enrolment.json": replace(enrolment, ek_sha256=bytes(32)).to_bytes()}
    assert check(parts, Anchors()).again.to_bytes() == good()["result.json"]
    assert [finding.code for finding in check(parts).findings] == ["bundle.ear.mismatch"]
    # Nor by a signed result that names no parts, as older appraisers made them.
    assert outcome(resigned(parts, APPRAISER_KEY, bound=False)) is Outcome.UNANCHORED


def test_a_result_that_could_not_be_made_then() -> None:
    """The request is made younger: the evidence would have been stale."""
    stale = Site().parts(age_s=300)
    context = load_json(stale["context.json"], limit_bytes=1 << 20)
    assert outcome(stale) is Outcome.REFUSED
    assert outcome({**stale, "context.json": dump_canonical({**context, "asked_at": NOW_S})}) is Outcome.FALSE


def test_silence_turned_into_a_proof() -> None:
    silent = Site().parts(UNREACHED)
    assert outcome(silent) is Outcome.REFUSED
    assert outcome({**silent, "result.json": good()["result.json"]}) is Outcome.FALSE
    assert outcome({**good(), "result.json": silent["result.json"]}) is Outcome.FALSE


def test_the_signature_of_another_trusted_appraiser_over_another_bundle() -> None:
    other = Site(SimHost(seed=2)).parts()
    assert check(other).outcome is Outcome.PROVEN
    assert outcome({**good(), "result.jwt": other["result.jwt"]}) is Outcome.FALSE
