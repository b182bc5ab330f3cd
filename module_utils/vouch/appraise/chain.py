# SPDX-License-Identifier: GPL-3.0-or-later
"""Why a bundle says what it says: one step after the other, in the order of the appraisal.

Each step names what was checked, against what, what was expected and found, and the part it stands in. A step is no
better than what carries it: one that holds, but leads back to nothing that was given from outside, is *consistent*.

Source: docs/proof.md, "Appraisal".
"""

from __future__ import annotations

import enum
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

from ..errors import ParseError, shown
from ..model.evidence import Evidence
from ..model.finding import Finding, Severity, Verdict
from ..model.release import HostRelease
from ..model.statement import HostStatement
from ..parse.bundle import TOKEN
from ..parse.envelope import parse_envelope
from ..parse.tpm2 import parse_attest
from .anchors import APPRAISER, INPUTS, INSTALLER, LAUNCH_REGISTER, PACKAGES, RELEASE, Hold
from .guestresult import GuestResult
from .recheck import Recheck, passed
from .result import DONE, STAGES, UNREACHED

APPRAISAL = "docs/proof.md, appraisal"
BUNDLES = "docs/verify.md"


class State(enum.Enum):
    """How one step stands."""

    PROVEN = "proven"
    CONSISTENT = "consistent"
    REFUSED = "refused"
    FALSE = "false"
    SKIPPED = "not reached"


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """One step.

    Attributes:
        name: ``bundle``, ``signature``, a stage of the appraisal, or ``result``.
        state: PROVEN: it holds, and is carried from outside; CONSISTENT: it holds within the bundle; REFUSED: the host
            was found to be wrong here; FALSE: the bundle is; SKIPPED: the appraisal ended before.
        checked: What.
        against: Parts it was held against.
        expected: What a good host, or a true bundle, shows.
        found: What is there.
        source: Document.
        findings: Reasons.
    """

    name: str
    state: State
    checked: str
    against: str
    expected: str = ""
    found: str = ""
    source: str = APPRAISAL
    findings: tuple[Finding, ...] = field(default=())


_CHECKED: Mapping[str, tuple[str, str]] = MappingProxyType(
    {
        "evidence": ("the answer is one document of its format", "evidence.json"),
        "identity": ("the host is enrolled, with a key that signs only what its TPM made", "enrolment.json"),
        "quote": (
            "the enrolled key quoted the registers asked for, over our nonce and the host's statement",
            "evidence.json, enrolment.json, context.json",
        ),
        "counters": ("the TPM's clock and counters did not go back", "evidence.json, enrolment.json"),
        "boot": (
            "what booted is a signed release, the one installed, on the pinned firmware",
            "release.json, policy.json, enrolment.json",
        ),
        "logs": ("the logs replay to the quoted PCR 14 and PCR 10", "evidence.json"),
        "contents": ("every event and every measured file is accounted for", "manifest"),
        "roti": ("a trusted installer wrote this release to this machine", "evidence.json, policy.json, former/"),
        "channel": ("the key spoken to is the one stated and the one enrolled", "context.json, enrolment.json"),
        "guests": ("each guest agrees with the log and with its signed package", "evidence.json, packages/"),
    }
)
"""Stage to what it checks, and the parts it is held against."""

_CARRIED: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {"boot": (RELEASE,), "contents": (RELEASE,), "roti": (RELEASE, INSTALLER), "guests": (PACKAGES,)}
)
"""Claims that a stage rests on besides those of the appraiser, on which all rest."""


def chain(found: Recheck) -> tuple[Step, ...]:
    """Return the steps of ``found``, the first one first."""
    return (_bundle(found), _signature(found), *_stages(found), _result(found))


def _bundle(found: Recheck) -> Step:
    parts = found.parts.bundle.parts
    findings = _of(found, "bundle.part", "bundle.context")
    return Step(
        name="bundle",
        state=_state(findings, found, INPUTS),
        checked="the parts are those of the index, and nothing else is there",
        against="bundle.json",
        expected="parts of one appraisal, each under its digest",
        found=f"{len(parts)} parts, {found.parts.bundle.size_bytes} bytes",
        source=BUNDLES,
        findings=findings,
    )


def _signature(found: Recheck) -> Step:
    findings = _of(found, "ear.", "bundle.ear")
    claim = next(claim for claim in found.claims if claim.name == APPRAISER)
    return Step(
        name="signature",
        state=_state(findings, found, APPRAISER),
        checked="a trusted appraiser signed the result, with the digest of what it was made from",
        against=TOKEN,
        expected="a signature by a given key, and the same claims as in result.json",
        found=claim.by,
        source="docs/proof.md, attestation result",
        findings=findings,
    )


def _result(found: Recheck) -> Step:
    findings = _of(found, "bundle.result")
    again = found.again
    return Step(
        name="result",
        state=_state(findings, found, APPRAISER, INPUTS),
        checked="made anew from these parts, at the recorded time, it is the recorded result",
        against="result.json",
        expected=f"{again.verdict.value}, stage {again.stage}",
        found=f"{found.parts.result.verdict.value}, stage {found.parts.result.stage}",
        source=BUNDLES,
        findings=findings,
    )


def _stages(found: Recheck) -> Iterator[Step]:
    again = found.again
    told = _facts(found)
    at = len(STAGES) if again.stage == DONE else -1 if again.stage == UNREACHED else STAGES.index(again.stage)
    notes = [item for item in again.findings if item.severity is not Severity.DENY]
    for place, stage in enumerate(STAGES):
        checked, against = _CHECKED[stage]
        expected, actual = told.get(stage, ("", ""))
        findings: tuple[Finding, ...] = tuple(item for item in notes if _stage_of(item) == stage and place <= at)
        if stage == "guests":
            yield from _guests(found)
            continue
        if place < at:
            state = _state(_refuted(found, stage), found, APPRAISER, INPUTS, *_CARRIED.get(stage, ()))
            findings = (*_refuted(found, stage), *findings)
        elif place == at:
            state = State.REFUSED
            findings = (*findings, *(item for item in again.findings if item.severity is Severity.DENY))
        else:
            state = State.SKIPPED
        yield Step(
            name=stage,
            state=state,
            checked=checked,
            against=against,
            expected=expected if place <= at else "",
            found=actual if place <= at else "",
            findings=findings,
        )


def _guests(found: Recheck) -> Iterator[Step]:
    checked, against = _CHECKED["guests"]
    if not found.again.guests:
        yield Step(name="guests", state=State.SKIPPED, checked=checked, against=against, found="no guest is spoken of")
        return
    for guest in found.again.guests:
        findings = (*_refuted(found, "guests"), *guest.findings)
        yield Step(
            name=f"guest {guest.guest}",
            state=_guest_state(guest, found),
            checked=checked,
            against=against,
            expected="launched by the log, stated as its package says, checked lately",
            found=guest.verdict.value if guest.record is None else f"{guest.verdict.value}: {_record(guest)}",
            source="docs/proof.md, guests",
            findings=findings,
        )


def _guest_state(guest: GuestResult, found: Recheck) -> State:
    if guest.verdict is Verdict.CONTRAINDICATED:
        return State.REFUSED
    if guest.verdict is Verdict.NONE:
        return State.SKIPPED
    return _state(_refuted(found, "guests"), found, APPRAISER, INPUTS, PACKAGES)


def _record(guest: GuestResult) -> str:
    record = guest.record
    return "" if record is None else f"package {record.name} {record.package.hex()}, {record.rounds} checks"


def _state(findings: tuple[Finding, ...], found: Recheck, *claims: str) -> State:
    """Return how a step stands that holds unless there are ``findings``, and rests on ``claims``."""
    if findings:
        return State.FALSE
    holds = [found.holds(name) for name in claims]
    return State.PROVEN if all(hold in (Hold.HELD, None) for hold in holds) else State.CONSISTENT


def _of(found: Recheck, *families: str) -> tuple[Finding, ...]:
    return tuple(item for item in found.findings if item.code.startswith(families))


def _refuted(found: Recheck, stage: str) -> tuple[Finding, ...]:
    """Return why a claim that the stage rests on is not what was given."""
    wanted = {"boot": RELEASE, "roti": INSTALLER, "guests": PACKAGES}.get(stage)
    return tuple(item for claim in found.claims if claim.name == wanted for item in claim.findings)


def _stage_of(finding: Finding) -> str:
    """Return the stage that a note belongs to, by the family of its code."""
    family = finding.code.split(".", 1)[0]
    if finding.code.startswith("quote.clock") or finding.code == "quote.reset.changed":
        return "counters"
    return {"boot": "boot", "release": "boot", "roti": "roti", "eventlog": "roti", "quote": "quote"}.get(
        family, "contents"
    )


def _facts(found: Recheck) -> dict[str, tuple[str, str]]:
    """Return what was expected and found at each stage that was passed or refused."""
    evidence, again, parts = found.evidence, found.again, found.parts
    if evidence is None or again.evidence_digest is None or parts.context.asked is None:
        return {}
    asked = parts.context.asked
    facts = {
        "evidence": ("urn:vouch:evidence:1", f"sha256 {again.evidence_digest.hex()}"),
        "identity": (f"host {again.host_id}", "" if again.ak_name is None else f"AK {again.ak_name.hex()}"),
        "channel": (
            "no enrolment" if parts.enrolment is None else parts.enrolment.ssh_host_key,
            asked.channel_key,
        ),
    }
    if again.pcr4_found is None:
        return facts
    return facts | _covered_facts(found, evidence)


def _covered_facts(found: Recheck, evidence: Evidence) -> dict[str, tuple[str, str]]:
    """Return what was expected and found behind a quote that holds."""
    again, parts = found.again, found.parts
    try:
        statement = HostStatement.from_bytes(evidence.statement)
        clock = parse_attest(evidence.attest).clock_info
    except ParseError:
        return {}
    registers = ",".join(str(index) for index in parts.policy.pcrs)
    last = None if parts.enrolment is None else parts.enrolment.counters
    facts = {
        "quote": (
            f"nonce {again.nonce.hex()}, PCRs {registers}",
            f"quoted for {evidence.leaf_count} asker{'s' if evidence.leaf_count > 1 else ''}",
        ),
        "counters": (
            "no earlier" if last is None else f"from boot {last.reset_count}, {last.clock_ms} ms on",
            f"boot {clock.reset_count}, {clock.clock_ms} ms",
        ),
        "logs": (
            f"PCR 14 {evidence.pcrs[14].hex()}, PCR 10 {evidence.pcrs[10].hex()}",
            f"{statement.event_log_count} events, {evidence.ima_offset + len(evidence.ima_log)} bytes of measurements",
        ),
        "contents": (f"files of {_manifest(found)}", f"{again.ima_entries} measurements"),
    }
    if again.pcr4_expected is not None and again.pcr4_found is not None:
        facts["boot"] = (
            f"PCR 4 {again.pcr4_expected.hex()}, {again.variant} release {shown(again.release_name)}",
            f"PCR 4 {again.pcr4_found.hex()}, release id {statement.release_id.hex()}",
        )
    if evidence.roti is not None and passed(again, "contents"):
        trusted = " or ".join(item.hex() for item in parts.policy.installer_pcr4)
        facts["roti"] = (f"PCR 4 {trusted}", f"PCR 4 {evidence.roti.pcrs.values.get(LAUNCH_REGISTER, b'').hex()}")
    return facts


def _manifest(found: Recheck) -> str:
    data = found.parts.bundle.parts.get("release.json")
    try:
        release = None if data is None else HostRelease.from_bytes(parse_envelope(data).payload)
    except ParseError:
        release = None
    return "no manifest" if release is None else f"the manifest, {release.manifest_files} of them"
