# SPDX-License-Identifier: GPL-3.0-or-later
"""A bundle again, by somebody else: the whole appraisal from the bundle's own parts, at the time it was made.

1. Every part is read, each in its one spelling.
2. The parts belong together: the request, the enrolment, the evidence and the result are about one host and one nonce.
3. The appraisal is made anew, at the recorded time, and comes to the recorded result, byte for byte.
4. The bundle holds nothing that this result was not made from.
5. The signed result says what the result says, and names every other part.
6. The claims of the bundle are held against what is trusted from outside (``appraise.anchors``).

The caller still owes: reading the bundle (``parse.bundle``), and the question whether the result still counts.

Source: docs/verify.md.
"""

from __future__ import annotations

import enum
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TypeVar

from ..errors import EvidenceError, ParseError, UnreachableError, UsageError, shown
from ..model.bundle import BundleContext
from ..model.enrolment import Enrolment
from ..model.evidence import Evidence
from ..model.finding import Finding, Verdict, deny
from ..model.release import release_id
from ..parse.bundle import FORMER, PACKAGE, TOKEN, Bundle, parts_digest
from ..parse.canonical import dump_canonical
from .anchors import (
    Anchors,
    Claim,
    Hold,
    appraiser_claim,
    inputs_claim,
    installer_claim,
    packages_claim,
    release_claim,
)
from .ear import BUNDLE_CLAIM, Ear, ear_claims, parse_ear
from .host import HostAppraisal, appraise_host
from .policy import AppraisalPolicy
from .references import References
from .result import DONE, STAGES, UNREACHED, AttestationResult, unreachable_result

SOURCE = "docs/verify.md"

Part = TypeVar("Part")


class Outcome(enum.Enum):
    """What a bundle is worth to who checked it, the worst first."""

    FALSE = "false"
    UNANCHORED = "not anchored"
    REFUSED = "not affirming"
    PROVEN = "proven"


@dataclass(frozen=True, slots=True, kw_only=True)
class Parts:
    """The parts of one bundle, read. Nothing is proven by that."""

    bundle: Bundle
    context: BundleContext
    policy: AppraisalPolicy
    enrolment: Enrolment | None
    result: AttestationResult


@dataclass(frozen=True, slots=True, kw_only=True)
class Recheck:
    """What was found of one bundle.

    Attributes:
        parts: What was read, the recorded result among it.
        again: The result that the parts lead to.
        evidence: The host's answer, where it could be read.
        ear: The signed result; believed only where the appraiser's claim is HELD.
        claims: What the bundle claims and what carries it; only what this result claims.
        findings: Why the bundle is false; empty when nothing speaks against it.
    """

    parts: Parts
    again: AttestationResult
    evidence: Evidence | None
    ear: Ear | None
    claims: tuple[Claim, ...]
    findings: tuple[Finding, ...]

    @property
    def outcome(self) -> Outcome:
        """What the bundle is worth: only a bundle that is true, anchored and affirming is PROVEN."""
        if self.findings:
            return Outcome.FALSE
        if any(claim.hold is not Hold.HELD for claim in self.claims):
            return Outcome.UNANCHORED
        return Outcome.PROVEN if self.again.verdict is Verdict.AFFIRMING else Outcome.REFUSED

    def holds(self, name: str) -> Hold | None:
        """Return how a claim stands; None when this bundle does not make it."""
        return next((claim.hold for claim in self.claims if claim.name == name), None)


def passed(result: AttestationResult, stage: str) -> bool:
    """Say whether the appraisal got past ``stage``."""
    if result.stage in (DONE, UNREACHED):
        return result.stage == DONE
    return STAGES.index(stage) < STAGES.index(result.stage)


def recheck(bundle: Bundle, anchors: Anchors) -> Recheck:
    """Return what ``bundle`` is worth to somebody who trusts ``anchors``.

    Raises:
        EvidenceError: ``bundle.part.malformed``, ``bundle.context.mismatch``: there is no appraisal to make anew.

    Trust: the bundle is anybody's; it agrees with its own index.
    """
    parts = read_parts(bundle)
    again = _appraise_again(parts)
    fresh = again.result
    findings = [*_compare(parts.result, fresh), *_unused(parts, again)]
    token = bundle.parts.get(TOKEN)
    appraiser, ear = appraiser_claim(token, anchors)
    if ear is not None:
        findings += _compare_ear(parts, ear)
    claims = [appraiser, *_other_claims(parts, fresh, appraiser, ear, anchors)]
    for claim in claims:
        findings += claim.findings
    return Recheck(
        parts=parts,
        again=fresh,
        evidence=_evidence(parts),
        ear=ear,
        claims=tuple(claims),
        findings=tuple(findings),
    )


def read_parts(bundle: Bundle) -> Parts:
    """Return the parts of ``bundle``, each in its one spelling.

    Raises:
        EvidenceError: ``bundle.part.malformed``.
    """
    enrolment = None
    if "enrolment.json" in bundle.parts:
        enrolment = _read(bundle, "enrolment.json", Enrolment.from_bytes, Enrolment.to_bytes)
    return Parts(
        bundle=bundle,
        context=_read(bundle, "context.json", BundleContext.from_bytes, None),
        policy=_read(bundle, "policy.json", AppraisalPolicy.from_bytes, lambda item: dump_canonical(item.to_json())),
        enrolment=enrolment,
        result=_read(bundle, "result.json", AttestationResult.from_bytes, AttestationResult.to_bytes),
    )


def _read(bundle: Bundle, name: str, read: Callable[[bytes], Part], write: Callable[[Part], bytes] | None) -> Part:
    data = bundle.parts[name]
    try:
        value = read(data)
        if write is None or write(value) == data:
            return value
    except (ParseError, UsageError) as error:
        raise deny("bundle.part.malformed", name, expected="a part as an appraiser writes it", actual=error) from None
    raise deny("bundle.part.malformed", name, expected="its one spelling", actual="another spelling of the same")


def _appraise_again(parts: Parts) -> HostAppraisal:
    """Return the result that the parts lead to, and the releases that it needed."""
    context, evidence = parts.context, parts.bundle.parts.get("evidence.json")
    if (context.asked is None) != (evidence is None):
        raise _misfit("evidence exactly when a request was answered", "one without the other")
    for name, host in (("enrolment.json", parts.enrolment), ("result.json", parts.result)):
        if host is not None and host.host_id != context.host_id:
            raise _misfit(f"host {context.host_id}", f"host {host.host_id} in {name}")
    try:
        references = _references(parts)
        if context.asked is None or evidence is None:
            return HostAppraisal(result=_unreached_again(parts, references), enrolment=None)
        return appraise_host(
            evidence,
            host_id=context.host_id,
            nonce=context.asked.nonce,
            channel_key=context.asked.channel_key,
            enrolment=parts.enrolment,
            references=references,
            now_s=context.now_s,
            asked_at_s=context.asked.asked_at_s,
        )
    except UsageError as error:
        # Our caller's fault elsewhere; here every argument comes out of the bundle.
        raise _misfit("parts that an appraisal can be made of", error.message) from None


def _references(parts: Parts) -> References:
    held = parts.bundle.parts
    releases = [(held["release.json"], held["manifest"])] if "release.json" in held else []
    packages = [data for name, data in held.items() if PACKAGE.match(name)]
    return References(parts.policy, releases, packages, _former(parts))


def _former(parts: Parts) -> list[bytes]:
    return [data for name, data in parts.bundle.parts.items() if FORMER.match(name)]


def _unreached_again(parts: Parts, references: References) -> AttestationResult:
    """Return the result for a host that was not reached: what was seen then stands in the result alone."""
    recorded = parts.result
    reason = recorded.findings[0] if recorded.findings else None
    if reason is None or reason.actual is None:
        raise _misfit("a reason why there is no evidence", "none")
    return unreachable_result(
        parts.context.host_id,
        UnreachableError(reason.actual, code=reason.code),
        policy_digest=references.policy_digest,
        issued_at_s=parts.context.now_s,
        ttl_s=parts.policy.ttl_s,
    )


def _compare(recorded: AttestationResult, fresh: AttestationResult) -> Iterator[Finding]:
    """Yield where the recorded result is not the one that the parts lead to."""
    told, found = recorded.to_json(), fresh.to_json()
    told["findings"], found["findings"] = _comparable(recorded, fresh)
    for name in found:
        if told[name] != found[name]:
            # Shown are the beginnings; where findings differ, their codes say more than the whole.
            expected, actual = (
                (", ".join(item["code"] for item in value[name]) or "none") if name == "findings" else value[name]
                for value in (found, told)
            )
            yield Finding.deny(
                "bundle.result.mismatch", "result.json", f"{name} {expected}", f"{name} {actual}", source=SOURCE
            )


def _comparable(recorded: AttestationResult, fresh: AttestationResult) -> tuple[list[dict[str, str]], ...]:
    """Return the findings of both in a form that can be compared.

    The appraiser may have known other releases, and said which of them was booted instead: a bundle holds one, so that
    name, which decides nothing, cannot be found again.
    """
    told, found = (list(result.to_json()["findings"]) for result in (recorded, fresh))
    for place, (old, new) in enumerate(zip(told, found, strict=False)):
        if old["code"] == new["code"] == "boot.pcr4.unexpected" and str(old["actual"]).startswith(f"{new['actual']} ("):
            told[place] = {**old, "actual": new["actual"]}
    return told, found


def _unused(parts: Parts, again: HostAppraisal) -> Iterator[Finding]:
    """Yield the parts that the result was not made from."""
    guests = {guest.record.package.hex() for guest in parts.result.guests if guest.record is not None}
    for name, data in parts.bundle.parts.items():
        package, former = PACKAGE.match(name), FORMER.match(name)
        if (
            (package and package[1] not in guests)
            or (former and release_id(data) not in again.former)
            or (name == "release.json" and release_id(data) != again.stated_release)
        ):
            yield Finding.deny("bundle.part.unused", name, "parts of this result", "another one", source=SOURCE)


def _compare_ear(parts: Parts, ear: Ear) -> Iterator[Finding]:
    """Yield where the signed result says something else than the result and the parts."""
    digest = parts_digest(parts.bundle.parts) if BUNDLE_CLAIM in ear.extensions else None
    try:
        expected = parse_ear(ear_claims(parts.result, build=ear.build, bundle=digest))
    except ParseError as error:
        yield Finding.deny("bundle.ear.mismatch", TOKEN, "a result that can be told as EAR", error, source=SOURCE)
        return
    for name in ("profile", "issued_at_s", "expires_at_s", "developer", "submodules", "extensions"):
        wanted, found = getattr(expected, name), getattr(ear, name)
        if wanted != found:
            if isinstance(wanted, int):
                told: tuple[object, object] = (wanted, found)
            else:
                told = "what the other parts say", "something else"
            yield Finding.deny("bundle.ear.mismatch", TOKEN, f"{name} {told[0]}", f"{name} {told[1]}", source=SOURCE)


def _other_claims(
    parts: Parts, result: AttestationResult, appraiser: Claim, ear: Ear | None, anchors: Anchors
) -> Iterator[Claim]:
    """Yield the claims that a result makes besides that of its appraiser."""
    held = parts.bundle.parts
    unbound = parts.context.asked is None and ear is not None and BUNDLE_CLAIM not in ear.extensions
    if not unbound:
        # What says that nobody could look was made from nothing that the signed result does not repeat.
        yield inputs_claim(appraiser, ear)
    if passed(result, "boot") and "release.json" in held:
        # What it ran before carries the install proof to what it runs now.
        yield release_claim((held["release.json"], *(_former(parts) if passed(result, "roti") else ())), anchors)
    evidence = _evidence(parts)
    if passed(result, "roti") and evidence is not None and evidence.roti is not None:
        yield installer_claim(evidence.roti, anchors)
    good = {
        guest.record.package.hex()
        for guest in result.guests
        if guest.record is not None and guest.verdict in (Verdict.AFFIRMING, Verdict.WARNING)
    }
    if good:
        envelopes = (data for name, data in held.items() if (match := PACKAGE.match(name)) and match[1] in good)
        yield packages_claim(envelopes, anchors)


def _evidence(parts: Parts) -> Evidence | None:
    try:
        return Evidence.from_bytes(parts.bundle.parts.get("evidence.json", b""))
    except ParseError:
        return None


def _misfit(expected: str, actual: object) -> EvidenceError:
    return deny("bundle.context.mismatch", "context.json", expected=expected, actual=shown(actual), source=SOURCE)
