# SPDX-License-Identifier: GPL-3.0-or-later
"""What the keeper does on a host order, from its bytes to the answer; the work itself is ``hostwork``'s.

1. One of the image's order keys signed it, for this host. What fails here is answered and nothing else.
2. The main process spends its challenge and says whether the step may be taken; every refusal is an event.
3. A process does the step. The main process records how it ended.
"""

from __future__ import annotations

import hashlib

from ..check.opened import open_with
from ..errors import ParseError, VouchError
from ..model.hostorder import PAYLOAD_TYPE, TRY, HostOrder
from ..parse.fields import decode_base64
from .child import Message
from .hostwork import WORK, restart
from .keeper import Keeper


def read_host_order(data: bytes, keeper: Keeper) -> HostOrder:
    """Return the order of a signed envelope (step 1).

    Raises:
        VouchError: ``envelope.malformed``, ``envelope.signature.invalid``, ``order.type``, ``order.malformed``,
            ``order.host``, ``update.unavailable``, ``update.busy``.
    """
    config = keeper.setting.config
    opened = open_with(keeper.machine.verify, data, config.order_keys, "order")
    if opened.payload_type != PAYLOAD_TYPE:
        raise VouchError("what was signed is no order about a host", code="order.type")
    try:
        order = HostOrder.from_bytes(opened.payload)
    except ParseError as error:
        raise VouchError(str(error), code="order.malformed") from None
    if order.host_id != keeper.setting.host_id:
        raise VouchError(f"the order is for host {order.host_id}", code="order.host")
    if keeper.machine.slots is None or not config.release_keys:
        raise VouchError("this host is not updated: its image names no key of releases", code="update.unavailable")
    if keeper.host_busy:
        raise VouchError("another step of an update is being taken", code="update.busy")
    return order


def obey_host(keeper: Keeper, message: Message) -> None:
    """Carry out a signed host order, or refuse it; the main process is answered either way."""
    ref = int(message["ref"])
    data = decode_base64(str(message["order"])) or b""
    try:
        order = read_host_order(data, keeper)
    except VouchError as error:
        keeper.failed(ref, error.code, error.message)
        return
    about = {"action": order.action, "release": order.release.hex(), "order": hashlib.sha256(data).hexdigest()}
    keeper.host_busy = True

    def begun(reply: Message) -> None:
        if reply["code"]:
            answered(reply)
        elif reply["done"]:
            answered({"code": ""}, changed=False)
        else:
            config, written = keeper.setting.config, reply["written"]
            keeper.fetch(lambda machine: WORK[order.action](machine, config, order, written), worked)

    def worked(error: VouchError | None, result: Message) -> None:
        changed = bool(result.pop("changed", True))
        failed = {"code": "", "message": ""} if error is None else {"code": error.code, "message": error.message}
        keeper.ask("host.end", lambda reply: answered(reply, changed=changed), **about, **failed, result=result)

    def answered(reply: Message, *, changed: bool = False) -> None:
        keeper.host_busy = False
        if reply["code"]:
            keeper.failed(ref, reply["code"], reply["message"])
            return
        keeper.done(ref, {"action": order.action, "release": order.release.hex(), "changed": changed})
        if order.action == TRY and changed:
            keeper.errand(restart, lambda error: keeper.setting.say(f"restart: {error or 'begun'}"))

    keeper.ask("host.begin", begun, **about, challenge=order.challenge.hex(), confirm_s=order.confirm_s)
