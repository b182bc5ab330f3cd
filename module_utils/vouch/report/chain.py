# SPDX-License-Identifier: GPL-3.0-or-later
"""The chain of one host, from the key its TPM was made with to its guests: which link held, and what it held against.

A link is *proven* only when the appraisal went past the last stage that judges it. Where an appraisal stopped, the
links of that stage without a reason of their own are *not concluded*: nobody says that they were looked at. A chain
whose result does not count now has no proven link any more, only such as were *accepted then*.

Source: docs/proof.md, "Appraisal".
"""

from __future__ import annotations

import enum
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

from ..appraise.guestresult import GuestResult
from ..appraise.result import DONE, STAGES, UNREACHED, AttestationResult
from ..check.identity import check_ak_public
from ..errors import EvidenceError
from ..model.enrolment import Enrolment
from ..model.finding import Finding, Severity, Verdict
from ..model.release import HostRelease
from .view import HostInput
from .words import brief, fingerprint, many, moment


class Status(enum.Enum):
    """What is known of one link."""

    PROVEN = "proven"
    PAST = "accepted then"
    WARNED = "warning"
    FAILED = "failed"
    OPEN = "open"


@dataclass(frozen=True, slots=True, kw_only=True)
class Link:
    """One link.

    Attributes:
        key: Which: one of ``LINKS``.
        title: Its name, for people.
        status: What is known of it.
        word: The status in a word or two.
        fact: Its content in short, for the picture; may be empty.
        expected: What a good host shows.
        found: What this one showed.
        findings: Reasons that concern it, notes among them.
    """

    key: str
    title: str
    status: Status
    word: str
    fact: str
    expected: str
    found: str
    findings: tuple[Finding, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class GuestLink:
    """One guest at the chain's end, in the same words."""

    guest: GuestResult
    status: Status
    word: str


LINKS: Mapping[str, tuple[str, str]] = MappingProxyType(
    {
        "ek": ("EK certificate", "identity"),
        "ak": ("Attestation key", "identity"),
        "quote": ("Quote", "counters"),
        "firmware": ("Firmware", "boot"),
        "pcr4": ("PCR 4 · xen.efi", "boot"),
        "release": ("Host release", "boot"),
        "log": ("VM verifier's log", "contents"),
        "ima": ("IMA list", "contents"),
        "roti": ("Installation", "roti"),
        "channel": ("SSH channel", "channel"),
    }
)
"""Link to its title and the last stage of the appraisal that judges it, in the order of the appraisal."""

_AT: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        "evidence": ("quote",),
        "identity": ("ak", "ek"),
        "quote": ("quote",),
        "counters": ("quote",),
        "boot": ("release", "pcr4", "firmware"),
        "logs": ("log", "ima"),
        "contents": ("log", "ima"),
        "roti": ("roti",),
        "channel": ("channel",),
        "guests": (),
    }
)
"""Stage to the links it judges. All denials of a result are of the stage it stopped at."""

_CODES: tuple[tuple[str, str], ...] = (
    ("ek.", "ek"),
    ("ak.", "ak"),
    ("boot.pcr4.", "pcr4"),
    ("boot.application.", "pcr4"),
    ("boot.", "firmware"),
    ("secureboot.", "firmware"),
    ("eventlog14.", "log"),
    ("eventlog.", "firmware"),
    ("release.", "release"),
    ("ima.", "ima"),
    ("roti.", "roti"),
    ("channel.", "channel"),
)
"""Beginning of a code to the link it is about; every other one is about the quote."""


def chain_of(host: HostInput, releases: Mapping[bytes, HostRelease], *, current: bool) -> tuple[Link, ...]:
    """Return the links of ``host`` in the order of ``LINKS``.

    Args:
        host: The host.
        releases: Release id to release.
        current: Whether its last result counts now (``standing.is_current``).
    """
    by_link = _sorted_findings(host.result)
    facts = _facts(host.result, host.enrolment, releases)
    links = []
    for key, (title, _) in LINKS.items():
        findings = by_link.get(key, ())
        status, word = _status(key, host, findings, current=current)
        fact, expected, found = facts[key]
        if status is Status.OPEN:
            fact, found = "", word
        links.append(
            Link(
                key=key,
                title=title,
                status=status,
                word=word,
                fact=fact,
                expected=expected,
                found=found,
                findings=findings,
            )
        )
    return tuple(links)


def guest_links(host: HostInput, *, current: bool) -> tuple[GuestLink, ...]:
    """Return the guests of ``host``, the worst first."""
    guests = () if host.result is None else host.result.guests
    rank = {Verdict.CONTRAINDICATED: 0, Verdict.WARNING: 1, Verdict.NONE: 2, Verdict.AFFIRMING: 3}
    links = []
    for guest in sorted(guests, key=lambda item: (rank[item.verdict], item.guest)):
        status = {
            Verdict.AFFIRMING: Status.PROVEN if current else Status.PAST,
            Verdict.WARNING: Status.WARNED if current else Status.PAST,
            Verdict.CONTRAINDICATED: Status.FAILED,
            Verdict.NONE: Status.OPEN,
        }[guest.verdict]
        links.append(GuestLink(guest=guest, status=status, word=_guest_word(guest, status)))
    return tuple(links)


def told(links: tuple[Link, ...], guests: tuple[GuestLink, ...]) -> str:
    """Return the chain in one sentence, for those who do not see it."""
    by_status = {status: [link.title for link in links if link.status is status] for status in Status}
    parts = [
        f"{status.value}: {', '.join(by_status[status])}"
        for status in (Status.FAILED, Status.WARNED, Status.PROVEN, Status.PAST, Status.OPEN)
        if by_status[status]
    ]
    if guests:
        bad = sum(link.status is Status.FAILED for link in guests)
        parts.append(f"{many(len(guests), 'guest')}, {bad} failed")
    return "; ".join(parts) + "."


def _guest_word(guest: GuestResult, status: Status) -> str:
    if status is Status.OPEN and guest.record is not None:
        return guest.record.state if guest.record.state != "running" else guest.record.phase
    return status.value


def _sorted_findings(result: AttestationResult | None) -> dict[str, tuple[Finding, ...]]:
    """Return link to the findings about it; every finding is of exactly one link."""
    found: dict[str, list[Finding]] = {}
    for finding in () if result is None or result.stage == UNREACHED else result.findings:
        key = next((link for start, link in _CODES if finding.code.startswith(start)), "quote")
        if finding.severity is Severity.DENY and result is not None and result.stage != DONE:
            here = _AT[result.stage]
            if here and key not in here:
                key = here[0]
        found.setdefault(key, []).append(finding)
    return {key: tuple(items) for key, items in found.items()}


def _status(key: str, host: HostInput, findings: tuple[Finding, ...], *, current: bool) -> tuple[Status, str]:
    severities = {finding.severity for finding in findings}
    if Severity.DENY in severities:
        return Status.FAILED, "failed"
    result = host.result
    if result is None or result.stage == UNREACHED:
        if key == "ek" and host.enrolment is not None:
            return Status.PAST, "at enrolment"
        return Status.OPEN, "not asked" if result is None else "no answer"
    stage = LINKS[key][1]
    reached = len(STAGES) if result.stage == DONE else STAGES.index(result.stage)
    if reached <= STAGES.index(stage):
        begun = result.stage == stage or key in _AT.get(result.stage, ())
        return Status.OPEN, "not concluded" if begun else "not reached"
    if not current:
        return Status.PAST, "accepted then"
    return (Status.WARNED, "warning") if Severity.WARN in severities else (Status.PROVEN, "proven")


def _facts(
    result: AttestationResult | None, known: Enrolment | None, releases: Mapping[bytes, HostRelease]
) -> dict[str, tuple[str, str, str]]:
    """Return link to fact, expected and found of a link that held."""
    nothing = "nothing: the host is not enrolled"
    no_key = nothing if known is None else "nothing: the enrolment holds no attestation key"
    installed = None if known is None else releases.get(known.release_id)
    stated = None if result is None or result.release_id is None else releases.get(result.release_id)
    reference = stated or installed
    ak_expected, ak_found = _ak_name(known), None if result is None else result.ak_name
    pcr4 = (None, None) if result is None else (result.pcr4_expected, result.pcr4_found)
    entries = None if result is None else result.ima_entries
    name = "" if result is None or result.release_name is None else result.release_name
    key = "" if known is None else fingerprint(known.ssh_host_key)
    asked = "" if result is None or not result.nonce else result.nonce.hex()
    evidence = "" if result is None or result.evidence_digest is None else result.evidence_digest.hex()
    when = "" if result is None else moment(result.issued_at_s)
    pinned = "" if known is None else f"PCRs {', '.join(map(str, known.baseline))}"
    return {
        "ek": (
            "" if known is None else brief(known.ek_sha256),
            "a certificate that leads to a TPM vendor the installation trusted",
            nothing if known is None else f"endorsement key {known.ek_sha256.hex()}, {moment(known.enrolled_at_s)}",
        ),
        "ak": (_brief(ak_found), _hex(ak_expected) or no_key, _hex(ak_found)),
        "quote": (when[11:], f"nonce {asked}" if asked else "our nonce", f"signed; evidence {evidence}"),
        "firmware": (
            "" if known is None else f"{len(known.baseline)} registers",
            f"{pinned} as pinned" if pinned else nothing,
            "as pinned",
        ),
        "pcr4": (_brief(pcr4[1]), _hex(pcr4[0]) or _predicted(reference), _hex(pcr4[1])),
        "release": (
            name,
            nothing if known is None else _release(known.release_id, installed),
            "" if result is None or result.release_id is None else _release(result.release_id, stated, name),
        ),
        "log": ("PCR 14", "each event since the boot, under PCR 14", "replays; each event accounted for"),
        "ima": (
            "" if entries is None else many(entries, "entry", "entries"),
            "only files of the release" if reference is None else f"only the {_files(reference)} of the release",
            "" if entries is None else f"{many(entries, 'measurement')}, all of the release",
        ),
        "roti": ("ROTI proof", "a trusted installer wrote this release to this machine", "its quote says so"),
        "channel": (key[7:19], key or nothing, key),
    }


def _files(release: HostRelease) -> str:
    return many(release.manifest_files, "file")


def _predicted(release: HostRelease | None) -> str:
    return "what the release predicts" if release is None else release.pcr4.hex()


def _release(release_id: bytes, release: HostRelease | None, name: str = "") -> str:
    named = release.name if release is not None else name
    return f"{named} {release_id.hex()}" if named else release_id.hex()


def _ak_name(known: Enrolment | None) -> bytes | None:
    """Return the TPM name of the enrolled key; None where the enrolment holds none that could be one."""
    if known is None:
        return None
    try:
        return check_ak_public(known.ak_public).name
    except EvidenceError:
        return None


def _hex(value: bytes | None) -> str:
    return "" if value is None else value.hex()


def _brief(value: bytes | None) -> str:
    return "" if value is None else brief(value)
