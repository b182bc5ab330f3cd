# SPDX-License-Identifier: GPL-3.0-or-later
"""From an order to a running guest, step by step; each step either holds or ends the launch.

1. The package is fetched by its id and verified: signature by a package key of the image, then what it says.
2. Kind and address are what package and order allow.
3. The machine has the memory, the partition has the room; the files are fetched by digest.
4. Kernel and initrd are copied to sealed memory and compared there: what was compared is what Xen loads.
5. Policy and proof are compared, and the proof is checked anew (CW-Lite).
6. The root image's hash tree leads to the root hash; the guest's own dm-verity holds every block below it.
7. The domain is made, paused, of a configuration from the package alone.
8. It is measured. No instruction of it has run.
9. The launch is recorded in PCR 14. Only then
10. it is released.

The process that did this stays and watches the guest (``watcher``). Whoever started it undoes what a failed launch
left.
"""

from __future__ import annotations

import contextlib
import os
import socket
import time
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple, TypeVar

from ..check.blobs import check_tree
from ..check.guestprofile import verify_profile
from ..check.guestproof import verify_policy
from ..check.opened import open_with
from ..check.packagerules import VerifiedPackage, read_verified, verify_statement
from ..errors import EvidenceError, UnreachableError, UsageError
from ..model.guestaddress import address_of, mac_of_address
from ..model.gueststate import (
    HOLDS,
    LOADED,
    NO_CHANNEL,
    PENDING,
    RUNNING,
    STARTING,
    GuestChannel,
    GuestRecord,
)
from ..model.image import ROOT_IMAGE
from ..model.kernelprofile import Profile
from ..model.order import GuestOrder
from ..model.package import INITRD, KERNEL, MAX_PACKAGE_BYTES, POLICY, PROFILE, PROOF, GuestPackage
from ..port.domains import new_uuid
from ..port.firewall import Opening
from ..port.loopdevice import LoopDevice
from .domainconfig import domain_config, kind_of, mac_of
from .journal import CREATED, CREATING, RELEASED, GuestJournal, JournalFolder
from .machine import Machine, Measurer, Report, Setting

MAX_SIGNED_BYTES = 2 * MAX_PACKAGE_BYTES
"""A package in its envelope."""

XEN_OVERHEAD_MB = 16
"""Of a domain beside its memory, and a 64th of that for its page tables."""


class Parts(NamedTuple):
    """A verified package and what the launch needs of its files in memory."""

    verified: VerifiedPackage
    policy: bytes
    profile: Profile


class Launched(NamedTuple):
    """A guest that runs: what its watcher goes on with."""

    journal: GuestJournal
    measurer: Measurer
    disk: LoopDevice
    milliseconds: dict[str, int]


class Steps:
    """How long each step took.

    >>> steps = Steps(lambda: 0.0)
    >>> with steps("create"): pass
    >>> steps.milliseconds
    {'create': 0}
    """

    def __init__(self, monotonic_s: Callable[[], float] = time.monotonic) -> None:
        self._monotonic_s = monotonic_s
        self.milliseconds: dict[str, int] = {}

    @contextlib.contextmanager
    def __call__(self, name: str) -> Iterator[None]:
        """Take the time of a block."""
        begin_s = self._monotonic_s()
        yield
        self.milliseconds[name] = int((self._monotonic_s() - begin_s) * 1000)


class Launch:
    """One launch; ``run`` goes through the steps.

    Args:
        order: Verified, its challenge spent.
        order_sha256: Digest of the signed order.
        setting: Of this host.
        machine: What to work with.
        record: Returns the host's counter when an event is in PCR 14.
        progress: Told how far it is.

    Raises:
        VouchError: by ``run``: a step does not hold; its code is what is recorded and answered.
    """

    def __init__(
        self,
        order: GuestOrder,
        order_sha256: bytes,
        setting: Setting,
        machine: Machine,
        *,
        record: Callable[[dict[str, Any], GuestRecord], int],
        progress: Callable[[GuestRecord], None],
    ) -> None:
        if order.package is None or order.store is None:
            raise UsageError("only a start names package and store", code="launch.order")
        self._order, self._order_sha256 = order, order_sha256
        self._package_id, self._store = order.package, order.store
        self._setting, self._machine = setting, machine
        self._record, self._progress = record, progress
        self._journals = JournalFolder(setting.guests)
        self.steps = Steps()

    def run(self) -> Launched:
        """Return when the guest runs."""
        order, steps = self._order, self.steps
        with steps("package"):
            self._machine.blobs.pin(order.guest, (self._package_id,))
            verified = fetch_package(self._package_id, self._store, self._setting, self._machine)
        package = verified.package
        self._machine.blobs.pin(order.guest, (self._package_id, *(part.sha256 for part in package.parts.values())))
        kind, mac = kind_of(package, order), mac_of(package, order)
        found = _begun(order, verified, kind, mac)
        self._progress(found)
        require_memory(package, self._setting.config.memory_reserve_mb, self._machine)
        with steps("fetch"):
            fetch_files(package, self._store, self._machine)
        with contextlib.ExitStack() as opened:
            with steps("disk"):
                disk = _disk(package, order.guest, self._machine)
            opened.callback(disk.close)
            parts, journal = self._create(verified, kind, mac, disk, found)
            launched = self._release(self._measured(parts, journal, disk, kind))
            if journal.card:
                # Until then the guest reaches nobody. It does not have to wait for this, the answer does.
                with steps("firewall"):
                    self._machine.firewall.open(opening_of(journal.record, journal.card, package))
            # From here on the disk stays open as long as this process.
            opened.pop_all()
        return launched

    def _create(
        self, verified: VerifiedPackage, kind: str, mac: str, disk: LoopDevice, found: GuestRecord
    ) -> tuple[Parts, GuestJournal]:
        """Steps 4, 5 and 7."""
        package, machine = verified.package, self._machine
        with contextlib.ExitStack() as opened:
            with self.steps("verify"):
                kernel = _sealed(package, KERNEL, self._store, machine)
                opened.callback(os.close, kernel)
                initrd = _sealed(package, INITRD, self._store, machine)
                opened.callback(os.close, initrd)
                parts = read_parts(verified, self._store, machine)
            journal = GuestJournal(found, CREATING, new_uuid(), self._order_sha256, action=package.on_violation)
            self._journals.write(journal)
            text = domain_config(
                package,
                name=found.id,
                uuid=journal.uuid,
                kind=kind,
                kernel=f"/proc/self/fd/{kernel}",
                initrd=f"/proc/self/fd/{initrd}",
                disk=disk.path,
                mac=mac,
                tsc_mode=self._setting.config.tsc_mode,
            )
            with self.steps("create"):
                machine.domains.create(text, (kernel, initrd))
        info = machine.domains.find(journal.uuid)
        if info is None or not info.paused:
            raise UnreachableError("xl made no paused domain", code="xen.failed")
        card = f"vif{info.domain_id}.0" if mac else ""
        journal = journal._replace(record=found._replace(domain_id=info.domain_id), step=CREATED, card=card)
        self._journals.write(journal)
        self._progress(journal.record)
        return parts, journal

    def _measured(self, parts: Parts, journal: GuestJournal, disk: LoopDevice, kind: str) -> Launched:
        """Step 8."""
        package = parts.verified.package
        with self.steps("measure"):
            measurer = self._machine.measurer(
                journal.record.domain_id, kind, parts.profile, parts.policy, package, False
            )
            report = measurer.first()
            require_none(report)
        record = checked(journal.record, report)._replace(state=RUNNING)
        return Launched(journal._replace(record=record), measurer, disk, self.steps.milliseconds)

    def _release(self, launched: Launched) -> Launched:
        """Steps 9 and 10."""
        journal, record = launched.journal, launched.journal.record
        event = {
            "event": "guest.launch",
            "package": record.package.hex(),
            "kind": record.kind,
            "order": self._order_sha256.hex(),
        }
        with self.steps("record"):
            counter = self._record(event, record)
        journal = journal._replace(record=record._replace(counter=counter), step=RELEASED)
        self._journals.write(journal)
        self._machine.domains.unpause(record.domain_id)
        return launched._replace(journal=journal)


def fetch_package(package_id: bytes, store: str, setting: Setting, machine: Machine) -> VerifiedPackage:
    """Return the package with this id, verified (step 1)."""
    blobs = machine.blobs
    if not os.path.exists(blobs.path(package_id)):
        blobs.make_room(MAX_SIGNED_BYTES)
        blobs.fetch(store, package_id, -1, limit_bytes=MAX_SIGNED_BYTES)
    return read_signed(package_id, setting, machine)


def read_signed(package_id: bytes, setting: Setting, machine: Machine) -> VerifiedPackage:
    """Return the package with this id, which is here, verified."""
    data = machine.blobs.read(package_id, limit_bytes=MAX_SIGNED_BYTES)
    opened = open_with(machine.verify, data, setting.config.package_keys, "package")
    verified = read_verified(data, opened.payload_type, opened.payload, opened.keyid)
    verify_statement(verified.package, allow_debug=setting.config.allow_debug)
    return verified


def fetch_files(package: GuestPackage, store: str, machine: Machine) -> None:
    """Return when every file of the package is on the partition (step 3)."""
    blobs = machine.blobs
    missing = sum(part.size_bytes for part in package.parts.values() if not blobs.has(part.sha256, part.size_bytes))
    if missing:
        blobs.make_room(missing)
    for name, part in package.parts.items():
        # The others are compared where they are read.
        blobs.fetch(store, part.sha256, part.size_bytes, compare=name == ROOT_IMAGE)


def read_parts(verified: VerifiedPackage, store: str, machine: Machine) -> Parts:
    """Return policy and profile, both checked against the package, the proof anew (step 5).

    That is done once a boot of the host, for the bytes are the same.
    """
    package = verified.package
    policy, proof = _read(package, POLICY, store, machine), _read(package, PROOF, store, machine)
    file = _read(package, PROFILE, store, machine)
    if machine.blobs.proven(verified.package_id):
        return Parts(verified, policy, Profile.from_bytes(file, known=True))
    verify_policy(package, policy=policy, proof=proof)
    profile = verify_profile(package, file)
    machine.blobs.note_proven(verified.package_id)
    return Parts(verified, policy, profile)


def opening_of(record: GuestRecord, card: str, package: GuestPackage) -> Opening:
    """Return what of a guest its host lets through."""
    address = record.channel.address
    return Opening(
        guest=record.id,
        card=card,
        services=tuple((service.protocol, service.port) for service in package.network.services),
        mac=mac_of_address(socket.inet_pton(socket.AF_INET6, address)) if address else "",
        address=address,
        talks=not package.peers.nobody,
    )


def checked(record: GuestRecord, report: Report) -> GuestRecord:
    """Return the record after a round of checks in which everything held."""
    return record._replace(
        phase=report.phase,
        verdict=HOLDS,
        rounds=record.rounds + 1,
        checked_at_s=int(time.time()),
        ima_count=report.ima_count,
        ima_head=report.ima_head,
    )


def require_none(report: Report) -> None:
    """Return when a round of checks found nothing.

    Raises:
        EvidenceError: with what it found.
    """
    if report.violations:
        raise EvidenceError(report.violations)


def require_memory(package: GuestPackage, reserve_mb: int, machine: Machine) -> None:
    """Return when the machine has the memory for one more guest (step 3).

    Raises:
        UnreachableError: ``launch.memory``.
    """
    wanted_mb = package.resources.memory_mb
    needed_mb = wanted_mb + XEN_OVERHEAD_MB + wanted_mb // 64 + reserve_mb
    free_mb = machine.domains.free_bytes() >> 20
    if free_mb < needed_mb:
        raise UnreachableError(
            f"the guest takes {wanted_mb} MiB, with what Xen needs and what stays free {needed_mb} MiB; {free_mb} MiB"
            " are left",
            code="launch.memory",
        )


def _begun(order: GuestOrder, verified: VerifiedPackage, kind: str, mac: str) -> GuestRecord:
    package = verified.package
    channel = GuestChannel(address=address_of(order.host_id, mac)) if mac else NO_CHANNEL
    return GuestRecord(
        id=order.guest,
        name=package.name,
        variant=package.variant,
        domain_id=0,
        kind=kind,
        package=verified.package_id,
        verity_root=package.verity.root_hash,
        policy=package.policy.sha256,
        state=STARTING,
        phase=LOADED,
        verdict=PENDING,
        channel=channel,
    )


def _disk(package: GuestPackage, guest: str, machine: Machine) -> LoopDevice:
    """Step 6: return a device over the very file whose hash tree was looked at."""
    path = machine.blobs.path(package.parts[ROOT_IMAGE].sha256)
    try:
        with open(path, "rb") as stream:
            wrong = tuple(check_tree(stream, package.verity, full=False))
            if wrong:
                raise EvidenceError(wrong)
            return machine.attach(stream.fileno(), f"{guest}:{package.name}")
    except OSError as error:
        raise UnreachableError(f"{path}: {error.strerror}", code="store.storage") from None


def _read(package: GuestPackage, name: str, store: str, machine: Machine) -> bytes:
    part = package.parts[name]
    return _again(lambda: machine.blobs.read(part.sha256, limit_bytes=part.size_bytes), package, name, store, machine)


def _sealed(package: GuestPackage, name: str, store: str, machine: Machine) -> int:
    part = package.parts[name]
    return _again(
        lambda: machine.blobs.sealed(part.sha256, name, limit_bytes=part.size_bytes), package, name, store, machine
    )


T = TypeVar("T")


def _again(take: Callable[[], T], package: GuestPackage, name: str, store: str, machine: Machine) -> T:
    """Return what ``take`` does; a file that was changed on the partition is fetched once more."""
    part = package.parts[name]
    try:
        return take()
    except UnreachableError as error:
        if error.code != "store.digest" or not store:
            raise
        machine.blobs.discard(part.sha256)
        machine.blobs.fetch(store, part.sha256, part.size_bytes)
        return take()
