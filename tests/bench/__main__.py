# SPDX-License-Identifier: GPL-3.0-or-later
"""`python -m tests.bench [--only PATTERN] [--slow] [--list]`: measure, print a table, write build/bench.json."""

from __future__ import annotations

import argparse
import sys
import time

from .harness import ROOT, chosen, measure, number, table, write

sys.path.insert(0, str(ROOT / "molecule" / "shared"))
sys.path.insert(0, str(ROOT / "module_utils"))

from . import rows_demo, rows_image, rows_ima, rows_quote, rows_service, rows_policy, rows_proof  # noqa: F401, I001
from . import rows_boot, rows_fleet, rows_guest, rows_inventory, rows_watch, rows_provenance, rows_channel  # noqa: F401
from . import rows_farm, rows_overhead  # noqa: F401

OUTPUT = ROOT / "build" / "bench.json"


def main() -> int:
    """Return 0 when every chosen row was measured or said why not, 1 when one broke, 2 when none matched."""
    parser = argparse.ArgumentParser(prog="make bench", description=__doc__)
    parser.add_argument("--only", default="", help="shell pattern or part of a row's name")
    parser.add_argument("--slow", action="store_true", help="also the rows that boot machines for minutes")
    parser.add_argument("--list", action="store_true", help="name the rows and stop")
    arguments = parser.parse_args()
    rows = chosen(arguments.only, slow=arguments.slow or arguments.list)
    if not rows:
        print(f"no row matches {arguments.only!r}; --list names them", file=sys.stderr)
        return 2
    if arguments.list:
        print("\n".join(f"{item.name} [{item.unit}]{' (slow)' if item.slow else ''}" for item in rows))
        return 0
    results = []
    for item in rows:
        print(f"{item.name} ...", end=" ", flush=True)
        began = time.monotonic()
        result = measure(item)
        results.append(result)
        print(f"{number(result['value'])} {item.unit} ({time.monotonic() - began:.1f} s)", flush=True)
    write(results, OUTPUT)
    print(f"\n{table(results)}\n\nwritten: {OUTPUT.relative_to(ROOT)}")
    return 1 if any(item.get("failed") for item in results) else 0


if __name__ == "__main__":
    sys.exit(main())
