# SPDX-License-Identifier: GPL-3.0-or-later
"""The proof that a policy keeps to its intent, as it travels: canonical JSON, signed with the guest package.

====================  ===============================================================================
member                meaning
====================  ===============================================================================
``type``              ``urn:vouch:flow-proof:1``
``tool``              name and version of what made it; for people
``policy``            ``sha256`` of its bytes, ``semantic`` digest of its rules
``flow_map``          digest of the map from permissions to flows that was used
``intent``            the intent, in its one form
``intent_sha256``     its digest
``low``               the labelling: class to the types that untrusted subjects may have written, as a
                      hexadecimal number whose bit n stands for type value n; empty classes are left out
``filter_uses``       for each filter of the intent, in order: the permissions that it is needed for
``entry_uses``        for each entry of the intent, in order: whether it is needed
====================  ===============================================================================

The labelling is what the proof consists of: whoever has it needs to look at each rule once, and at nothing twice
(``check/flowproof.py``).
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

from ..parse.canonical import dump_canonical, load_canonical
from ..parse.fields import Fields
from .integrity import MAX_ENTRIES, MAX_FILTERS, MAX_NAME_CHARS, MAX_PERMISSIONS, Intent

FLOW_PROOF_TYPE = "urn:vouch:flow-proof:1"
MAX_PROOF_BYTES = 4 << 20
"""A guest's proof has some kilobytes; one over Debian's full policy would have 150."""

MAX_CLASSES = 512
MAX_LABELS_CHARS = 1 << 14
"""Hexadecimal digits of one set: 65,536 types."""

_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*\Z")
_SET = re.compile(r"[1-9a-f][0-9a-f]*\Z")


@dataclass(frozen=True, slots=True, kw_only=True)
class FlowProof:
    """What somebody claims about a policy; ``check.flowproof.verify_proof`` says whether it is so."""

    tool: str
    policy_sha256: bytes
    policy_semantic: bytes
    flow_map: bytes
    intent: Intent
    low: Mapping[str, int]
    filter_uses: tuple[tuple[str, ...], ...]
    entry_uses: tuple[bool, ...]

    def __post_init__(self) -> None:
        low = {name: value for name, value in sorted(self.low.items()) if value}
        object.__setattr__(self, "low", MappingProxyType(low))

    def to_json(self) -> dict[str, Any]:
        """Return the JSON form."""
        return {
            "type": FLOW_PROOF_TYPE,
            "tool": self.tool,
            "policy": {"sha256": self.policy_sha256.hex(), "semantic": self.policy_semantic.hex()},
            "flow_map": self.flow_map.hex(),
            "intent": self.intent.to_json(),
            "intent_sha256": self.intent.digest().hex(),
            "low": {name: f"{value:x}" for name, value in self.low.items()},
            "filter_uses": [list(item) for item in self.filter_uses],
            "entry_uses": list(self.entry_uses),
        }

    def to_bytes(self) -> bytes:
        """Return the canonical JSON."""
        return dump_canonical(self.to_json())

    @classmethod
    def from_bytes(cls, data: bytes) -> FlowProof:
        """Return the proof of canonical JSON.

        Raises:
            ParseError: for another spelling, an unknown, missing or malformed member, lists that do not fit the
                intent, and an intent that is not the one the digest is of or not in its one form.

        Trust: nothing in it is proven by that.
        """
        fields = Fields(load_canonical(data, limit_bytes=MAX_PROOF_BYTES), "flow-proof")
        fields.literal("type", FLOW_PROOF_TYPE)
        policy = fields.object("policy")
        written = fields.take("intent")
        intent = Intent.from_json(written)
        if intent.to_json() != written:
            raise fields.fail("intent", "is not in its one form", "proof.intent.form")
        if fields.hex("intent_sha256", 32) != intent.digest():
            raise fields.fail("intent_sha256", "is not the intent's digest", "proof.intent.digest")
        proof = cls(
            tool=fields.text("tool", maximum_chars=128),
            policy_sha256=policy.hex("sha256", 32),
            policy_semantic=policy.hex("semantic", 32),
            flow_map=fields.hex("flow_map", 32),
            intent=intent,
            low=_low(fields),
            filter_uses=_filter_uses(fields, len(intent.filters)),
            entry_uses=_entry_uses(fields, len(intent.entries)),
        )
        policy.done()
        fields.done()
        return proof


def _low(fields: Fields) -> dict[str, int]:
    labels = fields.object("low")
    found = labels.rest()
    if len(found) > MAX_CLASSES:
        raise fields.fail("low", f"{len(found)} classes, more than {MAX_CLASSES}")
    for name, digits in found.items():
        if len(name) > MAX_NAME_CHARS or _NAME.fullmatch(name) is None:
            raise fields.fail("low", "names a class that no policy can have")
        if not isinstance(digits, str) or len(digits) > MAX_LABELS_CHARS or _SET.fullmatch(digits) is None:
            raise labels.fail(name, "is not a set of types in lower-case hexadecimal")
    return {name: int(digits, 16) for name, digits in found.items()}


def _filter_uses(fields: Fields, filters: int) -> tuple[tuple[str, ...], ...]:
    found = fields.array("filter_uses", maximum=MAX_FILTERS)
    if len(found) != filters:
        raise fields.fail("filter_uses", f"{len(found)} items for {filters} filters")
    for item in found:
        if not isinstance(item, list) or len(item) > MAX_PERMISSIONS or not all(isinstance(x, str) for x in item):
            raise fields.fail("filter_uses", "holds something else than lists of permissions", "parse.field.type")
    return tuple(tuple(item) for item in found)


def _entry_uses(fields: Fields, entries: int) -> tuple[bool, ...]:
    found = fields.array("entry_uses", maximum=MAX_ENTRIES)
    if len(found) != entries or not all(isinstance(item, bool) for item in found):
        raise fields.fail("entry_uses", f"expected one true or false for each of {entries} entries")
    return tuple(found)
