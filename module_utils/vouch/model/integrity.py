# SPDX-License-Identifier: GPL-3.0-or-later
"""The intent of a guest policy: who is trusted, and where a trusted program may read what others wrote.

A person writes it in YAML and a reviewer answers for it. ``check/cwlite.py`` says whether a policy keeps to it.

=================  ==================================================================================
member             meaning
=================  ==================================================================================
``version``        1
``boolean_mode``   ``all``: the verdict holds for every setting of the booleans; ``current``: for the one in the file
``tcb``            subject types that the guest's integrity stands on; at least one
``applications``   subject types that are as trusted, because the guest exists for them
``filters``        places where a trusted subject may read what an untrusted one may have written
``entries``        programs through which an untrusted subject may start a trusted one
=================  ==================================================================================

A subject is *high* when it is of the TCB or an application; every other subject is *low*.

Source: docs/cwlite.md; Shankar, Jaeger, Sailer, "Toward Automated Information-Flow Integrity Verification for
Security-Critical Applications" (NDSS 2006), for Clark-Wilson-Lite.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from ..errors import ParseError, shown
from ..parse.canonical import dump_canonical
from ..parse.fields import Fields
from .digest import sha256

INTENT_VERSION = 1
ALL_BOOLEANS, CURRENT_BOOLEANS = "all", "current"

MAX_TYPES = 4096
"""Types of one list: more than any reference policy has subjects."""

MAX_FILTERS = 4096
MAX_ENTRIES = 4096
MAX_PERMISSIONS = 64
"""A SELinux class has at most 32 permissions."""

MAX_REASON_CHARS = 1024
MAX_NAME_CHARS = 256

_TYPE = re.compile(r"[A-Za-z_][A-Za-z0-9_.@$-]*\Z")
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*\Z")
_PROGRAM = re.compile(r"sha256:[0-9a-f]{64}\Z")


@dataclass(frozen=True, slots=True, kw_only=True, order=True)
class Filter:
    """One declared filtering interface: ``subject`` may use ``permissions`` on what low subjects may have written.

    Attributes:
        subject: A high type.
        object: Type of what is read.
        class_name: Its class.
        permissions: The permissions that are allowed, in order; never empty.
        reason: Why this program copes with hostile input there; never empty.
        program: ``sha256:<hex>`` of the only program that runs as ``subject``; empty where the image alone says it.
        relabel_to: For an endorsement alone: the high type that the object may be given (``relabelto``).
    """

    subject: str
    object: str
    class_name: str
    permissions: tuple[str, ...]
    reason: str
    program: str = ""
    relabel_to: str = ""

    @property
    def place(self) -> tuple[str, str, str, str]:
        """What no other filter of the intent may be about."""
        return self.subject, self.object, self.class_name, self.relabel_to

    def to_json(self) -> dict[str, Any]:
        """Return the JSON form; ``relabel_to`` is left out where there is none."""
        out: dict[str, Any] = {
            "subject": self.subject,
            "object": self.object,
            "class": self.class_name,
            "permissions": list(self.permissions),
            "program": self.program,
            "reason": self.reason,
        }
        if self.relabel_to:
            out["relabel_to"] = self.relabel_to
        return out

    @classmethod
    def read(cls, fields: Fields) -> Filter:
        """Take the members of ``fields``."""
        item = cls(
            subject=_type(fields, "subject"),
            object=_type(fields, "object"),
            class_name=fields.text("class", maximum_chars=MAX_NAME_CHARS, pattern=_NAME),
            permissions=_names(fields, "permissions", _NAME, MAX_PERMISSIONS),
            program=fields.text("program", pattern=_PROGRAM, empty=True) if fields.has("program") else "",
            relabel_to=_type(fields, "relabel_to") if fields.has("relabel_to") else "",
            reason=_reason(fields),
        )
        if not item.permissions:
            raise fields.fail("permissions", "is empty: name what the filter reads with")
        fields.done()
        return item


@dataclass(frozen=True, slots=True, kw_only=True, order=True)
class Entry:
    """One declared entry: ``source``, which is low, may start ``target``, which is high, through ``entrypoint``.

    Attributes:
        source: A low type.
        target: A high type.
        entrypoint: Type of the program's file.
        reason: Why this program copes with hostile arguments, environment and open files; never empty.
    """

    source: str
    target: str
    entrypoint: str
    reason: str

    @property
    def place(self) -> tuple[str, str, str]:
        """What no other entry of the intent may be about."""
        return self.source, self.target, self.entrypoint

    def to_json(self) -> dict[str, Any]:
        """Return the JSON form."""
        return {
            "source": self.source,
            "target": self.target,
            "entrypoint": self.entrypoint,
            "reason": self.reason,
        }

    @classmethod
    def read(cls, fields: Fields) -> Entry:
        """Take the members of ``fields``."""
        item = cls(
            source=_type(fields, "source"),
            target=_type(fields, "target"),
            entrypoint=_type(fields, "entrypoint"),
            reason=_reason(fields),
        )
        fields.done()
        return item


@dataclass(frozen=True, slots=True, kw_only=True)
class Intent:
    """What a policy is checked for. Two intents that mean the same are equal and have one digest.

    Attributes:
        tcb: Subject types that the guest's integrity stands on.
        applications: Subject types as trusted as those.
        filters: Declared filtering interfaces, in order of their place.
        entries: Declared entries, in order of their place.
        boolean_mode: ``all`` or ``current``.

    Raises:
        ParseError: when the parts do not fit each other (code ``intent.*``).
    """

    tcb: frozenset[str]
    applications: frozenset[str] = frozenset()
    filters: tuple[Filter, ...] = ()
    entries: tuple[Entry, ...] = ()
    boolean_mode: str = ALL_BOOLEANS

    def __post_init__(self) -> None:
        if not self.tcb:
            raise _wrong("tcb", "names no type: trust nothing, prove nothing", code="intent.tcb.empty")
        if both := self.tcb & self.applications:
            raise _wrong("applications", f"{shown(min(both))} is of the TCB as well", code="intent.overlap")
        if self.boolean_mode not in (ALL_BOOLEANS, CURRENT_BOOLEANS):
            raise _wrong(
                "boolean_mode", f"{shown(self.boolean_mode)} is neither all nor current", code="intent.booleans"
            )
        for name in ("filters", "entries"):
            items: tuple[Filter | Entry, ...] = getattr(self, name)
            _check_once(name, items)
            object.__setattr__(self, name, tuple(sorted(items, key=lambda item: item.place)))
        for item in self.filters:
            if item.subject not in self.high:
                raise _wrong(
                    "filters",
                    f"subject {shown(item.subject)} is neither of the TCB nor an application",
                    code="intent.filter.subject",
                )
        for entry in self.entries:
            if entry.target not in self.high:
                raise _wrong(
                    "entries",
                    f"target {shown(entry.target)} is neither of the TCB nor an application",
                    code="intent.entry.target",
                )
            if entry.source in self.high:
                raise _wrong(
                    "entries",
                    f"source {shown(entry.source)} is trusted: it needs no entry",
                    code="intent.entry.source",
                )

    @property
    def high(self) -> frozenset[str]:
        """Every trusted subject type."""
        return self.tcb | self.applications

    def with_booleans(self, mode: str) -> Intent:
        """Return the same intent for another boolean mode."""
        return Intent(
            tcb=self.tcb,
            applications=self.applications,
            filters=self.filters,
            entries=self.entries,
            boolean_mode=mode,
        )

    def to_json(self) -> dict[str, Any]:
        """Return the one JSON form of this intent."""
        return {
            "version": INTENT_VERSION,
            "boolean_mode": self.boolean_mode,
            "tcb": sorted(self.tcb),
            "applications": sorted(self.applications),
            "filters": [item.to_json() for item in self.filters],
            "entries": [item.to_json() for item in self.entries],
        }

    def to_bytes(self) -> bytes:
        """Return the canonical JSON that ``digest`` is over."""
        return dump_canonical(self.to_json())

    def digest(self) -> bytes:
        """Return the SHA-256 of the canonical JSON."""
        return sha256(self.to_bytes())

    @classmethod
    def from_json(cls, value: Any) -> Intent:
        """Return the intent of parsed YAML or JSON.

        Args:
            value: The document. ``version`` and ``tcb`` must be there; what else is missing is empty, and
                ``boolean_mode`` is then ``all``, the stricter one.

        Raises:
            ParseError: for an unknown, missing, repeated or malformed member, and for parts that do not fit.

        Trust: whoever writes it decides what the verdict means; it is signed with the guest package.
        """
        fields = Fields(value, "intent")
        fields.literal("version", INTENT_VERSION)
        mode = fields.choice("boolean_mode", ALL_BOOLEANS, CURRENT_BOOLEANS) if fields.has("boolean_mode") else ""
        tcb = _names(fields, "tcb", _TYPE, MAX_TYPES)
        applications = _names(fields, "applications", _TYPE, MAX_TYPES) if fields.has("applications") else ()
        filters = fields.array("filters", maximum=MAX_FILTERS) if fields.has("filters") else []
        entries = fields.array("entries", maximum=MAX_ENTRIES) if fields.has("entries") else []
        fields.done()
        return cls(
            tcb=frozenset(tcb),
            applications=frozenset(applications),
            filters=tuple(Filter.read(Fields(item, f"intent.filters[{at}]")) for at, item in enumerate(filters)),
            entries=tuple(Entry.read(Fields(item, f"intent.entries[{at}]")) for at, item in enumerate(entries)),
            boolean_mode=mode or ALL_BOOLEANS,
        )


def _type(fields: Fields, name: str) -> str:
    return fields.text(name, maximum_chars=MAX_NAME_CHARS, pattern=_TYPE)


def _reason(fields: Fields) -> str:
    """Take a reason: text that says something."""
    reason = fields.text("reason", maximum_chars=MAX_REASON_CHARS)
    if not reason.strip():
        raise fields.fail("reason", "is blank: a reviewer has to know why")
    return reason


def _names(fields: Fields, name: str, pattern: re.Pattern[str], maximum: int) -> tuple[str, ...]:
    """Take a list of names, none of them twice; return them in order."""
    found = fields.array(name, maximum=maximum)
    for item in found:
        if not isinstance(item, str):
            raise fields.fail(name, f"expected names, found {type(item).__name__}", "parse.field.type")
        if len(item) > MAX_NAME_CHARS or pattern.fullmatch(item) is None:
            raise fields.fail(name, f"has a name we do not accept: {shown(item)}")
    names = tuple(sorted(set(found)))
    if len(names) != len(found):
        twice = next(item for item in names if found.count(item) > 1)
        raise fields.fail(name, f"{shown(twice)} stands twice", "intent.duplicate")
    return names


def _check_once(name: str, items: Iterable[Filter | Entry]) -> None:
    seen = set()
    for item in items:
        if item.place in seen:
            place = " ".join(part for part in item.place if part)
            raise _wrong(name, f"{shown(place)} stands twice: join the two", code="intent.duplicate")
        seen.add(item.place)


def _wrong(member: str, problem: str, *, code: str) -> ParseError:
    return ParseError(f"intent.{member}", 0, problem, code=code)
