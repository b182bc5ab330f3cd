# SPDX-License-Identifier: GPL-3.0-or-later
"""``vouch-watch``: the service that keeps asking every host, and listens to it in between."""

from __future__ import annotations

import argparse
import asyncio
import os
import pathlib
import signal
import socket
import sys
from collections.abc import Callable, Sequence
from typing import TextIO

from prometheus_client import start_http_server

from ..errors import VouchError
from ..fleet.appraiser import Appraiser
from ..fleet.inputs import MAX_FILE_BYTES, read_policy, read_releases
from ..fleet.recorder import Recorder
from ..make.sign import load_private_key
from ..port.clock import SystemClock
from ..port.files import read_bounded
from ..port.hostlink import HostLink, HostPlace, SshLink
from ..store.anyenrolments import open_enrolments
from ..store.bundles import BundleStore
from ..store.claims import ClaimStore
from ..store.database import Database
from ..store.events import EventStore
from ..store.schema import open_store
from ..watch.config import MAX_CONFIG_BYTES, WatchConfig, WatchedHost, read_config
from ..watch.desk import Desk
from ..watch.metrics import Metrics
from ..watch.service import Parts, Watch

DONE, UNUSABLE = 0, 2

_EPILOG = """\
exit codes:
  0  told to stop, and stopped; with --check or --syntax: what was to be read is as it should be
  2  the configuration, a key, a release or the store cannot be used

docs/watch.md explains the configuration, the states, and what happens when a watch dies.
"""


def main(arguments: Sequence[str] | None = None, out: TextIO | None = None, err: TextIO | None = None) -> int:
    """Run the command; return its exit code.

    Args:
        arguments: Words behind the command's name; those of the process when None.
        out: Where the log goes.
        err: Where errors go.
    """
    out, err = out or sys.stdout, err or sys.stderr
    chosen = _parser().parse_args(arguments)

    def say(line: str) -> None:
        print(line, file=out, flush=True)

    try:
        config = read_config(read_bounded(chosen.config, limit_bytes=MAX_CONFIG_BYTES))
        if chosen.syntax:
            return DONE
        metrics = Metrics()
        database = open_store(config.store, make=True)
        try:
            parts = _parts(config, database, metrics, say)
            enrolled = sum(parts.enrolments.find(host.host_id) is not None for host in config.hosts)
            say(f"{len(config.hosts)} hosts, {enrolled} of them enrolled; each every {config.interval_s} s")
            if not chosen.check:
                asyncio.run(_serve(config, parts, metrics))
        finally:
            database.close()
    except VouchError as error:
        print(f"vouch-watch: {error}", file=err)
        return UNUSABLE
    return DONE


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="vouch-watch",
        description="Keep asking every host for its proof, and listen to it in between.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("config", type=pathlib.Path, metavar="FILE", help="the configuration, JSON")
    how = parser.add_mutually_exclusive_group()
    how.add_argument("--check", action="store_true", help="read everything that is needed, ask nobody, and end")
    how.add_argument("--syntax", action="store_true", help="read the configuration alone, and end")
    return parser


def _parts(config: WatchConfig, database: Database, metrics: Metrics, say: Callable[[str], None]) -> Parts:
    key = read_bounded(config.appraiser_key, limit_bytes=MAX_FILE_BYTES)
    appraiser = Appraiser(
        read_policy(config.policy),
        read_releases(config.releases, config.image_store),
        [read_bounded(path, limit_bytes=MAX_FILE_BYTES) for path in config.packages],
        ear_key=key,
    )
    bundles = BundleStore(config.bundles) if config.bundles else None
    owner = f"{socket.gethostname()[:40]}.{os.getpid()}"
    claims = ClaimStore(database, owner, lease_s=config.lease_s)
    enrolments = open_enrolments(config.enrolments)
    recorder = Recorder(database, load_private_key(key), bundles=bundles)

    def link(host: WatchedHost, host_key: str) -> HostLink:
        return SshLink(
            HostPlace(
                address=host.address,
                port=host.port,
                user=host.user,
                key_file=config.private_key,
                host_key=host_key,
            )
        )

    return Parts(
        appraiser=appraiser,
        enrolments=enrolments,
        claims=claims,
        desk=Desk(recorder, enrolments, EventStore(database), claims, say),
        metrics=metrics,
        links=link,
        clock=SystemClock(),
        say=say,
    )


async def _serve(config: WatchConfig, parts: Parts, metrics: Metrics) -> None:
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    server = None
    if config.metrics_port:
        server, _thread = start_http_server(config.metrics_port, addr=config.metrics_address, registry=metrics.registry)
    try:
        await Watch(config, parts).run(stop)
    finally:
        if server is not None:
            server.shutdown()
