# SPDX-License-Identifier: GPL-3.0-or-later
"""The evidence that a guest was accepted by, judged again as the guest that accepted it judged it: by other criteria.

The criteria are whoever's who checks the bundle, not those of the guest that built. The time is that of the acceptance:
a bundle is about the time it was made. Nothing is taken from earlier rounds, so evidence has to be whole.

Source: docs/provenance.md; docs/channels.md.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from ..model.acceptance import Acceptance
from ..model.digest import sha256
from ..model.key import PublicKey
from ..model.peers import Peers
from .peer import PeerAppraiser, PeerCriteria, PeerPapers
from .provenance import JudgedGuest


@dataclass(frozen=True, slots=True, kw_only=True)
class ProvenanceAnchors:
    """What is trusted from outside about guests; evidence is judged only when nothing of it is empty.

    Attributes:
        enrolment_keys: Who may have enrolled hosts.
        release_keys: Who may sign host releases.
        installer_pcr4: PCR 4 of trusted installers.
        package_keys: Who may sign guest packages.
        names: Names of packages that guests of a build may have.
        allow_debug: Whether hosts and guests may be debug ones, into which whoever has the host can look, and reach.
    """

    enrolment_keys: tuple[PublicKey, ...] = ()
    release_keys: tuple[PublicKey, ...] = ()
    installer_pcr4: tuple[bytes, ...] = ()
    package_keys: tuple[PublicKey, ...] = ()
    names: tuple[str, ...] = ()
    allow_debug: bool = False

    @property
    def complete(self) -> bool:
        """Whether every question has an answer."""
        return all((self.enrolment_keys, self.release_keys, self.installer_pcr4, self.package_keys, self.names))

    def criteria(self) -> PeerCriteria:
        """Return the criteria for peers that say the same."""
        return PeerCriteria(
            peers=Peers(
                installer_pcr4=self.installer_pcr4,
                enrolment_keys=_ids(self.enrolment_keys),
                release_keys=_ids(self.release_keys),
                names=self.names,
                package_keys=_ids(self.package_keys),
            ),
            keys=(*self.enrolment_keys, *self.release_keys, *self.package_keys),
            allow_debug=self.allow_debug,
        )


class PeerJudge:
    """Judges acceptances by ``anchors``; reference values are made once for each set of papers."""

    def __init__(self, anchors: ProvenanceAnchors) -> None:
        self._criteria = anchors.criteria()
        self._appraiser = PeerAppraiser()

    def __call__(
        self, acceptance: Acceptance, papers: Mapping[str, bytes], certificate: bytes, former: tuple[bytes, ...]
    ) -> JudgedGuest:
        """Return the guest that the evidence shows; raises as ``PeerAppraiser.accept``."""
        accepted = self._appraiser.accept(
            papers["evidence"],
            PeerPapers(
                credential=papers["credential"],
                release=papers["release"],
                manifest=papers["manifest"],
                package=papers["package"],
                certificate=certificate,
                former=former,
            ),
            criteria=self._criteria,
            nonce=acceptance.nonce,
            asker=acceptance.asker,
            address=acceptance.address,
            now_s=acceptance.accepted_at_s,
        )
        return JudgedGuest(
            host_id=accepted.host_id,
            guest=accepted.guest,
            certificate=sha256(accepted.certificate),
            package=accepted.package_id,
        )


def _ids(keys: tuple[PublicKey, ...]) -> tuple[bytes, ...]:
    return tuple(bytes.fromhex(key.keyid) for key in keys)
