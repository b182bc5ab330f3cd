# SPDX-License-Identifier: GPL-3.0-or-later
"""How long `make demo` took, from what the demo wrote about itself."""

from __future__ import annotations

import json

from .harness import ROOT, Measured, NotMeasuredError, at_most, row

TIMINGS = ROOT / "build" / "demo" / "timings.json"


def seconds(kind: str) -> Measured:
    """Return the last ``cold`` or ``warm`` run of the demo in this checkout."""
    if not TIMINGS.is_file():
        raise NotMeasuredError(f"{TIMINGS.relative_to(ROOT)} is not there; `make demo` writes it")
    run = json.loads(TIMINGS.read_text()).get(kind)
    if run is None:
        raise NotMeasuredError(f"the demo has not run {kind} in this checkout")
    return Measured(value=float(run["seconds"]), note=str(run.get("note", "")))


@row("demo.cold", "s", target=at_most(600))
def cold() -> Measured:
    """`make demo` with an empty image cache."""
    return seconds("cold")


@row("demo.warm", "s", target=at_most(240))
def warm() -> Measured:
    """`make demo` with the images in the cache."""
    return seconds("warm")
