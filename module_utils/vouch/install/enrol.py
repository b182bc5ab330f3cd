# SPDX-License-Identifier: GPL-3.0-or-later
"""Enrolment, on the controller: who this TPM is, and what an installation proved.

    begin     EK certificate leads to a CA we trust; attestation key has the right attributes; firmware log replays;
              a challenge is made that only the TPM with both keys can answer
    answer    the secret came back
    conclude  the install proof is by that attestation key and says what was asked for; the host is recorded

The registers that ``begin`` sees are only reported, which is enough to fail early. ``conclude`` sees them quoted.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from ..check.identity import VerifiedEk, check_ak_public, make_challenge, verify_ek_chain
from ..check.installproof import verify_install_proof
from ..check.replay import read_event_log, verify_event_log
from ..check.signature import VerifiedRelease
from ..errors import EvidenceError, ParseError, UsageError
from ..model.certificate import Certificate
from ..model.digest import PcrBank, sha256
from ..model.ektemplate import EK_TEMPLATES
from ..model.enrolment import FIRMWARE_PCRS, FIRST_BOOT_PCRS, Enrolment
from ..model.evidence import Roti
from ..model.finding import deny
from ..model.key import AkPublic
from ..model.statement import TpmCounters
from ..parse.tpm2 import parse_attest
from ..port.clock import Clock
from ..store.anyenrolments import Enrolments
from ..store.pending import PendingEnrolment, PendingStore

LOG_PCRS = tuple(range(8))
"""Registers that only the firmware extends before the system starts."""

SECRET_BYTES = 32


@dataclass(frozen=True, slots=True, kw_only=True)
class Candidate:
    """What a machine shows of itself; nothing of it is proven."""

    host_id: str
    ek_certificates: Mapping[str, bytes]
    ek_chain: tuple[bytes, ...]
    ak_public: bytes
    event_log: bytes
    pcrs: PcrBank


@dataclass(frozen=True, slots=True, kw_only=True)
class Challenge:
    """What to send to the machine; empty when it answered before."""

    ek: VerifiedEk
    ek_sha256: bytes
    credential_blob: bytes = b""
    encrypted_secret: bytes = b""

    @property
    def open(self) -> bool:
        """Whether an answer is needed."""
        return bool(self.credential_blob)


class Enroller:
    """The enrolment desk of one store.

    Args:
        store: Enrolled hosts.
        pending: Begun enrolments.
        ca_certificates: Certificates, DER, of EK authorities we trust, with their intermediates.
        clock: Time and randomness.
        ek_sha256: If given, the only endorsement key (SHA-256 of its SubjectPublicKeyInfo) that is accepted.
    """

    def __init__(
        self,
        store: Enrolments,
        pending: PendingStore,
        *,
        ca_certificates: Sequence[bytes],
        clock: Clock,
        ek_sha256: bytes | None = None,
    ) -> None:
        self._store = store
        self._pending = pending
        self._ca = tuple(ca_certificates)
        self._clock = clock
        self._pinned = ek_sha256

    def begin(self, candidate: Candidate, *, rehearse: bool = False) -> Challenge:
        """Return the challenge for a machine; an empty one when it has answered before.

        Raises:
            EvidenceError: what the machine shows is not acceptable.
            UsageError: no CA is given, or the TPM is another host's.
        """
        ek, ek_sha256 = self._endorsement_key(candidate)
        verify_event_log(read_event_log(candidate.event_log), candidate.pcrs, indices=LOG_PCRS)
        other = self._store.find_by_ek(ek_sha256)
        if other is not None and other.host_id != candidate.host_id:
            raise UsageError(
                f"the TPM of host {candidate.host_id} is enrolled as host {other.host_id}",
                code="enrolment.ek.duplicate",
                hint="Remove the older enrolment first.",
            )
        if not candidate.ak_public:
            return Challenge(ek=ek, ek_sha256=ek_sha256)
        ak = check_ak_public(candidate.ak_public)
        if self._knows(candidate.host_id, ek_sha256, ak):
            return Challenge(ek=ek, ek_sha256=ek_sha256)
        secret = self._clock.random_bytes(SECRET_BYTES)
        blob, encrypted = make_challenge(ek.public, ak.name, secret)
        if not rehearse:
            self._pending.begin(
                PendingEnrolment(
                    host_id=candidate.host_id,
                    ek_sha256=ek_sha256,
                    ak_public=ak.public,
                    secret=secret,
                    begun_at_s=self._now_s(),
                )
            )
        return Challenge(ek=ek, ek_sha256=ek_sha256, credential_blob=blob, encrypted_secret=encrypted)

    def answer(self, host_id: str, secret: bytes) -> None:
        """Return when ``secret`` is the open challenge's."""
        self._pending.answer(host_id, secret, now_s=self._now_s())

    def conclude(
        self,
        host_id: str,
        roti: Roti,
        *,
        release: VerifiedRelease,
        ssh_host_key: str,
        installer_pcr4: Sequence[bytes],
        rehearse: bool = False,
    ) -> tuple[Enrolment, bool]:
        """Return the host's enrolment, and whether it is new.

        Args:
            host_id: The host.
            roti: Its install proof.
            release: Release it shall have installed.
            ssh_host_key: Key that the installation reported.
            installer_pcr4: PCR 4 of the trusted installers.
            rehearse: Record nothing.

        Raises:
            EvidenceError: the proof does not hold.
            UsageError: ``challenge.missing`` when its TPM did not answer the challenge before.
        """
        known = self._store.find(host_id)
        pending = self._pending.find(host_id, now_s=self._now_s())
        if pending is not None and pending.activated:
            ek_sha256, ak_public = pending.ek_sha256, pending.ak_public
        elif known is not None:
            ek_sha256, ak_public = known.ek_sha256, known.ak_public
        else:
            raise UsageError(
                f"the TPM of host {host_id} did not answer a challenge yet",
                code="challenge.missing",
                hint="Run playbooks/install.yml from its beginning.",
            )
        proven = verify_install_proof(
            roti=roti,
            ak=check_ak_public(ak_public),
            release=release,
            host_id=host_id,
            ssh_host_key=ssh_host_key,
            installer_pcr4=tuple(installer_pcr4),
        )
        enrolment = Enrolment(
            host_id=host_id,
            ek_sha256=ek_sha256,
            ak_public=ak_public,
            ssh_host_key=proven.statement.ssh_host_key,
            release_id=release.release_id,
            baseline={index: proven.bank[index] for index in FIRMWARE_PCRS if index not in FIRST_BOOT_PCRS},
            counters=_counters(roti),
            ima=None,
            enrolled_at_s=self._now_s(),
        )
        if known is not None and _same_host(known, enrolment):
            if not rehearse:
                self._pending.end(host_id)
            return known, False
        if not rehearse:
            self._store.add(enrolment)
            self._pending.end(host_id)
        return enrolment, True

    def _endorsement_key(self, candidate: Candidate) -> tuple[VerifiedEk, bytes]:
        """Return the first endorsement key, in order of preference, that leads to a trusted CA."""
        refusal: EvidenceError | None = None
        roots, others = split_ca(self._ca)
        for template in EK_TEMPLATES:
            der = candidate.ek_certificates.get(template.kind)
            if der is None:
                continue
            try:
                ek = verify_ek_chain(der, (*candidate.ek_chain, *others), roots, now=self._clock.now())
            except EvidenceError as error:
                refusal = refusal or error
                continue
            digest = sha256(Certificate.from_der(der).spki)
            if self._pinned is not None and digest != self._pinned:
                raise deny("ek.pinned.mismatch", "ek", expected=self._pinned, actual=digest)
            return ek, digest
        raise refusal or deny("tpm.ek.certificate-missing", "ek", expected="an EK certificate", actual="none")

    def _knows(self, host_id: str, ek_sha256: bytes, ak: AkPublic) -> bool:
        known: Enrolment | PendingEnrolment | None = self._store.find(host_id)
        if known is not None and (known.ek_sha256, known.ak_public) == (ek_sha256, ak.public):
            return True
        pending = self._pending.find(host_id, now_s=self._now_s())
        return (
            pending is not None
            and pending.activated
            and (pending.ek_sha256, pending.ak_public) == (ek_sha256, ak.public)
        )

    def _now_s(self) -> int:
        return int(self._clock.now().timestamp())


def split_ca(certificates: Sequence[bytes]) -> tuple[tuple[bytes, ...], tuple[bytes, ...]]:
    """Return the self-issued certificates, which are trusted, and the others, which only help to reach one.

    Raises:
        UsageError: ``ek.ca.malformed``.
    """
    roots: list[bytes] = []
    others: list[bytes] = []
    for der in certificates:
        try:
            certificate = Certificate.from_der(der)
        except ParseError as error:
            raise UsageError(f"a CA certificate cannot be read: {error}", code="ek.ca.malformed") from None
        (roots if certificate.issuer == certificate.subject else others).append(der)
    return tuple(roots), tuple(others)


def _counters(roti: Roti) -> TpmCounters:
    """Return clock and counters of a quote that was verified before."""
    clock = parse_attest(roti.attest).clock_info
    return TpmCounters(clock_ms=clock.clock_ms, reset_count=clock.reset_count, restart_count=clock.restart_count)


def _same_host(known: Enrolment, new: Enrolment) -> bool:
    names = ("ek_sha256", "ak_public", "ssh_host_key", "release_id", "installed")
    same = all(getattr(known, name) == getattr(new, name) for name in names)
    return same and all(known.baseline.get(index) == value for index, value in new.baseline.items())
