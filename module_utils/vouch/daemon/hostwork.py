# SPDX-License-Identifier: GPL-3.0-or-later
"""The steps of an update on the machine itself, each in a process of its own, each done again after a power cut.

    stage    1. the signed release, its signature      4. its xen.efi to next.efi, read back
             2. its two files, by digest               5. what was read back is returned, to be stated
             3. its root image to the other slot, read back
    try      what waits is still what was stated; then BootNext
    confirm  next.efi and current.efi change places, read back

Nothing before BootNext makes another release start, and BootNext is gone when the firmware has looked at it. The slot
and the file that run are never written.

Source: docs/adr/0008-updates-by-boot-next.md.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Any

from ..check.releases import VerifiedRelease, verify_release_with
from ..errors import EvidenceError, UnreachableError, VouchError
from ..model.hostorder import CONFIRM, STAGE, TRY, HostOrder
from ..model.image import DEBUG
from ..model.release import MAX_RELEASE_BYTES
from ..model.update import HYPERVISOR, ROOT_IMAGE
from ..model.verifierconfig import VerifierConfig
from ..port.hostslots import HostSlots
from ..port.tool import die_with_parent
from .machine import Machine

MAX_XEN_EFI_BYTES = 100 << 20
"""Two of them fit the EFI system partition."""

RESTART_WAIT_S = 2.0
"""Between the answer to ``try`` and the restart, for the answer to leave the machine."""

Written = Mapping[str, Any]
Work = Callable[[Machine, VerifierConfig, HostOrder, Written | None], dict[str, Any]]


def stage(machine: Machine, config: VerifierConfig, order: HostOrder, _: Written | None) -> dict[str, Any]:
    """Have the release wait: write what is not there yet.

    Returns:
        ``changed``, and what was read back: ``slot``, ``authenticode_sha256``, ``xen.efi``, ``root.img``,
        ``root_bytes``.

    Raises:
        VouchError: ``store.…``, ``envelope.…``, ``release.malformed``, ``release.debug``, ``update.size``,
            ``update.readback``, ``update.esp``, ``update.disk``.
    """
    slots = _slots(machine)
    store = order.store or ""
    release = _release(machine, config, store, order.release).release
    root, hypervisor = release.subjects[ROOT_IMAGE], release.subjects[HYPERVISOR]
    slot, room = slots.inactive()
    size = release.verity.image_bytes
    if size > room:
        raise VouchError(f"the root image has {size} bytes, slot {slot} {room}", code="update.size")
    current, waiting = slots.esp_digests()
    if current is None or current == waiting:
        # One file under both names, as a cut in the middle of an exchange could leave it: writing one would cut the
        # other. The installer's fsck takes them apart.
        raise VouchError(
            "the EFI system partition does not hold two files", code="update.esp", hint="install the host again"
        )
    changed = False
    if slots.root_digest(size) != root:
        _put(machine, store, root, size, slots.write_root)
        changed = True
        if slots.root_digest(size) != root:
            raise VouchError(f"slot {slot} reads back differently from what was written", code="update.readback")
    if waiting != hypervisor:
        _put(machine, store, hypervisor, -1, slots.write_next)
        changed = True
        if slots.esp_digests() != (current, hypervisor):
            raise VouchError("xen.efi reads back differently from what was written", code="update.readback")
    return {
        "changed": changed,
        "slot": slot,
        "authenticode_sha256": release.authenticode_sha256.hex(),
        HYPERVISOR: hypervisor.hex(),
        ROOT_IMAGE: root.hex(),
        "root_bytes": size,
    }


def try_once(machine: Machine, config: VerifierConfig, order: HostOrder, written: Written | None) -> dict[str, Any]:
    """Arm one boot of what waits, if it is what was stated.

    Raises:
        VouchError: ``update.changed``, ``update.boot-entry``, and what the firmware and the disk raise.
    """
    slots = _slots(machine)
    _require(slots, written)
    slots.boot_next()
    return {}


def confirm(machine: Machine, config: VerifierConfig, order: HostOrder, written: Written | None) -> dict[str, Any]:
    """Let what was tried start from now on.

    Raises:
        VouchError: ``update.changed``, ``update.readback``, ``update.esp``.
    """
    slots = _slots(machine)
    wanted = bytes.fromhex((written or {}).get(HYPERVISOR, ""))
    current, waiting = slots.esp_digests()
    if current == wanted:
        return {}
    if waiting != wanted:
        raise _changed("what waits on the EFI system partition")
    slots.exchange()
    if slots.esp_digests() != (wanted, current):
        raise VouchError("the files did not change places", code="update.readback")
    return {}


WORK: dict[str, Work] = {STAGE: stage, TRY: try_once, CONFIRM: confirm}


def restart(machine: Machine) -> None:
    """Restart the machine, a moment later."""
    time.sleep(RESTART_WAIT_S)
    _slots(machine).restart()


def _slots(machine: Machine) -> HostSlots:
    # A keeper that takes our place must not find us writing.
    die_with_parent()
    assert machine.slots is not None
    return machine.slots


def _release(machine: Machine, config: VerifierConfig, store: str, wanted: bytes) -> VerifiedRelease:
    machine.blobs.make_room(MAX_RELEASE_BYTES)
    machine.blobs.fetch(store, wanted, -1, limit_bytes=MAX_RELEASE_BYTES)
    envelope = machine.blobs.read(wanted, limit_bytes=MAX_RELEASE_BYTES)
    try:
        verified = verify_release_with(machine.verify, envelope, config.release_keys)
    except EvidenceError as error:
        machine.blobs.discard(wanted)
        raise VouchError(str(error), code=error.code) from None
    if verified.release.variant == DEBUG and not config.allow_debug:
        raise VouchError("this host takes no debug release", code="release.debug")
    return verified


def _put(machine: Machine, store: str, digest: bytes, size: int, write: Callable[[str], None]) -> None:
    """Fetch a file, write it where it belongs, and give its room back."""
    limit = MAX_XEN_EFI_BYTES if size < 0 else size
    machine.blobs.make_room(limit)
    machine.blobs.fetch(store, digest, size, limit_bytes=limit)
    try:
        write(machine.blobs.path(digest))
    finally:
        machine.blobs.discard(digest)


def _require(slots: HostSlots, written: Written | None) -> None:
    """Return when the disk holds what was stated."""
    if written is None:
        raise _changed("nothing was stated, so nothing")
    slot, _ = slots.inactive()
    if slot != written["slot"] or slots.root_digest(int(written["root_bytes"])) != bytes.fromhex(written[ROOT_IMAGE]):
        raise _changed(f"slot {written['slot']}")
    if slots.esp_digests()[1] != bytes.fromhex(written[HYPERVISOR]):
        raise _changed("xen.efi")


def _changed(what: str) -> UnreachableError:
    return UnreachableError(f"{what} is not what was staged", code="update.changed", hint="stage the release again")
