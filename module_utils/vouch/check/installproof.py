# SPDX-License-Identifier: GPL-3.0-or-later
"""The ROTI proof: that the trusted installer put this release on this machine.

The plan:

 1. the quote is by the enrolled attestation key, so it was made in the machine's own TPM
 2. its qualifying data is the digest of the statement, its selection exactly PCRs 0 to 9
 3. its PCR digest is that of the values in the proof
 4. the firmware's event log replays to PCRs 0 to 7, so their contents are known
 5. PCR 4 is an installer we allow, and the one the statement names
 6. the statement is about this key, this host, this channel key, and this release with its very files

Why a fresh boot of the release still leads to the same verdict later: PCR 4 and the verity root are in the host's own
quotes. What this proof adds is that no other hand wrote the disk before the first boot.

Source: docs/proof.md; St. Clair et al., "Establishing and Sustaining System Integrity via Root of Trust
Installation" (ACSAC 2007), 4.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass

from ..errors import EvidenceError, ParseError, UsageError
from ..model.digest import PcrBank, PcrSelection, sha256
from ..model.evidence import Roti
from ..model.finding import Finding, Locator, deny
from ..model.image import ROOT_IMAGE
from ..model.key import AkPublic
from ..model.release import HYPERVISOR, InstallStatement
from .quirks import Quirk
from .quote import VerifiedAttest, check_selection, check_values, verify_attest
from .replay import VerifiedLog, read_event_log, verify_event_log
from .signature import VerifiedRelease

ROTI_SELECTION = PcrSelection("sha256", tuple(range(10)))
"""Registers of the installer's quote: firmware, boot loader, and what the stub of its image measures."""

FIRMWARE_REGISTERS = range(8)
"""Those whose events the firmware's log holds completely; 8 and 9 belong to boot loaders."""

LAUNCH_REGISTER = 4

_QUOTE = Locator(part="roti.attest")
_STATEMENT = Locator(part="roti.statement")


@dataclass(frozen=True, slots=True, kw_only=True)
class VerifiedInstall:
    """An installation that a trusted installer proved (made by ``verify_install_proof`` only).

    Attributes:
        statement: What was written.
        bank: PCRs 0 to 9 of the installer's boot: the firmware's values are this machine's baseline.
        log: The firmware's events behind PCRs 0 to 7.
        findings: Notes.
    """

    statement: InstallStatement
    bank: PcrBank
    log: VerifiedLog
    findings: tuple[Finding, ...]


def verify_install_proof(
    *,
    roti: Roti,
    ak: AkPublic,
    release: VerifiedRelease,
    host_id: str,
    ssh_host_key: str,
    installer_pcr4: Collection[bytes],
    quirks: Sequence[Quirk] = (),
) -> VerifiedInstall:
    """Return the installation that ``roti`` proves.

    Args:
        roti: The proof as received.
        ak: The attestation key enrolled for the host.
        release: The release that should be on it.
        host_id: The host's UUID.
        ssh_host_key: The key of the channel the host answers on.
        installer_pcr4: Values PCR 4 has under an installer we trust.
        quirks: Defects of this firmware's log to forgive.

    Raises:
        EvidenceError: ``roti.quote`` (with the quote's own finding behind it), ``roti.statement.digest``,
            ``roti.statement.malformed``, ``roti.installer``, ``roti.ak``, ``roti.host``, ``roti.release``,
            ``roti.files``, ``roti.channel``; and the event log's codes.
        UsageError: ``roti.installers.none`` when no installer is allowed.

    Trust: ``roti`` is the host's. The enrolled key makes the quote the TPM's; PCR 4 makes the statement the
    installer's.
    """
    if not installer_pcr4:
        raise UsageError("no installer is allowed: no installation can be proven", code="roti.installers.none")
    bank = _quoted_bank(roti, ak)
    log = verify_event_log(read_event_log(roti.event_log), bank, indices=FIRMWARE_REGISTERS, quirks=quirks)
    statement = _statement(roti.statement)
    _check_installer(bank, statement, installer_pcr4)
    _check_subject(statement, ak, host_id, ssh_host_key)
    _check_release(statement, release)
    return VerifiedInstall(statement=statement, bank=bank, log=log, findings=log.findings)


def _quoted_bank(roti: Roti, ak: AkPublic) -> PcrBank:
    """Steps 1 to 3. A failed quote keeps its own finding behind ours, which says whose quote it was."""
    try:
        verified = verify_attest(ak.key, roti.attest, roti.signature)
        _check_digest(verified, roti.statement)
        check_selection(verified.quote, ROTI_SELECTION)
        return check_values(verified.quote, ROTI_SELECTION, roti.pcrs)
    except EvidenceError as error:
        if error.code == "roti.statement.digest":
            raise
        ours = deny("roti.quote", "installation", actual=error.code, where=_QUOTE)
        raise EvidenceError((*ours.findings, *error.findings)) from None


def _check_digest(verified: VerifiedAttest, statement: bytes) -> None:
    digest = sha256(statement)
    if verified.attest.extra_data != digest:
        raise deny(
            "roti.statement.digest",
            "installation",
            expected=digest.hex(),
            actual=verified.attest.extra_data,
            where=_QUOTE,
        )


def _statement(data: bytes) -> InstallStatement:
    try:
        return InstallStatement.from_bytes(data)
    except ParseError as error:
        raise deny("roti.statement.malformed", "installation", actual=error, where=_STATEMENT) from None


def _check_installer(bank: PcrBank, statement: InstallStatement, allowed: Collection[bytes]) -> None:
    """Step 5."""
    value = bank[LAUNCH_REGISTER]
    if value not in allowed or statement.installer_pcr4 != value:
        expected = ", ".join(sorted(item.hex() for item in allowed))
        raise deny("roti.installer", f"pcr:{LAUNCH_REGISTER}", expected=expected, actual=value, where=_QUOTE)


def _check_subject(statement: InstallStatement, ak: AkPublic, host_id: str, ssh_host_key: str) -> None:
    """Step 6: the machine."""
    if statement.ak_name != ak.name:
        raise deny("roti.ak", "installation", expected=ak.name.hex(), actual=statement.ak_name, where=_STATEMENT)
    if statement.host_id != host_id:
        raise deny("roti.host", "installation", expected=host_id, actual=statement.host_id, where=_STATEMENT)
    if statement.ssh_host_key != ssh_host_key:
        raise deny(
            "roti.channel", "installation", expected=ssh_host_key, actual=statement.ssh_host_key, where=_STATEMENT
        )


def _check_release(statement: InstallStatement, release: VerifiedRelease) -> None:
    """Step 6: what was written."""
    if statement.release_id != release.release_id:
        raise deny(
            "roti.release",
            "installation",
            expected=release.release_id.hex(),
            actual=statement.release_id,
            where=_STATEMENT,
        )
    written = ((HYPERVISOR, statement.xen_efi_sha256), (ROOT_IMAGE, statement.root_img_sha256))
    for name, digest in written:
        if digest != release.release.subjects[name]:
            raise deny(
                "roti.files",
                f"file:{name}",
                expected=release.release.subjects[name].hex(),
                actual=digest,
                where=_STATEMENT,
            )
