# SPDX-License-Identifier: GPL-3.0-or-later
"""The ROTI proof, made in the installer: what this program finds on the disk, signed by the TPM.

Nothing in the statement is taken from the caller but the names (host, release, slot): image, hypervisor, boot entry and
host key are read from the disk and the firmware again, after the installation wrote them.
"""

from __future__ import annotations

import pathlib
from collections.abc import Callable
from dataclasses import dataclass, replace

from ..errors import ParseError, UnreachableError
from ..make.bootentry import plan_boot
from ..make.disklayout import DATA_NUMBER, ESP_NUMBER, SLOT_NUMBER, Delta, slot_guid
from ..model.digest import PcrBank, sha256
from ..model.evidence import Roti
from ..model.release import HYPERVISOR, ROOT_IMAGE, InstallStatement
from ..parse.tpm2 import parse_attest
from ..port.disk import TargetDisk, digest_of
from ..port.efi import EfiVariables
from ..port.files import PUBLIC_MODE, read_bounded, write_atomic
from ..port.tpm import Tpm
from .hostkey import read_host_key
from .machine import BOOT_SELECTION
from .slot import SlotWish, boot_target, file_digest, identity_bytes, image_bytes

ROTI_NAME = "roti.json"
MAX_ROTI_BYTES = 8 << 20
INSTALLER_PCR = 4


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
        ak_name: TPM name of that key.
        event_log: Firmware event log of this boot.
        wish: What was installed.
        now_s: Time of day, Unix seconds.
    """

    def __init__(
        self,
        *,
        disk: TargetDisk,
        efi: EfiVariables,
        tpm: Tpm,
        ak_name: bytes,
        event_log: bytes,
        wish: SlotWish,
        now_s: Callable[[], int],
    ) -> None:
        self._disk = disk
        self._efi = efi
        self._tpm = tpm
        self._ak_name = ak_name
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
        delta = Delta(name=ROTI_NAME, current=None, desired="a proof by this TPM")
        if rehearse:
            return ProofOutcome(roti=None, deltas=(delta,))
        roti = self._quote(observed)
        with self._disk.mounted(DATA_NUMBER, writable=True) as root:
            # Readable: it is handed to everybody who asks for evidence.
            write_atomic(root / ROTI_NAME, roti.to_bytes(), mode=PUBLIC_MODE)
        return ProofOutcome(roti=roti, deltas=(delta,))

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
            hypervisor = file_digest(esp / f"EFI/vouch/{wish.slot}.efi")
        for name, found in ((ROOT_IMAGE, root), (HYPERVISOR, hypervisor)):
            if found != wish.release.subjects[name]:
                raise _incomplete(f"{name} of slot {wish.slot} is not the release's")
        target = boot_target(report.table, wish.slot)
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
            ak_name=self._ak_name,
            installer_pcr4=self._tpm.read_pcrs(BOOT_SELECTION)[INSTALLER_PCR],
            time_s=0,
        )
        return observed, kept if kept is not None and _says(kept, observed) else None

    def _identity(self) -> bytes:
        return identity_bytes(self._wish.host_id, self._wish.release_id)

    def _quote(self, observed: InstallStatement) -> Roti:
        statement = replace(observed, time_s=self._now_s()).to_bytes()
        attest, signature, pcrs = self._tpm.quote_registers(sha256(statement), BOOT_SELECTION)
        return Roti(
            statement=statement,
            attest=attest,
            signature=signature,
            pcrs=PcrBank(pcrs.algorithm, pcrs.values),
            event_log=self._event_log,
        )


def _kept(path: pathlib.Path) -> Roti | None:
    if not path.is_file():
        return None
    try:
        return Roti.from_bytes(read_bounded(path, limit_bytes=MAX_ROTI_BYTES))
    except ParseError:
        return None


def _says(roti: Roti, observed: InstallStatement) -> bool:
    """Return whether a proof says what is there now; when it was made, and by which installer, may differ."""
    try:
        said = InstallStatement.from_bytes(roti.statement)
        bound = parse_attest(roti.attest).extra_data == sha256(roti.statement)
    except ParseError:
        return False
    return bound and replace(said, time_s=0, installer_pcr4=observed.installer_pcr4) == observed


def _incomplete(what: str) -> UnreachableError:
    return UnreachableError(
        f"the installation is not complete: {what}", code="install.incomplete", hint="Run playbooks/install.yml again."
    )
