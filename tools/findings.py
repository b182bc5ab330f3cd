#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-3.0-or-later
"""Write docs/findings.md from the registry of codes and from the source; ``--check`` says whether it is current.

Two kinds of code exist. *Findings* judge evidence: they are registered in ``model/codes.py`` with severity, meaning and
cure. *Errors* say that we could not look or were asked wrongly: their table is read off the places that raise them.
"""

from __future__ import annotations

import argparse
import ast
import functools
import pathlib
import re
import sys
from collections.abc import Iterator
from typing import NamedTuple

ROOT = pathlib.Path(__file__).resolve().parents[1]
CORE = ROOT / "module_utils" / "vouch"
DOCUMENT = ROOT / "docs" / "findings.md"

JUDGING = ("parse", "model", "check", "measure", "appraise", "fleet", "cli")
"""Layers whose codes are findings, unless an error of ours carries them."""

ERRORS = {"UsageError": "caller", "UnreachableError": "surroundings", "CommandError": "surroundings"}
"""Our error classes to whose fault they are; the others are the attester's."""

NOT_CODES = frozenset(
    {"xen.efi", "root.img", "verifier.start", "dpkg.status", "bundle.json", "context.json", "result.json", "result.jwt"}
)
"""Dotted words at such places that are no codes: file names, events, fields."""

FIELD_ONLY = frozenset(
    {"Fields", "ParseError", "take", "uint", "u8", "u16be", "u16le", "u32be", "u32le", "u64be", "u64le"}
)
"""Calls whose plain arguments name fields, not codes."""

_CODE = re.compile(r"[a-z][a-z0-9]*(?:-[a-z0-9]+)*(?:\.[a-z0-9]+(?:-[a-z0-9]+)*)+\Z")
_CODE_CALLS = re.compile(r"_?(?:deny|bad|fail|finding|wrong|unexpected|note|fault|mismatch)\Z")


class Use(NamedTuple):
    """One place in the source that produces a code."""

    code: str
    path: str
    error: str
    """Class of ours that carries it; empty for findings."""
    message: str


@functools.cache
def uses() -> tuple[Use, ...]:
    """Return every code of the core with the place that produces it."""
    return tuple(_uses())


def _uses() -> Iterator[Use]:
    for path in sorted(CORE.rglob("*.py")):
        if path.name.endswith("codes.py"):
            continue
        tree = ast.parse(path.read_text(encoding="utf-8"), str(path))
        constants = _constants(tree)
        name = str(path.relative_to(CORE))
        for node in ast.walk(tree):
            if isinstance(node, ast.Call):
                yield from _of_call(node, constants, name)
            elif isinstance(node, ast.FunctionDef):
                yield from _of_defaults(node, name)


def finding_codes() -> dict[str, set[str]]:
    """Return code -> files, of the codes that judge evidence."""
    found: dict[str, set[str]] = {}
    for use in uses():
        if not use.error and use.path.split("/")[0] in JUDGING:
            found.setdefault(use.code, set()).add(use.path)
    return found


def error_codes() -> dict[str, Use]:
    """Return code -> its first place, of the codes of our own errors."""
    found: dict[str, Use] = {}
    for use in uses():
        if use.error:
            found.setdefault(use.code, use)
    return found


def document() -> str:
    """Return the text of docs/findings.md."""
    sys.path.insert(0, str(CORE.parent))
    from vouch.model.codes import CODES

    lines = [
        "# Findings and errors",
        "",
        "Written by `tools/findings.py` from `module_utils/vouch/model/codes.py` and the source: change those.",
        "A code is never renamed and never used for something else.",
        "",
        "## Findings",
        "",
        "Reasons of a verdict. *deny* makes it `contraindicated`, *warn* makes it `warning`, *note* leaves it alone.",
        "",
    ]
    family = ""
    for code in sorted(CODES):
        entry = CODES[code]
        if code.split(".")[0] != family:
            family = code.split(".")[0]
            lines += [
                "",
                f"### {family}",
                "",
                "| code | severity | meaning | what to do |",
                "| --- | --- | --- | --- |",
            ]
        severity = "/".join(item.value for item in entry.severities)
        lines.append(f"| `{code}` | {severity} | {entry.meaning} | {entry.cure or '-'} |")
    lines += [
        "",
        "## Errors",
        "",
        "Nothing was judged: the caller asked wrongly, or the surroundings did not answer. Never evidence of a host.",
        "",
        "| code | whose fault | raised in | example of the message |",
        "| --- | --- | --- | --- |",
    ]
    for code, use in sorted(error_codes().items()):
        message = use.message.replace("|", "\\|").replace("\n", " ")
        lines.append(f"| `{code}` | {ERRORS[use.error]} | `{use.path}` | {message or '-'} |")
    text = "\n".join(lines) + "\n"
    return re.sub(r"\n{3,}", "\n\n", text)


def main() -> int:
    """Write the document, or compare it."""
    parser = argparse.ArgumentParser(description="Write docs/findings.md.")
    parser.add_argument("--check", action="store_true", help="only say whether it is current")
    wanted = document()
    if parser.parse_args().check:
        if DOCUMENT.exists() and DOCUMENT.read_text(encoding="utf-8") == wanted:
            return 0
        print("docs/findings.md is not current: run tools/findings.py", file=sys.stderr)
        return 1
    DOCUMENT.write_text(wanted, encoding="utf-8")
    return 0


def _of_call(node: ast.Call, constants: dict[str, str], path: str) -> Iterator[Use]:
    called = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
    error = called if called in ERRORS else ""
    message = _text(node.args[0]) if node.args and error else ""
    for keyword in node.keywords:
        if keyword.arg == "code":
            for code in _codes(keyword.value, constants):
                yield Use(code, path, error, message)
    if called not in FIELD_ONLY and _CODE_CALLS.match(called):
        for argument in node.args:
            for code in _codes(argument, constants):
                yield Use(code, path, "", "")


def _of_defaults(node: ast.FunctionDef, path: str) -> Iterator[Use]:
    arguments = [*node.args.args[len(node.args.args) - len(node.args.defaults) :], *node.args.kwonlyargs]
    for argument, default in zip(arguments, [*node.args.defaults, *node.args.kw_defaults], strict=True):
        if argument.arg == "code" and default is not None:
            for code in _codes(default, {}):
                yield Use(code, path, "", "")


def _codes(node: ast.expr, constants: dict[str, str]) -> Iterator[str]:
    """Yield the codes an expression may give: a literal, a named constant, either branch of a condition."""
    if isinstance(node, ast.IfExp):
        yield from _codes(node.body, constants)
        yield from _codes(node.orelse, constants)
        return
    value = node.value if isinstance(node, ast.Constant) else constants.get(getattr(node, "id", ""), "")
    if isinstance(value, str) and _CODE.match(value) and value not in NOT_CODES:
        yield value


def _constants(tree: ast.Module) -> dict[str, str]:
    found = {}
    for node in tree.body:
        if isinstance(node, ast.Assign) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str):
            found.update({target.id: node.value.value for target in node.targets if isinstance(target, ast.Name)})
    return found


def _text(node: ast.expr) -> str:
    """Return a message as a template: ``{...}`` where a value is put in."""
    if isinstance(node, ast.JoinedStr):
        return "".join(str(v.value) if isinstance(v, ast.Constant) else "{...}" for v in node.values)
    return str(node.value) if isinstance(node, ast.Constant) else ""


if __name__ == "__main__":
    sys.exit(main())
