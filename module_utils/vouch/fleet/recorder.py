# SPDX-License-Identifier: GPL-3.0-or-later
"""What an appraiser found goes into the result store: bundle, result, EAR, sealed standings; an event where it is news.

The order is that of dependence: the bundle first, then everything else in one transaction. So whoever sees a result
finds what it was made from, and a writer that is killed leaves at most a bundle that nobody names.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from ..appraise.result import AttestationResult
from ..appraise.standings import CLOCK_SKEW_S, standings_of
from ..make.seal import seal_standings
from ..make.sign import PrivateKey
from ..model.standing import Standing
from ..store.bundles import BundleStore
from ..store.database import Database
from ..store.events import Event, EventStore
from ..store.results import Appraised, ResultStore

HOST = "host"


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """One appraisal to be recorded.

    Attributes:
        name: The host's name in the inventory.
        result: What was found.
        ear: Its signed form; empty when there is none.
        parts: What it was made from (``make.bundle``); empty when no bundle is to be kept.
    """

    name: str
    result: AttestationResult
    ear: str = ""
    parts: Mapping[str, bytes] = field(default_factory=dict)


class Recorder:
    """Writes for one appraiser.

    Args:
        database: The result store.
        key: The appraiser's private key: P-256 or Ed25519. What it seals is believed by whoever has its public half.
        bundles: Where evidence bundles are kept; None: they are not.
    """

    def __init__(self, database: Database, key: PrivateKey, *, bundles: BundleStore | None = None) -> None:
        self._results = ResultStore(database)
        self._events = EventStore(database)
        self._key = key
        self._bundles = bundles

    def record(self, found: Sequence[Found], *, now_s: int) -> tuple[Standing, ...]:
        """Write appraisals, all or none; return their standings, each host's before those of its guests.

        Raises:
            UsageError: ``store.host.name``.
            UnreachableError: when store or bundles cannot be written; nothing is recorded then.
        """
        if not found:
            return ()
        standings = tuple(standing for item in found for standing in standings_of(item.result, item.name))
        appraised = [
            Appraised(
                host_id=item.result.host_id,
                issued_at_s=item.result.issued_at_s,
                result=item.result.to_bytes(),
                ear=item.ear,
                bundle=self._bundles.put(item.parts) if self._bundles is not None and item.parts else "",
            )
            for item in found
        ]
        self._write(standings, appraised, now_s)
        return standings

    def record_standings(self, standings: Sequence[Standing], *, now_s: int) -> None:
        """Write standings that no appraisal stands behind (``appraise.standings.pushed_standing``)."""
        if standings:
            self._write(standings, (), now_s)

    def _write(self, standings: Sequence[Standing], appraised: Sequence[Appraised], now_s: int) -> None:
        # What was said last is not verified: it only decides what counts as news.
        last = self._results.last_verdicts({item.host_id for item in standings})
        sealed = seal_standings(standings, self._key, sealed_at_s=now_s)
        became = self._results.put(sealed, appraised, future_s=now_s + CLOCK_SKEW_S)
        news = []
        for item in (item for item, counts in zip(standings, became, strict=True) if counts):
            if last.get((item.host_id, item.guest)) != item.verdict.value:
                news.append(item)
            last[item.host_id, item.guest] = item.verdict.value
        self._events.add([_event(item) for item in news])


def _event(standing: Standing) -> Event:
    subject = f"guest:{standing.guest}" if standing.guest else HOST
    return Event(
        at_s=standing.issued_at_s,
        host_id=standing.host_id,
        subject=subject,
        kind="verdict",
        code=standing.verdict.value,
        detail=", ".join(standing.reasons),
    )
