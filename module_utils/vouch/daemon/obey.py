# SPDX-License-Identifier: GPL-3.0-or-later
"""What is done on an order, from its bytes to the answer.

1. One of the image's order keys signed it, for this host.
2. Its challenge is one this host gave, and was not spent; now it is.
3. The guest is in a state that allows it.

What fails at 1 is answered and nothing else: nobody entitled asked. Every later refusal is an event.
"""

from __future__ import annotations

import hashlib

from ..check.opened import open_with
from ..errors import ParseError, VouchError
from ..model.gueststate import MAX_GUESTS, PAUSED, RUNNING, GuestRecord
from ..model.order import PAUSE, PAYLOAD_TYPE, RESUME, START, STOP, GuestOrder
from ..parse.fields import decode_base64
from .child import Message
from .enforce import clean, findings_of, lost, stop, violation
from .journal import GuestJournal
from .keeper import Keeper
from .ward import Ward
from .watcher import run_guest_process

MAX_LAUNCHES = 8
"""Guests that are being started at the same time."""

LAUNCH_LIMIT_S = 3600.0
WRITE_S = 30.0
"""How old a journal may become in what only grows."""

INTERRUPTED = "launch.interrupted"


def read_order(data: bytes, keeper: Keeper) -> GuestOrder:
    """Return the order of a signed envelope (step 1).

    Raises:
        VouchError: ``envelope.malformed``, ``envelope.signature.invalid``, ``order.type``, ``order.malformed``,
            ``order.host``.
    """
    opened = open_with(keeper.machine.verify, data, keeper.setting.config.order_keys, "order")
    if opened.payload_type != PAYLOAD_TYPE:
        raise VouchError("what was signed is no order", code="order.type")
    try:
        order = GuestOrder.from_bytes(opened.payload)
    except ParseError as error:
        raise VouchError(str(error), code="order.malformed") from None
    if order.host_id != keeper.setting.host_id:
        raise VouchError(f"the order is for host {order.host_id}", code="order.host")
    return order


def obey(keeper: Keeper, message: Message) -> None:
    """Carry out a signed order, or refuse it; the main process is answered either way."""
    ref = int(message["ref"])
    data = decode_base64(str(message["order"])) or b""
    try:
        order = read_order(data, keeper)
    except VouchError as error:
        keeper.failed(ref, error.code, error.message)
        return

    def spent(reply: Message) -> None:
        if reply["ok"] is not True:
            refuse(keeper, ref, order, "order.replayed", "the order's challenge is not one that waits for an order")
            return
        if reply["proven"] is not True:
            refuse(keeper, ref, order, "order.shutdown-proof", "the guest was not last stopped as the order says")
            return
        try:
            _ACTIONS[order.action](keeper, ref, order, hashlib.sha256(data).digest())
        except VouchError as error:
            refuse(keeper, ref, order, error.code, error.message)

    proof = None if order.shutdown_proof is None else order.shutdown_proof.to_json()
    keeper.ask("spend", spent, challenge=order.challenge.hex(), guest=order.guest, proof=proof)


def refuse(keeper: Keeper, ref: int, order: GuestOrder, code: str, message: str) -> None:
    """Record that an order was refused, then answer it."""
    package = "" if order.package is None else order.package.hex()
    event = {"event": "guest.refused", "guest": order.guest, "package": package, "code": code}
    keeper.ask("event", lambda _: keeper.failed(ref, code, message), event=event)


def watched(keeper: Keeper, ward: Ward, message: Message) -> None:
    """Handle a message of a guest's process."""
    op = message["op"]
    ward.deadline_s = keeper.monotonic_s() + (keeper.setting.config.answer_limit_s if ward.released else LAUNCH_LIMIT_S)
    if op == "round" and ward.released:
        _round(keeper, ward, GuestRecord.from_json(message["record"]))
    elif op == "starting" and not ward.launched:
        ward.record = GuestRecord.from_json(message["record"])
        keeper.tell("starting", record=ward.record.to_json())
    elif op == "event":
        _asked(keeper, ward, message)
    elif op == "released":
        _released(keeper, ward, message)
    elif op == "violation":
        findings = findings_of(message)
        if ward.launched:
            violation(keeper, ward, findings)
    elif op == "ended" and ward.released:
        stop(keeper, ward, 0)
    elif op == "refused" and not ward.launched:
        _refused(keeper, ward, str(message["code"]), str(message["message"]))


def _round(keeper: Keeper, ward: Ward, record: GuestRecord) -> None:
    """Take over what a round found; how far the guest is must outlive this process, so that it cannot go back."""
    before = None if ward.record is None else ward.record.phase
    found = ward.said(record)
    if ward.journal is not None and (found.phase != before or keeper.monotonic_s() >= ward.written_s + WRITE_S):
        ward.written_s = keeper.monotonic_s()
        keeper.journals.write(ward.journal)
    keeper.tell("state", record=found.to_json())


def process_lost(keeper: Keeper, ward: Ward, problem: str) -> None:
    """Handle the end of a guest's process that had not said that it is done."""
    ward.child = None
    if ward.journal is None:
        ward.journal = keeper.journals.read(ward.id)
        ward.record = ward.record if ward.journal is None else ward.journal.record
    if ward.released:
        lost(keeper, ward, problem)
    elif ward.launched:
        # Between its launch in the log and the news that it runs: it is paused and ended.
        ref, ward.order = ward.order, 0
        keeper.failed(ref, INTERRUPTED, problem)
        stop(keeper, ward, 0)
    else:
        _refused(keeper, ward, INTERRUPTED, problem)


def _start(keeper: Keeper, ref: int, order: GuestOrder, order_sha256: bytes) -> None:
    ward = keeper.wards.get(order.guest)
    if ward is not None:
        if ward.busy or not ward.released:
            raise VouchError(f"guest {order.guest} is being started or ended", code="guest.busy")
        record = ward.record
        same = record is not None and record.package == order.package and order.kind in (None, record.kind)
        if not same or record is None or record.state != RUNNING:
            raise VouchError(f"there is a guest {order.guest} already", code="guest.exists")
        keeper.done(ref, _answer(record, changed=False))
        return
    if len(keeper.wards) >= MAX_GUESTS:
        raise VouchError(f"{MAX_GUESTS} guests are all that a host has", code="guest.many")
    if sum(not item.released for item in keeper.wards.values()) >= MAX_LAUNCHES:
        raise VouchError(f"{MAX_LAUNCHES} guests are being started", code="guest.busy")
    ward = Ward(order.guest, order.package or b"")
    ward.order = ref
    ward.deadline_s = keeper.monotonic_s() + LAUNCH_LIMIT_S
    keeper.wards[ward.id] = ward
    ward.child = keeper.child(
        lambda channel: run_guest_process(channel, keeper.setting, lambda it: it.start(order, order_sha256)),
        on_message=lambda message: watched(keeper, ward, message),
        on_lost=lambda error: process_lost(keeper, ward, error.message),
    )


def adopt(keeper: Keeper, ward: Ward, journal: GuestJournal) -> None:
    """Have a guest measured that was launched before, and watched from then on."""
    ward.deadline_s = keeper.monotonic_s() + LAUNCH_LIMIT_S
    ward.child = keeper.child(
        lambda channel: run_guest_process(channel, keeper.setting, lambda it: it.adopt(journal)),
        on_message=lambda message: watched(keeper, ward, message),
        on_lost=lambda error: process_lost(keeper, ward, error.message),
    )


def _stop(keeper: Keeper, ref: int, order: GuestOrder, order_sha256: bytes) -> None:
    ward = keeper.wards.get(order.guest)
    if ward is not None and ward.busy and ward.violated and not ward.stop_order:
        # It is being held just now, which does not take long.
        ward.stop_order = ref
    else:
        stop(keeper, _ready(keeper, order), ref)


def _pause(keeper: Keeper, ref: int, order: GuestOrder, order_sha256: bytes) -> None:
    _hold(keeper, ref, order, held=True)


def _resume(keeper: Keeper, ref: int, order: GuestOrder, order_sha256: bytes) -> None:
    _hold(keeper, ref, order, held=False)


def _hold(keeper: Keeper, ref: int, order: GuestOrder, *, held: bool) -> None:
    """Pause a guest by order, or let it go on."""
    held_already = keeper.wards.get(order.guest)
    if held_already is not None and held_already.violated:
        raise VouchError(f"guest {order.guest} broke a rule: it can only be stopped", code="guest.violated")
    ward = _ready(keeper, order)
    journal = ward.journal
    if not ward.released and ward.child is not None:
        raise VouchError(f"guest {ward.id} is being measured after a restart", code="guest.busy")
    if journal is None or ward.child is None:
        raise VouchError(f"guest {ward.id} is held: it can only be stopped", code="guest.violated")
    if journal.held == held:
        keeper.done(ref, _answer(journal.record, changed=False))
        return
    ward.busy = True
    wanted = journal.record._replace(state=PAUSED if held else RUNNING)

    def recorded(reply: Message) -> None:
        ward.busy = False
        if reply["code"]:
            keeper.failed(ref, reply["code"], "the action could not be recorded")
            return
        if ward.violated or ward.journal is None:
            keeper.failed(ref, "guest.violated", "it broke a rule meanwhile")
            return
        state = PAUSED if held else RUNNING
        ward.keep(ward.journal._replace(record=ward.journal.record._replace(state=state), held=held))
        keeper.journals.write(ward.journal)
        if held:
            keeper.pause(ward)
        else:
            keeper.machine.domains.unpause(ward.journal.record.domain_id)
        keeper.tell("state", record=ward.journal.record.to_json())
        keeper.done(ref, _answer(ward.journal.record, changed=True))

    action = "pause" if held else "resume"
    keeper.record({"event": "guest.action", "guest": ward.id, "action": action}, wanted, recorded)


_ACTIONS = {START: _start, STOP: _stop, PAUSE: _pause, RESUME: _resume}


def _ready(keeper: Keeper, order: GuestOrder) -> Ward:
    """Return the guest of an order about one that is there."""
    ward = keeper.wards.get(order.guest)
    if ward is None:
        raise VouchError(f"there is no guest {order.guest}", code="guest.unknown")
    if ward.busy or not ward.launched:
        raise VouchError(f"guest {order.guest} is being started or ended", code="guest.busy")
    return ward


def _asked(keeper: Keeper, ward: Ward, message: Message) -> None:
    """Have a guest's process's event recorded: its launch once, or that it was adopted, of this guest and no other."""
    given, ref, child = message["event"], int(message["ref"]), ward.child
    record = GuestRecord.from_json(message["record"])
    kinds = ("guest.adopted",) if ward.launched else ("guest.launch",)
    if given["event"] not in kinds or given["package"] != ward.package.hex() or record.package != ward.package:
        raise ValueError("an event that is not its own")
    if record.id != ward.id or ward.released:
        raise ValueError("an event of another guest")

    def recorded(reply: Message) -> None:
        if not reply["code"] and given["event"] == "guest.launch":
            ward.launched = True
        if child is not None and child is ward.child:
            child.channel.send({"op": "recorded", "ref": ref, "code": reply["code"], "counter": reply["counter"]})

    keeper.record({**given, "guest": ward.id}, record, recorded)


def _released(keeper: Keeper, ward: Ward, message: Message) -> None:
    journal = GuestJournal.from_json(message["journal"])
    if not ward.launched or ward.released or journal.record.id != ward.id or journal.record.package != ward.package:
        raise ValueError("the release of another guest")
    ward.keep(journal)
    ward.released = True
    keeper.journals.write(journal)
    ward.deadline_s = keeper.monotonic_s() + keeper.setting.config.answer_limit_s
    keeper.tell("state", record=journal.record.to_json())
    ref, ward.order = ward.order, 0
    milliseconds = {str(name): int(value) for name, value in message["milliseconds"].items()}
    keeper.done(ref, {**_answer(journal.record, changed=True), "milliseconds": milliseconds})


def _refused(keeper: Keeper, ward: Ward, code: str, problem: str) -> None:
    """Undo a launch that failed, then record and answer it."""
    ref, ward.order = ward.order, 0
    event = {"event": "guest.refused", "guest": ward.id, "package": ward.package.hex(), "code": code}

    def cleaned(error: VouchError | None) -> None:
        keeper.failed(ref, code, problem if error is None else f"{problem}; and it leaves something behind: {error}")

    keeper.ask("event", lambda _: clean(keeper, ward, cleaned), event=event)


def _answer(record: GuestRecord, *, changed: bool) -> Message:
    return {
        "guest": record.id,
        "domain_id": record.domain_id,
        "state": record.state,
        "changed": changed,
        "milliseconds": {},
    }
