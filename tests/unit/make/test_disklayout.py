# SPDX-License-Identifier: GPL-3.0-or-later
"""Partition tables: planned, written for sfdisk, read back, compared."""

from __future__ import annotations

import json
import pathlib
import shutil
import subprocess
import uuid

import pytest
from ansible.module_utils.vouch.errors import UnreachableError, UsageError
from ansible.module_utils.vouch.make import disklayout
from ansible.module_utils.vouch.model.disktable import DiskTable, describe, sfdisk_script, table_from_sfdisk

HOST = uuid.UUID("3d9a6f5e-0c0e-4c53-9d0e-0c1d5f5c8a11")
GIB = 1 << 30


def planned(sector_bytes: int = 512) -> DiskTable:
    return disklayout.plan_table(host_id=HOST, disk_bytes=3 * GIB, sector_bytes=sector_bytes)


@pytest.mark.parametrize("sector_bytes", [512, 4096])
def test_partitions_follow_each_other_and_end_before_the_backup_table(sector_bytes: int) -> None:
    table = planned(sector_bytes)
    assert [p.name for p in table.partitions] == ["vouch-esp", "vouch-a", "vouch-b", "vouch-data"]
    end = (1 << 20) // sector_bytes
    for entry in table.partitions:
        assert entry.start == end
        end = entry.start + entry.size
    assert end * sector_bytes <= 3 * GIB - 33 * sector_bytes
    assert len({p.guid for p in table.partitions}) == 4


@pytest.mark.skipif(shutil.which("sfdisk") is None, reason="sfdisk is not installed")
def test_sfdisk_writes_what_was_planned(tmp_path: pathlib.Path) -> None:
    disk = tmp_path / "disk.img"
    with disk.open("wb") as stream:
        stream.truncate(3 * GIB)
    subprocess.run(["sfdisk", "--quiet", disk], input=sfdisk_script(planned()).encode(), check=True)
    shown = subprocess.run(["sfdisk", "--json", disk], capture_output=True, check=True).stdout
    found = table_from_sfdisk(json.loads(shown))
    assert found == planned()
    assert disklayout.find_deltas(planned(), found) == ()


def test_slot_guid_is_the_head_of_the_root_hash() -> None:
    assert str(disklayout.slot_guid(bytes(range(32)))) == "00010203-0405-0607-0809-0a0b0c0d0e0f"
    with pytest.raises(UsageError):
        disklayout.slot_guid(bytes(16))


def test_a_slot_guid_is_no_difference_and_everything_else_is() -> None:
    from dataclasses import replace

    wanted = planned()
    content = tuple(replace(p, guid=uuid.uuid4()) if p.number == 2 else p for p in wanted.partitions)
    assert disklayout.find_deltas(wanted, replace(wanted, partitions=content)) == ()
    other = replace(wanted, guid=uuid.uuid4(), partitions=wanted.partitions[:3])
    assert [d.name for d in disklayout.find_deltas(wanted, other)] == ["disk GUID", "partition 4"]
    extra = replace(wanted, partitions=(*wanted.partitions, replace(wanted.partitions[3], number=5)))
    assert [d.desired for d in disklayout.find_deltas(wanted, extra)] == ["absent"]
    assert disklayout.find_deltas(wanted, None)[0].current is None


def test_a_small_disk_is_refused() -> None:
    with pytest.raises(UnreachableError) as caught:
        disklayout.plan_table(host_id=HOST, disk_bytes=GIB, sector_bytes=512)
    assert caught.value.code == "disk.too-small"
    disklayout.plan_table(host_id=HOST, disk_bytes=disklayout.MIN_DISK_BYTES, sector_bytes=512)


@pytest.mark.parametrize(
    ("ours", "signatures", "mounted", "wipe", "code"),
    [
        (False, [], [], False, None),
        (False, ["gpt"], [], True, None),
        (True, ["gpt"], [], False, None),
        (False, ["gpt", "ext4 'home' on partition 1"], [], False, "disk.not-empty"),
        (True, ["gpt"], ["vda4 mounted on /mnt"], True, "disk.in-use"),
    ],
)
def test_foreign_content(ours: bool, signatures: list[str], mounted: list[str], wipe: bool, code: str | None) -> None:
    if code is None:
        disklayout.refuse_foreign_content("d", ours=ours, signatures=signatures, mounted=mounted, wipe=wipe)
        return
    with pytest.raises(UnreachableError) as caught:
        disklayout.refuse_foreign_content("d", ours=ours, signatures=signatures, mounted=mounted, wipe=wipe)
    assert caught.value.code == code
    assert caught.value.hint


@pytest.mark.parametrize(
    "document",
    [
        {},
        {"partitiontable": []},
        {"partitiontable": {"label": "gpt", "id": "x", "device": "/dev/vda", "sectorsize": 512}},
        {
            "partitiontable": {
                "label": "gpt",
                "id": str(HOST),
                "device": "/dev/vda",
                "partitions": [{}],
                "sectorsize": 1,
            }
        },
        {
            "partitiontable": {
                "label": "gpt",
                "id": str(HOST),
                "device": "/dev/vda",
                "sectorsize": 512,
                "partitions": [{"node": "/dev/vdb1"}],
            }
        },
    ],
)
def test_an_unknown_shape_is_refused(document: dict[str, object]) -> None:
    with pytest.raises(UnreachableError) as caught:
        table_from_sfdisk(document)
    assert caught.value.code == "disk.table.unreadable"


def test_another_label_is_no_table() -> None:
    assert table_from_sfdisk({"partitiontable": {"label": "dos"}}) is None
    assert describe(None) == "no GPT\n"
