# SPDX-License-Identifier: GPL-3.0-or-later
"""The process of one guest: it starts or adopts the guest, then reads its memory again and again.

What the guest does to its reader it does to this process alone. On a violation the domain is paused first, by this very
process, and only then anybody is told. When this process cannot go on, for whatever reason, it pauses the guest as its
last act; when it can do not even that, the keeper sees it end and does.

Messages to the keeper, each an object with ``op``:

    starting   record                       how far a launch is
    event      ref, event, record           record this in PCR 14; answer {"op":"recorded","ref","code","counter"}
    released   journal, milliseconds        the guest runs
    refused    code, message                the launch ended
    round      record, pause_ms, round_ms   everything held
    violation  record, findings             it did not; the guest is paused
    ended      reason                       the guest shut itself down
"""

from __future__ import annotations

import contextlib
import os
import signal
import time
from collections.abc import Callable
from typing import Any, NoReturn

from ..errors import EvidenceError, UnreachableError, VouchError, shown
from ..model.gueststate import MAX_CODES, PAUSED, RUNNING, UP, GuestRecord
from ..model.order import GuestOrder
from ..port.tool import die_with_parent
from .channel import Channel
from .journal import RELEASED, GuestJournal
from .launch import Launch, Launched, checked, opening_of, read_parts, read_signed, require_none
from .machine import Machine, Measurer, Report, Setting

MAX_FINDINGS = MAX_CODES
MAX_UNPAUSES = 16
"""Pauses are counted; a process that was killed while it held one leaves it behind."""

GONE, UNREADABLE, OVERDUE, BACK, CUT = (
    "guest.gone",
    "guest.unreadable",
    "guest.boot.overdue",
    "guest.phase.back",
    "guest.ima.cut",
)


class Told(BaseException):
    """This process was told to end; no ``except`` on the way takes it for a failure."""


class GuestProcess:
    """One process of the VM verifier for one guest.

    Args:
        channel: To the keeper.
        setting: Of this host.
    """

    def __init__(self, channel: Channel, setting: Setting) -> None:
        self._channel = channel
        self._setting = setting
        self._machine: Machine = setting.machine()
        self._domain_id = 0
        self._uuid = b""
        self._released = False
        self._refs = 0

    def start(self, order: GuestOrder, order_sha256: bytes) -> None:
        """Launch a guest and watch it until the keeper or the guest ends that."""
        launch = Launch(
            order,
            order_sha256,
            self._setting,
            self._machine,
            record=self._launching,
            progress=lambda record: self._tell("starting", record=record.to_json()),
        )
        try:
            launched = launch.run()
        except VouchError as error:
            if self._released:
                # Its launch stands in the log: the end of this process is what ends the guest.
                raise
            self._tell("refused", code=error.code, message=shown(error.message))
            return
        self._follow(launched)

    def adopt(self, journal: GuestJournal) -> None:
        """Measure a guest that was launched before, which is paused, let it go on, and watch it."""
        record = journal.record
        self._domain_id, self._uuid = record.domain_id, journal.uuid
        try:
            measurer, report = self._measured_again(journal)
        except EvidenceError as error:
            self._violated(record, [finding_json(item) for item in error.findings])
            return
        except VouchError as error:
            code = error.code if error.code in (BACK, CUT) else UNREADABLE
            self._violated(record, [_problem(code, "the guest that was launched", str(error))])
            return
        found = checked(record, report)._replace(state=PAUSED if journal.held else RUNNING)
        self._released = True
        self._ask({"event": "guest.adopted", "package": record.package.hex()}, found)
        self._unpause()
        if journal.held:
            # Pauses are counted, and nobody knows how many of them a killed process left: now it is one.
            self.hold()
        self._told_released(journal._replace(record=found, step=RELEASED), {})
        self._watch(found, measurer)

    def _launching(self, event: dict[str, Any], record: GuestRecord) -> int:
        """Record the launch; the guest counts as released before it is, so that any end of ours pauses it."""
        self._domain_id = record.domain_id
        counter = int(self._ask(event, record)["counter"])
        self._released = True
        return counter

    def _follow(self, launched: Launched) -> None:
        self._uuid = launched.journal.uuid
        try:
            self._told_released(launched.journal, launched.milliseconds)
            self._watch(launched.journal.record, launched.measurer)
        finally:
            # Xen's block back end has the device open by now, for as long as the domain lives.
            launched.disk.close()

    def _measured_again(self, journal: GuestJournal) -> tuple[Measurer, Report]:
        record = journal.record
        verified = read_signed(record.package, self._setting, self._machine)
        parts = read_parts(verified, "", self._machine)
        measurer = self._machine.measurer(
            record.domain_id, record.kind, parts.profile, parts.policy, verified.package, True
        )
        report = measurer.light()
        require_none(report)
        if report.phase == UP:
            report = measurer.heavy()
            require_none(report)
        if record.phase == UP and report.phase != UP:
            raise VouchError(f"the guest was up and is {report.phase}", code=BACK)
        if report.ima_count < record.ima_count:
            raise VouchError(f"its list had {record.ima_count} entries and has {report.ima_count}", code=CUT)
        if journal.card:
            self._machine.firewall.open(opening_of(record, journal.card, verified.package))
        return measurer, report

    def _unpause(self) -> None:
        """Take back every pause."""
        for _ in range(MAX_UNPAUSES):
            info = self._machine.domains.look(self._domain_id, self._uuid)
            if info is None or not info.paused:
                return
            self._machine.domains.unpause(self._domain_id)

    def _watch(self, record: GuestRecord, measurer: Measurer) -> None:
        """Check until the keeper ends this process, the guest ends, or something does not hold."""
        config, now_s = self._setting.config, time.monotonic
        begun_s = light_s = now_s()
        heavy_s = begun_s + config.heavy_s
        while True:
            self._wait(light_s)
            if self._ended():
                return
            round_s, heavy = now_s(), now_s() >= heavy_s
            try:
                report = measurer.heavy() if heavy else measurer.light()
            except VouchError as error:
                # A guest that ended meanwhile hides nothing.
                if not self._ended():
                    self._violated(record, [_problem(UNREADABLE, "memory that can be read", str(error))])
                return
            if report.violations:
                if {item.code for item in report.violations} == {GONE} and self._ended():
                    return
                self._violated(record, [finding_json(item) for item in report.violations[:MAX_FINDINGS]])
                return
            if report.phase == UP:
                begun_s = now_s()
            elif record.phase == UP:
                self._violated(record, [_problem(BACK, UP, report.phase)])
                return
            elif now_s() - begun_s > config.boot_limit_s:
                self._violated(
                    record, [_problem(OVERDUE, f"a guest that is up within {config.boot_limit_s:g} s", report.phase)]
                )
                return
            record = checked(record, report)
            self._tell(
                "round",
                record=record.to_json(),
                pause_ms=int(report.pause_s * 1000),
                round_ms=int((now_s() - round_s) * 1000),
            )
            if heavy:
                heavy_s = now_s() + config.heavy_s
            light_s = now_s() + config.light_s

    def _ended(self) -> bool:
        """Tell when the guest shut itself down."""
        info = self._machine.domains.look(self._domain_id, self._uuid)
        if info is not None and info.reason < 0 and not info.dying:
            return False
        self._tell("ended", reason=-1 if info is None else info.reason)
        return True

    def _violated(self, record: GuestRecord, findings: list[dict[str, str]]) -> None:
        self.hold()
        self._tell("violation", record=record.to_json(), findings=findings)

    def hold(self) -> None:
        """Pause the guest, if there is one that runs; nothing else comes before this."""
        if self._domain_id:
            try:
                self._machine.domains.pause(self._domain_id)
            except UnreachableError as error:
                self._setting.say(f"domain {self._domain_id} could not be paused: {error}")

    def hold_released(self) -> None:
        """Pause a guest that may run by now; a domain that was never released stays as it is."""
        if self._released:
            self.hold()

    def _told_released(self, journal: GuestJournal, milliseconds: dict[str, int]) -> None:
        self._tell("released", journal=journal.to_json(), milliseconds=milliseconds)

    def _tell(self, op: str, **members: Any) -> None:
        self._channel.send({"op": op, **members})

    def _ask(self, event: dict[str, Any], record: GuestRecord) -> dict[str, Any]:
        """Return when the event is recorded.

        Raises:
            VouchError: with the code for which it could not be.
        """
        self._refs += 1
        self._tell("event", ref=self._refs, event=event, record=record.to_json())
        while True:
            for message in self._channel.receive():
                if message.get("ref") == self._refs:
                    if message.get("code"):
                        raise VouchError("the event could not be recorded", code=str(message["code"]))
                    return message

    def _wait(self, until_s: float) -> None:
        """Wait for the next round. The keeper says nothing here; its end, and so ours, is all that can come."""
        while True:
            left_s = until_s - time.monotonic()
            self._channel.receive(max(left_s, 0.0))
            if left_s <= 0:
                return


def run_guest_process(channel: Channel, setting: Setting, work: Callable[[GuestProcess], None]) -> NoReturn:
    """Do ``work`` in a process that was just forked, and end it; a guest that may run is paused before."""
    process: GuestProcess | None = None
    try:
        process = GuestProcess(channel, setting)

        def stop(*_: object) -> NoReturn:
            raise Told

        signal.signal(signal.SIGTERM, stop)
        signal.signal(signal.SIGINT, stop)
        # When the keeper is killed, this process is told and pauses its guest: nobody would hear of a violation.
        die_with_parent(signal.SIGTERM)
        work(process)
        _deliver(channel)
        os._exit(0)
    except BaseException as error:  # noqa: BLE001 (whatever it is: the guest stops, then our end tells the keeper)
        if process is not None:
            process.hold_released()
        setting.say(f"a guest's process ends: {type(error).__name__}: {error}")
        os._exit(1)


def _deliver(channel: Channel) -> None:
    """Send what still waits, then wait until the keeper lets go of this process."""
    with contextlib.suppress(VouchError):
        while True:
            channel.receive()


def finding_json(finding: Any) -> dict[str, str]:
    """Return what is told of a finding."""
    return {
        "code": finding.code,
        "expected": shown(finding.expected or ""),
        "found": shown(finding.actual or ""),
    }


def _problem(code: str, expected: str, found: str) -> dict[str, str]:
    return {"code": code, "expected": expected, "found": shown(found)}
