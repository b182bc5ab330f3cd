# SPDX-License-Identifier: GPL-3.0-or-later
"""``vouch-cwlite``: check a SELinux policy against an intent, explain conflicts, find cures, make and verify proofs."""

from __future__ import annotations

import argparse
import json
import os
import pathlib
import sys
from collections.abc import Callable, Iterable, Sequence
from typing import TextIO

from ..check.flowproof import verify_proof
from ..errors import EvidenceError, UsageError, VouchError
from ..explain.drawing import draw
from ..explain.text import cure_lines, report_lines, story_lines
from ..model.flowmap import FLOW_MAP, flow_map_digest
from ..model.flowproof import MAX_PROOF_BYTES
from ..model.integrity import ALL_BOOLEANS, CURRENT_BOOLEANS
from ..parse.sepolicy import MAX_POLICY_BYTES
from ..port.files import PUBLIC_MODE, read_bounded, write_atomic
from .policycheck import PolicyCheck, check_file, load_intent

PASS, CONFLICTS, UNUSABLE = 0, 1, 2
DEFAULT_LIMIT = 20

_EPILOG = """\
exit codes:
  0  the policy keeps to the intent; the proof holds
  1  there are conflicts; the proof does not hold
  2  bad usage, or an input that cannot be read

A trusted subject is one that the intent names in tcb or applications; every other one is untrusted. A conflict is a
place where a trusted subject takes in what an untrusted one may have written, and no filter of the intent allows it.
docs/cwlite.md explains the model and how to write an intent.
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
    run: Callable[[argparse.Namespace, TextIO], int] = chosen.run
    try:
        code = run(chosen, out)
        out.flush()
    except EvidenceError as error:
        print(f"vouch-cwlite: {error}", file=err)
        return CONFLICTS
    except VouchError as error:
        print(f"vouch-cwlite: {error}", file=err)
        return UNUSABLE
    except BrokenPipeError:
        # Whoever read us has seen enough, as `head` does; the interpreter must not complain when it flushes.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return UNUSABLE
    return code


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="vouch-cwlite",
        description="Check the information flow of a binary SELinux policy (Clark-Wilson-Lite).",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    commands = parser.add_subparsers(metavar="COMMAND", required=True)

    check = _command(commands, "check", _check, "say whether a policy keeps to an intent, and where it does not")
    _inputs(check)
    check.add_argument("--format", choices=("text", "json", "sarif"), default="text", help="of the output; text")
    check.add_argument("--html", type=pathlib.Path, metavar="FILE", help="write a self-contained page as well")
    _limit(check)

    explain = _command(commands, "explain", _explain, "tell one conflict: the path, the rules, what would clear it")
    _inputs(explain)
    for name, meaning in (("subject", "trusted subject"), ("object", "object's type"), ("class", "object's class")):
        explain.add_argument(f"--{name}", required=True, dest=f"at_{name}", metavar="NAME", help=f"the {meaning}")
    explain.add_argument("--svg", type=pathlib.Path, metavar="FILE", help="draw it as well")

    cut = _command(commands, "cut", _cut, "find the cheapest set of changes that would clear every conflict")
    _inputs(cut)
    cut.add_argument("--format", choices=("text", "json"), default="text", help="of the output; text")
    _limit(cut)

    flows = _command(commands, "map", _map, "show which permission lets information flow which way, and why")
    flows.add_argument("class_name", nargs="?", metavar="CLASS", help="only this class")

    prove = _command(commands, "prove", _prove, "write the proof of a policy that keeps to its intent")
    _inputs(prove)
    prove.add_argument("--out", type=pathlib.Path, required=True, metavar="PROOF", help="file to write")

    verify = _command(commands, "verify", _verify, "say whether a proof holds for a policy, without the checker")
    verify.add_argument("policy", type=pathlib.Path, metavar="POLICY", help="binary policy")
    verify.add_argument("proof", type=pathlib.Path, metavar="PROOF", help="what `prove` wrote")
    verify.add_argument("--intent", type=pathlib.Path, metavar="FILE", help="the intent it has to be for")
    return parser


def _command(
    commands: argparse._SubParsersAction[argparse.ArgumentParser],
    name: str,
    run: Callable[[argparse.Namespace, TextIO], int],
    meaning: str,
) -> argparse.ArgumentParser:
    parser = commands.add_parser(
        name,
        help=meaning,
        description=f"{meaning[0].upper()}{meaning[1:]}.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.set_defaults(run=run)
    return parser


def _inputs(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("policy", type=pathlib.Path, metavar="POLICY", help="binary policy, such as policy.33")
    parser.add_argument("--intent", type=pathlib.Path, required=True, metavar="FILE", help="intent, YAML or JSON")
    parser.add_argument(
        "--booleans",
        choices=(ALL_BOOLEANS, CURRENT_BOOLEANS),
        help="check every setting of the booleans, or the one in the policy; what the intent says when left out",
    )


def _limit(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--limit",
        type=_positive,
        default=DEFAULT_LIMIT,
        metavar="N",
        help=f"how much is told one by one of each kind; {DEFAULT_LIMIT}. Everything is counted, JSON has all",
    )


def _positive(text: str) -> int:
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError("at least 1")
    return value


def _load(chosen: argparse.Namespace, limit: int = DEFAULT_LIMIT) -> PolicyCheck:
    """Return the checked policy that the arguments name."""
    return check_file(chosen.policy, intent_file=chosen.intent, booleans=chosen.booleans, limit=limit)


def _check(chosen: argparse.Namespace, out: TextIO) -> int:
    checked = _load(chosen, chosen.limit)
    if chosen.html is not None:
        write_atomic(chosen.html, checked.render("html"), mode=PUBLIC_MODE)
    if chosen.format == "text":
        _print(report_lines(checked.report, limit=chosen.limit), out)
    else:
        out.write(checked.render(chosen.format).decode())
    return _code(checked)


def _explain(chosen: argparse.Namespace, out: TextIO) -> int:
    stories = _load(chosen).survey.stories_at(chosen.at_subject, chosen.at_object, chosen.at_class)
    if not stories:
        _print([f"no conflict: {chosen.at_subject} on {chosen.at_object}:{chosen.at_class}"], out)
        return PASS
    for at, story in enumerate(stories):
        if at:
            print(file=out)
        _print(story_lines(story), out)
    if chosen.svg is not None:
        write_atomic(chosen.svg, draw(stories[0]).encode(), mode=PUBLIC_MODE)
    return CONFLICTS


def _cut(chosen: argparse.Namespace, out: TextIO) -> int:
    checked = _load(chosen)
    cures = checked.cures()
    if chosen.format == "json":
        json.dump([cure.to_json() for cure in cures], out, indent=2)
        print(file=out)
    else:
        _print(cure_lines(cures, limit=chosen.limit), out)
    return _code(checked)


def _map(chosen: argparse.Namespace, out: TextIO) -> int:
    names = sorted(FLOW_MAP) if chosen.class_name is None else [chosen.class_name]
    if names[0] not in FLOW_MAP:
        raise UsageError(
            f"the map has no class {names[0]}",
            code="cwlite.class",
            hint="what the map does not know counts as read and write",
        )
    print(f"flow map sha256 {flow_map_digest().hex()}", file=out)
    for name in names:
        print(f"\n{name}", file=out)
        for permission, flow in sorted(FLOW_MAP[name].items()):
            print(f"  {permission:<24} {flow.direction} {flow.kind:<7} {flow.reason}".rstrip(), file=out)
    return PASS


def _prove(chosen: argparse.Namespace, out: TextIO) -> int:
    checked = _load(chosen, 1)
    if not checked.proof:
        _print([*report_lines(checked.report, limit=1), "", "no proof written"], out)
        return CONFLICTS
    write_atomic(chosen.out, checked.proof, mode=PUBLIC_MODE)
    _print([f"{chosen.out}: {len(checked.proof):,} bytes, sha256 {checked.summary()['proof_sha256']}"], out)
    return PASS


def _verify(chosen: argparse.Namespace, out: TextIO) -> int:
    data = read_bounded(chosen.policy, limit_bytes=MAX_POLICY_BYTES)
    proof = read_bounded(chosen.proof, limit_bytes=MAX_PROOF_BYTES)
    intent = load_intent(chosen.intent) if chosen.intent is not None else None
    verified = verify_proof(proof, policy=data, intent=intent)
    print(
        f"holds: policy sha256 {verified.policy_sha256.hex()}, intent sha256 {verified.intent.digest().hex()}, "
        f"booleans: {verified.intent.boolean_mode}, {len(verified.intent.filters)} filters, "
        f"{len(verified.intent.entries)} entries",
        file=out,
    )
    return PASS


def _code(checked: PolicyCheck) -> int:
    return PASS if checked.report.passed else CONFLICTS


def _print(lines: Iterable[str], out: TextIO) -> None:
    """Print ``lines``; what a terminal would act on is shown as a question mark."""
    for line in lines:
        print("".join(c if c.isprintable() else "?" for c in line), file=out)
