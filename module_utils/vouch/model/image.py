# SPDX-License-Identifier: GPL-3.0-or-later
"""What signed statements about images have in common: in-toto subjects, the verity tree, the package list.

Host releases (``release.py``) and guest packages (``package.py``) are in-toto Statements in DSSE envelopes::

    _type          "https://in-toto.io/Statement/v1"
    subject        list of {"name": text, "digest": {"sha256": hex}}
    predicateType  which of our documents it is
    predicate      the document

Source: in-toto attestation framework v1.0, statement.md; Linux, admin-guide/device-mapper/verity.rst (format 1).
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from ..parse.fields import Fields

IN_TOTO_PAYLOAD_TYPE = "application/vnd.in-toto+json"
IN_TOTO_STATEMENT_TYPE = "https://in-toto.io/Statement/v1"

ROOT_IMAGE = "root.img"
PRODUCTION, DEBUG = "production", "debug"
VERITY_BLOCK_BYTES = 4096
VERITY_DIGESTS_PER_BLOCK = VERITY_BLOCK_BYTES // 32

MAX_SUBJECTS = 64
MAX_PACKAGES = 20_000
MAX_SALT_BYTES = 256
"""The kernel takes no longer salt."""

MAX_DATA_BLOCKS = 1 << 32
"""16 TiB of data: far beyond any image, and small enough for every computation with it."""

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._+~-]{0,127}\Z")
"""Names of images and of their parts; they become file names."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Verity:
    """Parameters of the root's dm-verity tree (format 1, no superblock; tree right behind the data)."""

    root_hash: bytes
    salt: bytes
    data_blocks: int
    block_bytes: int = VERITY_BLOCK_BYTES
    algorithm: str = "sha256"

    @property
    def word(self) -> str:
        """The word of the kernel command line that the initrd reads."""
        return f"vouch.verity={self.root_hash.hex()},{self.salt.hex()},{self.data_blocks}"

    def levels(self) -> tuple[int, ...]:
        """Return the blocks of each level of the tree in the order they stand in, topmost first."""
        levels: list[int] = []
        blocks = self.data_blocks
        while blocks > 1:
            blocks = -(-blocks // VERITY_DIGESTS_PER_BLOCK)
            levels.append(blocks)
        return tuple(reversed(levels))

    @property
    def image_bytes(self) -> int:
        """Size of data and tree together."""
        return (self.data_blocks + sum(self.levels())) * self.block_bytes

    def to_json(self) -> dict[str, Any]:
        """Return the JSON form."""
        return {
            "root_hash": self.root_hash.hex(),
            "salt": self.salt.hex(),
            "data_blocks": self.data_blocks,
            "block_bytes": self.block_bytes,
            "algorithm": self.algorithm,
        }

    @classmethod
    def read(cls, fields: Fields) -> Verity:
        """Take the members of ``fields``."""
        fields.literal("algorithm", "sha256")
        fields.literal("block_bytes", VERITY_BLOCK_BYTES)
        verity = cls(
            root_hash=fields.hex("root_hash", 32),
            salt=fields.hex("salt"),
            data_blocks=fields.integer("data_blocks", minimum=1, maximum=MAX_DATA_BLOCKS),
        )
        if len(verity.salt) > MAX_SALT_BYTES:
            raise fields.fail("salt", f"{len(verity.salt)} bytes, more than {MAX_SALT_BYTES}")
        fields.done()
        return verity


@dataclass(frozen=True, slots=True, kw_only=True, order=True)
class Package:
    """One distribution package inside the image."""

    name: str
    version: str


def statement(subjects: Mapping[str, bytes], predicate_type: str, predicate: Mapping[str, Any]) -> dict[str, Any]:
    """Return the in-toto Statement."""
    return {
        "_type": IN_TOTO_STATEMENT_TYPE,
        "subject": [{"name": name, "digest": {"sha256": value.hex()}} for name, value in subjects.items()],
        "predicateType": predicate_type,
        "predicate": dict(predicate),
    }


def read_statement(fields: Fields, predicate_type: str, what: str) -> tuple[dict[str, bytes], Fields]:
    """Take all members of a Statement; return its subjects and its predicate, not yet read.

    Args:
        fields: Reader over the statement.
        predicate_type: The only one that is accepted.
        what: Name of the document, for messages.

    Raises:
        ParseError: for another type, an unknown member, a subject that stands twice.
    """
    fields.literal("_type", IN_TOTO_STATEMENT_TYPE)
    fields.literal("predicateType", predicate_type)
    subjects: dict[str, bytes] = {}
    for item in fields.array("subject", maximum=MAX_SUBJECTS):
        entry = Fields(item, f"{what}.subject")
        name = entry.text("name", pattern=NAME)
        digests = entry.object("digest")
        if name in subjects:
            raise entry.fail("name", f"{name} stands twice")
        subjects[name] = digests.hex("sha256", 32)
        digests.done()
        entry.done()
    predicate = fields.object("predicate")
    fields.done()
    return subjects, predicate


def packages_json(packages: Iterable[Package]) -> list[dict[str, str]]:
    """Return the JSON form of a package list."""
    return [{"name": item.name, "version": item.version} for item in packages]


def read_packages(fields: Fields, what: str) -> tuple[Package, ...]:
    """Take the member ``packages``."""
    packages = []
    for item in fields.array("packages", maximum=MAX_PACKAGES):
        entry = Fields(item, f"{what}.packages")
        packages.append(
            Package(name=entry.text("name", maximum_chars=128), version=entry.text("version", maximum_chars=128))
        )
        entry.done()
    return tuple(packages)
