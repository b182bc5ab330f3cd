# SPDX-License-Identifier: GPL-3.0-or-later
"""A small guest image in memory, for tests of packages: its files, their description, its package."""

from __future__ import annotations

import hashlib
import io
from dataclasses import dataclass, field, replace
from typing import Any, BinaryIO

from ansible.module_utils.vouch.make.guestpackage import GuestImage
from ansible.module_utils.vouch.make.verity import HashTree, hash_tree
from ansible.module_utils.vouch.model.flowmap import flow_map_digest
from ansible.module_utils.vouch.model.flowproof import FlowProof
from ansible.module_utils.vouch.model.grant import Service
from ansible.module_utils.vouch.model.image import Package
from ansible.module_utils.vouch.model.integrity import Filter, Intent
from ansible.module_utils.vouch.model.package import FlowFacts, GuestPackage, IntrospectionFacts, PolicyFacts
from ansible.module_utils.vouch.model.peers import Peers
from ansible.module_utils.vouch.model.policydigest import semantic_digest
from ansible.module_utils.vouch.parse.sepolicy import parse_policy

from sim.kernelprofile import profile, rodata, text
from sim.policy import CLASSES, SimPolicy, allow

BLOCK = 4096
RELEASE = "6.12.57+deb13-amd64"
DIGEST = b"\x11" * 32
SERVICES = (
    Service(protocol="tcp", port=3632, reason="distccd checks each request"),
    Service(protocol="udp", port=67, reason="networkd checks each offer"),
)
PEERS = Peers(
    installer_pcr4=(DIGEST,),
    releases=(DIGEST,),
    release_keys=(DIGEST,),
    enrolment_keys=(DIGEST,),
    names=("base",),
    package_keys=(DIGEST,),
)
WORDS = (
    *("console=hvc0", "quiet", "security=selinux", "selinux=1", "enforcing=1", "lockdown=integrity"),
    *("module.sig_enforce=1", "ima_policy=critical_data", "ima_hash=sha256"),
)


def digest(data: bytes) -> bytes:
    """Return the SHA-256."""
    return hashlib.sha256(data).digest()


def root_tree(blocks: int = 300) -> tuple[bytes, HashTree]:
    """Return data of a root image and its tree; 300 blocks need two levels."""
    data = b"".join(hashlib.sha256(b"%d" % at).digest() * (BLOCK // 32) for at in range(blocks))
    return data, hash_tree(data, bytes(range(32)))


@dataclass(kw_only=True)
class Guest:
    """One guest image; change a field, then take ``image`` or ``files``."""

    name: str = "base"
    variant: str = "production"
    blocks: int = 300
    types: tuple[str, ...] = ("kernel_t", "daemon_t", "cc_t")
    applications: tuple[str, ...] = ("daemon_t",)
    facts: dict[str, Any] = field(default_factory=dict)
    words: tuple[str, ...] = WORDS

    def __post_init__(self) -> None:
        data, self.tree = root_tree(self.blocks)
        self.policy = self.sim.to_bytes()
        self.proof = self.flow_proof.to_bytes()
        self.files = {
            "vmlinuz": b"kernel",
            "initrd.img": b"initrd",
            "root.img": data + self.tree.tree,
            "policy": self.policy,
            "proof.json": self.proof,
            "profile": profile(RELEASE).to_bytes(),
        }

    @property
    def sim(self) -> SimPolicy:
        """Its policy: the daemon reads from the network, and that is all."""
        return SimPolicy(types=list(self.types), rules=[allow("daemon_t daemon_t:tcp_socket read")])

    @property
    def intent(self) -> Intent:
        """What the policy is for."""
        reads = Filter(
            subject="daemon_t",
            object="daemon_t",
            class_name="tcp_socket",
            permissions=("read",),
            reason="the daemon checks each request",
        )
        return Intent(tcb=frozenset({"kernel_t"}), applications=frozenset(self.applications), filters=(reads,))

    @property
    def flow_proof(self) -> FlowProof:
        """The proof, written down by hand: a network socket may hold anything, and the last type is without label."""
        everything = sum(1 << value for value in range(1, len(self.types) + 1))
        return FlowProof(
            tool="tests",
            policy_sha256=digest(self.sim.to_bytes()),
            policy_semantic=semantic_digest(parse_policy(self.sim.to_bytes())),
            flow_map=flow_map_digest(),
            intent=self.intent,
            low={**dict.fromkeys(CLASSES, 1 << len(self.types)), "tcp_socket": everything},
            filter_uses=(("read",),),
            entry_uses=(),
        )

    @property
    def image(self) -> GuestImage:
        """The description that the build would write."""
        facts = {
            "semantic_sha256": self.flow_proof.policy_semantic,
            "version": 33,
            "boolean_mode": "all",
            "flow_map": flow_map_digest(),
            "intent_sha256": self.intent.digest(),
            "filters": 1,
            "entries": 0,
            **self.facts,
        }
        return GuestImage(
            name=self.name,
            variant=self.variant,
            kernel=RELEASE,
            cmdline=" ".join((*self.words, self.tree.verity.word)),
            files={name: digest(data).hex() for name, data in self.files.items()},
            sizes={name: len(data) for name, data in self.files.items()},
            verity=self.tree.verity,
            policy=PolicyFacts(
                sha256=digest(self.policy),
                semantic_sha256=facts["semantic_sha256"],
                version=facts["version"],
                boolean_mode=facts["boolean_mode"],
            ),
            cwlite=FlowFacts(
                proof_sha256=digest(self.proof),
                flow_map=facts["flow_map"],
                intent_sha256=facts["intent_sha256"],
                filters=facts["filters"],
                entries=facts["entries"],
            ),
            introspection=IntrospectionFacts(
                profile_sha256=digest(self.files["profile"]),
                release=RELEASE,
                text_sha256=digest(bytes(text())),
                rodata_sha256=digest(bytes(rodata())),
            ),
            packages=(Package(name="systemd", version="257.8-1"), Package(name="libc6", version="2.41-12")),
            source_date_epoch=1_767_225_600,
            statistics={"root_image_bytes": len(self.files["root.img"])},
        )

    def open(self) -> dict[str, BinaryIO]:
        """Return its files, open for reading."""
        return {name: io.BytesIO(data) for name, data in self.files.items()}

    def package(self, **wanted: Any) -> GuestPackage:
        """Return its package; ``cmdline`` and ``variant`` of ``wanted`` replace what the build made."""
        changes = {name: wanted.pop(name) for name in ("cmdline", "variant", "verity") if name in wanted}
        return replace(self.image.package(**wanted), **changes)
