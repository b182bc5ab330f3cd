# SPDX-License-Identifier: GPL-3.0-or-later
"""``vouch-verify``: check a bundle again, offline, by what whoever checks it trusts: evidence, or provenance."""

from __future__ import annotations

import argparse
import json
import os
import pathlib
import sys
from collections.abc import Iterable, Sequence
from typing import Any, TextIO

from ..appraise.anchors import Anchors
from ..appraise.jwks import MAX_JWKS_BYTES, KeySet, join_key_sets, key_set
from ..appraise.provenance import recheck_provenance
from ..appraise.provenancejudge import PeerJudge, ProvenanceAnchors
from ..appraise.recheck import Outcome, recheck
from ..errors import EvidenceError, ParseError, UsageError, VouchError
from ..model.finding import Finding
from ..parse.bundle import MAX_BUNDLE_BYTES, parse_bundle
from ..parse.hexdigest import parse_sha256
from ..parse.provenancebundle import MAX_BUNDLE_BYTES as MAX_PROVENANCE_BYTES
from ..parse.provenancebundle import is_provenance_bundle, parse_provenance_bundle
from ..port.clock import Clock, SystemClock, utc_seconds
from ..port.files import file_digest, read_bounded
from ..port.publickeys import read_public_keys
from .provenancetext import provenance_json, provenance_lines
from .verifytext import false_json, report_json, report_lines

PROVEN, NOT_AFFIRMING, UNUSABLE, FALSE, UNANCHORED = 0, 1, 2, 3, 4

EXIT_CODES = {
    Outcome.PROVEN: PROVEN,
    Outcome.REFUSED: NOT_AFFIRMING,
    Outcome.FALSE: FALSE,
    Outcome.UNANCHORED: UNANCHORED,
}

_EPILOG = """\
exit codes:
  0  proven: the bundle is true, and the host was affirming, by what was given
  1  the bundle is true, and the host was not affirming
  2  bad usage, or a file that cannot be read
  3  the bundle is false, was altered, or is not by whom you trust
  4  nothing speaks against the bundle, but not all of it rests on something that was given

Of a provenance bundle, 0 says that the evidence about every guest in it holds by what was given.
Whether the result still counts is told and does not change the exit code: a bundle is about the time it was made.
docs/verify.md explains what is checked, how to read it, and what it does not show.
"""


def main(
    arguments: Sequence[str] | None = None,
    out: TextIO | None = None,
    err: TextIO | None = None,
    clock: Clock | None = None,
) -> int:
    """Run the command; return its exit code.

    Args:
        arguments: Words behind the command's name; those of the process when None.
        out: Where results go.
        err: Where errors go.
        clock: Says what time it is.
    """
    out, err = out or sys.stdout, err or sys.stderr
    chosen = _parser().parse_args(arguments)
    try:
        code = _verify(chosen, out, err, clock or SystemClock())
        out.flush()
    except VouchError as error:
        _print([f"vouch-verify: {error}"], err)
        return UNUSABLE
    except BrokenPipeError:
        # Whoever read us has seen enough, as `head` does; the interpreter must not complain when it flushes.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return UNUSABLE
    return code


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="vouch-verify",
        description="Check a bundle again: every signature, every log, the whole appraisal or build. Offline.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("bundle", type=pathlib.Path, metavar="BUNDLE", help="what vouch_appraise, or a build, wrote")
    trust = parser.add_argument_group(
        "what you trust", "Nothing in a bundle is trusted by itself. Each option may be given more than once."
    )
    for option, metavar, meaning in (
        ("--appraiser-key", "FILE", "who may sign results: PEM, JWK or JWKS"),
        ("--release-key", "FILE", "who may sign host releases: PEM"),
        ("--package-key", "FILE", "who may sign guest packages: PEM"),
        ("--enrolment-key", "FILE", "of a provenance bundle: who may have enrolled the hosts: PEM"),
    ):
        trust.add_argument(option, type=pathlib.Path, action="append", default=[], metavar=metavar, help=meaning)
    trust.add_argument(
        "--installer-pcr4",
        type=_register,
        action="append",
        default=[],
        metavar="HEX",
        help="PCR 4 of an installer that may have installed the host",
    )
    trust.add_argument(
        "--guest",
        action="append",
        default=[],
        metavar="NAME",
        help="of a provenance bundle: name of a package that a guest of the build may have",
    )
    trust.add_argument(
        "--allow-debug", action="store_true", help="of a provenance bundle: its hosts and guests may be debug ones"
    )
    parser.add_argument(
        "--file",
        type=pathlib.Path,
        action="append",
        default=[],
        metavar="FILE",
        help="of a provenance bundle: is this file of that build?",
    )
    parser.add_argument("--at", type=_time, metavar="TIME", help="does it count then? 2026-01-31T12:00:00Z; now")
    parser.add_argument("--why", action="store_true", help="tell every step: against what, expected, found")
    parser.add_argument("--json", action="store_true", help="answer in JSON; has every step")
    return parser


def _verify(chosen: argparse.Namespace, out: TextIO, err: TextIO, clock: Clock) -> int:
    anchors = Anchors(
        appraiser_keys=_appraiser_keys(chosen.appraiser_key),
        release_keys=tuple(read_public_keys(chosen.release_key)),
        installer_pcr4=tuple(chosen.installer_pcr4),
        package_keys=tuple(read_public_keys(chosen.package_key)),
    )
    data = read_bounded(chosen.bundle, limit_bytes=max(MAX_BUNDLE_BYTES, MAX_PROVENANCE_BYTES))
    if is_provenance_bundle(data):
        return _verify_provenance(chosen, data, out, err)
    if chosen.file or chosen.enrolment_key or chosen.guest or chosen.allow_debug:
        raise UsageError(
            "--file, --enrolment-key, --guest and --allow-debug are about provenance bundles, this is none",
            code="verify.file",
        )
    try:
        found = recheck(parse_bundle(data), anchors)
    except ParseError as error:
        return _false(chosen, [Finding.deny(error.code, "bundle", actual=error.message)], error, out, err)
    except EvidenceError as error:
        return _false(chosen, error.findings, error, out, err)
    at_s = int(clock.now().timestamp()) if chosen.at is None else chosen.at
    code = EXIT_CODES[found.outcome]
    if chosen.json:
        _dump(report_json(found, at_s=at_s, exit_code=code), out)
    else:
        _print(report_lines(found, name=str(chosen.bundle), at_s=at_s, why=chosen.why), out)
    return code


def _verify_provenance(chosen: argparse.Namespace, data: bytes, out: TextIO, err: TextIO) -> int:
    files = {str(path): file_digest(path) for path in chosen.file}
    anchors = ProvenanceAnchors(
        enrolment_keys=tuple(read_public_keys(chosen.enrolment_key)),
        release_keys=tuple(read_public_keys(chosen.release_key)),
        installer_pcr4=tuple(chosen.installer_pcr4),
        package_keys=tuple(read_public_keys(chosen.package_key)),
        names=tuple(chosen.guest),
        allow_debug=chosen.allow_debug,
    )
    judge = PeerJudge(anchors) if anchors.complete else None
    try:
        found = recheck_provenance(parse_provenance_bundle(data), judge, files=files)
    except ParseError as error:
        return _false(chosen, [Finding.deny(error.code, "bundle", actual=error.message)], error, out, err)
    code = EXIT_CODES[found.outcome]
    if chosen.json:
        _dump(provenance_json(found, exit_code=code), out)
    else:
        _print(provenance_lines(found, name=str(chosen.bundle), why=chosen.why), out)
    return code


def _false(chosen: argparse.Namespace, findings: Sequence[Finding], error: VouchError, out: TextIO, err: TextIO) -> int:
    """Tell of a bundle that cannot even be read."""
    if chosen.json:
        _dump(false_json(findings, exit_code=FALSE), out)
    _print([f"vouch-verify: {chosen.bundle}: {error}"], err)
    return FALSE


def _appraiser_keys(paths: Sequence[pathlib.Path]) -> KeySet | None:
    return join_key_sets(_key_set(path) for path in paths) if paths else None


def _key_set(path: pathlib.Path) -> KeySet:
    data = read_bounded(path, limit_bytes=MAX_JWKS_BYTES)
    try:
        return key_set(data)
    except UsageError as error:
        raise UsageError(f"{path}: {error.message}", code=error.code, hint="Give a P-256 key or a JWKS") from None


def _register(text: str) -> bytes:
    try:
        return parse_sha256(text)
    except ParseError as error:
        raise argparse.ArgumentTypeError(error.problem) from None


def _time(text: str) -> int:
    try:
        return utc_seconds(text)
    except ValueError:
        raise argparse.ArgumentTypeError("no time as 2026-01-31T12:00:00Z") from None


def _dump(value: dict[str, Any], out: TextIO) -> None:
    json.dump(value, out, indent=2, ensure_ascii=True)
    print(file=out)


def _print(lines: Iterable[str], out: TextIO) -> None:
    """Print ``lines``; what a terminal would act on, or cannot show, is a question mark."""
    encoding = getattr(out, "encoding", None) or "utf-8"
    for line in lines:
        plain = "".join(c if c.isprintable() else "?" for c in line)
        print(plain.encode(encoding, "replace").decode(encoding), file=out)
