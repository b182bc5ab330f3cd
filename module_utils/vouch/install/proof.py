# SPDX-License-Identifier: GPL-3.0-or-later
"""The ROTI proof, made in the installer: what this program finds on the disk, signed by the TPM.

Nothing in the statement is taken from the caller but the names (host, release, slot): image, hypervisor, boot entry and
host key are read from the disk and the firmware again, after the installation wrote them.
"""

from __future__ import annotations

import pathlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Protocol

from ..errors import ParseError, UnreachableError
from ..make.bootentry import plan_boot
from ..make.disklayout import DATA_NUMBER, ESP_NUMBER, SLOT_NUMBER, Delta, slot_guid
from ..model.digest import PcrBank, PcrSelection, sha256
from ..model.evidence import Roti
from ..model.image import ROOT_IMAGE
from ..model.release import HYPERVISOR, InstallStatement
from ..model.update import CURRENT_EFI
from ..parse.tpm2 import parse_attest
from ..port.disk import TargetDisk, digest_of
from ..port.efi import EfiVariables
from ..port.files import PUBLIC_MODE, read_bounded, write_atomic
from .hostkey import read_host_key
from .slot import SlotWish, boot_target, file_digest, identity_bytes, image_bytes

ROTI_NAME = "roti.json"
MAX_ROTI_BYTES = 8 << 20
INSTALLER_PCR = 4
BOOT_SELECTION = PcrSelection("sha256", tuple(range(10)))
"""Registers of firmware and loader: what the ROTI quote covers."""

MISSING = Delta(name=ROTI_NAME, current=None, desired="a proof by this TPM")
EVENT_LOG = pathlib.Path("/sys/kernel/security/tpm0/binary_bios_measurements")
"""The firmware's event log; Linux shows it when its own EFI stub started it, so not under Xen."""

QUOTE_ATTEMPTS = 8
"""How often a quote is made again when a register was extended between it and the reading."""


class ProofTpm(Protocol):
    """What a proof needs of a TPM (``port.quotetpm.QuoteTpm``)."""

    def read_pcrs(self, indices: Sequence[int]) -> Mapping[int, bytes]:
        """Return SHA-256 registers."""
        ...

    def quote(self, qualifying: bytes, indices: Sequence[int]) -> tuple[bytes, bytes]:
        """Return TPMS_ATTEST and TPMT_SIGNATURE by the attestation key."""
        ...

    def ak_public(self) -> bytes:
        """Return the attestation key's TPMT_PUBLIC."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class ProofOutcome:
    """The proof on the disk, and what was missing of it; no proof in a rehearsal that would make one."""

    roti: Roti | None
    deltas: tuple[Delta, ...]


class ProofMaker:
    """Makes, or finds, the install proof of one slot.

    Args:
        disk: The disk.
        efi: The firmware's variables.
        tpm: The TPM, with its attestation key.
        event_log: Firmware event log of this boot.
        wish: What was installed.
        now_s: Time of day, Unix seconds.
    """

    def __init__(
        self,
        *,
        disk: TargetDisk,
        efi: EfiVariables,
        tpm: ProofTpm,
        event_log: bytes,
        wish: SlotWish,
        now_s: Callable[[], int],
    ) -> None:
        self._disk = disk
        self._efi = efi
        self._tpm = tpm
        self._event_log = event_log
        self._wish = wish
        self._now_s = now_s

    def run(self, *, rehearse: bool = False) -> ProofOutcome:
        """Return the proof of what is on the disk now; one that is there and still true is kept.

        Raises:
            UnreachableError: ``install.incomplete`` names what is not as the release says; TPM and disk errors.
        """
        observed, kept = self._observe()
        if kept is not None:
            return ProofOutcome(roti=kept, deltas=())
        if rehearse:
            return ProofOutcome(roti=None, deltas=(MISSING,))
        roti = self._quote(observed)
        with self._disk.mounted(DATA_NUMBER, writable=True) as root:
            # Readable: it is handed to everybody who asks for evidence.
            write_atomic(root / ROTI_NAME, roti.to_bytes(), mode=PUBLIC_MODE)
        return ProofOutcome(roti=roti, deltas=(MISSING,))

    def _observe(self) -> tuple[InstallStatement, Roti | None]:
        """Return the statement of what is there (time still open), and the proof on the disk if it says the same."""
        wish, report = self._wish, self._disk.report()
        if report.table is None:
            raise _incomplete("the partition table is gone")
        number = SLOT_NUMBER[wish.slot]
        if report.table.partition(number).guid != slot_guid(wish.release.verity.root_hash):
            raise _incomplete(f"partition {number} does not bear the GUID of the release")
        root = digest_of(self._disk.partition(number), image_bytes(wish.release.verity.data_blocks))
        with self._disk.mounted(ESP_NUMBER, writable=False) as esp:
            hypervisor = file_digest(esp / CURRENT_EFI)
        for name, found in ((ROOT_IMAGE, root), (HYPERVISOR, hypervisor)):
            if found != wish.release.subjects[name]:
                raise _incomplete(f"{name} of slot {wish.slot} is not the release's")
        target = boot_target(report.table)
        if plan_boot(target, self._efi.boot_entries(), self._efi.read("BootOrder") or b"").variables:
            raise _incomplete("the boot entry is not the first one")
        with self._disk.mounted(DATA_NUMBER, writable=False) as data:
            identity = data / "identity.json"
            key = read_host_key(data / "ssh")
            if key is None or not identity.is_file() or identity.read_bytes() != self._identity():
                raise _incomplete("identity or SSH host key is missing")
            kept = _kept(data / ROTI_NAME)
        observed = InstallStatement(
            host_id=str(wish.host_id),
            release_id=wish.release_id,
            slot=wish.slot,
            disk_id=report.path,
            disk_bytes=report.size_bytes,
            xen_efi_sha256=wish.release.subjects[HYPERVISOR],
            root_img_sha256=wish.release.subjects[ROOT_IMAGE],
            boot_entry=target.text(),
            ssh_host_key=key,
            # The name of a key with nameAlg SHA-256 (TPM 2.0 Part 1, 16); the appraiser checks that it is one.
            ak_name=b"\x00\x0b" + sha256(self._tpm.ak_public()),
            installer_pcr4=self._tpm.read_pcrs([INSTALLER_PCR])[INSTALLER_PCR],
            time_s=0,
        )
        return observed, kept if kept is not None and _says(kept, observed) else None

    def _identity(self) -> bytes:
        return identity_bytes(self._wish.host_id, self._wish.release_id)

    def _quote(self, observed: InstallStatement) -> Roti:
        statement = replace(observed, time_s=self._now_s()).to_bytes()
        for _ in range(QUOTE_ATTEMPTS):
            attest, signature = self._tpm.quote(sha256(statement), BOOT_SELECTION.indices)
            bank = PcrBank("sha256", self._tpm.read_pcrs(BOOT_SELECTION.indices))
            quoted = parse_attest(attest).quote
            if quoted is not None and quoted.pcr_digest == sha256(bank.composite(BOOT_SELECTION)):
                return Roti(
                    statement=statement, attest=attest, signature=signature, pcrs=bank, event_log=self._event_log
                )
        raise UnreachableError("a register changed between every quote and its reading", code="tpm.busy")


def _kept(path: pathlib.Path) -> Roti | None:
    if not path.is_file():
        return None
    try:
        return Roti.from_bytes(read_bounded(path, limit_bytes=MAX_ROTI_BYTES))
    except ParseError:
        return None


def _says(roti: Roti, observed: InstallStatement) -> bool:
    """Return whether a proof says what is there now, made in this installer; only when it was made may differ."""
    try:
        said = InstallStatement.from_bytes(roti.statement)
        bound = parse_attest(roti.attest).extra_data == sha256(roti.statement)
    except ParseError:
        return False
    return bound and replace(said, time_s=0) == observed


def _incomplete(what: str) -> UnreachableError:
    return UnreachableError(
        f"the installation is not complete: {what}", code="install.incomplete", hint="Run playbooks/install.yml again."
    )
