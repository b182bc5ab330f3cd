# SPDX-License-Identifier: GPL-3.0-or-later
"""The cache of Debian trees, with a stand-in for mmdebstrap."""

from __future__ import annotations

import io
import json
import pathlib
import tarfile
from collections.abc import Mapping, Sequence
from typing import Any

import pytest
from ansible.module_utils.vouch.errors import UnreachableError
from ansible.module_utils.vouch.make.tree import TreeSpec
from ansible.module_utils.vouch.port.command import CommandError, CommandResult
from ansible.module_utils.vouch.store.trees import TreeCache

SPEC = TreeSpec(suite="trixie", packages=("busybox",), source_date_epoch=7)
STATUS = b"Package: busybox\nStatus: install ok installed\nArchitecture: amd64\nVersion: 1.37\n"


class Bootstrap:
    """What mmdebstrap would do: writes the last argument, logs, and counts."""

    def __init__(self) -> None:
        self.runs = 0
        self.environment: Mapping[str, str] = {}
        self.status: bytes | None = STATUS
        self.problem = ""

    def __call__(self, argv: Sequence[str], **options: Any) -> CommandResult:
        self.runs += 1
        self.environment = options["environment"]
        log = next(word for word in argv if word.startswith("--logfile=")).removeprefix("--logfile=")
        pathlib.Path(log).write_text(f"I: extracting\nE: {self.problem}\n" if self.problem else "I: extracting\n")
        with tarfile.open(argv[-1], "w") as archive:
            if self.status is not None:
                member = tarfile.TarInfo("./var/lib/dpkg/status")
                member.size = len(self.status)
                archive.addfile(member, io.BytesIO(self.status))
        if self.problem:
            raise CommandError(argv[0], "exit code 25", returncode=25)
        return CommandResult(returncode=0, stdout=b"", stderr=b"")


@pytest.fixture
def bootstrap() -> Bootstrap:
    return Bootstrap()


@pytest.fixture
def cache(tmp_path: pathlib.Path, bootstrap: Bootstrap) -> TreeCache:
    return TreeCache(tmp_path / "trees", runner=bootstrap, environ={"http_proxy": "http://proxy:1", "HOME": "/x"})


def test_built_once(cache: TreeCache, bootstrap: Bootstrap) -> None:
    assert cache.find(SPEC) is None
    tree, built = cache.ensure(SPEC)
    assert built
    assert [(package.name, package.version) for package in tree.packages] == [("busybox", "1.37")]
    assert cache.ensure(SPEC) == (tree, False)
    assert bootstrap.runs == 1
    assert tree.path.name == f"{SPEC.key}.tar"


def test_environment(cache: TreeCache, bootstrap: Bootstrap) -> None:
    cache.ensure(SPEC)
    assert bootstrap.environment == {"SOURCE_DATE_EPOCH": "7", "INITRD": "No", "http_proxy": "http://proxy:1"}


def test_rebuilt_on_demand(cache: TreeCache, bootstrap: Bootstrap) -> None:
    cache.ensure(SPEC)
    assert cache.ensure(SPEC, rebuild=True)[1]
    assert bootstrap.runs == 2


@pytest.mark.parametrize("damage", ["flip", "cut", "gone", "description", "digest"])
def test_damaged_trees_are_built_again(cache: TreeCache, bootstrap: Bootstrap, damage: str) -> None:
    tree, _ = cache.ensure(SPEC)
    description = tree.path.with_suffix(".json")
    data = bytearray(tree.path.read_bytes())
    if damage == "flip":
        data[600] ^= 1
        tree.path.write_bytes(data)
    elif damage == "cut":
        tree.path.write_bytes(data[:-512])
    elif damage == "gone":
        tree.path.unlink()
    elif damage == "description":
        description.write_text("{")
    else:
        description.write_text(json.dumps({**json.loads(description.read_text()), "sha256": "00"}))
    assert cache.find(SPEC) is None
    again, built = cache.ensure(SPEC)
    assert built
    assert again.sha256 == tree.sha256


def test_failure_leaves_no_tree_and_names_the_log(
    cache: TreeCache, bootstrap: Bootstrap, tmp_path: pathlib.Path
) -> None:
    bootstrap.problem = "unable to reach the archive"
    with pytest.raises(UnreachableError) as failed:
        cache.ensure(SPEC)
    assert failed.value.code == "command.failed"
    assert "unable to reach the archive" in str(failed.value)
    assert ".log" in str(failed.value)
    assert not list((tmp_path / "trees").glob("*.tar"))
    assert not list((tmp_path / "trees").glob(".*.tar"))


def test_failed_rebuild_keeps_the_old_tree(cache: TreeCache, bootstrap: Bootstrap) -> None:
    tree, _ = cache.ensure(SPEC)
    bootstrap.problem = "no"
    with pytest.raises(UnreachableError):
        cache.ensure(SPEC, rebuild=True)
    assert cache.find(SPEC) == tree


def test_tree_without_packages_is_refused(cache: TreeCache, bootstrap: Bootstrap) -> None:
    bootstrap.status = None
    with pytest.raises(UnreachableError) as failed:
        cache.ensure(SPEC)
    assert failed.value.code == "tree.status"
    assert cache.find(SPEC) is None


def test_leftovers_of_a_killed_build_go(cache: TreeCache, tmp_path: pathlib.Path) -> None:
    folder = tmp_path / "trees"
    folder.mkdir()
    (folder / f".{SPEC.key}.1.tar").write_bytes(b"half")
    cache.ensure(SPEC)
    assert not list(folder.glob(".*.tar"))


def test_removed(cache: TreeCache) -> None:
    assert not cache.remove(SPEC)
    cache.ensure(SPEC)
    assert cache.remove(SPEC)
    assert cache.find(SPEC) is None
    assert not cache.remove(SPEC)
