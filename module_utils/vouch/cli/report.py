# SPDX-License-Identifier: GPL-3.0-or-later
"""``vouch-report``: one HTML page about the fleet, from what the result store holds and its signatures cover."""

from __future__ import annotations

import argparse
import contextlib
import pathlib
import sys
import time
from collections.abc import Sequence
from typing import BinaryIO, TextIO

from ..appraise.guestpackage import inspect_package
from ..appraise.result import UNREACHED, AttestationResult
from ..appraise.standings import EXPIRED, worth
from ..check.signature import verify_release
from ..errors import EvidenceError, ParseError, VouchError
from ..fleet.register import read_register, verify_all
from ..model.digest import sha256
from ..model.enrolment import Enrolment
from ..model.finding import Verdict, deny
from ..model.package import GuestPackage
from ..model.release import HostRelease
from ..model.standing import Standing
from ..port.files import PUBLIC_MODE, read_bounded, write_atomic
from ..port.publickeys import read_public_keys
from ..report import view
from ..report.page import page
from ..store.anyenrolments import open_enrolments
from ..store.claims import Watched, all_watched
from ..store.events import EventStore
from ..store.results import ResultStore
from ..store.schema import open_store
from ..watch.state import FAILED, REBOOTED

DONE, FALSE, UNUSABLE = 0, 1, 2
MAX_FILE_BYTES = 64 << 20
HISTORY = 200
"""Standings and events of one host that a page is made from; the page shows fewer and counts the rest."""

_EPILOG = """\
exit codes:
  0  the page was written
  1  the store holds what no known appraiser sealed; no page was written
  2  bad usage, or something cannot be read

Whatever steers a word on the page is verified: standings by their seals, results by the standings that name them,
releases and packages by the keys given for them. docs/report.md says how to read the page.
"""


def main(arguments: Sequence[str] | None = None, out: TextIO | None = None, err: TextIO | None = None) -> int:
    """Run the command; return its exit code.

    Args:
        arguments: Words behind the command's name; those of the process when None.
        out: Where messages go.
        err: Where errors go.
    """
    out, err = out or sys.stdout, err or sys.stderr
    chosen = _parser().parse_args(arguments)
    try:
        text = page(_fleet(chosen, int(time.time()))).encode()
        write_atomic(chosen.output, text, mode=PUBLIC_MODE)
    except EvidenceError as error:
        print(f"vouch-report: {error}", file=err)
        return FALSE
    except VouchError as error:
        print(f"vouch-report: {error}", file=err)
        return UNUSABLE
    print(f"{chosen.output}: {len(text):,} bytes", file=out)
    return DONE


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="vouch-report",
        description="Write one self-contained HTML page about the fleet.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("store", metavar="URL", help="the result store")
    parser.add_argument("--output", type=pathlib.Path, required=True, metavar="FILE", help="the page")
    parser.add_argument("--key", action="append", required=True, metavar="FILE", help="an appraiser's public key, PEM")
    parser.add_argument("--enrolments", metavar="PLACE", help="folder of the enrolments; the store when not given")
    parser.add_argument("--release", action="append", default=[], metavar="FILE", help="a signed host release")
    parser.add_argument("--release-key", action="append", default=[], metavar="FILE", help="who may sign releases, PEM")
    parser.add_argument("--package", action="append", default=[], metavar="FILE", help="a signed guest package")
    parser.add_argument("--package-key", action="append", default=[], metavar="FILE", help="who may sign packages, PEM")
    parser.add_argument("--image-store", type=pathlib.Path, metavar="FOLDER", help="where the packages' files are")
    parser.add_argument("--title", default="Attestation report", help="heading of the page")
    parser.add_argument("--host", action="append", metavar="NAME", help="only this host; may be given again")
    return parser


def _fleet(chosen: argparse.Namespace, now_s: int) -> view.FleetInput:
    keys = read_public_keys(chosen.key)
    database = open_store(chosen.store)
    results, events = ResultStore(database), EventStore(database)
    register = read_register(results, keys)
    enrolments = open_enrolments(chosen.enrolments or chosen.store, make=False)
    watched = all_watched(database)
    hosts = []
    for standing in register:
        if standing.guest or (chosen.host and standing.name not in chosen.host):
            continue
        known = enrolments.find(standing.host_id)
        history = verify_all(results.history(standing.host_id, limit=HISTORY), keys)
        hosts.append(
            view.HostInput(
                name=standing.name,
                host_id=standing.host_id,
                state=_state(standing, watched.get(standing.host_id), known, now_s),
                result=_result(results, standing),
                enrolment=known,
                history=tuple(
                    view.ResultLine(
                        issued_at_s=item.issued_at_s,
                        expires_at_s=item.expires_at_s,
                        verdict=item.verdict,
                        reasons=item.reasons,
                    )
                    for item in history
                ),
                events=tuple(
                    view.EventLine(at_s=e.at_s, kind=e.kind, subject=e.subject, code=e.code, detail=e.detail)
                    for e in events.of_host(standing.host_id, limit=HISTORY)
                ),
            )
        )
    return view.FleetInput(
        title=chosen.title,
        generated_at_s=now_s,
        hosts=tuple(hosts),
        releases=_releases(chosen),
        packages=_packages(chosen),
    )


def _state(standing: Standing, watched: Watched | None, known: Enrolment | None, now_s: int) -> str:
    """Return how the host is doing.

    By its last standing; what the watch and the enrolment say, which nobody signed, only tells apart what is worth the
    same.
    """
    found = worth(standing, now_s=now_s).status
    if found == EXPIRED:
        return view.EXPIRED
    if standing.verdict is Verdict.NONE:
        return _silent(watched, known, now_s) if standing.stage == UNREACHED else view.NONE
    if found == "none":
        return view.NONE
    if standing.verdict is Verdict.CONTRAINDICATED:
        return view.FAILED
    # Until it is asked again: what a watch that ended left behind says nothing about later results.
    booted = watched is not None and watched.state == REBOOTED and standing.issued_at_s <= watched.state_since_s
    return view.REBOOTED if booted else view.FRESH


def _silent(watched: Watched | None, known: Enrolment | None, now_s: int) -> str:
    """Return the state of a host that did not answer: found out before, away on purpose, or just away."""
    accepted_at_s = 0 if known is None else known.accepted_at_s
    if watched is not None and watched.state == FAILED and accepted_at_s <= watched.state_since_s:
        return view.FAILED
    updating = known is not None and known.next is not None and now_s < known.next.until_s
    return view.UPDATING if updating else view.UNREACHABLE


def _result(results: ResultStore, standing: Standing) -> AttestationResult | None:
    """Return the result that a standing was taken from; the standing names its digest, so it is proven with it."""
    found = results.last_appraisal(standing.host_id)
    if found is None or not standing.result:
        return None
    if sha256(found.result).hex() != standing.result:
        raise deny("store.tampered", "store", expected=f"the result {standing.result}", actual=sha256(found.result))
    try:
        return AttestationResult.from_bytes(found.result)
    except ParseError as error:
        raise deny("store.tampered", "store", expected=error.field, actual=error.problem) from None


def _releases(chosen: argparse.Namespace) -> dict[bytes, HostRelease]:
    keys = read_public_keys(chosen.release_key)
    found = [verify_release(read_bounded(path, limit_bytes=MAX_FILE_BYTES), keys) for path in chosen.release]
    return {item.release_id: item.release for item in found}


def _packages(chosen: argparse.Namespace) -> dict[bytes, view.PackageInput]:
    keys = read_public_keys(chosen.package_key)
    found: dict[bytes, view.PackageInput] = {}
    for path in chosen.package:
        envelope = read_bounded(path, limit_bytes=MAX_FILE_BYTES)
        with contextlib.ExitStack() as stack:

            def find(package: GuestPackage, stack: contextlib.ExitStack = stack) -> dict[str, BinaryIO]:
                files: dict[str, BinaryIO] = {}
                for name, part in package.parts.items():
                    with contextlib.suppress(OSError):
                        place = chosen.image_store / "sha256" / part.sha256.hex()
                        files[name] = stack.enter_context(place.open("rb"))
                return files

            report = inspect_package(envelope, keys, find if chosen.image_store else None, allow_debug=True)
        found[report.package_id] = view.PackageInput(report=report)
    return found
