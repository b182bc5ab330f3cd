# SPDX-License-Identifier: GPL-3.0-or-later
"""A second, small checker: whether a proof holds for a policy. It runs in dom0, on Python's standard library alone.

It searches for nothing. With the labelling of the proof at hand each rule is looked at once, by itself:

1. the proof is one, and for these policy bytes, this map, this intent (``proof.malformed``, ``proof.policy``,
   ``proof.map``, ``proof.intent``, ``proof.semantic``)
2. the policy decides: nothing is permissive, nothing unknown is allowed (``proof.permissive``, ``proof.unknown``)
3. the intent's names are types, classes and permissions of the policy (``proof.name``)
4. no untrusted subject may change the kernel or the policy (``proof.kernel``)
5. what an untrusted subject writes is in the labelling (``proof.labelling``); what it does to a trusted one is filtered
   (``proof.write``)
6. what a trusted subject reads is not in the labelling, or filtered (``proof.read``)
7. what a trusted subject relabels stays in the labelling or outside, or is filtered (``proof.relabel``)
8. no untrusted subject starts a trusted one but by an entry (``proof.entry``)
9. the labelling, and the list of filters that are needed, are no larger than that (``proof.labelling``, ``proof.uses``)

It has no line in common with ``cwlite.py``, which searches for conflicts: that both agree is a test, not a consequence.

Source: docs/cwlite.md.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import islice

from ..errors import EvidenceError, ParseError
from ..model.digest import sha256
from ..model.finding import deny
from ..model.flowmap import NETWORK_CLASSES, UNTRUSTED_SIDS, UNTRUSTED_TYPES, flow, flow_map_digest
from ..model.flowproof import FlowProof
from ..model.integrity import ALL_BOOLEANS, Entry, Filter, Intent
from ..model.policydigest import bits_of, semantic_digest
from ..parse.sepolicy import PolicyDb, parse_policy
from ..parse.serules import Rule

SUBJECT = "policy"
"""What the findings are about."""

SHOWN_TYPES = 3
"""Types that a finding names of a set."""


@dataclass(frozen=True, slots=True, kw_only=True)
class VerifiedProof:
    """A proof that holds: the policy of these bytes keeps to this intent.

    Attributes:
        proof_sha256: Of the proof's bytes.
        policy_sha256: Of the policy's bytes.
        policy_semantic: Digest of the policy's rules.
        flow_map: Digest of the map that both checkers used.
        intent: What the policy keeps to.
        unused_filters: Filters of the intent that nothing needs.
    """

    proof_sha256: bytes
    policy_sha256: bytes
    policy_semantic: bytes
    flow_map: bytes
    intent: Intent
    unused_filters: int


def verify_proof(proof: bytes, *, policy: bytes, intent: Intent | None = None) -> VerifiedProof:
    """Return what ``proof`` proves about ``policy``.

    Args:
        proof: Canonical JSON of a ``FlowProof``.
        policy: The binary policy.
        intent: The intent it has to be for; None when what signs the proof decides that.

    Raises:
        EvidenceError: when any step of the list above fails; the first one is named, with its place.

    Trust: both are an attacker's. The policy is parsed only once its digest is the claimed one.
    """
    claim = _read(proof)
    if sha256(policy) != claim.policy_sha256:
        raise deny("proof.policy", SUBJECT, expected=claim.policy_sha256, actual=sha256(policy))
    if flow_map_digest() != claim.flow_map:
        raise deny("proof.map", SUBJECT, expected=flow_map_digest(), actual=claim.flow_map)
    if intent is not None and intent != claim.intent:
        raise deny("proof.intent", SUBJECT, expected=intent.digest(), actual=claim.intent.digest())
    db = _parse(policy)
    if semantic_digest(db) != claim.policy_semantic:
        raise deny("proof.semantic", SUBJECT, expected=semantic_digest(db), actual=claim.policy_semantic)
    if db.handle_unknown == "allow":
        raise deny("proof.unknown", SUBJECT, expected="deny or reject", actual=db.handle_unknown)
    if db.permissive:
        raise deny("proof.permissive", SUBJECT, expected="no permissive type", actual=db.types.get(db.permissive[0]))
    _Pass(db, claim).run()
    return VerifiedProof(
        proof_sha256=sha256(proof),
        policy_sha256=claim.policy_sha256,
        policy_semantic=claim.policy_semantic,
        flow_map=claim.flow_map,
        intent=claim.intent,
        unused_filters=sum(not uses for uses in claim.filter_uses),
    )


def _read(proof: bytes) -> FlowProof:
    try:
        return FlowProof.from_bytes(proof)
    except ParseError as error:
        raise deny("proof.malformed", "proof", actual=error) from None


def _parse(policy: bytes) -> PolicyDb:
    try:
        return parse_policy(policy)
    except ParseError as error:
        raise deny("proof.policy.malformed", SUBJECT, actual=error) from None


_Place = tuple[int, int, int, int]
"""Where a filter stands: subject, object, class, new type or 0."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Masks:
    """Permission bits of one class, by what they let happen."""

    read: int
    write: int
    kernel: int
    start: int
    become: int
    entrypoint: int
    take: int
    give: int

    @classmethod
    def of(cls, name: str, permissions: Mapping[str, int]) -> _Masks:
        def mask(*wanted: str) -> int:
            return sum(1 << bit for permission, bit in permissions.items() if permission in wanted)

        flows = {permission: flow(name, permission) for permission in permissions}
        is_process = name == "process"
        writes = {permission for permission, item in flows.items() if item.writes}
        return cls(
            read=mask(*(permission for permission, item in flows.items() if item.reads)),
            write=mask(*writes),
            kernel=mask(*(permission for permission in writes if flows[permission].kind == "kernel")),
            start=mask("transition") if is_process else 0,
            become=mask("dyntransition", "noatsecure") if is_process else 0,
            entrypoint=mask("entrypoint"),
            take=mask("relabelfrom"),
            give=mask("relabelto"),
        )


class _Pass:
    """One pass over the rules of ``db``, with the claim's labelling at hand."""

    def __init__(self, db: PolicyDb, claim: FlowProof) -> None:
        self._db = db
        self._claim = claim
        self._types = {name: value for value, name in db.types.items()}
        self._masks = {item.value: _Masks.of(name, item.permissions) for name, item in db.classes.items()}
        self._all = sum(1 << value for value in db.types)
        self._high = sum(1 << self._type(name) for name in claim.intent.high)
        self._low = self._all & ~self._high
        if strange := set(claim.low) - set(db.classes):
            raise deny("proof.name", SUBJECT, expected="a class of the policy", actual=min(strange))
        self._claimed = {item.value: claim.low.get(name, 0) for name, item in db.classes.items()}
        self._written = {item.value: self._by_nature(name) for name, item in db.classes.items()}
        self._filters = {self._place(item): self._permissions(item) for item in claim.intent.filters}
        self._used = dict.fromkeys(self._filters, 0)
        self._entries = {self._entry(item): False for item in claim.intent.entries}
        self._starts: list[tuple[int, int, Rule]] = []
        self._entrypoints: dict[int, int] = defaultdict(int)
        self._taken: dict[tuple[int, int], int] = defaultdict(int)
        self._given: dict[tuple[int, int], int] = defaultdict(int)

    def run(self) -> None:
        """Look at every rule, then at what only all of them together say."""
        for rule in self._allow_rules():
            source, target = self._db.members(rule[0]), self._db.members(rule[1])
            if low := source & self._low:
                self._by_low(rule, low, target)
            if high := source & self._high:
                self._by_high(rule, high, target)
        self._check_entries()
        self._check_relabels()
        self._check_labelling()
        self._check_uses()

    def _allow_rules(self) -> Iterator[Rule]:
        """Yield every allow rule that counts in the claim's boolean mode."""
        every = self._claim.intent.boolean_mode == ALL_BOOLEANS
        yield from (rule for _, rule in self._db.rules.allows())
        for conditional in self._db.conditionals:
            if every or conditional.state:
                yield from (rule for _, rule in conditional.when_true.allows())
            if every or not conditional.state:
                yield from (rule for _, rule in conditional.when_false.allows())

    def _by_low(self, rule: Rule, low: int, target: int) -> None:
        tclass, data = rule[2], rule[4]
        masks = self._masks[tclass]
        trusted = target & self._high
        if data & masks.kernel:
            raise self._deny("proof.kernel", rule, low, target)
        if data & masks.become and trusted:
            raise self._deny("proof.entry", rule, low, trusted)
        if data & masks.start and trusted:
            self._starts.append((low, trusted, rule))
        if not data & masks.write:
            return
        if outside := target & ~self._claimed[tclass]:
            raise self._deny("proof.labelling", rule, low, outside)
        self._written[tclass] |= target
        if acts := data & masks.write & ~masks.start & ~masks.become:
            for high in bits_of(trusted):
                self._use(rule, low, (high, high, tclass, 0), acts, code="proof.write")

    def _by_high(self, rule: Rule, high: int, target: int) -> None:
        tclass, data = rule[2], rule[4]
        masks = self._masks[tclass]
        tainted = target & self._claimed[tclass]
        for subject in bits_of(high):
            if data & masks.entrypoint:
                self._entrypoints[subject] |= target
            if data & masks.take:
                self._taken[subject, tclass] |= target
            if data & masks.give:
                self._given[subject, tclass] |= target
            if data & masks.read:
                for item in bits_of(tainted):
                    self._use(rule, 1 << subject, (subject, item, tclass, 0), data & masks.read, code="proof.read")

    def _use(self, rule: Rule, source: int, place: _Place, needed: int, *, code: str) -> None:
        """Note that a filter is needed, or refuse where none allows what is."""
        if needed & ~self._filters.get(place, 0):
            raise self._deny(code, rule, source, 1 << place[1])
        self._used[place] |= needed

    def _check_entries(self) -> None:
        """Each start of a trusted subject by an untrusted one is declared, for each program that it may start by."""
        for low, targets, rule in self._starts:
            for target in bits_of(targets):
                for source in bits_of(low):
                    for entrypoint in bits_of(self._entrypoints[target]):
                        if (source, target, entrypoint) not in self._entries:
                            raise self._deny("proof.entry", rule, 1 << source, 1 << target)
                        self._entries[source, target, entrypoint] = True

    def _check_relabels(self) -> None:
        """What a trusted subject takes out of the labelling by another type is declared."""
        for (subject, tclass), taken in self._taken.items():
            clean = self._given[subject, tclass] & ~self._claimed[tclass]
            for item in bits_of(taken & self._claimed[tclass]):
                for becomes in bits_of(clean):
                    place = (subject, item, tclass, becomes)
                    if place not in self._filters:
                        actual = f"{self._db.types[item]} becomes {self._db.types[becomes]}"
                        raise deny("proof.relabel", self._db.types[subject], expected="a filter", actual=actual)
                    self._used[place] = self._filters[place]

    def _check_labelling(self) -> None:
        for name, item in self._db.classes.items():
            if more := self._claimed[item.value] ^ self._written[item.value]:
                raise deny("proof.labelling", SUBJECT, expected="what is written", actual=f"{self._shown(more)}:{name}")

    def _check_uses(self) -> None:
        for item, claimed in zip(self._claim.intent.filters, self._claim.filter_uses, strict=True):
            used = self._used[self._place(item)]
            names = self._db.classes[item.class_name].permissions
            found = tuple(sorted(name for name, bit in names.items() if used >> bit & 1))
            if found != claimed:
                raise deny("proof.uses", item.subject, expected=", ".join(found), actual=", ".join(claimed))
        for entry, needed in zip(self._claim.intent.entries, self._claim.entry_uses, strict=True):
            if self._entries[self._entry(entry)] != needed:
                raise deny("proof.uses", entry.target, expected=not needed, actual=needed)

    def _by_nature(self, class_name: str) -> int:
        """Return the types whose objects count as written whatever the rules say."""
        if class_name in NETWORK_CLASSES:
            return self._all
        named = {self._types[name] for name in UNTRUSTED_TYPES if name in self._types}
        by_sid = {context.type for sid, context in self._db.labels.initial_sids if sid in UNTRUSTED_SIDS}
        return sum(1 << value for value in named | by_sid)

    def _type(self, name: str) -> int:
        value = self._types.get(name)
        if value is None:
            raise deny("proof.name", SUBJECT, expected="a type of the policy", actual=name)
        return value

    def _place(self, item: Filter) -> _Place:
        known = self._db.classes.get(item.class_name)
        if known is None:
            raise deny("proof.name", SUBJECT, expected="a class of the policy", actual=item.class_name)
        becomes = self._type(item.relabel_to) if item.relabel_to else 0
        return self._type(item.subject), self._type(item.object), known.value, becomes

    def _permissions(self, item: Filter) -> int:
        known = self._db.classes[item.class_name].permissions
        if strange := set(item.permissions) - set(known):
            raise deny("proof.name", SUBJECT, expected=f"a permission of {item.class_name}", actual=min(strange))
        return sum(1 << known[name] for name in item.permissions)

    def _entry(self, item: Entry) -> tuple[int, int, int]:
        return self._type(item.source), self._type(item.target), self._type(item.entrypoint)

    def _deny(self, code: str, rule: Rule, source: int, target: int) -> EvidenceError:
        tclass = self._db.symbols.class_names[rule[2]]
        return deny(code, self._shown(source), expected="a filter or no rule", actual=f"{self._shown(target)}:{tclass}")

    def _shown(self, types: int) -> str:
        """Return some names of a set."""
        return " ".join(self._db.types.get(value, str(value)) for value in islice(bits_of(types), SHOWN_TYPES))
