# SPDX-License-Identifier: GPL-3.0-or-later
"""A build by guests of a simulated host, with the evidence that they were accepted by: its provenance can be proven.

Other than in ``provenanceparts``, nothing has to believe what it is told: the appraisal of peers accepts these papers.
"""

from __future__ import annotations

import pathlib
import secrets
from collections.abc import Mapping
from typing import Any

from ansible.module_utils.vouch.make.bundle import write_tar
from ansible.module_utils.vouch.make.provenance import Accepted, write_provenance_bundle
from ansible.module_utils.vouch.make.sign import public_pem
from ansible.module_utils.vouch.model.digest import sha256
from ansible.module_utils.vouch.model.package import package_id
from ansible.module_utils.vouch.parse.buildresult import BUILD_RESULT_TYPE, FILES, PROVENANCE
from cryptography.hazmat.primitives import serialization

from provenanceparts import NOW_S, Build, Worker
from sim.attester import RELEASE_KEY, SimHost, SimRelease
from sim.channelhost import ENROLMENT_KEY, PACKAGE_KEY, SimChannelHost, sim_peers
from sim.portauthority import accepted_with
from sim.updates import installed_with

CONTROLLER, NODE = "distcc_controller", "distcc_node"
"""Names of the packages."""


class AttestedBuild(Build):
    """One build by two nodes and a controller on one host: change a field, then take ``result``.

    Args:
        variant: Of the host's release.
        before: What the host was installed with, where it was updated since.
    """

    def __init__(self, variant: str = "production", *, before: SimRelease | None = None) -> None:
        super().__init__()
        self.host = SimChannelHost(now_s=NOW_S)
        if before is None:
            self.host.attester = SimHost(SimRelease(variant=variant))
        else:
            self.host.attester = installed_with(before, now_s=NOW_S)
            self.host.former = (before.envelope,)
        self._start(self.controller, CONTROLLER)
        for node in self.nodes:
            self._start(node, NODE)
        self.work()
        self.accepted = [self._accept(worker) for worker in self.workers]

    def provenance(self) -> bytes:
        """Return the bundle."""
        return write_provenance_bundle(self.parts())

    def result(self, files: Mapping[str, bytes]) -> bytes:
        """Return what the controller gives out."""
        parts = {f"{FILES}/{name}": data for name, data in files.items()}
        return write_tar(BUILD_RESULT_TYPE, {**parts, PROVENANCE: self.provenance()})

    def _start(self, worker: Worker, package: str) -> None:
        """Have the host run the worker's guest, and certify its channel key."""
        guest = worker.guest
        started = self.host.start(guest.guest, package, sim_peers(CONTROLLER, NODE))
        form = serialization.PublicFormat.SubjectPublicKeyInfo
        spki = guest.key.public_key().public_bytes(serialization.Encoding.DER, form)
        guest.host_id, guest.address = self.host.host_id, started.address
        guest.certificate = self.host.certify(guest.guest, spki)
        guest.package, guest.verity_root = package_id(started.signed), started.package.verity.root_hash
        worker.endorsement = guest.endorse(worker.signer.public.spki, NOW_S)

    def _accept(self, worker: Worker) -> Accepted:
        """Return what the controller's guest accepted the worker's guest by."""
        guest, nonce = worker.guest, secrets.token_bytes(32)
        shown = self.host.shown(guest.guest)
        papers = {
            "evidence": self.host.evidence(guest.guest, nonce, self.controller.guest.address).to_bytes(),
            **{name: getattr(shown, name) for name in ("credential", "release", "manifest", "package")},
        }
        return accepted_with(guest, self.controller.guest, NOW_S, papers, nonce=nonce, former=shown.former)


def anchors_of_the_build(folder: pathlib.Path) -> dict[str, Any]:
    """Write the keys that this build can be proven by into a folder; return options of ``vouch_build_result``."""
    folder.mkdir()
    keys = {"enrolment": ENROLMENT_KEY, "release": RELEASE_KEY, "package": PACKAGE_KEY}
    for name, key in keys.items():
        (folder / f"{name}.pem").write_bytes(public_pem(key))
    return {
        **{f"{name}_keys": [str(folder / f"{name}.pem")] for name in keys},
        "installer_pcr4": [value.hex() for value in sim_peers(NODE).installer_pcr4],
        "guests": [CONTROLLER, NODE],
    }


def digest_of_objects() -> str:
    """Return the digest of all objects of a build, by what the documents say of it."""
    objects = sorted(sha256(b"object %d" % number).hex() for number in range(2))
    return sha256("".join(f"{digest}\n" for digest in objects).encode()).hex()
