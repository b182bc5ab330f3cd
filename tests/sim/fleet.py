# SPDX-License-Identifier: GPL-3.0-or-later
"""Fleets for reports: hosts whose results come out of real appraisals of simulated attesters, good and bad.

``small`` has one host of each kind. ``large`` has thousands, made from those by changing name and id alone.
"""

from __future__ import annotations

import dataclasses
import functools
import uuid
from typing import Any

from ansible.module_utils.vouch.appraise.guestpackage import inspect_package
from ansible.module_utils.vouch.appraise.guestresult import GuestResult
from ansible.module_utils.vouch.appraise.host import appraise_host
from ansible.module_utils.vouch.appraise.references import References
from ansible.module_utils.vouch.appraise.result import AttestationResult, unreachable_result
from ansible.module_utils.vouch.errors import UnreachableError
from ansible.module_utils.vouch.make.guestpackage import sign_guest_package
from ansible.module_utils.vouch.make.sign import generate_private_key, public_key
from ansible.module_utils.vouch.model.finding import Finding, Locator, Severity, Verdict
from ansible.module_utils.vouch.model.gueststate import GuestRecord
from ansible.module_utils.vouch.model.package import package_id
from ansible.module_utils.vouch.report.view import (
    EventLine,
    FleetInput,
    HostInput,
    PackageInput,
    PolicySize,
    ResultLine,
)

from guestparts import SERVICES, Guest
from sim.attester import NOW_S, TTL_S, SimAppraiser, SimHost, SimRelease

KEY = generate_private_key()
BASE, NODE = Guest(), Guest(name="distcc_node")
PACKAGES = {guest.name: guest.package() for guest in (BASE,)}
PACKAGES["distcc_node"] = NODE.package(network=dataclasses.replace(NODE.package().network, services=SERVICES))
SIGNED = {name: sign_guest_package(package, KEY) for name, package in PACKAGES.items()}

RELEASE = SimRelease(name="dom0-2026.09")
DEBUG = SimRelease(name="dom0-2026.09-debug", variant="debug", xen_efi=b"debug")

HOSTILE = (
    "<script>alert(1)</script>",
    '"><img src=x onerror=alert(1)>',
    "' onmouseover='alert(1)",
    "</style></title></svg><b>",
    "<!-- ]]> --> <![CDATA[",
    "{{ 7 * 7 }}{% for a in b %}{# #}",
    "\x1b[31mred\x1b]0;title\x07",
    "abc\u202egnp.exe\u2066\u2069\u200f",
    "javascript:alert(1)",
    "https://example.invalid/x.png",
    "a" * 20000,
    "a\u0301" + "\u0301" * 200,
    "\u3164\u115f\u2800\ufeff\u200b",
    "\ud800 \udfff",
    "\x00\r\n\t\x85\u2028",
    "&lt;b&gt; &amp;amp; &#60;",
    "日本語" * 50,
)
"""What names, findings and events may hold; none of it may act on a page."""


def record(guest: str, package: str, **changes: Any) -> GuestRecord:
    """Return what a host states of a guest that is up and was checked a second ago."""
    told = PACKAGES[package]
    return GuestRecord(
        id=guest,
        name=package,
        variant=told.variant,
        domain_id=3,
        kind="pv",
        package=package_id(SIGNED[package]),
        verity_root=told.verity.root_hash,
        policy=told.policy.sha256,
        state="running",
        phase="running",
        verdict="holds",
        checked_at_s=NOW_S - 1,
        rounds=4211,
        counter=7,
    )._replace(**changes)


def launch(host: SimHost, *records: GuestRecord) -> None:
    """Let ``host`` start guests: its log tells of their launch, its statement of them."""
    for item in records:
        host.log_event(
            {
                "event": "guest.launch",
                "guest": item.id,
                "time": NOW_S - 3000,
                "package": item.package.hex(),
                "kind": item.kind,
                "order": "00" * 32,
                "counter": item.counter,
            }
        )
    host.statement_changes["guests"] = tuple(sorted(records, key=lambda item: item.id))


def appraised(host: SimHost, **policy: Any) -> AttestationResult:
    """Return the result of asking ``host`` now."""
    asking = SimAppraiser(host=host, releases=[RELEASE, DEBUG])
    asking.policy_changes = {"package_keys": (public_key(KEY),), **policy}
    return appraise_host(
        host.evidence(asking.nonce).to_bytes(),
        host_id=host.host_id,
        nonce=asking.nonce,
        channel_key=asking.channel_key,
        enrolment=asking.enrolment,
        references=References(
            asking.policy, [(item.envelope, item.manifest) for item in asking.releases], tuple(SIGNED.values())
        ),
        now_s=NOW_S,
    ).result


def history(*verdicts: tuple[Verdict, int], every_s: int = 240, end_s: int = NOW_S) -> tuple[ResultLine, ...]:
    """Return results, one each ``every_s``: so many of each verdict, the oldest first, the last one at ``end_s``."""
    told = [verdict for verdict, count in verdicts for _ in range(count)]
    reasons = {Verdict.CONTRAINDICATED: ("ima.entry.unknown",), Verdict.WARNING: ("release.debug",)}
    return tuple(
        ResultLine(
            issued_at_s=at_s,
            expires_at_s=at_s + TTL_S,
            verdict=verdict,
            reasons=reasons.get(verdict, ()),
        )
        for at_s, verdict in zip(range(end_s - every_s * (len(told) - 1), end_s + 1, every_s), told, strict=True)
    )


def older(result: AttestationResult, by_s: int) -> AttestationResult:
    """Return ``result`` as if it had been judged ``by_s`` ago."""
    return dataclasses.replace(result, issued_at_s=result.issued_at_s - by_s, expires_at_s=result.expires_at_s - by_s)


def told(name: str, host: SimHost, state: str = "fresh", **parts: Any) -> HostInput:
    """Return ``host`` as a store would tell of it."""
    return HostInput(name=name, host_id=host.host_id, state=state, enrolment=host.enrolment, **parts)


GOOD = Verdict.AFFIRMING


@functools.cache
def hosts() -> tuple[HostInput, ...]:
    """Return one host of each kind."""
    good = SimHost(RELEASE, seed=1)
    launch(good, record("build-1", "distcc_node"), record("build-2", "distcc_node"), record("base-1", "base"))
    plain = SimHost(RELEASE, seed=2)
    attacked = SimHost(RELEASE, seed=3)
    broken = record("build-2", "distcc_node", state="violated", verdict="violated", violations=("guest.text.changed",))
    launch(attacked, record("base-1", "base", state="paused"), broken)
    attacked.log_event(
        {
            "event": "guest.violation",
            "guest": "build-2",
            "time": NOW_S - 700,
            "package": broken.package.hex(),
            "codes": "guest.text.changed",
            "expected": "3f1c",
            "found": "90cc",
        }
    )
    debug = SimHost(DEBUG, seed=4)
    launch(debug, record("base-1", "base"))
    unknown = SimHost(RELEASE, seed=5)
    unknown.measure("/usr/bin/nmap", b"not of the release")
    launch(unknown, record("build-1", "distcc_node"))
    other = SimHost(RELEASE, seed=6)
    other.boot(b"\x66" * 32)
    silent, old, again, moving, rolled = (SimHost(RELEASE, seed=seed) for seed in range(7, 12))
    launch(old, record("build-1", "distcc_node"))
    stranger = SimHost(RELEASE, seed=12)
    lost = UnreachableError("no answer within 20 s", code="ssh.unreachable")
    update = EventLine(at_s=NOW_S - 1500, kind="update.begin", detail="dom0-2026.08 to dom0-2026.09")
    back = EventLine(at_s=NOW_S - 900, kind="update.failed", code="roti.missing", detail="back to slot a")
    return (
        told(
            "xen-01",
            good,
            result=appraised(good),
            history=history((GOOD, 90)),
            events=(EventLine(at_s=NOW_S - 3000, kind="guest.launch", subject="build-1"),),
        ),
        told("xen-02", plain, result=appraised(plain), history=history((GOOD, 40), (Verdict.NONE, 1), (GOOD, 30))),
        told(
            "xen-03",
            attacked,
            result=appraised(attacked),
            history=history((GOOD, 60)),
            events=(
                EventLine(at_s=NOW_S - 3000, kind="guest.launch", subject="build-2"),
                EventLine(
                    at_s=NOW_S - 700,
                    kind="guest.violation",
                    subject="build-2",
                    code="guest.text.changed",
                    detail="kernel text at page 1, expected 3f1c, found 90cc",
                ),
                EventLine(at_s=NOW_S - 699, kind="guest.action", subject="build-2", detail="pause"),
            ),
        ),
        told("xen-04", debug, result=appraised(debug, allow_debug=True), history=history((Verdict.WARNING, 20))),
        told(
            "xen-05",
            unknown,
            result=appraised(unknown),
            history=history((GOOD, 50), (Verdict.CONTRAINDICATED, 9)),
        ),
        told("xen-06", other, result=appraised(other), history=history((GOOD, 70))),
        told(
            "xen-07",
            silent,
            "unreachable",
            result=unreachable_result(
                silent.host_id, lost, policy_digest=bytes(32), issued_at_s=NOW_S - 60, ttl_s=TTL_S
            ),
            history=history((GOOD, 30), end_s=NOW_S - 5000),
        ),
        told(
            "xen-08",
            old,
            "expired",
            result=older(appraised(old), 4000),
            history=history((GOOD, 50), end_s=NOW_S - 4000),
        ),
        told("xen-09", again, "rebooted", result=older(appraised(again), 120), history=history((GOOD, 80))),
        told("xen-10", moving, "updating", result=older(appraised(moving), 200), events=(update,)),
        told("xen-11", rolled, "failed", result=older(appraised(rolled), 1000), events=(update, back)),
        HostInput(name="xen-12", host_id=stranger.host_id, state="none"),
    )


@functools.cache
def packages() -> dict[bytes, PackageInput]:
    """Return the packages that the guests run: one with its files at hand, one without."""
    keys = [public_key(KEY)]
    base = inspect_package(SIGNED["base"], keys, lambda _: BASE.open())
    node = inspect_package(SIGNED["distcc_node"], keys)
    return {
        base.package_id: PackageInput(report=base, size=PolicySize(types=54, rules=1_204, subjects=21)),
        node.package_id: PackageInput(report=node),
    }


def fleet(*parts: HostInput, **changes: Any) -> FleetInput:
    """Return a fleet of ``parts`` with all releases and packages."""
    known: dict[str, Any] = {
        "title": "Fleet",
        "generated_at_s": NOW_S + 30,
        "hosts": parts,
        "releases": {SimHost(item).release_id: item.release for item in (RELEASE, DEBUG)},
        "packages": packages(),
    }
    return FleetInput(**{**known, **changes})


def small(**changes: Any) -> FleetInput:
    """Return a fleet with one host of each kind."""
    return fleet(*hosts(), **{"title": "Lab", **changes})


def large(count: int) -> FleetInput:
    """Return ``count`` hosts, one of a hundred not good; long names, full histories."""
    kinds = hosts()
    made = []
    for number in range(count):
        kind = kinds[2 + number // 100 % 10] if number % 100 == 0 else kinds[number % 2]
        host_id = str(uuid.UUID(int=(4 << 76) | (2 << 62) | (number + 1000)))
        made.append(
            dataclasses.replace(
                kind,
                name=f"rack-{number // 40:03}-xen-{number:05}.a-rather-long-domain.example",
                host_id=host_id,
                result=None if kind.result is None else dataclasses.replace(kind.result, host_id=host_id),
                enrolment=None if kind.enrolment is None else dataclasses.replace(kind.enrolment, host_id=host_id),
            )
        )
    return fleet(*made, title="All racks")


def hostile(text: str) -> FleetInput:
    """Return a fleet in which every text that may come from a host, a guest or an inventory is ``text``."""
    finding = Finding(
        code=text,
        severity=Severity.DENY,
        subject=text,
        where=Locator(part=text, entry=1, offset_bytes=2),
        expected=text,
        actual=text,
        source=text,
    )
    findings = (finding, dataclasses.replace(finding, severity=Severity.NOTE))
    event = EventLine(at_s=NOW_S - 60, kind=text, subject=text, code=text, detail=text)
    line = ResultLine(issued_at_s=NOW_S - 90, expires_at_s=NOW_S, verdict=Verdict.CONTRAINDICATED, reasons=(text,) * 9)
    made = []
    for host in hosts():
        result = host.result
        if result is not None and result.stage != "unreached":
            told_record = record("x", "base", name=text, variant=text, kind=text, state=text, phase=text, verdict=text)
            guests = tuple(
                GuestResult(guest=text, verdict=Verdict.CONTRAINDICATED, findings=findings, record=item)
                for item in (told_record, None)
            )
            result = dataclasses.replace(
                result,
                verdict=Verdict.CONTRAINDICATED,
                findings=findings,
                release_name=text,
                variant=text,
                guests=guests,
            )
        made.append(
            dataclasses.replace(host, name=text, result=result, events=(event,) * 2, history=(*host.history, line))
        )
    return fleet(*made, title=text, packages=hostile_packages(text))


def hostile_packages(text: str) -> dict[bytes, PackageInput]:
    """Return packages that say ``text`` wherever one may say anything."""
    made = {}
    for key, given in packages().items():
        report, package = given.report, given.report.package
        assert package is not None
        network = dataclasses.replace(
            package.network, services=tuple(dataclasses.replace(item, reason=text) for item in SERVICES)
        )
        proof = report.proof
        if proof is not None:
            filters = tuple(
                dataclasses.replace(item, reason=text, object=text, class_name=text, permissions=(text,))
                for item in proof.intent.filters
            )
            proof = dataclasses.replace(proof, intent=dataclasses.replace(proof.intent, filters=filters))
        changed = dataclasses.replace(package, name=text, network=network)
        bad = Finding(code=text, severity=Severity.WARN, subject=text, expected=text, actual=text)
        made[key] = PackageInput(
            report=dataclasses.replace(report, package=changed, proof=proof, findings=(bad,)), size=given.size
        )
    return made
