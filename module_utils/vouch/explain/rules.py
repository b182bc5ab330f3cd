# SPDX-License-Identifier: GPL-3.0-or-later
"""The rules behind a conflict: found when they are asked for, and written as people write them."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterator, Mapping
from functools import cached_property

from ..model.flowmap import flow
from ..model.integrity import ALL_BOOLEANS, Intent
from ..model.policydigest import bits_of, expression_text
from ..parse.sepolicy import PolicyDb
from ..parse.serules import Rule
from .story import Step

Held = tuple[int, Rule, str]
"""Number of a rule in the policy, the rule, and what it hangs on; empty for a rule that always holds."""


class RuleIndex:
    """The allow rules of a policy that count in an intent's boolean mode, by class."""

    def __init__(self, policy: PolicyDb, intent: Intent) -> None:
        self._policy = policy
        self._intent = intent
        high = {value for value, name in policy.types.items() if name in intent.high}
        self._low = sum(1 << value for value in policy.types if value not in high)

    @property
    def count(self) -> int:
        """Number of allow rules."""
        return sum(len(held) for sources in self._by_class.values() for held in sources.values())

    @property
    def subjects(self) -> int:
        """Number of types that a process can have: trusted ones, and what a process may become."""
        found = sum(1 << value for value, name in self._policy.types.items() if name in self._intent.high)
        for _, rule, _ in self._of("process"):
            if rule[4] & self._mask("process", "transition", "dyntransition"):
                found |= self._policy.members(rule[1])
        return found.bit_count()

    def write(self, subject: int, item: int, class_name: str, kind: str) -> Step | None:
        """Return how ``subject`` changes ``item``, by a flow of ``kind`` where there is one."""
        return self._step(
            subject, item, class_name, self._flows(class_name, "", True), self._flows(class_name, kind, True)
        )

    def read(self, subject: int, item: int, class_name: str, kind: str) -> Step | None:
        """Return how ``subject`` reads ``item``, by a flow of ``kind`` where there is one."""
        return self._step(
            subject, item, class_name, self._flows(class_name, "", False), self._flows(class_name, kind, False)
        )

    def relabel(self, subject: int, item: int, class_name: str) -> Step | None:
        """Return how ``subject`` takes the type of ``item`` away."""
        mask = self._mask(class_name, "relabelfrom")
        return self._step(subject, item, class_name, mask, mask)

    def reads_at(self, subject: int, item: int, class_name: str) -> tuple[str, ...]:
        """Return every permission by which ``subject`` reads ``item``: what a filter there has to name."""
        wanted, found = self._flows(class_name, "", False), 0
        for _, rule, _ in self._between(subject, item, class_name):
            found |= rule[4] & wanted
        return self._names(class_name, found)

    def entrypoints(self, subject: int) -> int:
        """Return the types of the programs that ``subject`` is entered by."""
        mask, found = self._mask("file", "entrypoint"), 0
        for _, rule, _ in self._of("file"):
            if rule[4] & mask and self._policy.members(rule[0]) >> subject & 1:
                found |= self._policy.members(rule[1])
        return found

    def writers(self, places: Collection[tuple[str, int]]) -> Mapping[tuple[str, int], int]:
        """Return the untrusted subjects that may write each of ``places`` (class name, type value), as bit sets."""
        wanted: dict[str, int] = defaultdict(int)
        for name, item in places:
            wanted[name] |= 1 << item
        found: dict[tuple[str, int], int] = defaultdict(int)
        for name, items in wanted.items():
            mask = self._flows(name, "", True)
            by_target: dict[int, int] = defaultdict(int)
            for _, rule, _ in self._of(name):
                if rule[4] & mask:
                    by_target[rule[1]] |= self._policy.members(rule[0]) & self._low
            for symbol, low in by_target.items():
                if low:
                    for item in bits_of(self._policy.members(symbol) & items):
                        found[name, item] |= low
        return found

    def low_reads(self, subjects: int, low: Mapping[str, int]) -> Mapping[int, int]:
        """Return for each of ``subjects`` how many objects of the labelling ``low`` it reads."""
        reads: dict[int, dict[str, int]] = defaultdict(lambda: defaultdict(int))
        for name, labels in low.items():
            mask = self._flows(name, "", False)
            for _, rule, _ in self._of(name):
                if rule[4] & mask and (targets := self._policy.members(rule[1]) & labels):
                    reads[rule[0]][name] |= targets
        found = {}
        for subject in bits_of(subjects):
            by_class: dict[str, int] = defaultdict(int)
            for symbol in bits_of(self._policy.type_attributes[subject]):
                for name, targets in reads.get(symbol, {}).items():
                    by_class[name] |= targets
            found[subject] = sum(targets.bit_count() for targets in by_class.values())
        return found

    @cached_property
    def _by_class(self) -> Mapping[int, Mapping[int, list[Held]]]:
        """Rules by class and source symbol."""
        found: dict[int, dict[int, list[Held]]] = defaultdict(lambda: defaultdict(list))
        for index, rule in self._policy.rules.allows():
            found[rule[2]][rule[0]].append((index, rule, ""))
        every = self._intent.boolean_mode == ALL_BOOLEANS
        for node in self._policy.conditionals:
            text = expression_text(self._policy, node.expression)
            for table, state, condition in ((node.when_true, True, text), (node.when_false, False, f"not {text}")):
                if every or node.state == state:
                    for index, rule in table.allows():
                        found[rule[2]][rule[0]].append((index, rule, condition))
        return found

    def _of(self, class_name: str) -> Iterator[Held]:
        for held in self._sources(class_name).values():
            yield from held

    def _sources(self, class_name: str) -> Mapping[int, list[Held]]:
        known = self._policy.classes.get(class_name)
        return self._by_class.get(known.value, {}) if known is not None else {}

    def _between(self, subject: int, item: int, class_name: str) -> Iterator[Held]:
        sources, targets = self._sources(class_name), self._policy.type_attributes[item]
        for symbol in bits_of(self._policy.type_attributes[subject]):
            for held in sources.get(symbol, ()):
                if targets >> held[1][1] & 1:
                    yield held

    def _step(self, subject: int, item: int, class_name: str, wanted: int, best: int) -> Step | None:
        """Return the step that rules with a permission of ``wanted`` allow; shown is one with ``best``, if any."""
        found = [held for held in self._between(subject, item, class_name) if held[1][4] & wanted]
        if not found:
            return None
        # A rule that always holds says more than one that hangs on a boolean.
        index, rule, condition = min(found, key=lambda held: (not held[1][4] & best, bool(held[2]), held[0]))
        mask = 0
        for _, other, _ in found:
            mask |= other[4] & (best if rule[4] & best else wanted)
        return Step(
            subject=self._policy.symbol_name(subject),
            permissions=self._names(class_name, mask),
            rule=self._text(rule, class_name),
            rule_number=index,
            rules=len(found),
            condition=condition,
        )

    def _text(self, rule: Rule, class_name: str) -> str:
        source, target = (self._policy.symbol_name(value) for value in rule[:2])
        return f"allow {source} {target}:{class_name} {{ {' '.join(self._names(class_name, rule[4]))} }};"

    def _flows(self, class_name: str, kind: str, write: bool) -> int:
        """Return the permissions of a class by which information flows, as bits; any kind when ``kind`` is empty."""
        found = 0
        for name, bit in self._policy.classes[class_name].permissions.items():
            item = flow(class_name, name)
            if (item.writes if write else item.reads) and kind in ("", item.kind):
                found |= 1 << bit
        return found

    def _mask(self, class_name: str, *names: str) -> int:
        known = self._policy.classes.get(class_name)
        return sum(1 << bit for name, bit in known.permissions.items() if name in names) if known is not None else 0

    def _names(self, class_name: str, mask: int) -> tuple[str, ...]:
        return tuple(
            sorted(name for name, bit in self._policy.classes[class_name].permissions.items() if mask >> bit & 1)
        )
