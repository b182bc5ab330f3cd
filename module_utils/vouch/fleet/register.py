# SPDX-License-Identifier: GPL-3.0-or-later
"""The last standing of every subject, read from the store and verified: what inventory, report and metrics rest on.

Either all of it verifies, or there is an error. A store in which one row was altered is not one from which the other
rows are taken.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from ..check.seal import SealReader
from ..errors import EvidenceError
from ..model.finding import deny
from ..model.key import PublicKey
from ..model.standing import SealedStanding, Standing
from ..store.results import ResultStore


class Register:
    """Verified standings, by subject.

    Args:
        standings: As ``check.seal`` gave them; one for each subject.

    Raises:
        EvidenceError: ``store.duplicate`` when two standings claim one subject, or two hosts one name: no honest
            store holds that.
    """

    def __init__(self, standings: Iterable[Standing]) -> None:
        self._hosts: dict[str, Standing] = {}
        self._guests: dict[str, dict[str, Standing]] = {}
        ids: dict[str, str] = {}
        guests: list[Standing] = []
        for item in standings:
            if item.guest:
                guests.append(item)
                continue
            if item.name in self._hosts or item.host_id in ids:
                raise deny("store.duplicate", "store", expected="one standing for a host", actual=item.name)
            self._hosts[item.name] = item
            ids[item.host_id] = item.name
        for item in guests:
            of_host = self._guests.setdefault(ids.get(item.host_id, item.name), {})
            if item.guest in of_host:
                raise deny("store.duplicate", "store", expected="one standing for a guest", actual=item.guest)
            of_host[item.guest] = item

    def host(self, name: str) -> Standing | None:
        """Return the standing of a host by its name in the inventory."""
        return self._hosts.get(name)

    def guest(self, host: str, guest: str) -> Standing | None:
        """Return the standing of a guest, unless the host's own last result no longer speaks of it.

        What an older result said of a guest ends with that result: a guest that its host does not mention any more is
        gone, and one that moved to another host is looked for there.
        """
        found = self._guests.get(host, {}).get(guest)
        of_host = self._hosts.get(host)
        if found is None or of_host is None or found.issued_at_s < of_host.issued_at_s:
            return None
        return found

    def __iter__(self) -> Iterator[Standing]:
        """Yield every host, each followed by its guests."""
        for name, standing in sorted(self._hosts.items()):
            yield standing
            for guest in sorted(self._guests.get(name, {})):
                found = self.guest(name, guest)
                if found is not None:
                    yield found


def read_register(store: ResultStore, keys: Sequence[PublicKey]) -> Register:
    """Return what the store says now.

    Raises:
        EvidenceError: ``store.tampered`` when a standing does not verify, ``store.duplicate``.
        UsageError: ``key.none``.
        UnreachableError: when the store cannot be read.
    """
    return Register(verify_all(store.heads(), keys))


def verify_all(sealed: Iterable[SealedStanding], keys: Sequence[PublicKey]) -> Iterator[Standing]:
    """Yield each standing, verified; raises ``EvidenceError`` ``store.tampered`` at the first that is not sealed."""
    reader = SealReader(keys)
    for item in sealed:
        try:
            yield reader.verify(item)
        except EvidenceError as error:
            raise deny(
                "store.tampered",
                "store",
                expected="standings sealed by a known appraiser",
                actual=f"{error.code} of {item.standing[:80]!r}",
            ) from None
