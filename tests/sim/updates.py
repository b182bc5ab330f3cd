# SPDX-License-Identifier: GPL-3.0-or-later
"""Updates of a simulated host: a release that runs writes the next one, and the machine boots one of them."""

from __future__ import annotations

from dataclasses import replace

from ansible.module_utils.vouch.model.evidence import Evidence, UpdateProof
from ansible.module_utils.vouch.model.update import UpdateStatement

from sim.attester import NOW_S, ROTI_PCRS, SimHost, SimRelease, sha256


def installed_with(before: SimRelease, *, now_s: int = NOW_S, seed: int = 1) -> UpdatedHost:
    """Return a host that was installed with one release and updated to another, enrolled as it is since."""
    host = UpdatedHost(before, seed=seed)
    enrolled = host.enrolment
    host.update(SimRelease(name="dom0-2", xen_efi=b"the next xen.efi"))
    expecting = enrolled.expecting(host.release_id, until_s=now_s + 60)
    accepted = replace(expecting.next, accepted_at_s=now_s - 1) if expecting.next else None
    host.enrolment = replace(expecting, next=accepted).updated(host.release_id)
    return host


class UpdatedHost(SimHost):
    """A host whose evidence carries its update proofs; each is made by what runs at that moment."""

    def __init__(self, release: SimRelease | None = None, *, seed: int = 1) -> None:
        self.updates: list[UpdateProof] = []
        super().__init__(release, seed=seed)

    def statement_of(self, release: SimRelease) -> UpdateStatement:
        """Return the statement that the running release makes after it wrote another one."""
        return UpdateStatement(
            host_id=self.host_id,
            before=self.release_id,
            release_id=sha256(release.envelope),
            authenticode_sha256=release.authenticode,
            slot="b",
            xen_efi_sha256=sha256(release.xen_efi),
            root_img_sha256=sha256(release.root_img),
            root_bytes=release.release.verity.image_bytes,
            order=bytes(32),
            time_s=NOW_S - 50,
        )

    def prove(self, statement: UpdateStatement) -> UpdateProof:
        """Return the proof that the running release makes of a statement."""
        data = statement.to_bytes()
        attest, signature = self.tpm.quote(sha256(data), ROTI_PCRS)
        return UpdateProof(statement=data, attest=attest, signature=signature, pcrs=self.tpm.bank(ROTI_PCRS))

    def stage(self, release: SimRelease) -> None:
        """Write a release that will run next."""
        self.updates.append(self.prove(self.statement_of(release)))

    def run(self, release: SimRelease) -> None:
        """Boot a release, and say so."""
        self.release, self.release_id = release, sha256(release.envelope)
        self.boot()

    def update(self, release: SimRelease) -> None:
        """Write a release and boot it."""
        self.stage(release)
        self.run(release)

    def evidence(self, nonce: bytes = bytes(range(32)), **options: object) -> Evidence:
        """Return evidence with the update proofs."""
        found = super().evidence(nonce, **options)  # type: ignore[arg-type]
        return Evidence(
            **{name: getattr(found, name) for name in Evidence.__slots__ if name != "updates"},
            updates=tuple(self.updates),
        )
