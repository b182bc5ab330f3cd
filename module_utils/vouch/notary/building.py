# SPDX-License-Identifier: GPL-3.0-or-later
"""A build in a guest whose compiler is other guests.

 1. the port authority is asked for a channel to each address, until enough nodes are connected
 2. the sources are copied to where they may be written
 3. make runs; its compiler is distcc, and distcc's one host is the dispatcher of this guest (``dispatch``)
 4. the dispatcher seals what was built: every object has a signed statement, or there is no result
 5. one line says how many objects there are, and the digest of all of them
 6. whoever connects is sent the result (``results``), or why there is none, until the guest ends

What the digest is says ``make.objects``: the same sources built elsewhere can be compared with it.

Standard output gets one line, ``vouch-build: done OBJECTS SHA256`` or ``vouch-build: failed CODE``; all else goes to
standard error, and in a guest to the console too: nobody reads a guest's journal. Exit codes, where nothing is given
out: 0 when it was built or there is nothing to do, 1 when not, 2 for a wrong option.
"""

from __future__ import annotations

import argparse
import asyncio
import ipaddress
import os
import shutil
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from ..errors import ParseError, UnreachableError, VouchError
from ..make.objects import objects_below, objects_digest
from ..parse.canonical import load_json
from ..port.command import Runner, run
from ..port.files import read_bounded
from .authority import SOCKET, AuthorityClient
from .buildseal import seal_build
from .control import SOCKET as CONTROL_SOCKET
from .dispatch import NODE_PORT
from .results import RESULT_PORT, failure_of, result_of, serve_result

PEERS = "/etc/vouch/peers.json"
PLACE = "/tmp/build"  # noqa: S108 - /tmp of a guest that builds is that build's alone
MAX_PEERS_BYTES = 1 << 16
BUILD_LIMIT_S = 6 * 3600.0
PAUSE_S = 2.0
"""Between two attempts at one node."""

PROGRESS_S = 30.0

Say = Callable[[str], None]


class Built(NamedTuple):
    """What a build made: its objects, ascending by path, the digest of all of them, and how long make took."""

    objects: tuple[Path, ...]
    digest: bytes
    seconds: float


def main(arguments: Sequence[str], *, runner: Runner = run) -> int:
    """Build, and serve what was built; return the exit code."""
    chosen = _parser().parse_args(arguments)
    try:
        addresses = read_peers(read_bounded(chosen.peers, limit_bytes=MAX_PEERS_BYTES))
        if not addresses:
            say("no nodes are named: nothing is built")
            return 0
        result = _result(chosen, addresses, runner)
        code = 0
    except (VouchError, OSError) as error:
        say(str(error))
        reason = error.code if isinstance(error, VouchError) else "build.files"
        print(f"vouch-build: failed {reason}", flush=True)
        result, code = failure_of(reason), 1
    if chosen.file:
        asyncio.run(serve_result(result, port=chosen.serve))
    return code


def _result(chosen: argparse.Namespace, addresses: Sequence[str], runner: Runner) -> bytes:
    """Build by nodes at these addresses; return what is given out."""
    nodes = asyncio.run(connect_nodes(addresses, wanted=chosen.nodes, path=chosen.authority, say=say))
    say(f"nodes: {', '.join(nodes)}")
    place = Path(chosen.place)
    built = build(
        Path(chosen.source),
        place,
        folder=chosen.folder,
        arguments=chosen.arguments,
        host=f"127.0.0.1:{chosen.dispatcher}",
        jobs=chosen.jobs,
        runner=runner,
    )
    files = [str(place / chosen.folder / name) for name in chosen.file]
    say(f"made in {built.seconds:.2f} s")
    began_s = time.monotonic()
    bundle = seal_build(files, [str(path) for path in built.objects], path=chosen.control) if files else b""
    say(f"sealed in {time.monotonic() - began_s:.2f} s")
    result = result_of(files, bundle)
    print(f"vouch-build: done {len(built.objects)} {built.digest.hex()}", flush=True)
    return result


def say(line: str) -> None:
    """Say one line."""
    print(line, file=sys.stderr, flush=True)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="build", description="Compile sources by attested nodes.")
    parser.add_argument("--peers", default=PEERS, metavar="FILE", help="JSON list of the nodes' addresses")
    parser.add_argument("--nodes", type=int, default=1, help="how many to wait for")
    parser.add_argument("--authority", default=SOCKET, metavar="PATH", help="the port authority's control socket")
    parser.add_argument("--dispatcher", type=int, default=NODE_PORT, metavar="PORT", help="of the loopback")
    parser.add_argument("--control", default=CONTROL_SOCKET, metavar="PATH", help="the dispatcher's control socket")
    parser.add_argument("--source", required=True, metavar="FOLDER")
    parser.add_argument("--place", default=PLACE, metavar="FOLDER", help="gets the copy; must not exist")
    parser.add_argument("--folder", default=".", help="where make runs, below the sources")
    parser.add_argument("--jobs", type=int, default=1, help="under way at once")
    parser.add_argument("--file", action="append", default=[], help="is built: sealed, and served")
    parser.add_argument("--serve", type=int, default=RESULT_PORT, metavar="PORT", help="where the result is given out")
    parser.add_argument("arguments", nargs="*", help="of make")
    return parser


def read_peers(data: bytes) -> tuple[str, ...]:
    """Return the addresses of a JSON list.

    Raises:
        ParseError: it is none, or something in it is no IPv6 address.
    """
    found = load_json(data, limit_bytes=MAX_PEERS_BYTES)
    if not isinstance(found, list):
        raise ParseError("peers", 0, "is no list")
    for at, address in enumerate(found):
        try:
            ipaddress.IPv6Address(address if isinstance(address, str) else "")
        except ValueError:
            raise ParseError(f"peers[{at}]", 0, "is no IPv6 address") from None
    return tuple(found)


async def connect_nodes(addresses: Sequence[str], *, wanted: int, path: str, say: Say) -> tuple[str, ...]:
    """Return ``wanted`` of the addresses, or all where there are fewer, once there is a channel to each; ascending.

    It waits as long as that takes: nodes may be started later.
    """
    asking = {asyncio.ensure_future(_connected(address, path, say)) for address in addresses}
    connected: list[str] = []
    try:
        while asking and len(connected) < wanted:
            done, asking = await asyncio.wait(asking, return_when=asyncio.FIRST_COMPLETED)
            connected += [task.result() for task in done]
    finally:
        for task in asking:
            task.cancel()
        await asyncio.gather(*asking, return_exceptions=True)
    return tuple(sorted(connected))


async def _connected(address: str, path: str, say: Say) -> str:
    client, told = AuthorityClient(path), ""
    try:
        while True:
            try:
                reason, steps = await client.connect(address)
            except UnreachableError as error:
                reason, steps = str(error), {}
            if not reason:
                say(
                    f"{address}: connected, ms: {', '.join(f'{name} {spent}' for name, spent in sorted(steps.items()))}"
                )
                return address
            if reason != told:
                say(f"{address}: {reason}")
                told = reason
            await asyncio.sleep(PAUSE_S)
    finally:
        await client.close()


def build(
    source: Path,
    place: Path,
    *,
    folder: str,
    arguments: Sequence[str],
    host: str,
    jobs: int,
    runner: Runner,
) -> Built:
    """Run make on a copy of the sources, and return what it made.

    Args:
        source: The sources.
        place: Where the copy goes; must not exist.
        folder: Below it, where make runs.
        arguments: Of make.
        host: The dispatcher, as distcc names it.
        jobs: Under way at once.
        runner: Runs make.

    Raises:
        UnreachableError: make failed (``command.failed`` and its like), or made no object (``build.empty``).
        OSError: the copy cannot be written.
    """
    copy_tree(source, place)
    state = place.with_name(f"{place.name}.distcc")
    state.mkdir()
    argv = ["make", "-C", str(place / folder), f"-j{jobs}", "CC=distcc gcc", *arguments]
    began_s = time.monotonic()
    with _progress(place):
        runner(argv, timeout_s=BUILD_LIMIT_S, environment=_environment(host, jobs, state))
    seconds = time.monotonic() - began_s
    objects = objects_below(place)
    if not objects:
        raise UnreachableError("make made no object", code="build.empty")
    return Built(objects, objects_digest(objects), seconds)


@contextmanager
def _progress(place: Path) -> Iterator[None]:
    """Say from time to time how many objects there are, as long as the block lasts."""
    over = threading.Event()

    def tell() -> None:
        told = 0
        while not over.wait(PROGRESS_S):
            count = len(objects_below(place))
            if count != told:
                say(f"{count} objects")
                told = count

    thread = threading.Thread(target=tell, daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


def _environment(host: str, jobs: int, state: Path) -> Mapping[str, str]:
    """Return what distcc is told: to compile nothing by itself, and to ask again whatever happened before."""
    return {
        "PATH": "/usr/bin",
        "HOME": str(state),
        "TMPDIR": str(state),
        "DISTCC_DIR": str(state),
        "DISTCC_HOSTS": f"{host}/{jobs}",
        "DISTCC_BACKOFF_PERIOD": "0",
        "DISTCC_FALLBACK": "0",
        "DISTCC_SKIP_LOCAL_RETRY": "1",
    }


def copy_tree(source: Path, target: Path) -> None:
    """Copy folders, links and files with their times, which make compares; labels are those of the place."""
    target.mkdir()
    for path in sorted(source.rglob("*")):
        copied = target / path.relative_to(source)
        if path.is_symlink():
            copied.symlink_to(path.readlink())
        elif path.is_dir():
            copied.mkdir()
        else:
            shutil.copyfile(path, copied)
            status = path.stat()
            os.utime(copied, ns=(status.st_mtime_ns, status.st_mtime_ns))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
