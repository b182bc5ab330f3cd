# SPDX-License-Identifier: GPL-3.0-or-later
"""A provenance bundle, by somebody who was not there: from files to objects to jobs to the guests that did them.

1. Every part is read, each in its one spelling.
2. Each work key is endorsed by the channel certificate it names.
3. The chain is signed by one of these keys: it names the files that were built, and the objects.
4. Each object has its statement, signed by one of these keys, about that very object.
5. Nothing stands in the bundle that none of this needs.
6. The files that were given are among those that were built.
7. Each guest that signed was accepted by evidence that holds, by what is trusted from outside, before its work ended.

A job that ended after its node was accepted, and before the channel certificate ran out, was handed over only because
the controller's guest still accepted that node: so the last step asks for the controller's own evidence as well.

Source: docs/provenance.md.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Protocol, TypeVar

from ..check.provenance import (
    SKEW_S,
    SOURCE,
    VerifiedBuild,
    VerifiedJob,
    VerifiedWorkKey,
    read_owner,
    verify_build,
    verify_job,
    verify_work_key,
)
from ..errors import EvidenceError, ParseError
from ..model.acceptance import PAPERS as PAPER_NAMES
from ..model.acceptance import Acceptance
from ..model.channelowner import ChannelOwner
from ..model.digest import sha256
from ..model.finding import Finding, deny
from ..model.provenance import Builder, Run
from ..model.workkey import WorkKey
from ..parse.envelope import parse_envelope
from ..parse.provenancebundle import (
    ACCEPTANCES,
    CERTIFICATES,
    CHAIN,
    KEYS,
    PAPERS,
    STATEMENTS,
    ProvenanceBundle,
    part_name,
)
from .anchors import Claim, Hold
from .chain import State, Step
from .recheck import Outcome


@dataclass(frozen=True, slots=True, kw_only=True)
class JudgedGuest:
    """A guest as evidence shows it that was judged and holds.

    Attributes:
        host_id: UUID of its host.
        guest: Its id there.
        certificate: SHA-256 of the channel certificate that the host states.
        package: Id of its package.
    """

    host_id: str
    guest: str
    certificate: bytes
    package: bytes


class JudgePeer(Protocol):
    """Judges, by what is trusted from outside, the evidence that a guest was accepted by."""

    def __call__(
        self, acceptance: Acceptance, papers: Mapping[str, bytes], certificate: bytes, former: tuple[bytes, ...]
    ) -> JudgedGuest:
        """Return the guest that the evidence shows.

        Args:
            acceptance: Nonce, addresses, time: what the judgement needs besides papers.
            papers: Each paper by its name in ``model.acceptance.PAPERS``.
            certificate: Channel certificate, DER.
            former: Signed releases that the host was installed with or ran before.

        Raises:
            EvidenceError: it does not hold.
        """
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class ProvenanceRecheck:
    """What was found of one provenance bundle.

    Attributes:
        bundle: What was read.
        build: What the chain says; None when it cannot be believed.
        jobs: Statement about each object, by the object's digest.
        claims: One for each guest that signed something; empty when it did not come to that.
        steps: One after the other, as above.
    """

    bundle: ProvenanceBundle
    build: VerifiedBuild | None
    jobs: Mapping[bytes, VerifiedJob]
    claims: tuple[Claim, ...]
    steps: tuple[Step, ...]

    @property
    def findings(self) -> tuple[Finding, ...]:
        """Why the bundle is false; empty when nothing speaks against it."""
        return tuple(finding for step in self.steps for finding in step.findings)

    @property
    def outcome(self) -> Outcome:
        """What the bundle is worth: PROVEN, UNANCHORED or FALSE."""
        if self.findings:
            return Outcome.FALSE
        carried = self.claims and all(claim.hold is Hold.HELD for claim in self.claims)
        return Outcome.PROVEN if carried else Outcome.UNANCHORED


def recheck_provenance(
    bundle: ProvenanceBundle, judge: JudgePeer | None, *, files: Mapping[str, bytes] | None = None
) -> ProvenanceRecheck:
    """Return what ``bundle`` is worth to somebody who judges evidence by ``judge``.

    Args:
        bundle: As ``parse.provenancebundle`` read it.
        judge: Judges evidence; None where nothing is trusted from outside: then no guest is believed.
        files: Name to SHA-256 of files that are said to be of this build.

    Trust: the bundle is anybody's; each part has the digest of its name.
    """
    work = _Work(bundle, judge, files or {})
    steps: list[Step] = []
    for name, checked, against, check in work.plan():
        if steps and steps[-1].state in (State.FALSE, State.SKIPPED):
            steps.append(Step(name=name, state=State.SKIPPED, checked=checked, against=against, source=SOURCE))
            continue
        try:
            expected, found = check()
        except EvidenceError as error:
            state, findings, expected, found = State.FALSE, error.findings, "", ""
        else:
            state, findings = State.CONSISTENT, ()
        steps.append(
            Step(
                name=name,
                state=state,
                checked=checked,
                against=against,
                expected=expected,
                found=found,
                source=SOURCE,
                findings=tuple(findings),
            )
        )
    found_of = ProvenanceRecheck(
        bundle=bundle, build=work.build, jobs=work.jobs, claims=tuple(work.claims), steps=tuple(steps)
    )
    return _carried(found_of) if found_of.outcome is Outcome.PROVEN else found_of


def _carried(found: ProvenanceRecheck) -> ProvenanceRecheck:
    """Return the same with every step PROVEN: all of them lead back to what was given."""
    steps = tuple(dataclasses.replace(step, state=State.PROVEN) for step in found.steps)
    return dataclasses.replace(found, steps=steps)


Verified = TypeVar("Verified")
Told = tuple[str, str]
"""What was expected, what was found."""


@dataclass(slots=True)
class _Work:
    """The steps in progress; each one takes what those before it made."""

    bundle: ProvenanceBundle
    judge: JudgePeer | None
    files: Mapping[str, bytes]
    owners: dict[bytes, ChannelOwner] = field(default_factory=dict)
    acceptances: list[Acceptance] = field(default_factory=list)
    keys: dict[str, VerifiedWorkKey] = field(default_factory=dict)
    build: VerifiedBuild | None = None
    jobs: dict[bytes, VerifiedJob] = field(default_factory=dict)
    claims: list[Claim] = field(default_factory=list)

    def plan(self) -> Iterator[tuple[str, str, str, Callable[[], Told]]]:
        """Yield name, what is checked, against which parts, and how."""
        yield "parts", "every part can be read", "certificates/, acceptances/", self._read_parts
        yield "keys", "each work key is endorsed by a guest's channel key", "keys/, certificates/", self._check_keys
        yield "chain", "the build is signed by an endorsed key", "chain.json, keys/", self._check_chain
        yield "statements", "each object has its signed statement", "chain.json, statements/", self._check_statements
        yield "whole", "nothing stands here that is not needed", "bundle.json", self._check_unused
        yield "files", "the files given are of this build", "chain.json", self._check_files
        yield "guests", "each guest was accepted by evidence that holds", "acceptances/, papers/", self._check_guests

    def _read_parts(self) -> Told:
        for digest in self.bundle.digests(CERTIFICATES):
            self.owners[digest] = read_owner(self.bundle.parts[part_name(CERTIFICATES, digest)])
        for digest in self.bundle.digests(ACCEPTANCES):
            name = part_name(ACCEPTANCES, digest)
            try:
                self.acceptances.append(Acceptance.from_bytes(self.bundle.parts[name]))
            except ParseError as error:
                raise deny("provenance.bundle.acceptance", name, actual=error, source=SOURCE) from None
        return "", f"{len(self.owners)} channel certificates, {len(self.acceptances)} acceptances"

    def _check_keys(self) -> Told:
        for digest in self.bundle.digests(KEYS):
            endorsement = self.bundle.parts[part_name(KEYS, digest)]
            certificate = _named_certificate(endorsement)
            if certificate not in self.owners:
                raise deny(
                    "provenance.key.owner",
                    part_name(KEYS, digest),
                    expected="a certificate of the bundle",
                    actual=certificate,
                    source=SOURCE,
                )
            key = verify_work_key(endorsement, self.owners[certificate])
            # One key may be endorsed under several certificates: a statement says under which one it was made.
            self.keys[f"{key.key.keyid}:{certificate.hex()}"] = key
        return "", f"{len(self.keys)} keys"

    def _check_chain(self) -> Told:
        chain = self.bundle.parts[CHAIN]
        self.build = _first_that_holds(self._keys_of(chain), lambda key: verify_build(chain, key), CHAIN)
        build = self.build.build
        return "", f"{len(build.subjects)} files of {len(build.objects)} objects, by {build.builder.uri}"

    def _check_statements(self) -> Told:
        assert self.build is not None
        for made, digest in self.build.build.objects.items():
            statement = self.bundle.part(STATEMENTS, digest)
            if statement is None:
                raise _chain_broken(made, "no statement")
            job = self._verify_job(statement)
            if job.job.object != made:
                raise _chain_broken(made, f"a statement about {job.job.object.hex()}")
            self.jobs[made] = job
        nodes = {job.job.builder.uri for job in self.jobs.values()}
        return "", f"{len(self.jobs)} statements by {len(nodes)} guests"

    def _verify_job(self, statement: bytes) -> VerifiedJob:
        return _first_that_holds(self._keys_of(statement), lambda key: verify_job(statement, key), STATEMENTS)

    def _keys_of(self, envelope: bytes) -> list[VerifiedWorkKey]:
        """Return the endorsements of the key that an envelope names; the name is a hint, and saves trying all."""
        try:
            named = parse_envelope(envelope).signatures[0].keyid
        except ParseError as error:
            raise deny("envelope.malformed", "statement", actual=error) from None
        return [key for name, key in self.keys.items() if name.startswith(f"{named}:")]

    def _check_unused(self) -> Told:
        assert self.build is not None
        signers = [self.build.work_key, *(job.work_key for job in self.jobs.values())]
        certificates = {key.owner.certificate for key in signers}
        needed = {CHAIN}
        needed.update(part_name(STATEMENTS, digest) for digest in self.build.build.objects.values())
        needed.update(part_name(KEYS, key.endorsement) for key in signers)
        needed.update(part_name(CERTIFICATES, digest) for digest in certificates)
        for acceptance in self.acceptances:
            if acceptance.certificate in certificates:
                needed.add(part_name(ACCEPTANCES, sha256(acceptance.to_bytes())))
                needed.update(part_name(PAPERS, digest) for digest in acceptance.papers)
        for name in self.bundle.parts:
            if name not in needed:
                raise deny("provenance.bundle.unused", name, expected="parts of this build", actual="another one")
        return "", f"{len(self.bundle.parts)} parts"

    def _check_files(self) -> Told:
        assert self.build is not None
        subjects = set(self.build.build.subjects.values())
        for name, digest in self.files.items():
            if digest not in subjects:
                raise deny("provenance.answer", name, expected="a file of this build", actual=digest, source=SOURCE)
        return "", f"{len(self.files)} files given" if self.files else "no file was given"

    def _check_guests(self) -> Told:
        first_end: dict[bytes, tuple[ChannelOwner, bytes, int]] = {}
        for owner, builder, run in self._work():
            _, package, end_s = first_end.get(owner.certificate, (owner, builder.package, run.finished_s))
            if package != builder.package:
                raise deny("provenance.package", owner.guest, expected=package, actual=builder.package)
            first_end[owner.certificate] = (owner, package, min(end_s, run.finished_s))
        findings: list[Finding] = []
        for owner, package, end_s in first_end.values():
            claim = self._guest_claim(owner, package, end_s)
            findings += claim.findings
            self.claims.append(claim)
        if findings:
            raise EvidenceError(findings)
        held = sum(claim.hold is Hold.HELD for claim in self.claims)
        return f"{len(self.claims)} guests", f"evidence about {held} of them holds by what was given"

    def _work(self) -> Iterator[tuple[ChannelOwner, Builder, Run]]:
        """Yield who did what, when: the build, and each job."""
        assert self.build is not None
        yield self.build.work_key.owner, self.build.build.builder, self.build.build.run
        for done in self.jobs.values():
            yield done.work_key.owner, done.job.builder, done.job.run

    def _guest_claim(self, owner: ChannelOwner, package: bytes, end_s: int) -> Claim:
        name = f"{owner.guest}.{owner.host_id}"
        found = [item for item in self.acceptances if item.certificate == owner.certificate]
        if not found:
            return Claim(name=name, hold=Hold.MISSING, by="the bundle holds no evidence about it")
        if self.judge is None:
            return Claim(name=name, hold=Hold.MISSING, by="its evidence was not judged by anything given")
        try:
            for acceptance in found:
                self._judge(self.judge, acceptance, owner, package)
            since_s = min(item.accepted_at_s for item in found)
            if end_s < since_s - SKEW_S:
                raise deny("provenance.time", name, expected=f"work since {since_s}", actual=end_s, source=SOURCE)
        except EvidenceError as error:
            ours = Finding.deny("provenance.anchor.evidence", name, "evidence that holds", "evidence that does not")
            return Claim(name=name, hold=Hold.REFUTED, by="its evidence", findings=(ours, *error.findings))
        return Claim(name=name, hold=Hold.HELD, by=f"evidence accepted {len(found)} times, package {package.hex()}")

    def _judge(self, judge: JudgePeer, acceptance: Acceptance, owner: ChannelOwner, package: bytes) -> None:
        papers = {name: self._paper(owner, name, getattr(acceptance, name)) for name in PAPER_NAMES}
        former = tuple(self._paper(owner, "former release", digest) for digest in acceptance.former)
        certificate = self.bundle.parts[part_name(CERTIFICATES, owner.certificate)]
        judged = judge(acceptance, papers, certificate, former)
        wanted = JudgedGuest(host_id=owner.host_id, guest=owner.guest, certificate=owner.certificate, package=package)
        if judged != wanted:
            raise deny("provenance.builder", owner.guest, expected=wanted, actual=judged, source=SOURCE)

    def _paper(self, owner: ChannelOwner, name: str, digest: bytes) -> bytes:
        paper = self.bundle.part(PAPERS, digest)
        if paper is None:
            raise deny("provenance.bundle.acceptance", owner.guest, expected=f"its {name}", actual="none")
        return paper


def _named_certificate(endorsement: bytes) -> bytes:
    """Return the certificate that an endorsement names; nothing in it is verified yet."""
    try:
        return WorkKey.from_bytes(parse_envelope(endorsement).payload).channel_certificate
    except ParseError as error:
        raise deny("provenance.key", "work key", actual=error, source=SOURCE) from None


def _first_that_holds(
    keys: list[VerifiedWorkKey], verify: Callable[[VerifiedWorkKey], Verified], what: str
) -> Verified:
    failure = deny("envelope.signature.invalid", what, expected="a signature by an endorsed key", actual="another key")
    for key in keys:
        try:
            return verify(key)
        except EvidenceError as error:
            failure = error
    raise failure


def _chain_broken(made: bytes, found: str) -> EvidenceError:
    wanted = f"a statement about {made.hex()}"
    return deny("provenance.bundle.chain", CHAIN, expected=wanted, actual=found, source=SOURCE)
