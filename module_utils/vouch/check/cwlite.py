# SPDX-License-Identifier: GPL-3.0-or-later
"""Clark-Wilson-Lite for a SELinux policy: every place where a trusted subject depends on an untrusted one.

The steps of ``check_policy``, with sets of types as integers (bit n is the type of value n):

1. Names of the intent are types, classes and permissions of the policy.
2. Faults of the policy as a whole: permissive types, unknown permissions allowed.
3. One pass over the allow rules: for each source and class, what is read, written, relabelled, started.
4. The labelling: for each class, the types that an untrusted subject may have written, that have no label, or that
   somebody outside the machine may write.
5. C1: a trusted subject reads a labelled object. C2: an untrusted subject acts on a trusted one. C3: an untrusted
   subject may change the kernel or the policy. C4: a trusted subject gives a labelled object an unlabelled type. C5:
   an untrusted subject starts a trusted one.
6. What a filter (C1, C2, C4) or an entry (C5) declares is taken away; what is left are the conflicts.

Only direct steps count. That is enough: of any path from an untrusted to a trusted subject take the last untrusted one;
the object it writes is labelled, and who reads it next is trusted. So the path has a conflict or a filter in it.

Source: docs/cwlite.md.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from ..errors import UsageError
from ..model.finding import Finding, Severity
from ..model.flowmap import NETWORK_CLASSES, SEVERITIES, UNTRUSTED_SIDS, UNTRUSTED_TYPES
from ..model.integrity import Intent
from ..model.policydigest import bits_of
from ..parse.sepolicy import PolicyDb
from .flowsums import sum_up

KINDS = ("C1", "C2", "C3", "C4", "C5")
_KERNEL = SEVERITIES.index("kernel")


@dataclass(frozen=True, slots=True, kw_only=True)
class Conflict:
    """One conflict, in names.

    Attributes:
        kind: ``C1`` to ``C5``.
        severity: The kind of flow, see ``flowmap.SEVERITIES``.
        subject: The trusted subject; of C3 the untrusted one.
        object: C1, C4: type of what is read or relabelled. C2, C5: the untrusted subject. C3: type acted on.
        class_name: Object class.
        becomes: C4: the type that is given.
    """

    kind: str
    severity: str
    subject: str
    object: str
    class_name: str
    becomes: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Group:
    """Conflicts that differ in their object alone; ``objects`` is never empty. Fields as in ``Conflict``, in values."""

    kind: str
    severity: str
    subject: int
    class_name: str
    objects: int
    becomes: int = 0

    @property
    def count(self) -> int:
        """Number of conflicts."""
        return self.objects.bit_count()


@dataclass(frozen=True, slots=True, kw_only=True)
class PolicyVerdict:
    """What the check found.

    Attributes:
        faults: What is wrong with the policy as a whole.
        groups: The conflicts, in a fixed order, the worst severity first.
        low: The labelling: class name to the set of types.
        filter_uses: For each filter of the intent, in order, the permissions that it is needed for.
        entry_uses: For each entry of the intent, in order, whether it is needed.
    """

    policy: PolicyDb
    intent: Intent
    faults: tuple[Finding, ...]
    groups: tuple[Group, ...]
    low: Mapping[str, int]
    filter_uses: tuple[tuple[str, ...], ...]
    entry_uses: tuple[bool, ...]

    @property
    def passed(self) -> bool:
        """Whether the policy keeps to its intent."""
        return not self.faults and not self.groups

    @property
    def conflict_count(self) -> int:
        """Number of conflicts."""
        return sum(group.count for group in self.groups)

    def conflicts(self) -> Iterator[Conflict]:
        """Yield every conflict, in the order of ``groups``."""
        name = self.policy.symbol_name
        for group in self.groups:
            for item in bits_of(group.objects):
                yield Conflict(
                    kind=group.kind,
                    severity=group.severity,
                    subject=name(group.subject),
                    object=name(item),
                    class_name=group.class_name,
                    becomes=name(group.becomes) if group.becomes else "",
                )


def check_policy(policy: PolicyDb, intent: Intent) -> PolicyVerdict:
    """Return every conflict of ``policy`` with ``intent``.

    Args:
        policy: A parsed policy.
        intent: Who is trusted, and the declared filters and entries.

    Raises:
        UsageError: the intent names a type, class or permission that the policy does not have (``cwlite.name``).
    """
    check = _Check(policy, intent)
    groups = [*check.reads(), *check.acts(), *check.kernel_writes(), *check.endorsements(), *check.starts()]
    groups.sort(key=lambda g: (SEVERITIES.index(g.severity), g.kind, g.subject, g.class_name, g.becomes))
    return PolicyVerdict(
        policy=policy,
        intent=intent,
        faults=tuple(_faults(policy)),
        groups=tuple(groups),
        low={name: types for name, types in sorted(check.low_by_name.items()) if types},
        filter_uses=tuple(
            check.names_of(item.class_name, check.used[place])
            for item, place in zip(intent.filters, check.places, strict=True)
        ),
        entry_uses=tuple(entry in check.entries_used for entry in check.entries),
    )


def _faults(policy: PolicyDb) -> Iterator[Finding]:
    if policy.handle_unknown == "allow":
        yield Finding(
            code="policy.unknown-allowed",
            severity=Severity.DENY,
            subject="policy",
            expected="deny or reject",
            actual=policy.handle_unknown,
        )
    for value in policy.permissive:
        yield Finding(
            code="policy.permissive",
            severity=Severity.DENY,
            subject="policy",
            expected="no permissive type",
            actual=policy.symbol_name(value),
        )


class _Check:
    """The state of one check: sums over the rules, then one method for each kind of conflict."""

    def __init__(self, policy: PolicyDb, intent: Intent) -> None:
        self._policy = policy
        self._types = {name: value for value, name in policy.types.items()}
        _check_names(policy, intent, self._types)
        self._high = sum(1 << self._types[name] for name in intent.high)
        self._low = sum(1 << value for value in policy.types) & ~self._high
        self._class_names = policy.symbols.class_names
        self.places = [
            (
                self._types[f.subject],
                self._types[f.object],
                policy.classes[f.class_name].value,
                self._becomes(f.relabel_to),
            )
            for f in intent.filters
        ]
        self._filters = {
            place: sum(1 << policy.classes[f.class_name].permissions[p] for p in f.permissions)
            for f, place in zip(intent.filters, self.places, strict=True)
        }
        self.used = dict.fromkeys(self.places, 0)
        self.entries = [
            (self._types[e.source], self._types[e.target], self._types[e.entrypoint]) for e in intent.entries
        ]
        self.entries_used: set[tuple[int, int, int]] = set()
        self._sums = sum_up(
            policy,
            boolean_mode=intent.boolean_mode,
            high=self._high,
            low=self._low,
            places=[place[:3] for place in self.places],
        )
        self._labels = self._labelling()

    @property
    def low_by_name(self) -> dict[str, int]:
        """The labelling by class name."""
        return {self._class_names[tclass]: types for tclass, types in self._labels.items()}

    def names_of(self, class_name: str, mask: int) -> tuple[str, ...]:
        """Return the names of permission bits, sorted."""
        return tuple(
            sorted(name for name, bit in self._policy.classes[class_name].permissions.items() if mask >> bit & 1)
        )

    def reads(self) -> Iterator[Group]:
        """C1: trusted subjects that read what is labelled."""
        for subject in bits_of(self._high):
            found: dict[tuple[int, int], int] = defaultdict(int)
            for symbol in bits_of(self._policy.type_attributes[subject]):
                for key, targets in self._sums.read.get(symbol, {}).items():
                    found[key] |= targets
            for (tclass, kind), targets in found.items():
                if tainted := targets & self._labels[tclass]:
                    left = tainted & ~self._filtered(
                        subject, tclass, tainted, self._kind_mask(tclass, kind, write=False)
                    )
                    yield from self._group("C1", kind, subject, tclass, left)

    def acts(self) -> Iterator[Group]:
        """C2: untrusted subjects that act on trusted ones."""
        found: dict[tuple[int, int, int], int] = defaultdict(int)
        for symbol, sums in self._sums.acted.items():
            low = self._policy.members(symbol) & self._low
            if low:
                for (tclass, kind), targets in sums.items():
                    # What changes the kernel is C3, whoever it is done to.
                    for subject in bits_of(targets if kind != _KERNEL else 0):
                        found[subject, tclass, kind] |= low
        for (subject, tclass, kind), low in found.items():
            wanted = self._kind_mask(tclass, kind, write=True)
            if not self._filtered(subject, tclass, 1 << subject, wanted):
                yield from self._group("C2", kind, subject, tclass, low)

    def kernel_writes(self) -> Iterator[Group]:
        """C3: untrusted subjects that may change the kernel or the policy."""
        found: dict[tuple[int, int], int] = defaultdict(int)
        for symbol, sums in self._sums.written.items():
            for (tclass, kind), targets in sums.items():
                if kind == _KERNEL:
                    for subject in bits_of(self._policy.members(symbol) & self._low):
                        found[subject, tclass] |= targets
        for (subject, tclass), targets in found.items():
            yield from self._group("C3", _KERNEL, subject, tclass, targets)

    def endorsements(self) -> Iterator[Group]:
        """C4: trusted subjects that turn labelled objects into others."""
        data = SEVERITIES.index("data")
        for subject in bits_of(self._high):
            taken: dict[int, int] = defaultdict(int)
            given: dict[int, int] = defaultdict(int)
            for symbol in bits_of(self._policy.type_attributes[subject]):
                for tclass, targets in self._sums.relabelled_from.get(symbol, {}).items():
                    taken[tclass] |= targets
                for tclass, targets in self._sums.relabelled_to.get(symbol, {}).items():
                    given[tclass] |= targets
            for tclass, targets in taken.items():
                tainted = targets & self._labels[tclass]
                if not tainted:
                    continue
                for becomes in bits_of(given[tclass] & ~self._labels[tclass]):
                    left = tainted
                    for item in bits_of(tainted):
                        place = (subject, item, tclass, becomes)
                        if place in self._filters:
                            self.used[place] = self._filters[place]
                            left &= ~(1 << item)
                    yield from self._group("C4", data, subject, tclass, left, becomes)

    def starts(self) -> Iterator[Group]:
        """C5: untrusted subjects that start trusted ones, or become them."""
        process = self._policy.classes["process"].value if "process" in self._policy.classes else 0
        for sums, always in ((self._sums.started, False), (self._sums.never, True)):
            found: dict[int, int] = defaultdict(int)
            for symbol, targets in sums.items():
                low = self._policy.members(symbol) & self._low
                for subject in bits_of(targets if low else 0):
                    found[subject] |= low
            for subject, low in sorted(found.items()):
                left = low if always else self._without_entry(subject, low)
                yield from self._group("C5", 0, subject, process, left)

    def _labelling(self) -> dict[int, int]:
        every = sum(1 << value for value in self._policy.types)
        untrusted = sum(1 << self._types[name] for name in UNTRUSTED_TYPES if name in self._types)
        for sid, context in self._policy.labels.initial_sids:
            untrusted |= 1 << context.type if sid in UNTRUSTED_SIDS else 0
        labels = {value: every if name in NETWORK_CLASSES else untrusted for value, name in self._class_names.items()}
        for symbol, sums in self._sums.written.items():
            if self._policy.members(symbol) & self._low:
                for (tclass, _), targets in sums.items():
                    labels[tclass] |= targets
        return labels

    def _kind_mask(self, tclass: int, kind: int, *, write: bool) -> int:
        masks = self._sums.masks[tclass]
        wanted = dict(masks.writes if write else masks.reads).get(kind, 0)
        return wanted & ~(masks.start | masks.never)

    def _filtered(self, subject: int, tclass: int, objects: int, wanted: int) -> int:
        """Return those of ``objects`` where a filter has every permission of ``wanted`` that the policy gives there."""
        found = 0
        for place, allowed in self._filters.items():
            item = 1 << place[1]
            if place[0] == subject and place[2] == tclass and not place[3] and item & objects:
                needed = self._sums.at[place[:3]]
                self.used[place] |= needed & allowed
                if not needed & wanted & ~allowed:
                    found |= item
        return found

    def _without_entry(self, subject: int, low: int) -> int:
        entrypoints = 0
        for symbol in bits_of(self._policy.type_attributes[subject]):
            entrypoints |= self._sums.entrypoints.get(symbol, 0)
        left = 0
        for source in bits_of(low if entrypoints else 0):
            wanted = {(source, subject, entrypoint) for entrypoint in bits_of(entrypoints)}
            declared = wanted & set(self.entries)
            self.entries_used |= declared
            if wanted - declared:
                left |= 1 << source
        return left

    def _group(
        self, kind: str, flow: int, subject: int, tclass: int, objects: int, becomes: int = 0
    ) -> Iterator[Group]:
        if objects:
            yield Group(
                kind=kind,
                severity=SEVERITIES[flow],
                subject=subject,
                class_name=self._class_names[tclass],
                objects=objects,
                becomes=becomes,
            )

    def _becomes(self, name: str) -> int:
        return self._types[name] if name else 0


def _check_names(policy: PolicyDb, intent: Intent, types: Mapping[str, int]) -> None:
    wanted = {
        *intent.high,
        *(name for f in intent.filters for name in (f.subject, f.object, f.relabel_to) if name),
        *(name for e in intent.entries for name in (e.source, e.target, e.entrypoint)),
    }
    wrong = [f"type {name}" for name in sorted(wanted - set(types))]
    for item in intent.filters:
        if item.class_name not in policy.classes:
            wrong.append(f"class {item.class_name}")
        else:
            known = policy.classes[item.class_name].permissions
            wrong += [f"permission {name} of {item.class_name}" for name in item.permissions if name not in known]
    if wrong:
        shown = ", ".join(wrong[:8]) + (f" and {len(wrong) - 8} more" if len(wrong) > 8 else "")
        raise UsageError(
            f"the policy has no {shown}",
            code="cwlite.name",
            hint="Correct the intent; a name in vain protects nothing.",
        )
