# SPDX-License-Identifier: GPL-3.0-or-later
"""Statements about work, held against the key that signed them, the channel they came through, and the work itself.

A work key is believed because the channel key of the same guest endorsed it, and the channel key because the guest's
host states it in evidence that was accepted. Who accepted it is the caller's to know: here its certificate is given.

Source: docs/provenance.md.
"""

from __future__ import annotations

from dataclasses import dataclass

from ..errors import EvidenceError, ParseError
from ..model.channelowner import ChannelOwner
from ..model.digest import sha256
from ..model.finding import deny
from ..model.image import IN_TOTO_PAYLOAD_TYPE
from ..model.key import PublicKey
from ..model.provenance import Builder, BuildStatement, JobStatement, Run
from ..model.workkey import WORK_KEY_PAYLOAD_TYPE, WorkKey
from ..parse.canonical import load_canonical
from ..parse.distcc import DistccAnswer, DistccRequest
from ..parse.envelope import MAX_ENVELOPE_BYTES, parse_envelope
from .opened import VerifiedPayload, open_with
from .signature import verify_signature

SOURCE = "docs/provenance.md"
SKEW_S = 300
"""How far the clocks of two hosts may be apart."""


@dataclass(frozen=True, slots=True, kw_only=True)
class VerifiedWorkKey:
    """A work key that the owner of a channel endorsed (made by ``verify_work_key`` only).

    Attributes:
        key: The key.
        owner: Whose it is.
        issued_at_s: Since when, Unix seconds.
        endorsement: SHA-256 of the signed endorsement.
    """

    key: PublicKey
    owner: ChannelOwner
    issued_at_s: int
    endorsement: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class VerifiedJob:
    """A statement about a job that its node signed (made by ``verify_job`` only).

    Attributes:
        job: What it says.
        work_key: The key that signed it.
        statement: SHA-256 of the signed statement.
    """

    job: JobStatement
    work_key: VerifiedWorkKey
    statement: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class VerifiedBuild:
    """A statement about a build that its guest signed (made by ``verify_build`` only); as ``VerifiedJob``."""

    build: BuildStatement
    work_key: VerifiedWorkKey
    statement: bytes


def read_owner(certificate: bytes) -> ChannelOwner:
    """Return whose channel ``certificate`` is.

    Raises:
        EvidenceError: ``provenance.certificate``.
    """
    try:
        return ChannelOwner.from_der(certificate)
    except ParseError as error:
        raise deny("provenance.certificate", "channel", actual=error, source=SOURCE) from None


def _open(data: bytes, key: PublicKey, subject: str) -> VerifiedPayload:
    """Return the payload of an envelope in the one spelling that ``make.provenance.seal`` writes.

    What a bundle is made of is named by digest, so what no signature covers (the id of the key, white space) must not
    be free either.
    """
    opened = open_with(verify_signature, data, (key,), subject)
    try:
        load_canonical(data[:-1], limit_bytes=MAX_ENVELOPE_BYTES)
        stated = [item.keyid for item in parse_envelope(data).signatures]
        if data[-1:] != b"\n" or stated != [key.keyid]:
            raise ParseError("envelope", 0, "is no line of canonical JSON with one signature and its key's id")
    except ParseError as error:
        raise deny("envelope.malformed", subject, actual=error) from None
    return opened


def verify_work_key(endorsement: bytes, owner: ChannelOwner) -> VerifiedWorkKey:
    """Return the work key that ``owner`` endorsed.

    1. It is one DSSE envelope, signed by the channel key.
    2. It is the endorsement of a work key.
    3. It names the same guest, host and channel certificate.
    4. It was made while the certificate was good.

    Raises:
        EvidenceError: ``envelope.malformed``, ``envelope.signature.invalid``, ``provenance.key``,
            ``provenance.key.owner``, ``provenance.time``.
    """
    opened = _open(endorsement, owner.key, "work key")
    try:
        if opened.payload_type != WORK_KEY_PAYLOAD_TYPE:
            raise ParseError("work-key", 0, f"payload is of type {opened.payload_type}", code="envelope.type")
        found = WorkKey.from_bytes(opened.payload)
    except ParseError as error:
        raise deny("provenance.key", "work key", actual=error, source=SOURCE) from None
    named = (found.host_id, found.guest, found.channel_certificate)
    if named != (owner.host_id, owner.guest, owner.certificate):
        raise _mismatch(
            "provenance.key.owner",
            "work key",
            _channel(owner.host_id, owner.guest, owner.certificate),
            _channel(*named),
        )
    _check_time("work key", found.issued_at_s, owner.not_before_s - SKEW_S, owner.not_after_s)
    return VerifiedWorkKey(key=found.key, owner=owner, issued_at_s=found.issued_at_s, endorsement=sha256(endorsement))


def verify_job(statement: bytes, work_key: VerifiedWorkKey) -> VerifiedJob:
    """Return what a node states about a job; ``check_answer`` holds it against the job itself.

    1. It is one DSSE envelope, signed by the work key.
    2. It is a statement about a compile job.
    3. It names the guest and the channel that the key is of.
    4. The job ended while key and certificate were good.

    Raises:
        EvidenceError: ``envelope.malformed``, ``envelope.signature.invalid``, ``provenance.malformed``,
            ``provenance.builder``, ``provenance.time``.
    """
    opened = _open(statement, work_key.key, "job")
    try:
        job = JobStatement.from_bytes(_in_toto(opened, "job"))
    except ParseError as error:
        raise deny("provenance.malformed", "job", actual=error, source=SOURCE) from None
    _check_run("job", job.builder, job.run, work_key)
    return VerifiedJob(job=job, work_key=work_key, statement=sha256(statement))


def verify_build(statement: bytes, work_key: VerifiedWorkKey) -> VerifiedBuild:
    """Return what a guest states about a build: the four steps of ``verify_job``, and its errors."""
    opened = _open(statement, work_key.key, "build")
    try:
        build = BuildStatement.from_bytes(_in_toto(opened, "build"))
    except ParseError as error:
        raise deny("provenance.malformed", "build", actual=error, source=SOURCE) from None
    _check_run("build", build.builder, build.run, work_key)
    return VerifiedBuild(build=build, work_key=work_key, statement=sha256(statement))


def check_answer(verified: VerifiedJob, request: DistccRequest, answer: DistccAnswer, *, package: bytes) -> None:
    """Return when the statement is about exactly this request and this answer.

    1. The nonce is the one that was drawn for this request.
    2. Arguments and source are those that were sent.
    3. Status and object are those that came back.
    4. The guest's package is the one that its evidence names.

    Args:
        verified: The statement.
        request: As it was sent, with its nonce.
        answer: As it came.
        package: Id of the package that the node was accepted with.

    Raises:
        EvidenceError: ``provenance.nonce``, ``provenance.request``, ``provenance.answer``, ``provenance.package``.
    """
    job = verified.job
    if job.nonce != request.nonce:
        raise _mismatch("provenance.nonce", "job", request.nonce, job.nonce)
    if job.arguments != request.arguments:
        raise _mismatch("provenance.request", "job", " ".join(request.arguments), " ".join(job.arguments))
    if job.source != (source := sha256(request.source)):
        raise _mismatch("provenance.request", "job", f"source {source.hex()}", f"source {job.source.hex()}")
    made = b"" if answer.status else sha256(answer.object)
    if (job.status, job.object) != (answer.status, made):
        raise _mismatch(
            "provenance.answer",
            "job",
            f"status {answer.status:#x}, object {made.hex()}",
            f"status {job.status:#x}, object {job.object.hex()}",
        )
    if job.builder.package != package:
        raise _mismatch("provenance.package", "job", package, job.builder.package)


def _in_toto(opened: VerifiedPayload, what: str) -> bytes:
    if opened.payload_type != IN_TOTO_PAYLOAD_TYPE:
        raise ParseError(what, 0, f"payload is of type {opened.payload_type}", code="envelope.type")
    return opened.payload


def _check_run(what: str, builder: Builder, run: Run, work_key: VerifiedWorkKey) -> None:
    owner = work_key.owner
    named = (builder.host_id, builder.guest, run.channel_certificate)
    if named != (owner.host_id, owner.guest, owner.certificate):
        raise _mismatch(
            "provenance.builder", what, _channel(owner.host_id, owner.guest, owner.certificate), _channel(*named)
        )
    # Signed with the endorsement at hand: one that was renewed while the job ran is younger than its start.
    _check_time(what, run.finished_s, work_key.issued_at_s, owner.not_after_s)


def _check_time(what: str, time_s: int, since_s: int, until_s: int) -> None:
    if not since_s <= time_s <= until_s:
        raise _mismatch("provenance.time", what, f"{since_s} to {until_s}", time_s)


def _channel(host_id: str, guest: str, certificate: bytes) -> str:
    return f"{guest} of {host_id}, {certificate.hex()[:16]}"


def _mismatch(code: str, what: str, expected: object, actual: object) -> EvidenceError:
    return deny(code, what, expected=expected, actual=actual, source=SOURCE)
