# SPDX-License-Identifier: GPL-3.0-or-later
"""The reference values of one appraiser: signed releases, their manifests, and install proofs that held.

Everything is verified when it comes in; what is handed out is verified.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from types import MappingProxyType

from ..check.bootpcrs import pcr4_values
from ..check.imarules import ReferenceList
from ..check.installproof import verify_install_proof
from ..check.packagerules import VerifiedPackage
from ..check.signature import VerifiedRelease, verify_guest_package, verify_release
from ..errors import EvidenceError, ParseError
from ..model.digest import PcrBank, sha256
from ..model.enrolment import Enrolment
from ..model.evidence import Roti
from ..model.finding import Finding, deny
from ..model.ima import FileManifest
from ..model.key import AkPublic
from ..model.package import package_id
from ..model.release import release_id
from .policy import AppraisalPolicy

MAX_REMEMBERED_PROOFS = 32_768
"""Install proofs kept by one appraiser, some 2 KiB each."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Reference:
    """One accepted release with the files it consists of."""

    verified: VerifiedRelease
    files: ReferenceList


@dataclass(frozen=True, slots=True, kw_only=True)
class InstallProof:
    """What is kept of an installation that was proven: the installer's registers, and notes."""

    bank: PcrBank
    findings: tuple[Finding, ...]


class References:
    """Reference values of one appraiser: releases that were verified against the policy's keys, once.

    Args:
        policy: What is demanded.
        releases: Pairs of a signed release file and its manifest blob. One that does not hold is remembered as refused
            and takes nothing else down: who can put a file into an image store must not stop appraisals.
        packages: Signed guest packages, treated alike.
        former: Signed release files without their manifests, for what hosts ran before; no host may run them.
    """

    def __init__(
        self,
        policy: AppraisalPolicy,
        releases: Iterable[tuple[bytes, bytes]],
        packages: Iterable[bytes] = (),
        former: Iterable[bytes] = (),
    ) -> None:
        self.policy = policy
        self.policy_digest = policy.digest()
        accepted: dict[bytes, Reference] = {}
        refused: dict[bytes, tuple[Finding, ...]] = {}
        self._signed: dict[bytes, VerifiedRelease | tuple[Finding, ...]] = {}
        for envelope in former:
            with contextlib.suppress(EvidenceError):  # Why it is refused is told to whoever asks for it.
                self._sign(envelope)
        for envelope, manifest in releases:
            try:
                reference = _reference(self._sign(envelope), manifest)
            except EvidenceError as error:
                refused[release_id(envelope)] = error.findings
            else:
                accepted[reference.verified.release_id] = reference
        self._packages: dict[bytes, VerifiedPackage | tuple[Finding, ...]] = {}
        for envelope in packages:
            try:
                # Without a key nothing is trusted, and without a guest nobody need have one.
                found = verify_guest_package(envelope, policy.package_keys) if policy.package_keys else ()
            except EvidenceError as error:
                found = error.findings
            self._packages[package_id(envelope)] = found
        self._proofs: dict[bytes, InstallProof] = {}
        self._accepted: Mapping[bytes, Reference] = MappingProxyType(accepted)
        # The same release file beside another manifest: the pair that holds is the one that counts.
        self._refused = {name: why for name, why in refused.items() if name not in accepted}

    @property
    def names(self) -> Mapping[bytes, str]:
        """Authenticode digest of every verified xen.efi to what to call it."""
        return {
            release.authenticode_sha256: f"{release.variant} release {release.name}"
            for release in (item.verified.release for item in self._accepted.values())
        }

    @property
    def refused(self) -> Mapping[bytes, tuple[Finding, ...]]:
        """Id of each release file that does not hold, to the reasons."""
        return MappingProxyType(self._refused)

    def find(self, wanted: bytes) -> Reference:
        """Return the release with that id.

        Raises:
            EvidenceError: the reasons it was refused for, ``release.unknown``, or ``release.retired`` when the policy
                retired it, or lists accepted releases and this is none of them.
        """
        if wanted in self._refused:
            raise EvidenceError(self._refused[wanted])
        reference = self._accepted.get(wanted)
        if reference is None:
            raise _unknown(wanted)
        if wanted in self.policy.retired:
            raise deny("release.retired", "host", expected="a release that is not retired", actual=wanted)
        if self.policy.releases is not None and wanted not in self.policy.releases:
            raise deny("release.retired", "host", expected="a release the policy lists", actual=wanted)
        return reference

    def signed(self, wanted: bytes) -> VerifiedRelease:
        """Return a signed release with that id, whatever became of its files, one that no host may run any more too.

        Raises:
            EvidenceError: the reasons it was refused for, or ``release.unknown``.
        """
        found = self._signed.get(wanted)
        if found is None:
            raise _unknown(wanted)
        if not isinstance(found, VerifiedRelease):
            raise EvidenceError(found)
        return found

    def find_package(self, wanted: bytes, *, subject: str) -> VerifiedPackage:
        """Return the guest package with that id.

        Raises:
            EvidenceError: the reasons it was refused for, ``guest.package.unknown``, or ``guest.package.retired`` when
                the policy lists accepted packages and this is none of them.
        """
        found = self._packages.get(wanted, ())
        if not isinstance(found, VerifiedPackage):
            if found:
                raise EvidenceError(found)
            raise deny("guest.package.unknown", subject, expected="a signed package we have", actual=wanted)
        if self.policy.packages is not None and wanted not in self.policy.packages:
            raise deny("guest.package.retired", subject, expected="a package the policy lists", actual=wanted)
        return found

    def install_proof(self, roti: Roti, *, release: VerifiedRelease, ak: AkPublic, known: Enrolment) -> InstallProof:
        """Return what ``roti`` proves; raises as ``check.installproof.verify_install_proof``.

        A host sends the same proof every time, and the check is a function of its input: what held once is remembered
        under a digest of everything it was checked against.
        """
        name = _proof_name(roti, release, ak, known)
        proof = self._proofs.get(name)
        if proof is None:
            install = verify_install_proof(
                roti=roti,
                ak=ak,
                release=release,
                host_id=known.host_id,
                ssh_host_key=known.ssh_host_key,
                installer_pcr4=self.policy.installer_pcr4,
            )
            proof = InstallProof(bank=install.bank, findings=install.findings)
            if len(self._proofs) >= MAX_REMEMBERED_PROOFS:
                self._proofs.clear()
            self._proofs[name] = proof
        return proof

    def _sign(self, envelope: bytes) -> VerifiedRelease:
        """Verify a release file and remember what came of it; raises as ``_signed_release``."""
        name = release_id(envelope)
        try:
            self._signed[name] = verified = _signed_release(self.policy, envelope)
        except EvidenceError as error:
            self._signed[name] = error.findings
            raise
        return verified


def _unknown(wanted: bytes) -> EvidenceError:
    return deny("release.unknown", "host", expected="a release we have", actual=wanted or "none stated")


def _signed_release(policy: AppraisalPolicy, envelope: bytes) -> VerifiedRelease:
    verified = verify_release(envelope, policy.release_keys)
    predicted = pcr4_values(verified.release.authenticode_sha256, 0)[0]
    if verified.release.pcr4 != predicted:
        # Build and appraiser compute it apart from each other: one of them is wrong.
        raise deny("release.malformed", "pcr:4", expected=predicted, actual=verified.release.pcr4)
    return verified


def _reference(verified: VerifiedRelease, manifest: bytes) -> Reference:
    # The digest first: nothing of the manifest is parsed before a signature covers it.
    found = sha256(manifest)
    if found != verified.release.manifest_sha256:
        raise deny("release.manifest.mismatch", "release", expected=verified.release.manifest_sha256, actual=found)
    try:
        files = FileManifest.from_bytes(manifest)
    except ParseError as error:
        raise deny("release.manifest.malformed", "release", expected=error.field, actual=error.problem) from None
    return Reference(verified=verified, files=ReferenceList(files))


def _proof_name(roti: Roti, release: VerifiedRelease, ak: AkPublic, known: Enrolment) -> bytes:
    registers = b"".join(b"%d=%b" % item for item in roti.pcrs.values.items())
    parts = (
        roti.statement,
        roti.attest,
        roti.signature,
        roti.event_log,
        roti.pcrs.algorithm.encode("ascii"),
        registers,
        release.release_id,
        ak.name,
        known.host_id.encode("ascii"),
        known.ssh_host_key.encode("ascii"),
    )
    return sha256(b"".join(sha256(part) for part in parts))
