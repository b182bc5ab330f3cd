# SPDX-License-Identifier: GPL-3.0-or-later
"""What was found of a provenance bundle, as plain text for people and as JSON for programs."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import Any

from ..appraise.anchors import Hold
from ..appraise.provenance import ProvenanceRecheck
from ..appraise.recheck import Outcome
from ..port.clock import utc_text
from .verifytext import claim_text, finding_lines, step_json, step_lines

_SENTENCES = {
    Outcome.PROVEN: "PROVEN: every object was made, and all were put together, by guests that you trust",
    Outcome.FALSE: "FALSE: the bundle was altered, or is not what you trust",
    Outcome.UNANCHORED: "NOT ANCHORED: self-consistent, but nothing given carries: ",
}


def provenance_lines(found: ProvenanceRecheck, *, name: str, why: bool) -> Iterator[str]:
    """Yield the lines of a report.

    Args:
        found: What was found.
        name: What the bundle is called.
        why: Tell every step, and every object.
    """
    yield f"bundle    {name}: {len(found.bundle.parts)} parts, {found.bundle.size_bytes:,} bytes"
    if found.build is not None:
        build = found.build.build
        yield f"built     {utc_text(build.run.finished_s)}, by {build.builder.uri}"
        for subject, digest in build.subjects.items():
            yield f"file      {digest.hex()}  {subject}"
        for uri, count in sorted(Counter(job.job.builder.uri for job in found.jobs.values()).items()):
            yield f"objects   {count} by {uri}"
    yield "guests"
    for claim in found.claims:
        yield f"  {claim.name}: {claim_text(claim)}, {claim.by}"
    for finding in found.findings:
        yield from finding_lines(finding, "  ")
    if why:
        for digest, job in found.jobs.items():
            yield f"object    {digest.hex()}  {' '.join(job.job.arguments)}"
        for number, step in enumerate(found.steps, 1):
            yield ""
            yield from step_lines(number, step)
        yield ""
    yield f"outcome   {outcome_text(found)}"


def outcome_text(found: ProvenanceRecheck) -> str:
    """Return what the bundle is worth, in one line."""
    text = _SENTENCES[found.outcome]
    if found.outcome is Outcome.UNANCHORED:
        text += ", ".join(claim.name for claim in found.claims if claim.hold is not Hold.HELD)
    return text


def provenance_json(found: ProvenanceRecheck, *, exit_code: int) -> dict[str, Any]:
    """Return the same for programs."""
    build = None if found.build is None else found.build.build
    return {
        "outcome": found.outcome.value,
        "exit_code": exit_code,
        "builder": None if build is None else build.builder.uri,
        "files": {} if build is None else {name: digest.hex() for name, digest in build.subjects.items()},
        "objects": [
            {
                "sha256": digest.hex(),
                "statement": job.statement.hex(),
                "builder": job.job.builder.uri,
                "source": job.job.source.hex(),
                "arguments": list(job.job.arguments),
            }
            for digest, job in found.jobs.items()
        ],
        "guests": [{"guest": claim.name, "hold": claim.hold.value, "by": claim.by} for claim in found.claims],
        "findings": [finding.as_dict() for finding in found.findings],
        "steps": [step_json(step) for step in found.steps],
    }
