# SPDX-License-Identifier: GPL-3.0-or-later
"""What stands behind the VM verifier's server in tests of the server itself."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any, cast

from ansible.module_utils.vouch.daemon.evidence import Round
from ansible.module_utils.vouch.daemon.exchange import EvidenceRequest, encode_answer
from ansible.module_utils.vouch.daemon.fetch import Fetcher
from ansible.module_utils.vouch.errors import UnreachableError


class NoGuests:
    """A host whose keeper is quiet; a watcher is told what the test says."""

    fd, sending = -1, False

    def __init__(self) -> None:
        self.watchers: dict[int, Callable[[dict[str, Any]], None]] = {}

    def watch(self, push: Callable[[dict[str, Any]], None]) -> int:
        number = len(self.watchers) + 1
        self.watchers[number] = push
        push({"event": "watch.begin"})
        return number

    def unwatch(self, number: int) -> None:
        self.watchers.pop(number, None)

    def tick(self) -> None:
        pass

    def close(self) -> None:
        pass


class Maker:
    """Evidence of a chosen size; can be broken."""

    def __init__(self) -> None:
        self.answer_chars = 10
        self.broken = False
        self.rendered = 0

    def hello(self) -> dict[str, Any]:
        return {"product": "vouch"}

    def refresh(self) -> None:
        if self.broken:
            raise UnreachableError("in lockout", code="tpm.lockout")

    def refused_offset(self, request: EvidenceRequest) -> str:
        return ""

    def make_round(self, pcrs: tuple[int, ...], nonces: list[bytes]) -> Round:
        return cast("Round", len(nonces))

    def answer(self, made: Round, index: int, request: EvidenceRequest) -> bytes:
        self.rendered += 1
        return encode_answer(request.id, {"size": made, "filler": "x" * self.answer_chars})


def no_fetcher() -> Fetcher:
    """Return what knows of no guest."""
    return Fetcher(lambda guest: None, lambda digest: b"", time.monotonic)
