# SPDX-License-Identifier: GPL-3.0-or-later
"""What a machine booted from the installer is, and why it could not become a measured host.

No partition is written. Every obstacle is found in one look, so an operator mends them all before the second attempt;
only where there is none is the attestation key made, once.
"""

from __future__ import annotations

import os
import pathlib
import sys
import uuid
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from ..errors import UnreachableError
from ..make.disklayout import find_deltas, plan_table, refuse_foreign_content
from ..model.digest import PcrBank
from ..model.evidence import MAX_FIRMWARE_LOG_BYTES
from ..port.disk import BlockDisk, DiskReport
from ..port.efi import EFIVARFS, EfivarFs
from ..port.files import read_bounded
from ..port.tpm import Tpm
from .proof import BOOT_SELECTION, EVENT_LOG

TPM_CLASS = pathlib.Path("/sys/class/tpm/tpm0")
MIN_PYTHON = (3, 11)
TOOLS: Mapping[str, str] = {
    "sfdisk": "fdisk",
    "blkid": "util-linux",
    "mount": "mount",
    "mkfs.vfat": "dosfstools",
    "fsck.vfat": "dosfstools",
    "mkfs.ext4": "e2fsprogs",
}
"""Programs the installation runs, and the Debian package of each."""

T = TypeVar("T")

_PATH = ("/usr/local/sbin", "/usr/local/bin", "/usr/sbin", "/usr/bin", "/sbin", "/bin")


@dataclass(frozen=True, slots=True, kw_only=True)
class Problem:
    """Why this machine cannot be installed: what, where, and the cure."""

    code: str
    message: str

    def as_dict(self) -> dict[str, str]:
        """Return the JSON form."""
        return {"code": self.code, "message": self.message}


@dataclass(frozen=True, slots=True, kw_only=True)
class MachineReport:
    """One look at a machine; parts that could not be looked at are None and have a problem each.

    ``ak_missing``: the TPM had no attestation key before.
    """

    disk: DiskReport | None
    event_log: bytes | None
    pcrs: PcrBank | None
    ek_certificates: Mapping[str, bytes]
    ek_chain: tuple[bytes, ...]
    ak_public: bytes | None
    ak_missing: bool
    problems: tuple[Problem, ...]


class MachineLook:
    """Looks at this machine.

    Args:
        open_tpm: Makes the connection to its TPM.
        efivarfs: Where UEFI variables are mounted.
        event_log: The firmware's event log.
        tpm_class: The kernel's folder of the TPM.
        python: Version of the interpreter.
    """

    def __init__(
        self,
        *,
        open_tpm: Callable[[], Tpm] = Tpm,
        efivarfs: pathlib.Path = EFIVARFS,
        event_log: pathlib.Path = EVENT_LOG,
        tpm_class: pathlib.Path = TPM_CLASS,
        python: Sequence[int] = sys.version_info[:2],
        path: Sequence[str] = _PATH,
    ) -> None:
        self._open_tpm = open_tpm
        self._efivarfs = efivarfs
        self._event_log = event_log
        self._tpm_class = tpm_class
        self._python = tuple(python)
        self._path = path
        self._problems: list[Problem] = []

    def run(self, *, disk: str, host_id: uuid.UUID, wipe: bool, make_key: bool) -> MachineReport:
        """Return what was seen.

        Args:
            disk: Stable name of the disk to install on.
            host_id: Id this machine shall have; a disk that bears it is ours.
            wipe: Data on the disk may go.
            make_key: Make the attestation key where it is missing and nothing else stands in the way.
        """
        self._try(self._check_python)
        self._try(self._check_tools)
        self._try(lambda: EfivarFs(self._efivarfs))
        report = self._try(lambda: self._disk(disk, host_id, wipe))
        log = self._try(self._read_log)
        seen: dict[str, Any] = {}
        self._try(lambda: self._tpm(seen, make_key))
        return MachineReport(
            disk=report,
            event_log=log,
            pcrs=seen.get("pcrs"),
            ek_certificates=seen.get("ek_certificates", {}),
            ek_chain=seen.get("ek_chain", ()),
            ak_public=seen.get("ak_public"),
            ak_missing=seen.get("ak_missing", False),
            problems=tuple(self._problems),
        )

    def _try(self, look: Callable[[], T]) -> T | None:
        try:
            return look()
        except UnreachableError as error:
            text = f"{error.message}. {error.hint}" if error.hint else error.message
            self._problems.append(Problem(code=error.code, message=text))
            return None

    def _check_python(self) -> None:
        if self._python < MIN_PYTHON:
            found, wanted = (".".join(str(n) for n in version) for version in (self._python, MIN_PYTHON))
            raise UnreachableError(
                f"Python {found} runs here, {wanted} or newer is needed",
                code="python.version",
                hint="Boot the installer image that playbooks/build.yml makes.",
            )

    def _check_tools(self) -> None:
        missing = [n for n in TOOLS if not any(os.access(os.path.join(d, n), os.X_OK) for d in self._path)]
        if missing:
            packages = ", ".join(sorted({TOOLS[name] for name in missing}))
            raise UnreachableError(
                f"{', '.join(missing)} not found here", code="tools.missing", hint=f"Debian packages: {packages}."
            )

    def _disk(self, path: str, host_id: uuid.UUID, wipe: bool) -> DiskReport:
        report = BlockDisk(path).report()
        wanted = plan_table(host_id=host_id, disk_bytes=report.size_bytes, sector_bytes=report.sector_bytes)
        if find_deltas(wanted, report.table) or report.mounted:
            ours = report.table is not None and report.table.guid == host_id
            refuse_foreign_content(path, ours=ours, signatures=report.signatures, mounted=report.mounted, wipe=wipe)
        return report

    def _read_log(self) -> bytes:
        try:
            log = read_bounded(self._event_log, limit_bytes=MAX_FIRMWARE_LOG_BYTES)
        except UnreachableError as error:
            raise UnreachableError(
                f"the firmware's event log is not readable: {error.message}",
                code="eventlog.unreadable",
                hint="Boot the installer by UEFI on a machine with a TPM; under Xen there is no such log.",
            ) from None
        if not log:
            raise UnreachableError(
                f"the firmware's event log {self._event_log} is empty",
                code="eventlog.unreadable",
                hint="Switch measured boot (TCG2 protocol) on in the firmware set-up.",
            )
        return log

    def _tpm(self, seen: dict[str, Any], make_key: bool) -> None:
        version = self._tpm_class / "tpm_version_major"
        if not self._tpm_class.exists():
            raise UnreachableError(
                "this machine has no TPM", code="tpm.absent", hint="Switch it on in the firmware set-up (fTPM, PTT)."
            )
        if version.exists() and version.read_text().strip() != "2":
            raise UnreachableError(
                "the TPM is of version 1.2", code="tpm.version", hint="TPM 2.0 is needed; some firmware can switch."
            )
        with self._open_tpm() as tpm:
            if tpm.locked_out():
                raise UnreachableError(
                    "the TPM is in lockout after wrong passwords",
                    code="tpm.lockout",
                    hint="Wait for its recovery time, or clear it in the firmware set-up.",
                )
            seen["pcrs"] = tpm.read_pcrs(BOOT_SELECTION)
            seen["ek_certificates"] = tpm.ek_certificates()
            seen["ek_chain"] = tpm.ek_chain()
            try:
                seen["ak_public"] = tpm.ak_public()
            except UnreachableError as error:
                if error.code != "tpm.ak.missing":
                    raise
                seen["ak_missing"] = True
                if make_key and not self._problems:
                    seen["ak_public"] = tpm.create_ak()
