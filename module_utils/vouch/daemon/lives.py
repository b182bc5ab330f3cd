# SPDX-License-Identifier: GPL-3.0-or-later
"""Which guests live, by our own event log: what a service that was started anew goes by."""

from __future__ import annotations

from typing import NamedTuple

from ..parse.canonical import load_json

MAX_LOG_BYTES = 4 * 1024 * 1024


class Life(NamedTuple):
    """A guest that was launched and not stopped, by the log."""

    package: str
    violations: tuple[str, ...]


def lives_of(log: bytes) -> dict[str, Life]:
    """Return the guests that were launched and not stopped, by our own log, which replays to PCR 14."""
    lives: dict[str, Life] = {}
    for line in log.split(b"\n"):
        if b'"guest.' not in line:
            continue
        event = load_json(line, limit_bytes=MAX_LOG_BYTES)["content"]
        kind, guest = event["event"], event.get("guest", "")
        if kind == "guest.launch":
            lives[guest] = Life(event["package"], ())
        elif kind == "guest.stop":
            lives.pop(guest, None)
        elif kind == "guest.violation" and guest in lives:
            before = lives[guest]
            lives[guest] = before._replace(violations=(*before.violations, *event["codes"].split(",")))
    return lives
