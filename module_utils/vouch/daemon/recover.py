# SPDX-License-Identifier: GPL-3.0-or-later
"""What a new keeper does about the guests of the one before it, and what nobody remembers.

The log in PCR 14 says which guests were launched and not stopped, the journals say which domain is whose, Xen says what
exists. All domains of ours are paused first, then each guest is one of these:

1. Lives by the log, broke a rule by log or journal: it stays held.
2. Lives by the log, its domain is there: it is measured anew and, if it is what it was, goes on.
3. Lives by the log, its domain is gone: its end is recorded.
4. Does not live by the log: whatever is left of it goes. So a crash before the launch was recorded launches nothing.

A domain of ours that no journal knows goes too.
"""

from __future__ import annotations

from ..errors import UnreachableError
from ..model.gueststate import PAUSED, PENDING
from ..parse.fields import Fields
from .child import Message
from .enforce import clean, enforce, retry, stop, violation
from .journal import STOPPING, GuestJournal
from .keeper import Keeper
from .machine import Machine
from .obey import adopt, process_lost
from .ward import Ward

SWEEP_S = 30.0


def recover(keeper: Keeper, lives: Message) -> None:
    """Take over what is there.

    Args:
        keeper: Which knows no guest yet.
        lives: Id to package and violations of each guest that lives by the log.
    """
    journals = keeper.journals.read_all()
    domains = _pause_ours(keeper)
    for guest in sorted({*journals, *lives}):
        journal, life = journals.get(guest), lives.get(guest)
        fields = None if life is None else Fields(life, "begin.lives")
        ward = Ward(guest, fields.hex("package", 32) if fields is not None else b"")
        keeper.wards[guest] = ward
        if journal is not None:
            ward.keep(journal)
        if fields is None:
            clean(keeper, ward, lambda _: None)
            continue
        ward.launched = True
        found = journal is not None and journal.uuid in domains and journal.record.package == ward.package
        codes = tuple(str(code) for code in fields.array("violations", maximum=4096))
        if journal is None or not (found or journal.record.violations) or journal.step == STOPPING:
            stop(keeper, ward, 0)
        elif codes or journal.record.violations:
            _hold(keeper, ward, journal, codes)
        else:
            adopt(keeper, ward, journal)


def sweep(keeper: Keeper) -> None:
    """End domains of ours that belong to no guest; none while one is being started, whose domain is not known yet."""
    if any(ward.journal is None for ward in keeper.wards.values()):
        return
    known = {ward.journal.uuid for ward in keeper.wards.values() if ward.journal is not None}
    try:
        foreign = [uuid for uuid in keeper.machine.domains.ours() if uuid not in known]
    except UnreachableError as error:
        keeper.setting.say(f"domains cannot be listed: {error}")
        return
    if not foreign:
        return

    def work(machine: Machine) -> None:
        for uuid in foreign:
            machine.domains.destroy(uuid)

    keeper.setting.say(f"{len(foreign)} domains belong to no guest and are ended")
    keeper.errand(work, lambda error: keeper.setting.say(str(error)) if error is not None else None)


class Ticker:
    """What is looked at each second: silence of guests' processes, what failed before, domains of nobody."""

    def __init__(self) -> None:
        self._swept_s = 0.0

    def __call__(self, keeper: Keeper) -> None:
        """Look."""
        now_s = keeper.monotonic_s()
        for ward in list(keeper.wards.values()):
            if ward.child is not None and now_s > ward.deadline_s:
                silent, ward.child = ward.child, None
                keeper.end(silent)
                process_lost(keeper, ward, "it was silent for too long")
        retry(keeper)
        if now_s - self._swept_s >= SWEEP_S:
            self._swept_s = now_s
            sweep(keeper)


def _pause_ours(keeper: Keeper) -> set[bytes]:
    """Pause every domain of ours; return their UUIDs."""
    found = set()
    try:
        for uuid, info in keeper.machine.domains.ours().items():
            if not info.dying:
                found.add(uuid)
                keeper.machine.domains.pause(info.domain_id)
    except UnreachableError as error:
        keeper.setting.say(f"domains cannot be paused: {error}")
    return found


def _hold(keeper: Keeper, ward: Ward, journal: GuestJournal, codes: tuple[str, ...]) -> None:
    """Keep a guest that broke a rule as it is: held, and ended where its package wants that."""
    if codes:
        ward.broke(codes)
        if ward.journal is not None:
            keeper.journals.write(ward.journal)
        enforce(keeper, ward)
        return
    # It was held, and the crash came before that was recorded.
    before = journal.record
    ward.keep(journal._replace(record=before._replace(state=PAUSED, verdict=PENDING, violations=())))
    found = "before a restart of the VM verifier"
    violation(keeper, ward, [{"code": code, "expected": "", "found": found} for code in before.violations])
