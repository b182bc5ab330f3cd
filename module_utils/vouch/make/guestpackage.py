# SPDX-License-Identifier: GPL-3.0-or-later
"""A guest package out of what was built and what its owner wants for it.

The build describes its image in ``image.json``; ``GuestImage`` is that description. Resources, network, peers and the
answer to a violation are the owner's.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from ..errors import ParseError, UsageError, shown
from ..model.grant import DERIVED, PV, PVH, Network, Resources, Service
from ..model.image import DEBUG, IN_TOTO_PAYLOAD_TYPE, PRODUCTION, Package, Verity, packages_json, read_packages
from ..model.package import (
    GUEST_NAME,
    MAX_PART_BYTES,
    PAUSE,
    FlowFacts,
    GuestPackage,
    IntrospectionFacts,
    Part,
    PolicyFacts,
)
from ..model.peers import NOBODY, Peers
from ..parse.fields import Fields
from .sign import PrivateKey, sign_envelope

FORMAT = 1
"""Version of ``image.json``."""

MAX_FILES = 64
DEFAULT_MEMORY_MB = 512
DEFAULT_VCPUS = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class GuestImage:
    """One built guest image, as ``image.json`` describes it.

    Attributes:
        name: Name of the guest, without a word on its variant.
        variant: ``production`` or ``debug``.
        kernel: Version of its kernel.
        cmdline: Its command line, ``vouch.verity`` included.
        files: Name to SHA-256 in hexadecimal; the six subjects of a package, and more if the build likes.
        sizes: Name to bytes, for the same files.
        verity: The root's tree.
        policy: The SELinux policy.
        cwlite: The proof.
        introspection: The profile of its kernel.
        packages: What the image is made of.
        source_date_epoch: Unix seconds of the build's clock.
        statistics: Numbers for people; no part of a package.
    """

    name: str
    variant: str
    kernel: str
    cmdline: str
    files: Mapping[str, str]
    sizes: Mapping[str, int]
    verity: Verity
    policy: PolicyFacts
    cwlite: FlowFacts
    introspection: IntrospectionFacts
    packages: tuple[Package, ...]
    source_date_epoch: int
    statistics: Mapping[str, int] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        """Return the JSON form."""
        return {
            "version": FORMAT,
            "name": self.name,
            "variant": self.variant,
            "kernel": self.kernel,
            "cmdline": self.cmdline,
            "files": dict(self.files),
            "sizes": dict(self.sizes),
            "verity": self.verity.to_json(),
            "policy": self.policy.to_json(),
            "cwlite": self.cwlite.to_json(),
            "introspection": self.introspection.to_json(),
            "packages": packages_json(self.packages),
            "source_date_epoch": self.source_date_epoch,
            "statistics": dict(self.statistics),
        }

    @classmethod
    def from_json(cls, value: Any) -> GuestImage:
        """Return the image that ``to_json`` described.

        Raises:
            UsageError: ``guest.description`` when something is missing, malformed, or of another format.
        """
        try:
            fields = Fields(value, "image")
            fields.literal("version", FORMAT)
            statistics = fields.take("statistics")
            files, sizes = _files(fields.object("files"), fields.object("sizes"))
            image = cls(
                name=fields.text("name", pattern=GUEST_NAME),
                variant=fields.choice("variant", PRODUCTION, DEBUG),
                kernel=fields.text("kernel"),
                cmdline=fields.text("cmdline"),
                files=files,
                sizes=sizes,
                verity=Verity.read(fields.object("verity")),
                policy=PolicyFacts.read(fields.object("policy")),
                cwlite=FlowFacts.read(fields.object("cwlite")),
                introspection=IntrospectionFacts.read(fields.object("introspection")),
                packages=read_packages(fields, "image"),
                source_date_epoch=fields.integer("source_date_epoch"),
                statistics={str(name): int(number) for name, number in dict(statistics).items()},
            )
            fields.done()
        except (ParseError, TypeError, ValueError) as error:
            raise UsageError(f"this is no description of a guest image: {error}", code="guest.description") from None
        return image

    def package(
        self,
        name: str = "",
        *,
        resources: Resources | None = None,
        network: Network | None = None,
        on_violation: str = PAUSE,
        peers: Peers = NOBODY,
    ) -> GuestPackage:
        """Return the package of this image, ready to sign.

        Args:
            name: Name of the package. When empty, that of the image; of a debug image with ``-debug`` behind it.
            resources: What the guest gets; 512 MiB and one processor unless said otherwise.
            network: Whom it can be reached by; nobody but by IPsec unless said otherwise.
            on_violation: ``pause`` or ``destroy``.
            peers: Whom it talks to; nobody unless said otherwise.

        Raises:
            UsageError: ``package.inputs`` when a reader of packages would refuse it.
        """
        try:
            package = GuestPackage(
                name=name or (self.name if self.variant == PRODUCTION else f"{self.name}-{self.variant}"),
                variant=self.variant,
                kernel=self.kernel,
                cmdline=self.cmdline,
                parts={
                    part: Part(sha256=bytes.fromhex(self.files[part]), size_bytes=self.sizes[part])
                    for part in MAX_PART_BYTES
                    if part in self.files
                },
                verity=self.verity,
                policy=self.policy,
                cwlite=self.cwlite,
                introspection=self.introspection,
                resources=resources or Resources(memory_mb=DEFAULT_MEMORY_MB, vcpus=DEFAULT_VCPUS),
                network=network or Network(),
                on_violation=on_violation,
                peers=peers,
                packages=self.packages,
                source_date_epoch=self.source_date_epoch,
            )
            return GuestPackage.from_bytes(package.to_bytes())
        except ParseError as error:
            raise UsageError(f"no guest package can say this: {error}", code="package.inputs") from None


def resources_of(value: Mapping[str, Any]) -> Resources:
    """Return the resources an owner asked for; what is missing or None is the default."""
    return Resources(
        memory_mb=_given(value, "memory_mb", DEFAULT_MEMORY_MB),
        vcpus=_given(value, "vcpus", DEFAULT_VCPUS),
        types=tuple(_given(value, "types", (PV, PVH))),
    )


def network_of(value: Mapping[str, Any]) -> Network:
    """Return the network an owner asked for; what is missing or None is the default."""
    try:
        services = tuple(
            Service(protocol=item["protocol"], port=item["port"], reason=item["reason"])
            for item in _given(value, "services", ())
        )
    except (KeyError, TypeError):
        raise UsageError("a service is a protocol, a port and a reason", code="package.inputs") from None
    return Network(mac=_given(value, "mac", DERIVED), services=services)


def peers_of(value: Mapping[str, Any]) -> Peers:
    """Return the criteria an owner wrote: six lists by name, digests in hexadecimal; what is missing is empty.

    Raises:
        UsageError: ``package.inputs``.
    """

    def some(name: str) -> list[str]:
        return list(_given(value, name, ()))

    written = {
        "hosts": {name: some(name) for name in ("installer_pcr4", "releases", "release_keys", "enrolment_keys")},
        "guests": {name: some(name) for name in ("names", "package_keys")},
    }
    try:
        return Peers.read(Fields(written, "peers"))
    except ParseError as error:
        raise UsageError(f"these are no criteria for peers: {error}", code="package.inputs") from None


def sign_guest_package(package: GuestPackage, private_key: PrivateKey) -> bytes:
    """Return the signed package file (DSSE); its SHA-256 is the package id."""
    return sign_envelope(IN_TOTO_PAYLOAD_TYPE, package.to_bytes(), private_key)


def changed_members(before: GuestPackage | None, after: GuestPackage | None) -> tuple[str, str]:
    """Return the members that two packages do not share, one a line as ``member: value``, before and after."""
    old, new = (dict(_members(package)) if package is not None else {} for package in (before, after))
    return tuple(  # type: ignore[return-value]
        "".join(f"{name}: {shown(value)}\n" for name, value in mine.items() if other.get(name) != value)
        for mine, other in ((old, new), (new, old))
    )


def _members(package: GuestPackage) -> Iterator[tuple[str, str]]:
    """Yield every member of the statement with its dotted name."""
    value = package.to_json()
    for name, part in package.parts.items():
        yield f"subject.{name}", part.sha256.hex()
    predicate = dict(value["predicate"])
    for item in predicate.pop("packages"):
        yield f"packages.{item['name']}", item["version"]
    for word in predicate.pop("cmdline").split():
        key, _, said = word.partition("=")
        yield f"cmdline.{key}", said
    for item in predicate["network"].pop("services"):
        yield f"network.services.{item['protocol']}/{item['port']}", item["reason"]
    yield from _leaves("", predicate)


def _leaves(prefix: str, value: Any) -> Iterator[tuple[str, str]]:
    if isinstance(value, dict):
        for name, item in value.items():
            yield from _leaves(f"{prefix}.{name}" if prefix else name, item)
    elif isinstance(value, list):
        yield prefix, ", ".join(str(item) for item in value)
    else:
        yield prefix, str(value)


def _files(digests: Fields, sizes: Fields) -> tuple[dict[str, str], dict[str, int]]:
    names = digests.rest()
    if len(names) > MAX_FILES:
        raise digests.fail("", f"{len(names)} files, more than {MAX_FILES}")
    files = {shown(name): digests.decode_hex(shown(name), value, 32).hex() for name, value in names.items()}
    numbers = {name: sizes.integer(name, minimum=1) for name in files}
    sizes.done()
    return files, numbers


def _given(value: Mapping[str, Any], name: str, default: Any) -> Any:
    found = value.get(name)
    return default if found is None else found
