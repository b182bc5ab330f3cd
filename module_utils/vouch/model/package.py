# SPDX-License-Identifier: GPL-3.0-or-later
"""Guest packages: everything that decides what a guest is, signed as one in-toto Statement in a DSSE envelope.

Six files are its subjects, by digest: ``vmlinuz``, ``initrd.img``, ``root.img``, ``policy``, ``proof.json`` and
``profile``. The predicate says how they belong together and what the guest may do:

========================  ============================================================================
member                    meaning
========================  ============================================================================
``name``                  name of the package, also its file name in the image store
``variant``               ``production``, or ``debug``: a root shell on the console
``kernel``                version of the guest's kernel
``cmdline``               its command line, to the letter
``sizes``                 bytes of each subject: how much there is to fetch
``verity``                the root's dm-verity tree
``policy``                SELinux policy: digest of the file, of its meaning, format version, boolean mode
``cwlite``                the proof: its digest, that of the flow map and of the intent; number of filters, entries
``introspection``         the kernel's profile: its digest, whose it is, digests of the text and read-only data
``resources``             memory, processors, kinds of domain that are allowed, the disk
``network``               where its MAC comes from; services that may be reached without IPsec, each with its reason
``on_violation``          ``pause`` or ``destroy``: what is done with a guest that is no longer this
``peers``                 who it talks to; all lists empty: to nobody
``packages``              distribution packages in the image
``source_date_epoch``     Unix seconds of the build's clock
========================  ============================================================================

There is one spelling: canonical JSON, lists that are sets in order. The package id is the SHA-256 of the signed file.

Source: in-toto attestation framework v1.0, statement.md; docs/guests.md; Schiffman et al., "Justifying Integrity Using
a Virtual Machine Verifier" (ACSAC 2009), V-C, for the application policy that this carries on.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

from ..errors import ParseError, shown
from ..parse.canonical import dump_canonical, load_canonical
from ..parse.fields import Fields
from .digest import sha256
from .grant import IPSEC_ONLY, Network, Resources
from .image import (
    DEBUG,
    PRODUCTION,
    ROOT_IMAGE,
    Package,
    Verity,
    packages_json,
    read_packages,
    read_statement,
    statement,
)
from .integrity import ALL_BOOLEANS, CURRENT_BOOLEANS
from .peers import NOBODY, Peers

GUEST_PACKAGE_TYPE = "urn:vouch:guest-package:1"

KERNEL, INITRD, POLICY, PROOF, PROFILE = "vmlinuz", "initrd.img", "policy", "proof.json", "profile"
MAX_PART_BYTES: Mapping[str, int] = MappingProxyType(
    {
        KERNEL: 64 << 20,
        INITRD: 256 << 20,
        ROOT_IMAGE: 16 << 30,
        POLICY: 64 << 20,
        PROOF: 4 << 20,
        PROFILE: 32 << 20,
    }
)
"""The subjects of a package, none more and none fewer, and how large each may be."""

MAX_PACKAGE_BYTES = 4 << 20
MAX_CMDLINE_CHARS = 1023
"""Xen gives a PV guest 1,024 bytes with the final NUL (public/xen.h, MAX_GUEST_CMDLINE)."""

PAUSE, DESTROY = "pause", "destroy"

GUEST_NAME = re.compile(r"[a-z0-9][a-z0-9_.-]{0,62}\Z")
_KERNEL = re.compile(r"[0-9A-Za-z][0-9A-Za-z.+_~-]{0,127}\Z")
_CMDLINE = re.compile(r"[!#-~]+(?: [!#-~]+)*\Z")
"""Words of printable ASCII with one blank between them. No quotation marks: the kernel would join words by them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """One file of the guest, by content."""

    sha256: bytes
    size_bytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class PolicyFacts:
    """The SELinux policy that the guest enforces.

    Attributes:
        sha256: Of the file, which is what the kernel and IMA report.
        semantic_sha256: Of its rules in one order, whatever the file looks like.
        version: Format version of the binary policy.
        boolean_mode: ``all``: proven for every setting of the booleans; ``current``: for the one in the file.
    """

    sha256: bytes
    semantic_sha256: bytes
    version: int
    boolean_mode: str = ALL_BOOLEANS

    def to_json(self) -> dict[str, Any]:
        """Return the JSON form."""
        return {
            "sha256": self.sha256.hex(),
            "semantic_sha256": self.semantic_sha256.hex(),
            "version": self.version,
            "boolean_mode": self.boolean_mode,
        }

    @classmethod
    def read(cls, fields: Fields) -> PolicyFacts:
        """Take the members of ``fields``."""
        facts = cls(
            sha256=fields.hex("sha256", 32),
            semantic_sha256=fields.hex("semantic_sha256", 32),
            version=fields.integer("version", minimum=1, maximum=255),
            boolean_mode=fields.choice("boolean_mode", ALL_BOOLEANS, CURRENT_BOOLEANS),
        )
        fields.done()
        return facts


@dataclass(frozen=True, slots=True, kw_only=True)
class FlowFacts:
    """The proof that the policy obeys CW-Lite.

    Attributes:
        proof_sha256: Of ``proof.json``.
        flow_map: Digest of the map from permissions to flows.
        intent_sha256: Digest of the intent inside the proof.
        filters: Number of filtering interfaces the intent declares.
        entries: Number of its entries.
    """

    proof_sha256: bytes
    flow_map: bytes
    intent_sha256: bytes
    filters: int
    entries: int

    def to_json(self) -> dict[str, Any]:
        """Return the JSON form."""
        return {
            "proof_sha256": self.proof_sha256.hex(),
            "flow_map": self.flow_map.hex(),
            "intent_sha256": self.intent_sha256.hex(),
            "filters": self.filters,
            "entries": self.entries,
        }

    @classmethod
    def read(cls, fields: Fields) -> FlowFacts:
        """Take the members of ``fields``."""
        facts = cls(
            proof_sha256=fields.hex("proof_sha256", 32),
            flow_map=fields.hex("flow_map", 32),
            intent_sha256=fields.hex("intent_sha256", 32),
            filters=fields.integer("filters"),
            entries=fields.integer("entries"),
        )
        fields.done()
        return facts


@dataclass(frozen=True, slots=True, kw_only=True)
class IntrospectionFacts:
    """The profile of the guest's kernel, by which its memory is read and judged.

    Attributes:
        profile_sha256: Of the file ``profile``.
        release: Version that the kernel's own banner gives.
        text_sha256: Of the kernel's text, as its file has it.
        rodata_sha256: Of its read-only data.
    """

    profile_sha256: bytes
    release: str
    text_sha256: bytes
    rodata_sha256: bytes

    def to_json(self) -> dict[str, Any]:
        """Return the JSON form."""
        return {
            "profile_sha256": self.profile_sha256.hex(),
            "release": self.release,
            "text_sha256": self.text_sha256.hex(),
            "rodata_sha256": self.rodata_sha256.hex(),
        }

    @classmethod
    def read(cls, fields: Fields) -> IntrospectionFacts:
        """Take the members of ``fields``."""
        facts = cls(
            profile_sha256=fields.hex("profile_sha256", 32),
            release=fields.text("release", pattern=_KERNEL),
            text_sha256=fields.hex("text_sha256", 32),
            rodata_sha256=fields.hex("rodata_sha256", 32),
        )
        fields.done()
        return facts


@dataclass(frozen=True, slots=True, kw_only=True)
class GuestPackage:
    """One guest: its files, how they belong together, and what it may do.

    Attributes:
        name: Name of the package.
        variant: ``production`` or ``debug``.
        kernel: Version of its kernel.
        cmdline: Command line of the kernel, to the letter.
        parts: Name to digest and size; exactly the keys of ``MAX_PART_BYTES``.
        verity: The root's tree.
        policy: The SELinux policy.
        cwlite: What was proven about it.
        introspection: The profile of its kernel.
        resources: What the guest gets.
        network: Whom it can be reached by.
        on_violation: ``pause`` or ``destroy``.
        peers: Whom it talks to.
        packages: What the image is made of.
        source_date_epoch: Unix seconds of the build's clock.

    Raises:
        ParseError: when the parts are not the six, or contradict what is said of policy, proof and profile.
    """

    name: str
    variant: str
    kernel: str
    cmdline: str
    parts: Mapping[str, Part]
    verity: Verity
    policy: PolicyFacts
    cwlite: FlowFacts
    introspection: IntrospectionFacts
    resources: Resources
    network: Network = IPSEC_ONLY
    on_violation: str = PAUSE
    peers: Peers = NOBODY
    packages: tuple[Package, ...] = ()
    source_date_epoch: int = 0

    def __post_init__(self) -> None:
        if set(self.parts) != set(MAX_PART_BYTES):
            raise _wrong("subject", f"expected {', '.join(sorted(MAX_PART_BYTES))}, found {shown(sorted(self.parts))}")
        if self.policy.sha256 != self.parts[POLICY].sha256:
            raise _wrong("policy", "has another digest than that of the subject")
        if self.cwlite.proof_sha256 != self.parts[PROOF].sha256:
            raise _wrong("cwlite", "has another digest than that of the subject")
        if self.introspection.profile_sha256 != self.parts[PROFILE].sha256:
            raise _wrong("introspection", "has another digest than that of the subject")
        if self.introspection.release != self.kernel:
            raise _wrong("introspection", f"is for another kernel than {shown(self.kernel)}")
        object.__setattr__(self, "parts", MappingProxyType({name: self.parts[name] for name in sorted(self.parts)}))
        object.__setattr__(self, "packages", tuple(sorted(self.packages)))

    def to_json(self) -> dict[str, Any]:
        """Return the in-toto Statement."""
        return statement(
            {name: part.sha256 for name, part in self.parts.items()},
            GUEST_PACKAGE_TYPE,
            {
                "name": self.name,
                "variant": self.variant,
                "kernel": self.kernel,
                "cmdline": self.cmdline,
                "sizes": {name: part.size_bytes for name, part in self.parts.items()},
                "verity": self.verity.to_json(),
                "policy": self.policy.to_json(),
                "cwlite": self.cwlite.to_json(),
                "introspection": self.introspection.to_json(),
                "resources": self.resources.to_json(),
                "network": self.network.to_json(),
                "on_violation": self.on_violation,
                "peers": self.peers.to_json(),
                "packages": packages_json(self.packages),
                "source_date_epoch": self.source_date_epoch,
            },
        )

    def to_bytes(self) -> bytes:
        """Return the canonical JSON that is signed."""
        return dump_canonical(self.to_json())

    @classmethod
    def from_bytes(cls, payload: bytes) -> GuestPackage:
        """Return the package of a DSSE payload.

        Raises:
            ParseError: for another spelling, an unknown, missing or malformed member, and parts that contradict
                each other.

        Trust: verify the envelope first (``check.signature.verify_guest_package``).
        """
        fields = Fields(load_canonical(payload, limit_bytes=MAX_PACKAGE_BYTES), "guest-package")
        subjects, predicate = read_statement(fields, GUEST_PACKAGE_TYPE, "guest-package")
        package = cls(
            parts=_parts(subjects, predicate.object("sizes")),
            name=predicate.text("name", pattern=GUEST_NAME),
            variant=predicate.choice("variant", PRODUCTION, DEBUG),
            kernel=predicate.text("kernel", pattern=_KERNEL),
            cmdline=predicate.text("cmdline", maximum_chars=MAX_CMDLINE_CHARS, pattern=_CMDLINE),
            verity=Verity.read(predicate.object("verity")),
            policy=PolicyFacts.read(predicate.object("policy")),
            cwlite=FlowFacts.read(predicate.object("cwlite")),
            introspection=IntrospectionFacts.read(predicate.object("introspection")),
            resources=Resources.read(predicate.object("resources")),
            network=Network.read(predicate.object("network")),
            on_violation=predicate.choice("on_violation", PAUSE, DESTROY),
            peers=Peers.read(predicate.object("peers")),
            packages=read_packages(predicate, "guest-package"),
            source_date_epoch=predicate.integer("source_date_epoch"),
        )
        predicate.done()
        # A list that is a set has one order; without this, two files could say the same.
        if package.to_bytes() != payload:
            raise _wrong("predicate", "is not in its one form", code="parse.json.not-canonical")
        return package


def package_id(envelope: bytes) -> bytes:
    """Return the id of a package: SHA-256 of the signed file, byte for byte."""
    return sha256(envelope)


def _parts(subjects: Mapping[str, bytes], sizes: Fields) -> dict[str, Part]:
    for name in _unknown(subjects):
        raise _wrong("subject", f"{shown(name)} is no file of a guest", code="parse.field.unknown")
    parts = {
        name: Part(sha256=subjects[name], size_bytes=sizes.integer(name, minimum=1, maximum=limit))
        for name, limit in MAX_PART_BYTES.items()
        if name in subjects
    }
    sizes.done()
    return parts


def _unknown(subjects: Iterable[str]) -> list[str]:
    return sorted(set(subjects) - set(MAX_PART_BYTES))


def _wrong(member: str, problem: str, *, code: str = "parse.field.value") -> ParseError:
    return ParseError(f"guest-package.{member}", 0, problem, code=code)
