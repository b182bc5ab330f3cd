# SPDX-License-Identifier: GPL-3.0-or-later
"""What an image is made of is checked before anything is built, and decides the key of the cache."""

from __future__ import annotations

import dataclasses
import hashlib
from typing import Any

import pytest
from ansible.module_utils.vouch.errors import UsageError
from ansible.module_utils.vouch.imaging.spec import BuiltImage, ImageFile, ImageSpec
from ansible.module_utils.vouch.model.image import Package, Verity
from ansible.module_utils.vouch.model.release import HostRelease

from sim.debiantree import KEY, image_spec

TREE = "0" * 64


def built() -> BuiltImage:
    digest = hashlib.sha256(b"").hexdigest()
    return BuiltImage(
        variant="production",
        files={"xen.efi": digest, "root.img": digest, "manifest": digest},
        authenticode_sha256=digest,
        pcr4=digest,
        verity=Verity(root_hash=bytes(32), salt=b"salt", data_blocks=7),
        manifest_files=3,
        ssh_user="vouch",
        packages=(Package(name="bash", version="5.2"),),
        xen="4.20",
        kernel="6.12",
        source_date_epoch=1,
        statistics={"packages": 1},
    )


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"variant": "test"}, "image.variant"),
        ({"kernel_options": ["vouch.verity=x"]}, "image.option"),
        ({"files": []}, "image.keys"),
        ({"files": [ImageFile(path="/etc/ssh/authorized_keys/vouch", content=" \n")]}, "image.keys"),
        ({"files": [ImageFile(path="/etc/ssh/authorized_keys/vouch", content=KEY)] * 2}, "image.file"),
    ],
    ids=["variant", "verity", "no keys", "empty keys", "file twice"],
)
def test_what_cannot_be_meant_is_refused(changes: dict[str, Any], code: str) -> None:
    with pytest.raises(UsageError) as caught:
        image_spec(**changes)
    assert caught.value.code == code


@pytest.mark.parametrize("path", ["etc/x", "/", "/etc/../x", "/etc//x", "/etc/x/", ""])
def test_file_paths_are_absolute_and_plain(path: str) -> None:
    with pytest.raises(UsageError):
        ImageFile(path=path, content="")


@pytest.mark.parametrize("mode", [0o4755, 0o2755, 0o1777])
def test_own_files_have_no_special_bits(mode: int) -> None:
    with pytest.raises(UsageError):
        ImageFile(path="/x", content="", mode=mode)


def test_every_input_decides_the_key() -> None:
    spec = image_spec()
    keys = {spec.key(tree_sha256=TREE, code={})}
    keys.add(spec.key(tree_sha256="1" * 64, code={}))
    keys.add(spec.key(tree_sha256=TREE, code={"dom0/x": b""}))
    keys.add(spec.key(tree_sha256=TREE, code={"dom0/x": b"1"}))
    other: dict[str, Any] = {"variant": "debug", "source_date_epoch": 5, "ssh_user": "other", "ssh_shell": "/x"}
    for field in dataclasses.fields(ImageSpec):
        value = other.get(field.name)
        if value is None:
            value = {"p": ["/x"]} if field.name == "packages" else "text" if field.name == "initrd_script" else ["x"]
        if field.name == "files":
            value = [*spec.files, ImageFile(path="/x", content="")]
        keys.add(dataclasses.replace(spec, **{field.name: value}).key(tree_sha256=TREE, code={}))
    assert len(keys) == 4 + len(dataclasses.fields(ImageSpec))


def test_description_survives_json() -> None:
    assert BuiltImage.from_json(built().to_json()) == built()


@pytest.mark.parametrize(
    "damage",
    [
        lambda d: d.pop("pcr4"),
        lambda d: d.update(version=2),
        lambda d: d.update(verity=None),
        lambda d: d.update(packages=[{"nam": "x"}]),
        lambda d: d["verity"].update(extra=1),
    ],
)
def test_another_description_is_refused(damage: Any) -> None:
    value = built().to_json()
    damage(value)
    with pytest.raises(UsageError) as caught:
        BuiltImage.from_json(value)
    assert caught.value.code == "image.description"


def test_release_says_what_was_built() -> None:
    release = built().release("vouch-host-production")
    assert isinstance(release, HostRelease)
    assert HostRelease.from_bytes(release.to_bytes()) == release
    assert release.subjects["xen.efi"].hex() == built().files["xen.efi"]
