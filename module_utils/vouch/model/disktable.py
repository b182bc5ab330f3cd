# SPDX-License-Identifier: GPL-3.0-or-later
"""A GUID partition table as a value, in sfdisk's script and JSON form.

Source: UEFI 2.10, 5.3 (GPT); sfdisk(8), script format and ``--json``.
"""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ..errors import UnreachableError, UsageError, shown


@dataclass(frozen=True, slots=True, kw_only=True)
class Partition:
    """One entry of a GPT, in sectors of the disk's own size."""

    number: int
    name: str
    type_guid: uuid.UUID
    guid: uuid.UUID
    start: int
    size: int


@dataclass(frozen=True, slots=True, kw_only=True)
class DiskTable:
    """A whole GPT: the disk's GUID, its sector size, its partitions in ascending number."""

    guid: uuid.UUID
    sector_bytes: int
    partitions: tuple[Partition, ...]

    def partition(self, number: int) -> Partition:
        """Return partition ``number``.

        Raises:
            UsageError: when the table has none.
        """
        for entry in self.partitions:
            if entry.number == number:
                return entry
        raise UsageError(f"the partition table has no partition {number}")


def sfdisk_script(table: DiskTable) -> str:
    """Return the script that makes ``sfdisk`` write exactly ``table``."""
    lines = ["label: gpt", f"label-id: {table.guid}", "unit: sectors", f"sector-size: {table.sector_bytes}", ""]
    lines += [
        f'{p.number} : start={p.start}, size={p.size}, type={p.type_guid}, uuid={p.guid}, name="{p.name}"'
        for p in table.partitions
    ]
    return "\n".join(lines) + "\n"


def table_from_sfdisk(document: Mapping[str, Any]) -> DiskTable | None:
    """Return the table that ``sfdisk --json`` shows, or ``None`` for another label than GPT.

    Trust: ``document`` comes from our own tool, over a disk that anybody may have written.

    Raises:
        UnreachableError: when the document has another shape than util-linux 2.38-2.41 prints.
    """
    try:
        table = document["partitiontable"]
        if table["label"] != "gpt":
            return None
        if table.get("unit", "sectors") != "sectors":
            raise ValueError(f"unit {table['unit']!r}")
        entries = tuple(
            sorted(
                (_partition_from_sfdisk(table["device"], entry) for entry in table.get("partitions", [])),
                key=lambda p: p.number,
            )
        )
        return DiskTable(guid=uuid.UUID(table["id"]), sector_bytes=int(table["sectorsize"]), partitions=entries)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise UnreachableError(
            f"sfdisk --json printed a table of unknown shape: {shown(error)}",
            code="disk.table.unreadable",
            hint="Known to work with util-linux 2.38 to 2.41.",
        ) from error


def _partition_from_sfdisk(device: str, entry: Mapping[str, Any]) -> Partition:
    node = str(entry["node"])
    if not node.startswith(device):
        raise ValueError(f"partition {node!r} is not on {device!r}")
    return Partition(
        number=int(node[len(device) :].lstrip("p")),
        name=str(entry.get("name", "")),
        type_guid=uuid.UUID(entry["type"]),
        guid=uuid.UUID(entry["uuid"]),
        start=int(entry["start"]),
        size=int(entry["size"]),
    )


def describe(table: DiskTable | None) -> str:
    """Return the table as lines for ``--diff``."""
    if table is None:
        return "no GPT\n"
    return "\n".join([f"gpt {table.guid}", *(line_of(entry) for entry in table.partitions)]) + "\n"


def line_of(entry: Partition) -> str:
    """Return one entry as one line."""
    return f"{entry.number} {entry.name} start={entry.start} size={entry.size} type={entry.type_guid} uuid={entry.guid}"
