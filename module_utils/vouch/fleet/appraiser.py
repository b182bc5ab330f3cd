# SPDX-License-Identifier: GPL-3.0-or-later
"""One appraiser at work: from what a host answered to a result, its signed form, and all the parts it was made from.

Module ``vouch_appraise`` uses it once per host, the watch for every host again and again.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ..appraise.ear import ear_claims, sign_ear
from ..appraise.host import appraise_host
from ..appraise.policy import AppraisalPolicy
from ..appraise.references import References
from ..appraise.result import AttestationResult, unreachable_result
from ..errors import UnreachableError
from ..model.enrolment import Enrolment
from ..model.package import package_id
from ..parse.bundle import former_name, parts_digest
from ..parse.canonical import dump_canonical

BUILD = "vouch 0.1.0"
"""Name and version of the appraiser, for readers of EARs."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What came back for one nonce.

    Attributes:
        evidence: As received.
        nonce: The 32 bytes that were asked with.
        channel_key: Host key of the connection it came through.
        asked_at_s: When the nonce was made, Unix seconds.
    """

    evidence: bytes
    nonce: bytes
    channel_key: str
    asked_at_s: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Appraisal:
    """A result with all it was made from.

    Attributes:
        result: What was found.
        enrolment: What the enrolment advances to; None when it does not.
        ear: The signed form; empty without a key.
        parts: For ``make.bundle``.
    """

    result: AttestationResult
    enrolment: Enrolment | None
    ear: str
    parts: dict[str, bytes]


class Appraiser:
    """Judges hosts under one policy.

    Args:
        policy: What is demanded.
        releases: Release id to signed file and file list.
        packages: Signed guest packages.
        ear_key: Private P-256 key, PEM; None: results are not signed.
    """

    def __init__(
        self,
        policy: AppraisalPolicy,
        releases: Mapping[bytes, tuple[bytes, bytes]],
        packages: Sequence[bytes] = (),
        *,
        ear_key: bytes | None = None,
    ) -> None:
        self.policy = policy
        self._releases = dict(releases)
        self._packages = {package_id(envelope): envelope for envelope in packages}
        self._references = References(policy, self._releases.values(), packages)
        self._policy_json = dump_canonical(policy.to_json())
        self._ear_key = ear_key

    def appraise(
        self, host_id: str, answer: Answer | UnreachableError, enrolment: Enrolment | None, *, now_s: int
    ) -> Appraisal:
        """Return what an answer is worth; of a host that did not answer, the result says only that.

        Args:
            host_id: The host that was asked.
            answer: What came back, or why nothing did.
            enrolment: What is known of the host.
            now_s: Unix seconds.

        Raises:
            UsageError: as ``appraise.host.appraise_host``.
        """
        context: dict[str, Any] = {"host_id": host_id, "now": now_s}
        parts = {"policy.json": self._policy_json}
        if enrolment is not None:
            parts["enrolment.json"] = enrolment.to_bytes()
        after, stated, former = None, b"", frozenset[bytes]()
        if isinstance(answer, Answer):
            done = appraise_host(
                answer.evidence,
                host_id=host_id,
                nonce=answer.nonce,
                channel_key=answer.channel_key,
                enrolment=enrolment,
                references=self._references,
                now_s=now_s,
                asked_at_s=answer.asked_at_s,
            )
            result, after = done.result, done.enrolment
            stated, former = done.stated_release, done.former
            context |= {
                "nonce": answer.nonce.hex(),
                "channel_key": answer.channel_key,
                "asked_at": answer.asked_at_s,
            }
            parts["evidence.json"] = answer.evidence
        else:
            result = unreachable_result(
                host_id,
                answer,
                policy_digest=self._references.policy_digest,
                issued_at_s=now_s,
                ttl_s=self.policy.ttl_s,
            )
        parts |= self._sources(result, stated, former)
        parts |= {"context.json": dump_canonical(context), "result.json": result.to_bytes()}
        ear = ""
        if self._ear_key is not None:
            ear = sign_ear(ear_claims(result, build=BUILD, bundle=parts_digest(parts)), self._ear_key)
            parts["result.jwt"] = ear.encode()
        return Appraisal(result=result, enrolment=after, ear=ear, parts=parts)

    def _sources(self, result: AttestationResult, stated: bytes, former: Iterable[bytes]) -> dict[str, bytes]:
        """Return the signed files that the result rests on; releases that were refused are among them."""
        parts: dict[str, bytes] = {}
        if stated in self._releases:
            parts["release.json"], parts["manifest"] = self._releases[stated]
        parts |= {former_name(name): self._releases[name][0] for name in former if name in self._releases}
        for guest in result.guests:
            package = None if guest.record is None else guest.record.package
            if package in self._packages:
                parts[f"packages/{package.hex()}.json"] = self._packages[package]
        return parts
