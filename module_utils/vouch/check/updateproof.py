# SPDX-License-Identifier: GPL-3.0-or-later
"""The way from the release that was installed to the one that runs: each step proven by the release before it.

For each update proof, in order:

 1. the quote is by the enrolled attestation key; its qualifying data is the digest of the statement, its selection
    PCRs 0 to 9, its values the given ones
 2. the statement is about this host, and its release before is the one that the step before led to
 3. PCR 4 is that release's: it ran when the statement was made
 4. the release after is a signed one we have, and what was written are its very files

What runs is the release of the last step, or the one before it while an update waits or after a host fell back.

What this adds, and what not: what runs is proven by the host's own PCR 4 and by a signature, whoever wrote the disk.
The chain says how it came there, so that the install proof, which speaks of the first release, still counts.

Source: docs/proof.md, "Update proof".
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from ..errors import EvidenceError, ParseError
from ..model.digest import PcrBank, PcrSelection, sha256
from ..model.evidence import UpdateProof
from ..model.finding import Locator, deny
from ..model.key import AkPublic
from ..model.update import HYPERVISOR, ROOT_IMAGE, UpdateStatement
from .bootpcrs import PCR4, pcr4_values
from .quote import check_selection, check_values, verify_attest
from .releases import VerifiedRelease

UPDATE_SELECTION = PcrSelection("sha256", tuple(range(10)))
"""Registers of an update proof: firmware and boot, as of an install proof."""

SUBJECT = "update"
SOURCE = "docs/proof.md, update proof"


def verify_updates(
    updates: Sequence[UpdateProof],
    *,
    ak: AkPublic,
    host_id: str,
    installed: bytes,
    running: bytes,
    release_of: Callable[[bytes], VerifiedRelease],
    max_failed_attempts: int,
) -> None:
    """Return when ``updates`` lead from ``installed`` to ``running``.

    Args:
        updates: As received.
        ak: The enrolled attestation key.
        host_id: The host.
        installed: Id of the release that the install proof names.
        running: Id of the release that runs, which PCR 4 has proven.
        release_of: Returns a signed release by its id; one that is no longer accepted too, since it once was.
        max_failed_attempts: Boot options that may have failed before a release was started.

    Raises:
        EvidenceError: ``update.quote`` (with the quote's own finding behind it), ``update.statement.digest``,
            ``update.statement.malformed``, ``update.host``, ``update.chain``, ``update.boot``, ``update.files``, and
            what ``release_of`` raises.

    Trust: ``updates`` are the host's; the enrolled key makes each quote the TPM's, PCR 4 makes the statement the
        release's.
    """
    at, before = installed, installed
    for number, proof in enumerate(updates):
        where = Locator(part="updates", entry=number)
        bank = _quoted_bank(proof, ak, where)
        statement = _statement(proof.statement, where)
        if statement.host_id != host_id:
            raise _wrong("update.host", where, host_id, statement.host_id)
        if statement.before != at:
            raise _wrong("update.chain", where, at, statement.before)
        _check_boot(bank, release_of(at), max_failed_attempts, where)
        _check_written(statement, release_of(statement.release_id), where)
        before, at = at, statement.release_id
    if running not in (at, before):
        raise deny("update.chain", SUBJECT, expected=running, actual=at, source=SOURCE)


def _quoted_bank(proof: UpdateProof, ak: AkPublic, where: Locator) -> PcrBank:
    """Step 1. A failed quote keeps its own finding behind ours, which says whose quote it was."""
    digest = sha256(proof.statement)
    try:
        verified = verify_attest(ak.key, proof.attest, proof.signature)
        check_selection(verified.quote, UPDATE_SELECTION)
        bank = check_values(verified.quote, UPDATE_SELECTION, proof.pcrs)
    except EvidenceError as error:
        ours = _wrong("update.quote", where, "a quote by the enrolled key", error.code)
        raise EvidenceError((*ours.findings, *error.findings)) from None
    if verified.attest.extra_data != digest:
        raise _wrong("update.statement.digest", where, digest, verified.attest.extra_data)
    return bank


def _statement(data: bytes, where: Locator) -> UpdateStatement:
    try:
        return UpdateStatement.from_bytes(data)
    except ParseError as error:
        raise _wrong("update.statement.malformed", where, error.field, error.problem) from None


def _check_boot(bank: PcrBank, release: VerifiedRelease, max_failed_attempts: int, where: Locator) -> None:
    """Step 3."""
    values = pcr4_values(release.release.authenticode_sha256, max_failed_attempts)
    if bank[PCR4] not in values:
        raise _wrong("update.boot", where, values[0], bank[PCR4])


def _check_written(statement: UpdateStatement, release: VerifiedRelease, where: Locator) -> None:
    """Step 4."""
    subjects = release.release.subjects
    for found, wanted in (
        (statement.xen_efi_sha256, subjects[HYPERVISOR]),
        (statement.root_img_sha256, subjects[ROOT_IMAGE]),
        (statement.authenticode_sha256, release.release.authenticode_sha256),
    ):
        if found != wanted:
            raise _wrong("update.files", where, wanted, found)


def _wrong(code: str, where: Locator, expected: object, actual: object) -> EvidenceError:
    return deny(code, SUBJECT, expected=expected, actual=actual, where=where, source=SOURCE)
