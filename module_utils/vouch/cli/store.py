# SPDX-License-Identifier: GPL-3.0-or-later
"""``vouch-store``: look after a result store: upgrade it, list it, prune it, remove a host, take a bundle out."""

from __future__ import annotations

import argparse
import json
import pathlib
import sys
import time
from collections.abc import Callable, Sequence
from typing import Any, TextIO

from ..appraise.standings import worth
from ..errors import EvidenceError, UsageError, VouchError, shown
from ..fleet.register import read_register
from ..port.clock import utc_text
from ..port.files import PUBLIC_MODE, write_atomic
from ..port.publickeys import read_public_keys
from ..store.bundles import BundleStore
from ..store.database import Database
from ..store.events import EventStore
from ..store.results import ResultStore
from ..store.schema import open_store, upgrade

DONE, FALSE, UNUSABLE = 0, 1, 2
DAY_S = 86_400

_EPILOG = """\
exit codes:
  0  done
  1  the store holds what no known appraiser sealed
  2  bad usage, or the store cannot be used

A store is named by its URL: sqlite:////absolute/path or postgresql://user@host/name. A password belongs into
PostgreSQL's password file. docs/store.md says what is in a store and how long it stays.
"""


def main(arguments: Sequence[str] | None = None, out: TextIO | None = None, err: TextIO | None = None) -> int:
    """Run the command; return its exit code.

    Args:
        arguments: Words behind the command's name; those of the process when None.
        out: Where results go.
        err: Where errors go.
    """
    out, err = out or sys.stdout, err or sys.stderr
    chosen = _parser().parse_args(arguments)
    run: Callable[[argparse.Namespace, TextIO], None] = chosen.run
    try:
        run(chosen, out)
    except EvidenceError as error:
        print(f"vouch-store: {error}", file=err)
        return FALSE
    except VouchError as error:
        print(f"vouch-store: {error}", file=err)
        return UNUSABLE
    return DONE


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="vouch-store",
        description="Look after a result store.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    commands = parser.add_subparsers(metavar="COMMAND", required=True)

    def command(name: str, run: Callable[[argparse.Namespace, TextIO], None], text: str) -> argparse.ArgumentParser:
        found = commands.add_parser(name, help=text, description=f"{text[0].upper()}{text[1:]}.")
        found.add_argument("store", metavar="URL", help="the store")
        found.set_defaults(run=run)
        return found

    command("upgrade", _upgrade, "bring the tables to the revision this program needs; make them where there are none")
    listing = command("list", _list, "say what every host and guest is worth now, after verifying all of it")
    listing.add_argument("--key", action="append", required=True, metavar="FILE", help="an appraiser's public key, PEM")
    listing.add_argument("--json", action="store_true", help="as JSON")
    events = command("events", _events, "show what happened to a host, newest first")
    events.add_argument("host", metavar="NAME", help="the host's name")
    events.add_argument("--limit", type=int, default=50, metavar="N", help="at most so many; 50")
    pruning = command("prune", _prune, "remove old results, events and bundles; last results and changes stay")
    pruning.add_argument("--days", type=int, required=True, metavar="N", help="keep what is younger")
    pruning.add_argument("--bundles", type=pathlib.Path, metavar="FOLDER", help="remove bundles that nothing names")
    removing = command("remove-host", _remove_host, "forget a host and all its results")
    removing.add_argument("host", metavar="NAME", help="the host's name")
    bundle = command("bundle", _bundle, "write the evidence bundle of a host's last result to a file")
    bundle.add_argument("host", metavar="NAME", help="the host's name")
    bundle.add_argument("--bundles", type=pathlib.Path, required=True, metavar="FOLDER", help="where bundles are kept")
    bundle.add_argument("--output", type=pathlib.Path, required=True, metavar="FILE", help="the file to write")
    return parser


def _upgrade(chosen: argparse.Namespace, out: TextIO) -> None:
    database = Database(chosen.store, make=True)
    try:
        before, now = upgrade(database)
    finally:
        database.close()
    print(f"revision {now}, as before" if before == now else f"revision {before} became {now}", file=out)


def _list(chosen: argparse.Namespace, out: TextIO) -> None:
    keys = read_public_keys(chosen.key)
    now_s = int(time.time())
    rows: list[dict[str, Any]] = []
    for item in read_register(ResultStore(open_store(chosen.store)), keys):
        found = worth(item, now_s=now_s)
        rows.append(
            {
                "machine": f"{item.name}/{item.guest}" if item.guest else item.name,
                "status": found.status,
                "reasons": list(found.reasons),
                "issued_at": utc_text(item.issued_at_s),
                "expires_at": utc_text(item.expires_at_s),
            }
        )
    if chosen.json:
        print(json.dumps(rows, indent=2), file=out)
        return
    width = max((len(shown(row["machine"])) for row in rows), default=0)
    for row in rows:
        reasons = shown(", ".join(row["reasons"]))
        print(f"{shown(row['machine']):{width}}  {row['status']:15}  {row['expires_at']}  {reasons}".rstrip(), file=out)


def _events(chosen: argparse.Namespace, out: TextIO) -> None:
    database = open_store(chosen.store)
    for event in EventStore(database).of_host(_host_id(database, chosen.host), limit=chosen.limit):
        text = f"{utc_text(event.at_s)}  {event.subject}  {event.kind}  {event.code}  {shown(event.detail)}"
        print(text.rstrip(), file=out)


def _prune(chosen: argparse.Namespace, out: TextIO) -> None:
    if chosen.days < 1:
        raise UsageError("--days is at least 1", code="usage.days")
    now = time.time()
    before_s = int(now) - chosen.days * DAY_S
    database = open_store(chosen.store)
    results = ResultStore(database)
    standings, events = results.prune(before_s=before_s), EventStore(database).prune(before_s=before_s)
    print(f"{standings} standings and {events} events removed", file=out)
    if chosen.bundles is not None:
        gained = BundleStore(chosen.bundles).prune(results.bundles(), now_s=now)
        print(f"{gained >> 20} MiB of bundles removed", file=out)


def _remove_host(chosen: argparse.Namespace, out: TextIO) -> None:
    database = open_store(chosen.store)
    ResultStore(database).remove_host(_host_id(database, chosen.host))
    print(f"{chosen.host} is forgotten", file=out)


def _bundle(chosen: argparse.Namespace, out: TextIO) -> None:
    database = open_store(chosen.store)
    found = ResultStore(database).last_appraisal(_host_id(database, chosen.host))
    if found is None or not found.bundle:
        raise UsageError(f"no bundle is kept of {chosen.host}", code="bundle.none")
    write_atomic(chosen.output, BundleStore(chosen.bundles).read(found.bundle), mode=PUBLIC_MODE)
    print(f"{chosen.output}: bundle {found.bundle}", file=out)


def _host_id(database: Database, name: str) -> str:
    for host_id, known in ResultStore(database).hosts().items():
        if known == name:
            return host_id
    raise UsageError(f"the store knows no host {shown(name)}", code="store.host.unknown")
