# SPDX-License-Identifier: GPL-3.0-or-later
"""Provenance bundles of simulated guests, and a judge of their evidence that believes what it is told.

The judge stands in for the appraisal of peers: what that finds is tested with it. Here it matters what is made of it.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping
from typing import Any

from ansible.module_utils.vouch.appraise.provenance import JudgedGuest
from ansible.module_utils.vouch.check.provenance import VerifiedWorkKey, verify_work_key
from ansible.module_utils.vouch.make.provenance import ProvenanceParts
from ansible.module_utils.vouch.model.acceptance import Acceptance
from ansible.module_utils.vouch.model.channelowner import ChannelOwner
from ansible.module_utils.vouch.model.digest import sha256
from ansible.module_utils.vouch.model.finding import deny
from ansible.module_utils.vouch.model.provenance import Builder, BuildStatement, JobStatement, Run
from ansible.module_utils.vouch.notary.signer import WorkSigner
from ansible.module_utils.vouch.parse.distcc import DistccAnswer, DistccRequest

from sim.portauthority import SimGuest, accepted_with, evidence_text

NOW_S = 1_800_000_000
NONCE = sha256(b"nonce")
REQUEST = DistccRequest(nonce=NONCE, arguments=("gcc", "-O2", "-c", "a.c", "-o", "a.o"), source=b"int a;")
ANSWER = DistccAnswer(status=0, stderr=b"", stdout=b"", object=b"object of a")
COMPILERS = {"/usr/bin/x86_64-linux-gnu-gcc-14": sha256(b"gcc"), "/usr/libexec/gcc/cc1": sha256(b"cc1")}


class Worker:
    """A simulated guest with an endorsed work key."""

    def __init__(self, guest: str, address: str) -> None:
        self.guest = SimGuest(guest, address, now_s=NOW_S)
        self.guest.package = sha256(f"package of {guest}".encode())
        self.signer = WorkSigner()
        self.endorsement = self.guest.endorse(self.signer.public.spki, NOW_S)

    @property
    def builder(self) -> Builder:
        """How statements name it."""
        who = self.guest
        return Builder(host_id=who.host_id, guest=who.guest, package=who.package, verity_root=who.verity_root)

    def key(self) -> VerifiedWorkKey:
        """Return its work key, verified."""
        return verify_work_key(self.endorsement, self.guest.owner)

    def run(self, **changes: Any) -> Run:
        """Return when it worked."""
        made = Run(
            started_s=NOW_S + 10,
            finished_s=NOW_S + 12,
            channel_certificate=sha256(self.guest.certificate),
            evidence=sha256(b"evidence"),
        )
        return dataclasses.replace(made, **changes)

    def job(self, **changes: Any) -> JobStatement:
        """Return a statement about ``REQUEST`` and ``ANSWER``."""
        made = JobStatement(
            builder=self.builder,
            run=self.run(),
            arguments=REQUEST.arguments,
            source=sha256(REQUEST.source),
            nonce=NONCE,
            compilers=COMPILERS,
            status=0,
            object=sha256(ANSWER.object),
        )
        return dataclasses.replace(made, **changes)


class Build:
    """One build by two nodes and a controller: change a field, then take the parts.

    Args:
        former: What the guests' host is said to have been installed with or to have run before.
    """

    def __init__(self, former: Iterable[bytes] = ()) -> None:
        self.controller = Worker("control", "fd00::1")
        self.nodes = [Worker("node1", "fd00::2"), Worker("node2", "fd00::3")]
        self.work()
        self.build: dict[str, Any] = {}
        self.workers = [self.controller, *self.nodes]
        self.former = tuple(former)
        self.accepted = [
            accepted_with(worker.guest, self.controller.guest, NOW_S, former=self.former) for worker in self.workers
        ]

    def work(self) -> None:
        """Have each node make an object, ``object 0`` and so on."""
        self.statements = [
            node.signer.seal(node.job(object=sha256(b"object %d" % number))) for number, node in enumerate(self.nodes)
        ]
        self.objects = {sha256(b"object %d" % number): sha256(s) for number, s in enumerate(self.statements)}

    def chain(self) -> bytes:
        """Return the signed statement about the build."""
        made: dict[str, Any] = {
            "builder": self.controller.builder,
            "run": self.controller.run(finished_s=NOW_S + 20),
            "subjects": {"app": sha256(b"app")},
            "objects": self.objects,
        }
        return self.controller.signer.seal(BuildStatement(**{**made, **self.build}))

    def parts(self) -> dict[str, bytes]:
        """Return the parts of the bundle."""
        return ProvenanceParts(
            chain=self.chain(),
            statements=self.statements,
            keys=[worker.endorsement for worker in self.workers],
            certificates=[worker.guest.certificate for worker in self.workers],
            accepted=self.accepted,
        ).named()


def believe(
    acceptance: Acceptance, papers: Mapping[str, bytes], certificate: bytes, former: tuple[bytes, ...]
) -> JudgedGuest:
    """Return what a judge returns who found that the evidence holds; papers are those of ``accepted_with``."""
    owner = ChannelOwner.from_der(certificate)
    bound = evidence_text(owner.guest, acceptance.address, acceptance.asker, acceptance.nonce)
    if papers["evidence"] != bound:
        raise deny("quote.nonce.mismatch", owner.guest, expected=bound, actual=papers["evidence"])
    return JudgedGuest(
        host_id=owner.host_id, guest=owner.guest, certificate=acceptance.certificate, package=acceptance.package
    )
