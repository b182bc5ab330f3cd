# SPDX-License-Identifier: GPL-3.0-or-later
"""A Debian root file system as a pure function of its inputs: the cache key, the command, the package list.

The archive of a suite moves, so equal inputs give equal bytes only against an unmoving mirror (a snapshot) or, as
here, from the cache: one key is bootstrapped once, and every image made from it starts from the same bytes.

Source: mmdebstrap(1); deb822 syntax of dpkg's status file, Debian Policy 5.1.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Sequence
from dataclasses import asdict, dataclass

from ..errors import ParseError, UsageError

FORMAT = 1
"""Part of every key: raised when the same inputs begin to mean another tree."""

VARIANTS = ("extract", "custom", "essential", "apt", "minbase", "buildd", "important", "standard")

MAX_STATUS_BYTES = 64 << 20

SOURCE_NAME = re.compile(r"[a-z0-9][a-z0-9.+-]+")
"""A source package's; in full."""

_SUITE = re.compile(r"[a-z][a-z0-9.+-]*")
_PACKAGE = re.compile(r"[a-z0-9][a-z0-9.+-]+(:[a-z0-9]+)?([/=][A-Za-z0-9.+:~-]+)?")
_COMPONENT = re.compile(r"[a-z][a-z-]*")
_PATTERN = re.compile(r"/[^\s,'\"]*")


@dataclass(frozen=True, slots=True, kw_only=True)
class Package:
    """An installed package."""

    name: str
    version: str
    architecture: str


@dataclass(frozen=True, slots=True, kw_only=True)
class TreeSpec:
    """What one tree is made of.

    Attributes:
        suite: Debian suite, e.g. ``trixie``.
        variant: mmdebstrap's variant.
        packages: Names (``name``, ``name/suite`` or ``name=version``) in any order.
        sources: Source packages whose upstream archive is unpacked below ``/usr/src/NAME``, in any order.
        components: Archive components.
        mirror: URL of the archive; empty leaves the choice to mmdebstrap.
        path_excludes: dpkg ``path-exclude`` patterns, in order.
        path_includes: dpkg ``path-include`` patterns that win over the excludes.
        source_date_epoch: Newest time any file may have.
    """

    suite: str
    variant: str = "minbase"
    packages: tuple[str, ...] = ()
    sources: tuple[str, ...] = ()
    components: tuple[str, ...] = ("main",)
    mirror: str = ""
    path_excludes: tuple[str, ...] = ()
    path_includes: tuple[str, ...] = ()
    source_date_epoch: int = 0

    def __post_init__(self) -> None:
        object.__setattr__(self, "packages", tuple(sorted(set(self.packages))))
        object.__setattr__(self, "sources", tuple(sorted(set(self.sources))))
        if not _SUITE.fullmatch(self.suite):
            raise UsageError(f"suite {self.suite!r} is no Debian suite", code="tree.suite")
        if self.variant not in VARIANTS:
            raise UsageError(f"variant {self.variant!r} is none of {', '.join(VARIANTS)}", code="tree.variant")
        if not self.components:
            raise UsageError("a tree needs at least one archive component", code="tree.components")
        for pattern, values, what in (
            (_PACKAGE, self.packages, "package"),
            (SOURCE_NAME, self.sources, "source package"),
            (_COMPONENT, self.components, "component"),
            (_PATTERN, self.path_excludes + self.path_includes, "path pattern"),
        ):
            for value in values:
                if not pattern.fullmatch(value):
                    raise UsageError(f"{value!r} is no {what}", code=f"tree.{what.replace(' ', '-')}")
        if self.mirror and not re.fullmatch(r"(https?|file|copy)://?[^\s]+", self.mirror):
            raise UsageError(f"mirror {self.mirror!r} is no archive URL", code="tree.mirror")
        if self.source_date_epoch < 0:
            raise UsageError("source_date_epoch is negative", code="tree.epoch")

    @property
    def key(self) -> str:
        """SHA-256 over the inputs: the name under which the tree is cached."""
        inputs = {"format": FORMAT, **asdict(self)}
        if not self.sources:
            # A tree without sources is the same tree as before there were any.
            del inputs["sources"]
        return hashlib.sha256(json.dumps(inputs, sort_keys=True, separators=(",", ":")).encode()).hexdigest()

    @property
    def label(self) -> str:
        """A short name for people."""
        return f"{self.suite}-{self.key[:12]}"


def mmdebstrap_argv(spec: TreeSpec, output: str) -> list[str]:
    """Return the command that writes the tree of ``spec`` to the tar file ``output``."""
    argv = [
        "mmdebstrap",
        "--format=tar",
        f"--variant={spec.variant}",
        f"--components={','.join(spec.components)}",
        # Recommended packages are a matter of taste on a desktop, and of attack surface here.
        "--aptopt=APT::Install-Recommends false",
        "--dpkgopt=force-unsafe-io",
    ]
    if spec.packages:
        argv.append(f"--include={','.join(spec.packages)}")
    argv += [f"--dpkgopt=path-exclude={pattern}" for pattern in spec.path_excludes]
    argv += [f"--dpkgopt=path-include={pattern}" for pattern in spec.path_includes]
    if spec.sources:
        argv.append(f"--customize-hook={source_hook(spec.sources)}")
    argv += [spec.suite, output]
    if spec.mirror:
        argv.append(spec.mirror)
    return argv


SOURCE_FOLDER = "usr/src"
"""Where sources are in a tree: ``NAME/`` is upstream's archive, without its own top folder; ``NAME.dsc`` says which."""


def source_hook(sources: Sequence[str]) -> str:
    """Return the shell commands that fetch and unpack source packages inside the new tree, which is ``$1``.

    The tree's own apt fetches them, so the archive's signature covers them as it covers the packages. Upstream's
    archive alone is unpacked: Debian's patches are about how Debian builds.
    """
    steps = [
        "set -e",
        'sed "s/^deb /deb-src /" "$1/etc/apt/sources.list" > "$1/etc/apt/sources.list.d/vouch-source.list"',
        'chroot "$1" apt-get update',
    ]
    for name in sources:
        fetched = f'"$1/{SOURCE_FOLDER}/.fetched"'
        steps += [
            f'mkdir -p {fetched} "$1/{SOURCE_FOLDER}/{name}"',
            f'chroot "$1" sh -c "cd /{SOURCE_FOLDER}/.fetched && apt-get source --download-only {name}"',
            f'tar -C "$1/{SOURCE_FOLDER}/{name}" --no-same-owner --strip-components=1 -xf {fetched}/*.orig.tar.?z*',
            f'mv {fetched}/*.dsc "$1/{SOURCE_FOLDER}/{name}.dsc"',
            f"rm -r {fetched}",
        ]
    return "\n".join([*steps, 'rm "$1/etc/apt/sources.list.d/vouch-source.list"'])


def source_version(description: bytes) -> str:
    """Return the version that a source package's description (``.dsc``) states.

    Raises:
        ParseError: it states none.
    """
    for line in description.decode("utf-8", "replace").splitlines():
        name, _, value = line.partition(":")
        if name == "Version" and value.strip():
            return value.strip()
    raise ParseError("dsc.Version", 0, "missing")


def parse_dpkg_status(data: bytes) -> tuple[Package, ...]:
    """Return the installed packages of a dpkg status file, sorted by name and architecture.

    Raises:
        ParseError: too large, not UTF-8, or a paragraph without its mandatory fields.
    """
    if len(data) > MAX_STATUS_BYTES:
        raise ParseError("dpkg.status", 0, f"{len(data)} bytes, more than {MAX_STATUS_BYTES}", code="parse.too-large")
    try:
        text = data.decode()
    except UnicodeDecodeError as exc:
        raise ParseError("dpkg.status", exc.start, "not UTF-8") from exc
    packages = []
    offset = 0
    for paragraph in text.split("\n\n"):
        fields = {}
        for line in paragraph.splitlines():
            name, colon, value = line.partition(":")
            if colon and not line[0].isspace():
                fields[name] = value.strip()
        if fields:
            missing = [name for name in ("Package", "Status") if name not in fields]
            if missing:
                raise ParseError(f"dpkg.status.{missing[0]}", offset, "missing")
            if fields["Status"].split()[-1] == "installed":
                if "Version" not in fields:
                    raise ParseError("dpkg.status.Version", offset, f"missing for {fields['Package']}")
                packages.append(
                    Package(
                        name=fields["Package"], version=fields["Version"], architecture=fields.get("Architecture", "")
                    )
                )
        offset += len(paragraph.encode()) + 2
    return tuple(sorted(packages, key=lambda p: (p.name, p.architecture)))
