# SPDX-License-Identifier: GPL-3.0-or-later
"""How each guest was last stopped on this host, beyond a restart: what a shutdown proof is held against.

The book lies on the data partition and names the value of the TPM's monotonic counter when it was written. A copy of an
older book has an older value, so it is not believed: then no proof about this host is accepted until the guest was
stopped anew. Every launch and stop moves the counter, so a proof is good once, and only if nothing came after it.

Source: docs/proof.md, "Shutdown proof".
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from typing import Any

from ..errors import ParseError, VouchError
from ..model.gueststate import GUEST_ID, MAX_COUNT
from ..model.order import ShutdownProof
from ..parse.canonical import dump_canonical, load_canonical
from ..parse.fields import Fields

MAX_BOOK_BYTES = 1 << 20
MAX_STOPS = 1024
"""Guests that are remembered; the longest ago goes."""


class Stops:
    """The book at ``path``.

    Args:
        path: On the data partition; "" keeps it in memory alone.
        counter: Returns the counter's value, 0 where there is none.
        say: Told what nobody else is.
    """

    def __init__(self, path: str, counter: Callable[[], int], say: Callable[[str], None]) -> None:
        self._path, self._counter, self._say = path, counter, say
        self._stops: dict[str, tuple[int, bytes]] | None = None

    def launched(self, guest: str, counter: int) -> None:
        """Note that a guest was launched: how it was stopped before proves nothing any more."""
        stops = self._loaded(counter - 1)
        stops.pop(guest, None)
        self._write(counter)

    def stopped(self, guest: str, counter: int, state: bytes) -> None:
        """Note how a guest was stopped."""
        stops = self._loaded(counter - 1)
        stops.pop(guest, None)
        stops[guest] = (counter, state)
        while len(stops) > MAX_STOPS:
            del stops[next(iter(stops))]
        self._write(counter)

    def proves(self, guest: str, proof: ShutdownProof) -> bool:
        """Say whether the guest's last stop here is the one that the proof tells of."""
        return self._loaded(None).get(guest) == (proof.counter, proof.state)

    def _loaded(self, counter: int | None) -> dict[str, tuple[int, bytes]]:
        """Return the book, read at its first use; ``counter`` is what it has to name, None for the TPM's value."""
        if self._stops is None:
            self._stops = {}
            try:
                with open(self._path, "rb", buffering=0) as stream:
                    named, stops = _read(stream.read(MAX_BOOK_BYTES + 1) or b"")
                value = self._counter() if counter is None else counter
                if named == value:
                    self._stops = stops
                else:
                    self._say(f"{self._path} is of counter {named}, the TPM is at {value}: it is not believed")
            except FileNotFoundError:
                pass
            except (OSError, VouchError) as error:
                self._say(f"{self._path} is not believed: {error}")
        return self._stops

    def _write(self, counter: int) -> None:
        stops = {guest: {"counter": at, "state": state.hex()} for guest, (at, state) in (self._stops or {}).items()}
        data = dump_canonical({"version": 1, "counter": counter, "order": list(stops), "stops": stops})
        try:
            fd = os.open(self._path + ".new", os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
            try:
                os.write(fd, data)
                os.fsync(fd)
            finally:
                os.close(fd)
            os.rename(self._path + ".new", self._path)
        except OSError as error:
            # It is then older than the counter, and not believed: proofs are refused, nothing else.
            self._say(f"{self._path}: {error.strerror}")


def _read(data: bytes) -> tuple[int, dict[str, tuple[int, bytes]]]:
    fields = Fields(load_canonical(data, limit_bytes=MAX_BOOK_BYTES), "stops")
    fields.literal("version", 1)
    counter = fields.integer("counter", maximum=MAX_COUNT)
    order: list[Any] = fields.array("order", maximum=MAX_STOPS)
    told: Mapping[str, Any] = fields.object("stops").rest()
    fields.done()
    if sorted(order, key=str) != sorted(told) or not all(GUEST_ID.match(guest) for guest in told):
        raise ParseError("stops.order", 0, "does not name the guests", code="parse.field.value")
    stops = {}
    for guest in order:
        entry = Fields(told[guest], "stops.guest")
        stops[guest] = (entry.integer("counter", maximum=MAX_COUNT), entry.hex("state", 32))
        entry.done()
    return counter, stops
