# SPDX-License-Identifier: GPL-3.0-or-later
"""The proof of a policy that passed, ready to be signed with its guest package."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

from ..errors import UsageError
from ..model.digest import sha256
from ..model.flowmap import flow_map_digest
from ..model.flowproof import FlowProof
from ..model.integrity import Intent
from ..model.policydigest import semantic_digest
from ..parse.sepolicy import PolicyDb

TOOL_VERSION = "0.1.0"
"""Of this package; a test compares it with pyproject.toml."""

TOOL = f"vouch {TOOL_VERSION}"


class Verdict(Protocol):
    """What a proof needs of the verdict that it is made from (``check.cwlite.PolicyVerdict``)."""

    @property
    def passed(self) -> bool:
        """Whether the policy keeps to its intent."""

    @property
    def low(self) -> Mapping[str, int]:
        """The labelling: class name to the set of types."""

    @property
    def filter_uses(self) -> tuple[tuple[str, ...], ...]:
        """For each filter of the intent the permissions that it is needed for."""

    @property
    def entry_uses(self) -> tuple[bool, ...]:
        """For each entry of the intent whether it is needed."""


def make_proof(data: bytes, policy: PolicyDb, intent: Intent, verdict: Verdict) -> bytes:
    """Return the canonical JSON of the proof that ``policy`` keeps to ``intent``.

    Args:
        data: Bytes of the policy.
        policy: The same, parsed.
        intent: What it was checked for.
        verdict: What the check of just these found.

    Raises:
        UsageError: when the policy did not pass (``proof.verdict``): there is nothing to prove.
    """
    if not verdict.passed:
        raise UsageError("the policy does not keep to its intent", code="proof.verdict", hint="Clear the conflicts.")
    return FlowProof(
        tool=TOOL,
        policy_sha256=sha256(data),
        policy_semantic=semantic_digest(policy),
        flow_map=flow_map_digest(),
        intent=intent,
        low=verdict.low,
        filter_uses=verdict.filter_uses,
        entry_uses=verdict.entry_uses,
    ).to_bytes()
