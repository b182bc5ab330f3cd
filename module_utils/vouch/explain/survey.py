# SPDX-License-Identifier: GPL-3.0-or-later
"""From a verdict in bit sets to what people read: groups, stories with their rules, and the spots of a cut."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from functools import cached_property

from ..check.cwlite import Group as Found
from ..check.cwlite import PolicyVerdict
from ..errors import UsageError, shown
from ..model.digest import sha256
from ..model.finding import Finding
from ..model.flowmap import NETWORK_CLASSES, UNTRUSTED_TYPES
from ..model.integrity import Entry, Filter
from ..model.policydigest import bits_of
from .cut import Spot
from .report import Group, PolicyFacts, Report, SoleWriter, worst_first
from .rules import RuleIndex
from .story import SEVERITIES, SHOWN_WRITERS, Step, Story

_RANK = {name: place for place, name in enumerate(SEVERITIES)}
_ACTS = frozenset({"C2", "C5"})
"""Kinds whose objects are the untrusted subjects themselves."""

Place = tuple[str, int]
"""Class name and type value of an object."""


class Survey:
    """Questions to one verdict; what is expensive is worked out once, when it is first asked for."""

    def __init__(self, verdict: PolicyVerdict) -> None:
        self.verdict = verdict
        self.policy = verdict.policy
        self.intent = verdict.intent
        self.rules = RuleIndex(verdict.policy, verdict.intent)

    def report(self, data: bytes, *, path: str, limit: int) -> Report:
        """Return what people are told.

        Args:
            data: Bytes of the policy.
            path: What it is called.
            limit: Groups, stories and hints told at most.
        """
        verdict = self.verdict
        severities: dict[str, int] = defaultdict(int)
        kinds: dict[str, int] = defaultdict(int)
        for found in verdict.groups:
            severities[found.severity] += found.count
            kinds[found.kind] += found.count
        return Report(
            policy=PolicyFacts(
                path=path,
                sha256=sha256(data).hex(),
                types=len(self.policy.types),
                rules=self.rules.count,
                subjects=self.rules.subjects,
                boolean_mode=self.intent.boolean_mode,
                intent_sha256=self.intent.digest().hex(),
            ),
            passed=verdict.passed,
            conflicts=verdict.conflict_count,
            by_severity=worst_first(severities),
            by_kind=dict(sorted(kinds.items())),
            faults=tuple(_fault(finding) for finding in verdict.faults),
            groups=tuple(self._groups(limit)),
            group_count=len(self._places),
            stories=tuple(self._first_stories(limit)),
            sole_writers=tuple(self._sole_writers()[:limit]),
            unused_filters=tuple(self._unused()),
        )

    def keys(self) -> dict[str, list[str]]:
        """Return what each conflict is about, the same from run to run: kind, subject and class to the objects."""
        found: dict[str, list[str]] = defaultdict(list)
        for group in self.verdict.groups:
            head = f"{group.kind} {self._name(group.subject)} {group.class_name}"
            if group.becomes:
                head += f" becomes {self._name(group.becomes)}"
            found[head] += [self._name(item) for item in bits_of(group.objects)]
        return {head: sorted(set(names)) for head, names in sorted(found.items())}

    def spots(self) -> tuple[Spot, ...]:
        """Return every conflict, joined by kind, severity and object: what the minimum cut works on."""
        return tuple(
            Spot(
                kind=kind,
                severity=severity,
                object=self._name(place[1]),
                class_name=place[0],
                writers=writers,
                readers=readers,
                becomes=self._name(becomes) if becomes else "",
            )
            for (kind, severity, place, becomes), (writers, readers) in self._joined.items()
        )

    def low_reads(self) -> Mapping[int, int]:
        """Return, for each untrusted subject that writes into a conflict, how many low objects it reads."""
        writers = 0
        for mask, _ in self._joined.values():
            writers |= mask
        return self.rules.low_reads(writers, self.verdict.low)

    def stories_at(self, subject: str, item: str, class_name: str) -> list[Story]:
        """Return the stories of the conflicts of ``subject`` on ``item``.

        Args:
            subject: The trusted subject; of C3 the untrusted one.
            item: Type of the object; of C2 and C5 either subject.
            class_name: Class of the object.

        Raises:
            UsageError: when the policy has no such type or class (``cwlite.name``).
        """
        names = {name: value for value, name in self.policy.types.items()}
        for what, name, known in (
            ("type", subject, subject in names),
            ("type", item, item in names),
            ("class", class_name, class_name in self.policy.classes),
        ):
            if not known:
                raise UsageError(f"the policy has no {what} {shown(name)}", code="cwlite.name", hint="Is it an alias?")
        stories = []
        for found in self.verdict.groups:
            if found.class_name != class_name or found.subject != names[subject]:
                continue
            if found.objects >> names[item] & 1:
                stories.append(self._story(found, names[item]))
            elif found.kind in _ACTS and item == subject:
                stories.append(self._story(found, next(bits_of(found.objects))))
        return stories

    @cached_property
    def _joined(self) -> Mapping[tuple[str, str, Place, int], tuple[int, int]]:
        """Kind, severity, object and new type to untrusted writers and trusted readers, as bit sets."""
        rows: dict[tuple[str, str, str, int], list[tuple[int, int]]] = defaultdict(list)
        acts: dict[tuple[str, str, Place, int], int] = defaultdict(int)
        for found in self.verdict.groups:
            subject, name = found.subject, found.class_name
            if found.kind in _ACTS:
                acts[found.kind, found.severity, (name, subject), 0] |= found.objects
            elif found.kind == "C3":
                for item in bits_of(found.objects):
                    acts[found.kind, found.severity, (name, item), 0] |= 1 << subject
            else:
                rows[found.kind, found.severity, name, found.becomes].append((1 << subject, found.objects))
        readers = {
            (kind, severity, (name, item), becomes): mask
            for (kind, severity, name, becomes), listed in rows.items()
            for objects, mask in _turned(listed)
            for item in bits_of(objects)
        }
        writers = self.rules.writers({key[2] for key in readers} - self._by_nature(readers))
        joined = {key: (writers.get(key[2], 0), mask) for key, mask in readers.items()}
        return joined | {key: (mask, 1 << key[2][1]) for key, mask in acts.items()}

    def _by_nature(self, keys: Iterable[tuple[str, str, Place, int]]) -> set[Place]:
        """Return the objects that count as written by anybody."""
        untrusted = {value for value, name in self.policy.types.items() if name in UNTRUSTED_TYPES}
        return {key[2] for key in keys if key[2][0] in NETWORK_CLASSES or key[2][1] in untrusted}

    @cached_property
    def _places(self) -> list[tuple[Place, tuple[int, int, int, int]]]:
        """The objects with conflicts, the worst and largest first: rank of severity, number, writers and readers."""
        found: dict[Place, tuple[int, int, int, int]] = {}
        for (kind, severity, place, _), (writers, readers) in self._joined.items():
            count = (writers if kind in _ACTS or kind == "C3" else readers).bit_count()
            rank, sofar, all_writers, all_readers = found.get(place, (len(_RANK), 0, 0, 0))
            found[place] = min(rank, _RANK[severity]), sofar + count, all_writers | writers, all_readers | readers
        return sorted(found.items(), key=lambda item: (item[1][0], -item[1][1], item[0]))

    def _groups(self, limit: int) -> list[Group]:
        """Return the first objects with their conflicts."""
        names = list(_RANK)
        return [
            Group(
                object=self._name(item),
                class_name=name,
                severity=names[rank],
                conflicts=count,
                readers=readers.bit_count(),
                writers=writers.bit_count(),
                sole_writer=self._name(next(bits_of(writers))) if writers.bit_count() == 1 else "",
            )
            for (name, item), (rank, count, writers, readers) in self._places[:limit]
        ]

    def _sole_writers(self) -> list[SoleWriter]:
        """Return the untrusted subjects that alone make objects low, those with most conflicts first."""
        objects: dict[int, int] = defaultdict(int)
        conflicts: dict[int, int] = defaultdict(int)
        for _, (_, count, writers, _) in self._places:
            if writers.bit_count() == 1:
                objects[writers] += 1
                conflicts[writers] += count
        found = [
            SoleWriter(writer=self._name(next(bits_of(bit))), objects=objects[bit], conflicts=conflicts[bit])
            for bit in objects
        ]
        return sorted(found, key=lambda item: (-item.conflicts, item.writer))

    def _first_stories(self, limit: int) -> Iterable[Story]:
        """Yield one story for each object, of its worst severity, in the order of the groups."""
        for (name, item), (rank, *_) in self._places[:limit]:
            for found in self.verdict.groups:
                at = found.subject == item if found.kind in _ACTS else found.objects >> item & 1
                if at and found.class_name == name and _RANK[found.severity] == rank:
                    yield self._story(found, item)
                    break

    def _story(self, found: Found, item: int) -> Story:
        """Return the story of the conflict of ``found`` over ``item``."""
        if found.kind in _ACTS:
            return self._act(found, found.subject, found.objects)
        if found.kind == "C3":
            return self._act(found, item, 1 << found.subject)
        return self._read(found, item)

    def _act(self, found: Found, target: int, writers: int) -> Story:
        """Return the story of an untrusted subject that acts on something itself."""
        named = sorted(self._name(value) for value in bits_of(writers))
        writer = next(value for value in bits_of(writers) if self._name(value) == named[0])
        step = self.rules.write(writer, target, found.class_name, found.severity)
        wrong = step is not None and {"dyntransition", "noatsecure"} & set(step.permissions)
        cure = f"Take {_words(step)} on {self._name(target)}:{found.class_name} away from {named[0]}."
        cures = [cure]
        if found.kind == "C5" and not wrong:
            cures.insert(0, self._entry_cure(writer, found.subject))
        return Story(
            kind=found.kind,
            severity=found.severity,
            high=self._name(found.subject if found.kind in _ACTS else target),
            object=self._name(target),
            class_name=found.class_name,
            writers=tuple(named[:SHOWN_WRITERS]),
            writer_count=len(named),
            write=step,
            read=None,
            cures=tuple(cures),
        )

    def _read(self, found: Found, item: int) -> Story:
        """Return the story of a trusted subject that takes in what others may have written."""
        place = (found.class_name, item)
        key = (found.kind, found.severity, place, found.becomes)
        mask = self._joined[key][0]
        named = sorted(self._name(value) for value in bits_of(mask))
        write = None
        if named:
            writer = next(value for value in bits_of(mask) if self._name(value) == named[0])
            write = self.rules.write(writer, item, found.class_name, "")
        if found.kind == "C4":
            read = self.rules.relabel(found.subject, item, found.class_name)
        else:
            read = self.rules.read(found.subject, item, found.class_name, found.severity)
        return Story(
            kind=found.kind,
            severity=found.severity,
            high=self._name(found.subject),
            object=self._name(item),
            class_name=found.class_name,
            writers=tuple(named[:SHOWN_WRITERS]),
            writer_count=len(named),
            write=write,
            read=read,
            becomes=self._name(found.becomes) if found.becomes else "",
            cures=tuple(self._read_cures(found, item, named)),
        )

    def _read_cures(self, found: Found, item: int, writers: list[str]) -> Iterable[str]:
        where = f"{self._name(item)}:{found.class_name}"
        if len(writers) == 1:
            yield f"Take the write away from {writers[0]}, the only untrusted writer of {where}; or trust it."
        if writers:
            yield f"Split {where}: what {self._name(found.subject)} reads gets a type that no untrusted subject writes."
        permissions = self.rules.reads_at(found.subject, item, found.class_name)
        relabel = f", relabel_to: {self._name(found.becomes)}" if found.becomes else ""
        yield (
            "Declare the filter, when the program copes with hostile input there: "
            f"{{subject: {self._name(found.subject)}, object: {self._name(item)}, class: {found.class_name}, "
            f"permissions: [{', '.join(permissions) or 'relabelfrom'}]{relabel}, reason: ...}}"
        )

    def _entry_cure(self, source: int, target: int) -> str:
        entrypoints = ", ".join(self._name(value) for value in bits_of(self.rules.entrypoints(target)))
        return (
            f"Declare an entry for each program, when it copes with hostile arguments: {{source: {self._name(source)}, "
            f"target: {self._name(target)}, entrypoint: {entrypoints}, reason: ...}}"
        )

    def _unused(self) -> Iterable[str]:
        """Yield the filters and entries that nothing needs, and permissions of filters likewise."""
        for item, used in zip(self.intent.filters, self.verdict.filter_uses, strict=True):
            spare = sorted(set(item.permissions) - set(used))
            if spare:
                what = "" if not used else f", only its permissions {' '.join(spare)}"
                yield f"filter {_filter(item)}{what}"
        for entry, needed in zip(self.intent.entries, self.verdict.entry_uses, strict=True):
            if not needed:
                yield f"entry {_entry(entry)}"

    def _name(self, value: int) -> str:
        return self.policy.symbol_name(value)


def _turned(rows: Iterable[tuple[int, int]]) -> list[tuple[int, int]]:
    """Turn subjects with their objects into objects with their subjects; objects of the same subjects stay together.

    Args:
        rows: Bit of a subject, bit set of its objects.

    Returns:
        Bit sets of objects, none in two of them, each with the bit set of subjects that have just these.
    """
    parts: list[tuple[int, int]] = []
    for bit, row in rows:
        rest, split = row, []
        for objects, subjects in parts:
            if common := objects & rest:
                split.append((common, subjects | bit))
                rest &= ~common
            if left := objects & ~common:
                split.append((left, subjects))
        parts = [*split, (rest, bit)] if rest else split
    return parts


def _words(step: Step | None) -> str:
    return " ".join(step.permissions) if step is not None else "it"


def _filter(item: Filter) -> str:
    becomes = f" becoming {item.relabel_to}" if item.relabel_to else ""
    return f"{item.subject} on {item.object}:{item.class_name}{becomes}"


def _entry(item: Entry) -> str:
    return f"{item.source} to {item.target} by {item.entrypoint}"


def _fault(finding: Finding) -> str:
    return {
        "policy.permissive": f"type {finding.actual} is permissive: nothing is enforced for it",
        "policy.unknown-allowed": "handle_unknown is allow: what the kernel knows and the policy does not is allowed",
    }.get(finding.code, str(finding))
