# SPDX-License-Identifier: GPL-3.0-or-later
"""Guests in an appraisal: good ones, ones that are coming up, and every lie that a host could tell of them."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import pytest
from ansible.module_utils.vouch.appraise.ear import ear_claims, parse_ear
from ansible.module_utils.vouch.appraise.guestresult import GuestResult
from ansible.module_utils.vouch.appraise.host import appraise_host
from ansible.module_utils.vouch.appraise.references import References
from ansible.module_utils.vouch.appraise.result import AttestationResult
from ansible.module_utils.vouch.errors import ParseError, UsageError
from ansible.module_utils.vouch.make.guestpackage import sign_guest_package
from ansible.module_utils.vouch.make.sign import generate_private_key, public_key
from ansible.module_utils.vouch.model.finding import Finding, Severity, Verdict
from ansible.module_utils.vouch.model.guestreference import GuestReference, NextPackage
from ansible.module_utils.vouch.model.gueststate import GuestRecord
from ansible.module_utils.vouch.model.package import GuestPackage, package_id

from guestparts import Guest
from sim.attester import NOW_S, SimAppraiser, SimHost, SimRelease

KEY = generate_private_key()
PACKAGE = Guest().package()
SIGNED = sign_guest_package(PACKAGE, KEY)
DEBUG_PACKAGE = Guest(variant="debug").package()
DEBUG_SIGNED = sign_guest_package(DEBUG_PACKAGE, KEY)


@dataclass
class Vouched:
    """A host with one guest, and who asks; every part can be changed before ``result`` is taken."""

    host: SimHost = field(default_factory=SimHost)
    package: GuestPackage = PACKAGE
    signed: bytes = SIGNED
    known: tuple[bytes, ...] = (SIGNED, DEBUG_SIGNED)
    policy: dict[str, Any] = field(default_factory=dict)
    meant: GuestReference | None = None

    def __post_init__(self) -> None:
        self.record: GuestRecord | None = GuestRecord(
            id="g1",
            name=self.package.name,
            variant=self.package.variant,
            domain_id=3,
            kind="pv",
            package=package_id(self.signed),
            verity_root=self.package.verity.root_hash,
            policy=self.package.policy.sha256,
            state="running",
            phase="running",
            verdict="holds",
            checked_at_s=NOW_S - 1,
            rounds=40,
            counter=7,
        )

    def tell(self, name: str, **members: Any) -> None:
        self.host.log_event({"event": f"guest.{name}", "guest": "g1", "time": NOW_S - 50, **members})

    def launch(self, **members: Any) -> Vouched:
        package = package_id(self.signed).hex()
        self.tell("launch", **{"package": package, "kind": "pv", "order": "00" * 32, "counter": 7, **members})
        return self

    def violate(self, *codes: str) -> None:
        text = ",".join(codes)
        self.tell("violation", package=package_id(self.signed).hex(), codes=text, expected="a", found="b")

    def change(self, **members: Any) -> Vouched:
        assert self.record is not None
        self.record = self.record._replace(**members)
        return self

    def result(self) -> AttestationResult:
        self.host.statement_changes["guests"] = () if self.record is None else (self.record,)
        appraiser = SimAppraiser(host=self.host)
        appraiser.policy_changes = {"package_keys": (public_key(KEY),), **self.policy}
        releases = [(item.envelope, item.manifest) for item in appraiser.releases]
        enrolment = appraiser.enrolment
        assert enrolment is not None
        appraisal = appraise_host(
            self.host.evidence(appraiser.nonce).to_bytes(),
            host_id=self.host.host_id,
            nonce=appraiser.nonce,
            channel_key=appraiser.channel_key,
            enrolment=enrolment.with_guest("g1", self.meant),
            references=References(appraiser.policy, releases, self.known),
            now_s=NOW_S,
        )
        self.after = appraisal.enrolment
        return appraisal.result

    def guest(self) -> GuestResult:
        (guest,) = self.result().guests
        return guest


def test_a_guest_that_holds() -> None:
    vouched = Vouched().launch()
    result = vouched.result()
    assert result.verdict is Verdict.AFFIRMING
    (guest,) = result.guests
    assert (guest.guest, guest.verdict, guest.findings, guest.record) == ("g1", Verdict.AFFIRMING, (), vouched.record)
    assert AttestationResult.from_bytes(result.to_bytes()) == result
    ear = parse_ear(ear_claims(result, build="x")).submodules
    assert set(ear) == {"host", "guest:g1"}
    assert ear["guest:g1"].status is Verdict.AFFIRMING
    assert ear["guest:g1"].vector == {"executables": 2, "file-system": 2, "configuration": 2}


@pytest.mark.parametrize(
    ("members", "code"),
    [
        ({"phase": "booting", "verdict": "pending"}, "guest.check.pending"),
        ({"phase": "booting"}, "guest.check.pending"),
        ({"state": "paused"}, "guest.paused"),
        ({"state": "starting", "phase": "loaded", "verdict": "pending", "rounds": 0}, "guest.check.pending"),
    ],
)
def test_nothing_is_claimed_of_a_guest_that_is_not_up(members: dict[str, Any], code: str) -> None:
    guest = Vouched().launch().change(**members).guest()
    assert (guest.verdict, [item.code for item in guest.findings]) == (Verdict.NONE, [code])
    assert guest.codes == ()


RUNS, OTHER = package_id(SIGNED), bytes(31) + b"x"


def meant(package: bytes, *retired: bytes, ahead: bytes = b"", until_s: int = NOW_S + 1) -> GuestReference:
    following = NextPackage(package=ahead, until_s=until_s) if ahead else None
    return GuestReference(guest="g1", package=package, next=following, retired=retired)


@pytest.mark.parametrize(
    ("record", "verdict", "codes"),
    [
        (meant(RUNS), Verdict.AFFIRMING, []),
        (meant(RUNS, ahead=OTHER), Verdict.AFFIRMING, []),
        (meant(OTHER, ahead=RUNS), Verdict.AFFIRMING, ["guest.package.next"]),
        (meant(OTHER, ahead=RUNS, until_s=NOW_S), Verdict.CONTRAINDICATED, ["guest.package.window"]),
        (meant(OTHER), Verdict.CONTRAINDICATED, ["guest.package.unexpected"]),
        (meant(OTHER, ahead=bytes(32)), Verdict.CONTRAINDICATED, ["guest.package.unexpected"]),
        (meant(OTHER, RUNS), Verdict.CONTRAINDICATED, ["guest.package.retired"]),
    ],
)
def test_the_package_it_is_meant_to_run(record: GuestReference, verdict: Verdict, codes: list[str]) -> None:
    vouched = Vouched(meant=record).launch()
    guest = vouched.guest()
    assert (guest.verdict, [item.code for item in guest.findings]) == (verdict, codes)
    assert vouched.after is not None, "a guest changes nothing about its host"
    proven = vouched.after.guest("g1")
    accepted = codes == ["guest.package.next"]
    assert proven is not None
    assert (proven.next is not None and proven.next.accepted_at_s == NOW_S) == accepted
    if accepted:
        assert proven.updated(RUNS) == meant(RUNS, OTHER)


def test_a_guest_that_is_not_up_proves_no_package() -> None:
    vouched = Vouched(meant=meant(OTHER, ahead=RUNS)).launch().change(phase="booting")
    assert vouched.guest().verdict is Verdict.NONE
    assert vouched.after is not None
    proven = vouched.after.guest("g1")
    assert proven is not None
    with pytest.raises(UsageError, match="no evidence was accepted"):
        proven.updated(RUNS)


LIES: dict[str, tuple[dict[str, Any], list[str]]] = {
    "another package": (
        {"package": package_id(DEBUG_SIGNED)},
        ["guest.statement.mismatch", "guest.package.mismatch", "package.debug"],
    ),
    "a package nobody knows": ({"package": bytes(32)}, ["guest.statement.mismatch", "guest.package.unknown"]),
    "another root": ({"verity_root": bytes(32)}, ["guest.package.mismatch"]),
    "another policy": ({"policy": bytes(32)}, ["guest.package.mismatch"]),
    "another name": ({"name": "other"}, ["guest.package.mismatch"]),
    "another variant": ({"variant": "debug"}, ["guest.package.mismatch"]),
    "another kind": ({"kind": "pvh"}, ["guest.statement.mismatch"]),
    "another counter": ({"counter": 8}, ["guest.statement.mismatch"]),
    "never checked": ({"rounds": 0, "verdict": "pending"}, ["guest.check.missing"]),
    "checked long ago": ({"checked_at_s": NOW_S - 61}, ["guest.check.stale"]),
    "checked in the future": ({"checked_at_s": NOW_S + 61}, ["guest.check.stale"]),
}


@pytest.mark.parametrize("lie", LIES)
def test_lies(lie: str) -> None:
    members, codes = LIES[lie]
    vouched = Vouched().launch().change(**members)
    result = vouched.result()
    (guest,) = result.guests
    assert guest.verdict is Verdict.CONTRAINDICATED
    assert list(guest.codes) == codes
    assert result.verdict is Verdict.AFFIRMING
    assert max(parse_ear(ear_claims(result, build="x")).submodules["guest:g1"].vector.values()) == 96


def test_a_guest_that_was_never_launched() -> None:
    assert Vouched().guest().codes == ("guest.statement.launch",)


def test_a_guest_that_is_not_stated() -> None:
    vouched = Vouched().launch()
    vouched.record = None
    guest = vouched.guest()
    assert (guest.verdict, guest.codes, guest.record) == (Verdict.CONTRAINDICATED, ("guest.statement.missing",), None)
    assert parse_ear(ear_claims(vouched.result(), build="x")).submodules["guest:g1"].status is Verdict.CONTRAINDICATED


def test_a_guest_that_was_stopped_is_stated_no_more() -> None:
    vouched = Vouched().launch()
    vouched.tell("stop", package=package_id(SIGNED).hex(), counter=8, state="00" * 32)
    assert vouched.guest().codes == ("guest.statement.launch",)
    vouched.record = None
    assert vouched.result().guests == ()


def test_a_violation_cannot_be_hidden() -> None:
    vouched = Vouched().launch()
    vouched.violate("guest.text.changed")
    assert vouched.guest().codes == ("guest.log.violation", "guest.statement.mismatch")
    vouched.change(state="violated", verdict="violated", violations=("guest.text.changed",))
    guest = vouched.guest()
    assert guest.codes == ("guest.log.violation",)
    assert guest.findings[0].actual == "guest.text.changed"


def test_a_package_the_policy_does_not_list() -> None:
    vouched = Vouched(policy={"packages": (package_id(DEBUG_SIGNED),)}).launch()
    assert vouched.guest().codes == ("guest.package.retired",)


def test_a_package_signed_by_another_key() -> None:
    vouched = Vouched(policy={"package_keys": (public_key(generate_private_key()),)}).launch()
    assert vouched.guest().codes == ("envelope.signature.invalid",)


def test_without_keys_no_guest_is_trusted() -> None:
    assert Vouched(policy={"package_keys": ()}).launch().guest().codes == ("guest.package.unknown",)


def test_a_debug_guest() -> None:
    debug = {"package": DEBUG_PACKAGE, "signed": DEBUG_SIGNED}
    assert Vouched(**debug).launch().guest().codes == ("package.debug",)
    guest = Vouched(**debug, policy={"allow_debug": True}).launch().guest()
    assert (guest.verdict, guest.codes) == (Verdict.WARNING, ("package.debug",))


def test_a_guest_is_worth_no_more_than_its_host() -> None:
    host = SimHost()
    host.measure("/tmp/implant", b"x")
    guest = Vouched(host=host).launch().guest()
    assert (guest.verdict, guest.codes) == (Verdict.CONTRAINDICATED, ("guest.host.contraindicated",))
    debug = Vouched(host=SimHost(SimRelease(variant="debug")), policy={"allow_debug": True}).launch()
    assert debug.guest().verdict is Verdict.WARNING


def test_nothing_is_said_of_guests_of_an_unproven_statement() -> None:
    vouched = Vouched().launch()
    vouched.host.tpm.magic = 0
    assert vouched.result().guests == ()


def finding(severity: Severity) -> Finding:
    return Finding(code="guest.paused", severity=severity, subject="guest:g1")


@pytest.mark.parametrize(
    ("verdict", "findings"),
    [
        (Verdict.AFFIRMING, [finding(Severity.DENY)]),
        (Verdict.NONE, [finding(Severity.DENY)]),
        (Verdict.AFFIRMING, [finding(Severity.WARN)]),
        (Verdict.CONTRAINDICATED, []),
    ],
)
def test_the_verdict_follows_from_the_findings(verdict: Verdict, findings: list[Finding]) -> None:
    with pytest.raises(UsageError):
        GuestResult(guest="g1", verdict=verdict, findings=tuple(findings), record=None)


@pytest.mark.parametrize("change", [{"guest": "G"}, {"verdict": "x"}, {"more": 1}, {"record": {}}])
def test_a_result_has_one_form(change: dict[str, Any]) -> None:
    value = Vouched().launch().guest().to_json()
    assert GuestResult.from_json(value).to_json() == value
    with pytest.raises(ParseError):
        GuestResult.from_json({**value, **change})
