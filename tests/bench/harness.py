# SPDX-License-Identifier: GPL-3.0-or-later
"""Rows of the benchmark: declare one with ``@row``, measure all with ``run``.

A row that cannot be measured here says why and has no value; nothing is estimated, and a baseline runs in the same
call as what it is compared with or has no value either.
"""

from __future__ import annotations

import fnmatch
import gc
import json
import pathlib
import sys
import time
import traceback
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

ROOT = pathlib.Path(__file__).resolve().parents[2]
REPEATS = 5
"""Rates are the best of so many rounds: noise only ever slows a run down."""


def use_tests() -> None:
    """Have the tests' simulations at hand, and the core under the name that they use for it."""
    import ansible.module_utils as module_utils

    if str(ROOT / "tests") not in sys.path:
        sys.path.insert(0, str(ROOT / "tests"))
    if str(ROOT / "module_utils") not in module_utils.__path__:
        module_utils.__path__.append(str(ROOT / "module_utils"))


class NotMeasuredError(Exception):
    """The row has no value on this machine, now; the text says what is missing and how to get it."""


@dataclass(frozen=True, slots=True)
class Target:
    """A limit and the side on which it is met."""

    relation: str
    limit: float

    def met_by(self, value: float) -> bool:
        """Return whether ``value`` keeps to the limit."""
        return value >= self.limit if self.relation == ">=" else value <= self.limit

    def __str__(self) -> str:
        return f"{self.relation} {number(self.limit)}"


def at_least(limit: float) -> Target:
    """Return the target "limit or more"."""
    return Target(">=", limit)


def at_most(limit: float) -> Target:
    """Return the target "limit or less"."""
    return Target("<=", limit)


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """What one row found. ``note`` is shown beside it: inputs, or why there is no baseline value."""

    value: float
    baseline_value: float | None = None
    note: str = ""
    target: Target | None = None
    """Replaces the declared target where it depends on the baseline, as in "half of it"."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One declared row."""

    name: str
    unit: str
    target: Target | None
    baseline: str | None
    slow: bool
    measure: Callable[[], Measured]


ROWS: list[Row] = []


def row(
    name: str, unit: str, *, target: Target | None = None, baseline: str | None = None, slow: bool = False
) -> Callable[[Callable[[], Measured]], Callable[[], Measured]]:
    """Declare the decorated function as the row ``name``.

    Args:
        name: Stable dotted name; ``--only`` matches it.
        unit: Of value and baseline value alike.
        target: When the row counts as met.
        baseline: What it is compared with: product and version.
        slow: Measured only when ``--only`` or ``--slow`` asks for it.
    """

    def declare(measure: Callable[[], Measured]) -> Callable[[], Measured]:
        if any(known.name == name for known in ROWS):
            raise ValueError(f"two rows are called {name}")
        ROWS.append(Row(name=name, unit=unit, target=target, baseline=baseline, slow=slow, measure=measure))
        return measure

    return declare


def rate(operations: int, work: Callable[[Any], object], *, prepare: Callable[[], Any] = lambda: None) -> float:
    """Return operations per second of processor time, the best of ``REPEATS`` rounds.

    Processor time, not wall time: the unit is "per core", and other work on the machine does not count.

    Args:
        operations: How many one round does.
        work: One round; takes what ``prepare`` returned.
        prepare: Runs before each round, outside the measured time.
    """
    best = float("inf")
    for _ in range(REPEATS):
        prepared = prepare()
        gc.collect()
        began = time.process_time()
        work(prepared)
        best = min(best, time.process_time() - began)
    return operations / best


def chosen(only: str, *, slow: bool) -> list[Row]:
    """Return the rows that ``only`` (a shell pattern or a part of the name) selects, in declared order."""
    if not only:
        return [item for item in ROWS if slow or not item.slow]
    return [item for item in ROWS if fnmatch.fnmatch(item.name, only) or only in item.name]


def measure(item: Row) -> dict[str, Any]:
    """Return the JSON form of ``item``, measured now."""
    out: dict[str, Any] = {
        "name": item.name,
        "value": None,
        "unit": item.unit,
        "baseline": item.baseline,
        "baseline_value": None,
        "ratio": None,
        "target": str(item.target) if item.target else None,
        "met": None,
        "note": "",
    }
    try:
        found = item.measure()
    except NotMeasuredError as error:
        return {**out, "note": f"not measured: {error}"}
    except Exception as error:  # noqa: BLE001  # one broken row must not cost the others
        traceback.print_exc()
        return {**out, "note": f"failed: {type(error).__name__}: {error}", "failed": True}
    target = found.target or item.target
    ratio = found.value / found.baseline_value if found.baseline_value else None
    return {
        **out,
        "value": round(found.value, 3),
        "baseline_value": None if found.baseline_value is None else round(found.baseline_value, 3),
        "ratio": None if ratio is None else round(ratio, 3),
        "target": str(target) if target else None,
        "met": target.met_by(found.value) if target else None,
        "note": found.note,
    }


def number(value: float | None) -> str:
    """Return ``value`` for a person: thousands apart, no needless decimals, a dash for None."""
    if value is None:
        return "-"
    if value == int(value) or abs(value) >= 1000:
        return f"{value:,.0f}"
    return f"{value:,.2f}"


def table(results: Iterable[dict[str, Any]]) -> str:
    """Return the table that is printed."""
    head = ("row", "value", "unit", "target", "met", "baseline", "ratio")
    lines = [head]
    notes = []
    for item in results:
        met = {None: "-", True: "yes", False: "NO"}[item["met"]]
        ratio = "-" if item["ratio"] is None else f"{item['ratio']:.2f}x"
        lines.append(
            (
                item["name"],
                number(item["value"]),
                item["unit"],
                item["target"] or "-",
                met,
                number(item["baseline_value"]),
                ratio,
            )
        )
        about = "; ".join(
            part for part in (f"baseline: {item['baseline']}" if item["baseline"] else "", item["note"]) if part
        )
        if about:
            notes.append(f"  {item['name']}: {about}")
    widths = [max(len(line[column]) for line in lines) for column in range(len(head))]
    right = {1, 5, 6}
    rendered = [
        "  ".join(
            cell.rjust(width) if column in right else cell.ljust(width)
            for column, (cell, width) in enumerate(zip(line, widths, strict=True))
        ).rstrip()
        for line in lines
    ]
    rendered.insert(1, "  ".join("-" * width for width in widths))
    return "\n".join([*rendered, "", *notes])


def write(results: list[dict[str, Any]], path: pathlib.Path) -> None:
    """Write ``results``, the rows of this call and no others, as JSON."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(results, indent=2) + "\n", encoding="utf-8")
