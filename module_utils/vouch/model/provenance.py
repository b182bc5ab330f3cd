# SPDX-License-Identifier: GPL-3.0-or-later
"""What a guest states about work it did: one compile job, and one build made of such jobs.

Both are in-toto Statements with a SLSA provenance predicate:

========================  =====================================================  ==================================
member                    ``urn:vouch:distcc-job:1``                             ``urn:vouch:build:1``
========================  =====================================================  ==================================
``subject``               ``object``; none when the job failed                   the files that were built
``externalParameters``    ``arguments``, ``source``, ``nonce``                   none
``resolvedDependencies``  compiler files, guest package, verity root             objects, guest package, verity root
``builder.id``            ``urn:vouch:guest:HOST_ID:GUEST``                      the same
``metadata``              times, channel certificate, evidence, status           times, channel certificate, evidence
========================  =====================================================  ==================================

Source: in-toto attestation framework v1.0, statement.md; SLSA v1.0, provenance; docs/provenance.md.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

from ..errors import ParseError, shown
from ..parse.canonical import dump_canonical, load_canonical
from ..parse.distcc import MAX_ARGUMENT_BYTES, MAX_ARGUMENTS, MAX_STATUS, NONCE_BYTES
from ..parse.fields import Fields
from .gueststate import GUEST_ID, MAX_NAME_CHARS
from .image import read_statement, statement
from .utctime import utc_seconds, utc_text

SLSA_PROVENANCE_TYPE = "https://slsa.dev/provenance/v1"
JOB_TYPE = "urn:vouch:distcc-job:1"
BUILD_TYPE = "urn:vouch:build:1"

OBJECT = "object"
"""Name of a job's subject: where the client puts the object is not the node's to say."""

BUILDER_PREFIX = "urn:vouch:guest:"
PACKAGE_URI = "urn:vouch:guest-package"
ROOT_URI = "urn:vouch:verity-root"

MAX_JOB_BYTES = 6 * 1024 * 1024
MAX_BUILD_BYTES = 12 * 1024 * 1024
MAX_COMPILERS = 64
MAX_OBJECTS = 50_000
DIGEST_BYTES = 32


@dataclass(frozen=True, slots=True, kw_only=True)
class Builder:
    """The guest that did the work, and what it is made of.

    Attributes:
        host_id: UUID of its host.
        guest: Its id there.
        package: Id of its package.
        verity_root: Root hash of its root image.
    """

    host_id: str
    guest: str
    package: bytes
    verity_root: bytes

    @property
    def uri(self) -> str:
        """The builder's id."""
        return f"{BUILDER_PREFIX}{self.host_id}:{self.guest}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """When work was done, and under which standing of the guest.

    Attributes:
        started_s: Unix seconds.
        finished_s: Unix seconds.
        channel_certificate: SHA-256 of the guest's channel certificate then.
        evidence: SHA-256 of the latest evidence about the guest that went to a peer; empty before the first.
    """

    started_s: int
    finished_s: int
    channel_certificate: bytes
    evidence: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class JobStatement:
    """One compile job.

    Attributes:
        builder: The node.
        run: When and how.
        arguments: The compiler's command line as it was asked for.
        source: SHA-256 of the preprocessed source.
        nonce: Of whoever asked.
        compilers: Path to SHA-256 of the files that compile.
        status: Wait status of the compiler.
        object: SHA-256 of the object; empty when the status is not 0.
    """

    builder: Builder
    run: Run
    arguments: tuple[str, ...]
    source: bytes
    nonce: bytes
    compilers: Mapping[str, bytes]
    status: int
    object: bytes

    def __post_init__(self) -> None:
        if bool(self.object) == bool(self.status):
            raise ParseError("job.subject", 0, "an object exactly when the job succeeded", code="parse.field.value")
        object.__setattr__(self, "compilers", MappingProxyType(dict(sorted(self.compilers.items()))))

    def to_bytes(self) -> bytes:
        """Return the canonical JSON of the in-toto Statement."""
        parameters = {
            "arguments": list(self.arguments),
            "source": {"digest": {"sha256": self.source.hex()}},
            "nonce": self.nonce.hex(),
        }
        compilers = [{"name": path, "digest": {"sha256": digest.hex()}} for path, digest in self.compilers.items()]
        predicate = _predicate(JOB_TYPE, parameters, compilers, self.builder, self.run)
        predicate["runDetails"]["metadata"]["vouch_status"] = self.status
        subjects = {OBJECT: self.object} if self.object else {}
        return dump_canonical(statement(subjects, SLSA_PROVENANCE_TYPE, predicate))

    @classmethod
    def from_bytes(cls, payload: bytes) -> JobStatement:
        """Return the statement of a DSSE payload.

        Raises:
            ParseError: for another spelling, an unknown, missing or malformed member.

        Trust: verify the envelope first (``check.provenance.verify_job``).
        """
        fields = Fields(load_canonical(payload, limit_bytes=MAX_JOB_BYTES), "job")
        subjects, predicate = read_statement(fields, SLSA_PROVENANCE_TYPE, "job")
        if not subjects.keys() <= {OBJECT}:
            raise fields.fail("subject", f"the only subject is called {OBJECT}")
        parts = _Parts.read(predicate, JOB_TYPE)
        parameters, metadata = parts.parameters, parts.metadata
        arguments = tuple(_argument(parameters, item) for item in parameters.array("arguments", maximum=MAX_ARGUMENTS))
        if not arguments:
            raise parameters.fail("arguments", "is empty")
        found = cls(
            arguments=arguments,
            source=_digest(parameters.object("source")),
            nonce=parameters.hex("nonce", NONCE_BYTES),
            compilers=_compilers(predicate, parts.others),
            status=metadata.integer("vouch_status", maximum=MAX_STATUS),
            object=subjects.get(OBJECT, b""),
            builder=parts.builder,
            run=parts.run,
        )
        parameters.done()
        metadata.done()
        return found


@dataclass(frozen=True, slots=True, kw_only=True)
class BuildStatement:
    """One build: files, and the objects they were made of.

    Attributes:
        builder: The guest that put them together.
        run: When and how.
        subjects: File name to SHA-256; at least one.
        objects: SHA-256 of an object to SHA-256 of the signed statement about it; at least one.
    """

    builder: Builder
    run: Run
    subjects: Mapping[str, bytes]
    objects: Mapping[bytes, bytes]

    def __post_init__(self) -> None:
        for name in ("subjects", "objects"):
            if not getattr(self, name):
                raise ParseError(f"build.{name}", 0, "is empty", code="parse.field.value")
            object.__setattr__(self, name, MappingProxyType(dict(sorted(getattr(self, name).items()))))

    def to_bytes(self) -> bytes:
        """Return the canonical JSON of the in-toto Statement."""
        objects = [
            {"digest": {"sha256": digest.hex()}, "annotations": {"vouch_statement": about.hex()}}
            for digest, about in self.objects.items()
        ]
        predicate = _predicate(BUILD_TYPE, {}, objects, self.builder, self.run)
        return dump_canonical(statement(self.subjects, SLSA_PROVENANCE_TYPE, predicate))

    @classmethod
    def from_bytes(cls, payload: bytes) -> BuildStatement:
        """Return the statement of a DSSE payload; raises as ``JobStatement.from_bytes``.

        Trust: verify the envelope first (``check.provenance.verify_build``).
        """
        fields = Fields(load_canonical(payload, limit_bytes=MAX_BUILD_BYTES), "build")
        subjects, predicate = read_statement(fields, SLSA_PROVENANCE_TYPE, "build")
        parts = _Parts.read(predicate, BUILD_TYPE)
        objects: dict[bytes, bytes] = {}
        for item in parts.others:
            entry = Fields(item, "build.object")
            digest, notes = _digest(entry), entry.object("annotations")
            if digest in objects:
                raise entry.fail("digest", "stands twice")
            objects[digest] = notes.hex("vouch_statement", DIGEST_BYTES)
            notes.done()
        found = cls(builder=parts.builder, run=parts.run, subjects=subjects, objects=objects)
        parts.parameters.done()
        parts.metadata.done()
        if found.to_bytes() != payload:
            raise predicate.fail("buildDefinition", "lists files or objects in another order")
        return found


@dataclass(frozen=True, slots=True, kw_only=True)
class _Parts:
    """What both kinds of predicate have; ``others`` are the dependencies besides package and verity root."""

    parameters: Fields
    metadata: Fields
    builder: Builder
    run: Run
    others: list[Any]

    @classmethod
    def read(cls, predicate: Fields, build_type: str) -> _Parts:
        definition, details = predicate.object("buildDefinition"), predicate.object("runDetails")
        predicate.done()
        definition.literal("buildType", build_type)
        parameters = definition.object("externalParameters")
        others = definition.array("resolvedDependencies", maximum=MAX_OBJECTS + 2)
        definition.done()
        if len(others) < 2:
            raise definition.fail("resolvedDependencies", "lacks guest package and verity root")
        package, root = (_located(item, uri) for item, uri in zip(others[-2:], (PACKAGE_URI, ROOT_URI), strict=True))
        who, metadata = details.object("builder"), details.object("metadata")
        details.done()
        host_id, guest = _names(who)
        run = Run(
            started_s=_time(metadata, "startedOn"),
            finished_s=_time(metadata, "finishedOn"),
            channel_certificate=metadata.hex("vouch_channel_certificate", DIGEST_BYTES),
            evidence=metadata.hex("vouch_evidence", DIGEST_BYTES, empty=True),
        )
        if run.finished_s < run.started_s:
            raise metadata.fail("finishedOn", "is before the start")
        builder = Builder(host_id=host_id, guest=guest, package=package, verity_root=root)
        return cls(parameters=parameters, metadata=metadata, builder=builder, run=run, others=others[:-2])


def _predicate(
    build_type: str, parameters: dict[str, Any], others: list[dict[str, Any]], builder: Builder, run: Run
) -> dict[str, Any]:
    return {
        "buildDefinition": {
            "buildType": build_type,
            "externalParameters": parameters,
            "resolvedDependencies": [
                *others,
                {"uri": PACKAGE_URI, "digest": {"sha256": builder.package.hex()}},
                {"uri": ROOT_URI, "digest": {"sha256": builder.verity_root.hex()}},
            ],
        },
        "runDetails": {
            "builder": {"id": builder.uri},
            "metadata": {
                "startedOn": utc_text(run.started_s),
                "finishedOn": utc_text(run.finished_s),
                "vouch_channel_certificate": run.channel_certificate.hex(),
                "vouch_evidence": run.evidence.hex(),
            },
        },
    }


def _compilers(predicate: Fields, others: list[Any]) -> dict[str, bytes]:
    if not 1 <= len(others) <= MAX_COMPILERS:
        raise predicate.fail("resolvedDependencies", f"names {len(others)} compiler files, 1 to {MAX_COMPILERS} are")
    found: dict[str, bytes] = {}
    for item in others:
        entry = Fields(item, "job.compiler")
        path = entry.text("name", maximum_chars=MAX_ARGUMENT_BYTES)
        if found and path <= next(reversed(found)):
            raise entry.fail("name", "does not ascend")
        found[path] = _digest(entry)
    return found


def _located(item: Any, uri: str) -> bytes:
    entry = Fields(item, "dependency")
    entry.literal("uri", uri)
    return _digest(entry)


def _digest(entry: Fields) -> bytes:
    """Take ``digest`` of a resource, and nothing else but annotations."""
    digests = entry.object("digest")
    value = digests.hex("sha256", DIGEST_BYTES)
    digests.done()
    if not entry.has("annotations"):
        entry.done()
    return value


def _argument(parameters: Fields, item: Any) -> str:
    if not isinstance(item, str) or len(item.encode("utf-8")) > MAX_ARGUMENT_BYTES or "\0" in item:
        raise parameters.fail("arguments", f"holds what is no argument: {shown(item)}")
    return item


def _names(who: Fields) -> tuple[str, str]:
    ident = who.text("id", maximum_chars=len(BUILDER_PREFIX) + 37 + MAX_NAME_CHARS)
    who.done()
    host_id, _, guest = ident.removeprefix(BUILDER_PREFIX).partition(":")
    if not ident.startswith(BUILDER_PREFIX) or GUEST_ID.fullmatch(guest) is None:
        raise who.fail("id", f"is no guest: {shown(ident)}")
    return Fields({"host_id": host_id}, "builder").uuid("host_id"), guest


def _time(metadata: Fields, name: str) -> int:
    text = metadata.text(name, maximum_chars=20)
    try:
        value = utc_seconds(text)
    except ValueError:
        raise metadata.fail(name, f"is no time: {shown(text)}") from None
    if value < 0 or utc_text(value) != text:
        raise metadata.fail(name, f"is no time: {shown(text)}")
    return value
