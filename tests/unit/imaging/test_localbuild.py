# SPDX-License-Identifier: GPL-3.0-or-later
"""A build in a tree: what make is told, as whom, where, and that nothing of it stays."""

from __future__ import annotations

import os
import pathlib
import tempfile
from collections.abc import Mapping, Sequence
from typing import Any

import pytest
from ansible.module_utils.vouch.errors import UnreachableError, UsageError
from ansible.module_utils.vouch.imaging.localbuild import NOBODY, LocalBuild, build_locally
from ansible.module_utils.vouch.port.command import CommandError, CommandResult, run

from attestedbuild import digest_of_objects
from sim.debiantree import make_tree
from smalltree import OWN_MAKE, enterable_tree

OBJECTS = {"a.o": b"object 0", "b.o": b"object 1"}


class Builder:
    """Runs ``tar`` for real, and plays make in the tree.

    Attributes:
        objects: Name to content of what make writes into the sources.
        failure: What make ends in.
        argv, environment: What it was called with.
    """

    def __init__(self) -> None:
        self.objects: Mapping[str, bytes] = OBJECTS
        self.failure: CommandError | None = None
        self.argv: list[str] = []
        self.environment: Mapping[str, str] = {}
        self.root = pathlib.Path()

    def __call__(self, argv: Sequence[str], **options: Any) -> CommandResult:
        if argv[0] == "tar":
            return run(argv)
        self.argv, self.environment, self.root = list(argv), options["environment"], pathlib.Path(argv[2])
        if self.failure is not None:
            raise self.failure
        for name, data in self.objects.items():
            (self.root / "usr/src/hello" / name).write_bytes(data)
        return CommandResult(returncode=0, stdout=b"", stderr=b"")


@pytest.fixture
def owners(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Have nobody notice that this is not root; return what is given to whom."""

    def chown(path: pathlib.Path, user: int, group: int, *, follow_symlinks: bool) -> None:
        assert (user, group, follow_symlinks) == (NOBODY, NOBODY, False)
        given.append(path.name)

    given: list[str] = []
    (tmp_path / "tmp").mkdir()
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    monkeypatch.setattr(os, "chown", chown)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "tmp"))
    return given


def build(place: pathlib.Path, builder: Builder, **changes: Any) -> LocalBuild:
    options = {"source": "hello", "folder": ".", "arguments": ["all"], "jobs": 3, "say": lambda _: None, **changes}
    return build_locally(make_tree(place), runner=builder, **options)


def test_make_of_the_tree_compiles_as_nobody(tmp_path: pathlib.Path, owners: list[str]) -> None:
    builder, said = Builder(), list[str]()
    built = build(tmp_path, builder, folder="src", arguments=["lib.a", "V=1"], say=said.append)
    assert built == (2, bytes.fromhex(digest_of_objects()))
    assert builder.argv == [
        *("chroot", "--userspec=65534:65534", str(builder.root)),
        *("make", "-C", "/usr/src/hello/src", "-j3", "CC=gcc", "lib.a", "V=1"),
    ]
    assert builder.environment == {"HOME": "/", "TMPDIR": "/tmp"}
    assert sorted(owners) == ["hello", "hello.c"]
    assert said == ["unpacking the tree", "compiling hello"]
    assert os.listdir(tmp_path / "tmp") == [], "nothing is kept"


def test_as_many_jobs_as_there_are_processors(tmp_path: pathlib.Path, owners: list[str]) -> None:
    builder = Builder()
    build(tmp_path, builder, jobs=0)
    assert f"-j{os.cpu_count()}" in builder.argv


def test_objects_that_are_the_same(tmp_path: pathlib.Path, owners: list[str]) -> None:
    builder = Builder()
    builder.objects = {**OBJECTS, "c.o": b"object 1"}
    assert build(tmp_path, builder) == (3, bytes.fromhex(digest_of_objects()))


@pytest.mark.parametrize("source", ["other", "hello.dsc", "", ".", "..", "../..", "hello/..", "/usr", "Hello", "link"])
def test_sources_that_the_tree_has_not(tmp_path: pathlib.Path, owners: list[str], source: str) -> None:
    def linked(argv: Sequence[str], **options: Any) -> CommandResult:
        result = builder(argv, **options)
        if argv[0] == "tar":
            (pathlib.Path(argv[4].partition("=")[2]) / "usr/src/link").symlink_to("hello")
        return result

    builder = Builder()
    with pytest.raises(UsageError) as caught:
        build_locally(make_tree(tmp_path), source=source, folder=".", arguments=[], say=lambda _: None, runner=linked)
    assert caught.value.code == "image.sources"
    assert (owners, builder.argv) == ([], []), "nothing was given away, and nothing was run"
    assert os.listdir(tmp_path / "tmp") == []


def test_make_that_makes_nothing(tmp_path: pathlib.Path, owners: list[str]) -> None:
    builder = Builder()
    builder.objects = {"a.c": b"int a;"}
    with pytest.raises(UnreachableError) as caught:
        build(tmp_path, builder)
    assert caught.value.code == "build.empty"


def test_make_that_fails(tmp_path: pathlib.Path, owners: list[str]) -> None:
    builder = Builder()
    builder.failure = CommandError("chroot", "exit code 2", returncode=2, stderr_tail="a.c:1: error")
    with pytest.raises(CommandError, match=r"a\.c:1: error"):
        build(tmp_path, builder)
    assert os.listdir(tmp_path / "tmp") == []


def test_a_tree_that_is_none(tmp_path: pathlib.Path, owners: list[str]) -> None:
    with pytest.raises(CommandError):
        build_locally(
            tmp_path / "none.tar", source="hello", folder=".", arguments=[], say=lambda _: None, runner=Builder()
        )


def test_only_root_can(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    builder = Builder()
    with pytest.raises(UnreachableError) as caught:
        build(tmp_path, builder)
    assert (caught.value.code, builder.argv) == ("image.privilege", [])


def test_a_tree_that_is_entered(tmp_path: pathlib.Path) -> None:
    """No program is played here."""
    archive = enterable_tree(tmp_path)
    options: dict[str, Any] = {"source": "hello", "folder": "src", "arguments": [], "say": lambda _: None}
    assert build_locally(archive, **options) == (2, bytes.fromhex(digest_of_objects()))


def test_what_make_said_is_told(tmp_path: pathlib.Path) -> None:
    failing = OWN_MAKE.replace("printf 'object 0' >a.o", "echo 'a.c: no compiler' >&2; exit 2")
    archive = enterable_tree(tmp_path, failing)
    with pytest.raises(CommandError, match=r"a\.c: no compiler"):
        build_locally(archive, source="hello", folder="src", arguments=[], say=lambda _: None)
