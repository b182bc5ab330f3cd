# SPDX-License-Identifier: GPL-3.0-or-later
"""The policy of a guest against its package: the proof is checked anew, then what the package says of both.

Standard library only: dom0 runs ``verify_policy`` before it starts a guest.

1. The proof holds for these policy bytes (``check.flowproof``; its own codes).
2. It is about what the package says: meaning, format and booleans of the policy, flow map, intent, number of filters.
3. A production package has no policy of a debug guest.
4. Each service that may be reached in plain has a filter that reads sockets of its protocol.
"""

from __future__ import annotations

from collections.abc import Iterator

from ..model.finding import Finding
from ..model.image import PRODUCTION
from ..model.package import GuestPackage
from ..parse.sepolicy import PolicyDb, parse_policy
from .flowproof import VerifiedProof, verify_proof
from .packagerules import raise_denials

DEBUG_TYPE = "debug_t"
"""Domain of the root shell, which only the policy of a debug guest has."""

RAW_SOCKETS = ("packet_socket", "rawip_socket")
"""Classes of sockets that read every protocol."""


def verify_policy(package: GuestPackage, *, policy: bytes, proof: bytes) -> VerifiedProof:
    """Return what is proven about the guest's policy.

    Args:
        package: What both should be.
        policy: The binary policy.
        proof: The proof.

    Raises:
        EvidenceError: as ``flowproof.verify_proof``, and with every finding of ``check_proof``.

    Trust: compare both with their digests first (``check.blobs``); the proof is checked as if nobody had signed it.
    """
    verified = verify_proof(proof, policy=policy)
    raise_denials(tuple(check_proof(package, verified, parse_policy(policy))))
    return verified


def check_proof(package: GuestPackage, proof: VerifiedProof, policy: PolicyDb) -> Iterator[Finding]:
    """Yield where the package says something else of policy and proof than they do themselves."""
    subject = f"package:{package.name}"
    intent = proof.intent
    said: tuple[tuple[str, object, object], ...] = (
        ("digest of the proof", package.cwlite.proof_sha256.hex(), proof.proof_sha256.hex()),
        ("digest of the policy", package.policy.sha256.hex(), proof.policy_sha256.hex()),
        ("digest of the policy's meaning", package.policy.semantic_sha256.hex(), proof.policy_semantic.hex()),
        ("policy version", package.policy.version, policy.version),
        ("boolean mode", package.policy.boolean_mode, intent.boolean_mode),
        ("digest of the flow map", package.cwlite.flow_map.hex(), proof.flow_map.hex()),
        ("digest of the intent", package.cwlite.intent_sha256.hex(), intent.digest().hex()),
        ("filters", package.cwlite.filters, len(intent.filters)),
        ("entries", package.cwlite.entries, len(intent.entries)),
    )
    for what, expected, actual in said:
        if expected != actual:
            yield Finding.deny("package.policy.mismatch", subject, f"{what} {expected}", actual)
    if package.variant == PRODUCTION and DEBUG_TYPE in policy.types.values():
        yield Finding.deny("package.policy.debug", subject, "no domain for a root shell", DEBUG_TYPE)
    classes = {item.class_name for item in intent.filters}
    for service in package.network.services:
        if not classes & {f"{service.protocol}_socket", *RAW_SOCKETS}:
            yield Finding.deny(
                "package.service.unfiltered",
                subject,
                f"a filter that reads {service.protocol}_socket, for port {service.port}",
                f"filters for {', '.join(sorted(classes)) or 'nothing'}",
            )
