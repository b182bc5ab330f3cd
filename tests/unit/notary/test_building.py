# SPDX-License-Identifier: GPL-3.0-or-later
"""A build by other guests: who is waited for, what make is told, and what is said of the objects."""

from __future__ import annotations

import asyncio
import hashlib
import pathlib
import threading
import time
from collections.abc import Mapping, Sequence
from typing import Any

import pytest
from ansible.module_utils.vouch.errors import ParseError, UnreachableError
from ansible.module_utils.vouch.notary import building
from ansible.module_utils.vouch.notary.building import build, connect_nodes, copy_tree, main, read_peers
from ansible.module_utils.vouch.parse.buildresult import parse_build_result
from ansible.module_utils.vouch.port.command import CommandError, CommandResult

from sim.portauthority import SimAuthority, SimGuest

OBJECTS = {"b.o": b"object b", "deep/a.o": b"object a"}
DIGEST = hashlib.sha256(
    "".join(f"{digest}\n" for digest in sorted(hashlib.sha256(data).hexdigest() for data in OBJECTS.values())).encode()
)


class Make:
    """Plays make: writes objects where it is sent to.

    Attributes:
        objects: Path below its folder to content.
        argv, environment: What it was called with.
    """

    def __init__(self, objects: Mapping[str, bytes] = OBJECTS, *, failure: CommandError | None = None) -> None:
        self.objects = objects
        self.failure = failure
        self.argv: list[str] = []
        self.environment: dict[str, str] = {}

    def __call__(self, argv: Sequence[str], **options: Any) -> CommandResult:
        self.argv, self.environment = list(argv), dict(options["environment"])
        if self.failure is not None:
            raise self.failure
        for name, data in self.objects.items():
            path = pathlib.Path(argv[2]) / name
            path.parent.mkdir(exist_ok=True)
            path.write_bytes(data)
        return CommandResult(returncode=0, stdout=b"", stderr=b"")


@pytest.fixture
def source(tmp_path: pathlib.Path) -> pathlib.Path:
    folder = tmp_path / "source"
    (folder / "src").mkdir(parents=True)
    (folder / "src/a.c").write_text("int a;\n")
    (folder / "src/link.c").symlink_to("a.c")
    return folder


@pytest.fixture(autouse=True)
def no_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(building, "PAUSE_S", 0.01)


@pytest.fixture
def connected(monkeypatch: pytest.MonkeyPatch) -> None:
    """All nodes that are named are connected."""

    async def connect(addresses: Sequence[str], **_: Any) -> tuple[str, ...]:
        return tuple(addresses)

    monkeypatch.setattr(building, "connect_nodes", connect)


def test_waits_until_enough_nodes_are_connected(tmp_path: pathlib.Path) -> None:
    async def scenario() -> tuple[str, ...]:
        authority = SimAuthority(SimGuest("control", "fd00::1", now_s=0), str(tmp_path / "a.sock"), time.time)
        authority.refusing = {"fd00::3": "peer.host", "fd00::4": "peer.told"}
        await authority.start()

        def say(line: str) -> None:
            said.append(line)
            if line == "fd00::3: refused peer.host":
                authority.refusing.pop("fd00::3")

        asked = ["fd00::4", "fd00::3", "fd00::2"]
        try:
            return await asyncio.wait_for(connect_nodes(asked, wanted=2, path=authority.path, say=say), 20)
        finally:
            authority.stop()

    said: list[str] = []
    assert asyncio.run(scenario()) == ("fd00::2", "fd00::3")
    refused = ["fd00::3: refused peer.host", "fd00::4: refused peer.told"]
    assert sorted(said) == ["fd00::2: connected, ms: all 12", "fd00::3: connected, ms: all 12", *refused]


def test_waits_for_an_authority_that_is_not_there_yet(tmp_path: pathlib.Path) -> None:
    async def scenario() -> tuple[tuple[str, ...], list[str]]:
        path, said = str(tmp_path / "a.sock"), list[str]()
        asking = asyncio.ensure_future(connect_nodes(["fd00::2"], wanted=5, path=path, say=said.append))
        while not said:
            await asyncio.sleep(0.01)
        authority = SimAuthority(SimGuest("control", "fd00::1", now_s=0), path, time.time)
        await authority.start()
        try:
            return await asyncio.wait_for(asking, 20), said
        finally:
            authority.stop()

    nodes, said = asyncio.run(scenario())
    assert nodes == ("fd00::2",)
    assert "does not answer" in said[0]


def test_make_compiles_by_the_dispatcher_and_by_nobody_else(source: pathlib.Path, tmp_path: pathlib.Path) -> None:
    make, place = Make(), tmp_path / "place"
    built = build(source, place, folder="src", arguments=["lib.a"], host="127.0.0.1:3632", jobs=4, runner=make)
    assert (built.objects, built.digest) == ((place / "src/b.o", place / "src/deep/a.o"), DIGEST.digest())
    assert make.argv == ["make", "-C", str(place / "src"), "-j4", "CC=distcc gcc", "lib.a"]
    assert make.environment["DISTCC_HOSTS"] == "127.0.0.1:3632/4"
    assert make.environment["DISTCC_FALLBACK"] == "0"
    assert pathlib.Path(make.environment["DISTCC_DIR"]).is_dir()
    assert place not in pathlib.Path(make.environment["DISTCC_DIR"]).parents


def test_a_build_without_objects_is_none(source: pathlib.Path, tmp_path: pathlib.Path) -> None:
    with pytest.raises(UnreachableError) as caught:
        build(source, tmp_path / "place", folder=".", arguments=[], host="127.0.0.1:1", jobs=1, runner=Make({}))
    assert caught.value.code == "build.empty"


def test_copy_has_links_and_times(source: pathlib.Path, tmp_path: pathlib.Path) -> None:
    copy_tree(source, tmp_path / "copy")
    copied = tmp_path / "copy/src/a.c"
    assert copied.read_text() == "int a;\n"
    assert copied.stat().st_mtime_ns == (source / "src/a.c").stat().st_mtime_ns
    assert (tmp_path / "copy/src/link.c").readlink() == pathlib.Path("a.c")


@pytest.mark.parametrize("data", [b"{}", b"[1]", b'["fd00::zz"]', b'["10.0.0.1"]', b"[", b'["fd00::1" "fd00::2"]'])
def test_peers_that_cannot_be_read(data: bytes) -> None:
    with pytest.raises(ParseError):
        read_peers(data)


def options(tmp_path: pathlib.Path, source: pathlib.Path, peers: str) -> list[str]:
    (tmp_path / "peers.json").write_text(peers)
    named = {
        "peers": tmp_path / "peers.json",
        "authority": tmp_path / "a.sock",
        "source": source,
        "place": tmp_path / "p",
    }
    return [word for name, value in named.items() for word in (f"--{name}", str(value))]


def test_nothing_to_do(tmp_path: pathlib.Path, source: pathlib.Path, capsys: pytest.CaptureFixture[str]) -> None:
    make = Make()
    assert main(options(tmp_path, source, "[]\n"), runner=make) == 0
    assert make.argv == []
    assert capsys.readouterr().out == ""


FAILED = CommandError("make", "exit code 2", returncode=2, stderr_tail="gcc: error")


@pytest.mark.usefixtures("connected")
@pytest.mark.parametrize(
    ("make", "told", "code"),
    [
        (Make(), f"vouch-build: done 2 {DIGEST.hexdigest()}\n", 0),
        (Make(failure=FAILED), "vouch-build: failed command.failed\n", 1),
        (Make({}), "vouch-build: failed build.empty\n", 1),
    ],
    ids=["built", "make failed", "nothing made"],
)
def test_one_line_says_how_it_ended(
    make: Make,
    told: str,
    code: int,
    tmp_path: pathlib.Path,
    source: pathlib.Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert main([*options(tmp_path, source, '["fd00::2"]'), "--", "all"], runner=make) == code
    assert capsys.readouterr().out == told
    assert make.argv[-1] == "all"


@pytest.mark.usefixtures("connected")
def test_a_place_that_cannot_be_written(
    tmp_path: pathlib.Path,
    source: pathlib.Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    (tmp_path / "p").mkdir()
    assert main(options(tmp_path, source, '["fd00::2"]'), runner=Make()) == 1
    assert capsys.readouterr().out == "vouch-build: failed build.files\n"


def test_progress_is_told(
    source: pathlib.Path, tmp_path: pathlib.Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    class Slow(Make):
        def __call__(self, argv: Sequence[str], **options: Any) -> CommandResult:
            result = super().__call__(argv, **options)
            assert told.wait(20)
            return result

    def say(line: str) -> None:
        assert line == "2 objects"
        told.set()

    told = threading.Event()
    monkeypatch.setattr(building, "PROGRESS_S", 0.01)
    monkeypatch.setattr(building, "say", say)
    build(source, tmp_path / "p", folder="src", arguments=[], host="127.0.0.1:1", jobs=1, runner=Slow())


@pytest.mark.usefixtures("connected")
def test_what_was_built_is_sealed_and_served(
    source: pathlib.Path, tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def serve(result: bytes, *, port: int) -> None:
        served.append((result, port))

    def seal(files: Sequence[str], objects: Sequence[str], *, path: str) -> bytes:
        sealed.append((files, objects, path))
        return b"bundle"

    served: list[tuple[bytes, int]] = []
    sealed: list[tuple[Sequence[str], Sequence[str], str]] = []
    monkeypatch.setattr(building, "seal_build", seal)
    monkeypatch.setattr(building, "serve_result", serve)
    argv = [*options(tmp_path, source, '["fd00::2"]'), "--folder", "src", "--file", "b.o", "--serve", "7"]
    assert main([*argv, "--control", "c.sock"], runner=Make()) == 0
    folder = tmp_path / "p/src"
    assert sealed == [([str(folder / "b.o")], [str(folder / "b.o"), str(folder / "deep/a.o")], "c.sock")]
    ((result, port),) = served
    found = parse_build_result(result)
    assert (found.files, found.provenance, port) == ({"b.o": b"object b"}, b"bundle", 7)


@pytest.mark.usefixtures("connected")
def test_a_file_that_was_not_built_ends_the_build(
    source: pathlib.Path, tmp_path: pathlib.Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    async def serve(result: bytes, *, port: int) -> None:
        served.append(result)

    served: list[bytes] = []
    monkeypatch.setattr(building, "serve_result", serve)
    assert main([*options(tmp_path, source, '["fd00::2"]'), "--file", "lib.a"], runner=Make()) == 1
    assert capsys.readouterr().out == "vouch-build: failed files.missing\n"
    assert served == [b"vouch-build: failed files.missing\n"]
