# SPDX-License-Identifier: GPL-3.0-or-later
"""What a report is made from: hosts with what is known of each, the releases and packages they speak of.

All of it is values. Whoever has a store fills them; nothing here looks anything up, and nothing here judges: verdicts
come from appraisals, and the page never shows a host better than its own result (``standing.py``).

Trust: names, findings, events and records may hold any text; they come from inventories, hosts and guests.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from types import MappingProxyType

from ..appraise.guestpackage import PackageReport
from ..appraise.result import AttestationResult
from ..errors import UsageError, shown
from ..model.enrolment import Enrolment
from ..model.finding import Verdict
from ..model.release import HostRelease

FRESH, EXPIRED, UNREACHABLE, REBOOTED = "fresh", "expired", "unreachable", "rebooted"
UPDATING, FAILED, NONE = "updating", "failed", "none"

STATES: Mapping[str, str] = MappingProxyType(
    {
        FRESH: "its last result counts now",
        EXPIRED: "its last result stopped to count, and there is none since",
        UNREACHABLE: "it did not answer when it was last asked",
        REBOOTED: "its last result counts now, and it had booted before that, outside any planned time",
        UPDATING: "it did not answer when it was last asked, and is being moved to another release",
        FAILED: "the last attempt to prove or update it did not end well",
        NONE: "it was never asked, or nothing is left of the answer",
    }
)
"""State of a host to what it means, as its store sees it at ``generated_at_s``."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ResultLine:
    """One earlier result, in short.

    Attributes:
        issued_at_s: Unix seconds, by the controller's clock.
        expires_at_s: Unix seconds; from then on it said nothing.
        verdict: The host's.
        reasons: Codes that made it worse, in the order found.
    """

    issued_at_s: int
    expires_at_s: int
    verdict: Verdict
    reasons: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class EventLine:
    """Something that happened.

    Attributes:
        at_s: Unix seconds, by the clock of whoever saw it: a host's may be wrong.
        kind: What, for example ``guest.violation`` or ``update.begin``.
        subject: To whom, for example a guest's id; empty for the host.
        code: Code of the reason; empty where there is none.
        detail: Any further text.
    """

    at_s: int
    kind: str
    subject: str = ""
    code: str = ""
    detail: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class HostInput:
    """One host.

    Attributes:
        name: What people call it; not unique.
        host_id: Its UUID; unique in a fleet.
        state: One of ``STATES``.
        result: Its last attestation result.
        enrolment: What is known of it; None when it is not enrolled.
        history: Earlier results, in any order; ``result`` may be among them.
        events: What happened, in any order.

    Raises:
        UsageError: ``report.state`` for an unknown state, ``report.host`` when the parts are about different hosts.
    """

    name: str
    host_id: str
    state: str
    result: AttestationResult | None = None
    enrolment: Enrolment | None = None
    history: tuple[ResultLine, ...] = ()
    events: tuple[EventLine, ...] = ()

    def __post_init__(self) -> None:
        if self.state not in STATES:
            raise UsageError(f"no state {shown(self.state)}: one of {', '.join(STATES)}", code="report.state")
        for part in (self.result, self.enrolment):
            if part is not None and part.host_id != self.host_id:
                raise UsageError(f"{shown(part.host_id)} is not {shown(self.host_id)}", code="report.host")


@dataclass(frozen=True, slots=True, kw_only=True)
class PolicySize:
    """How large a guest's SELinux policy is, where somebody read it."""

    types: int
    rules: int
    subjects: int


@dataclass(frozen=True, slots=True, kw_only=True)
class PackageInput:
    """One guest package.

    Attributes:
        report: What ``appraise.guestpackage.inspect_package`` found. Where it was given no files, nothing is proven
            here about the policy, and the page says so.
        size: Size of the policy; None where it was not read.
    """

    report: PackageReport
    size: PolicySize | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class FleetInput:
    """Everything one page tells.

    Attributes:
        title: Heading of the page.
        generated_at_s: When the states below were true, Unix seconds.
        hosts: The hosts, in any order.
        releases: Release id to release: what results and enrolments speak of, as far as it is known.
        packages: Package id to package, likewise.

    Raises:
        UsageError: ``report.host`` when two hosts have one id; ``report.package`` when a package stands under the id
            of another.
    """

    title: str
    generated_at_s: int
    hosts: tuple[HostInput, ...] = ()
    releases: Mapping[bytes, HostRelease] = field(default_factory=dict)
    packages: Mapping[bytes, PackageInput] = field(default_factory=dict)

    def __post_init__(self) -> None:
        seen: set[str] = set()
        for host in self.hosts:
            if host.host_id in seen:
                raise UsageError(f"host {shown(host.host_id)} stands twice", code="report.host")
            seen.add(host.host_id)
        for name, package in self.packages.items():
            if package.report.package_id != name:
                raise UsageError(f"package {shown(name)} is another", code="report.package")
        object.__setattr__(self, "releases", MappingProxyType(dict(self.releases)))
        object.__setattr__(self, "packages", MappingProxyType(dict(self.packages)))


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """How much of each kind a page holds; what is left out is counted and said.

    Attributes:
        drawn: Hosts told one by one, the worst first.
        listed: Hosts in the table.
        groups: Groups of hosts that are alike.
        names: Names spelt out in one place.
        reasons: Reasons in the overview.
        guests: Guests of one host.
        findings: Findings at one place.
        lines: Lines of one host's timeline.
        events: Events in the fleet's timeline.
        packages: Guest packages.
        filters: Filters, and entries, of one package.

    Raises:
        UsageError: ``report.limit`` for one below 1: a part that shows nothing could not say what it left out.
    """

    drawn: int = 60
    listed: int = 100
    groups: int = 40
    names: int = 24
    reasons: int = 40
    guests: int = 12
    findings: int = 8
    lines: int = 24
    events: int = 40
    packages: int = 16
    filters: int = 32

    def __post_init__(self) -> None:
        if too_low := [item.name for item in fields(self) if getattr(self, item.name) < 1]:
            raise UsageError(f"limits below 1: {', '.join(too_low)}", code="report.limit")
