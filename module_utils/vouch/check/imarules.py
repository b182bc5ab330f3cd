# SPDX-License-Identifier: GPL-3.0-or-later
"""dom0's measurement list against the quoted PCR 10 and the release's file manifest.

Two steps, in this order: ``replay_ima`` finds the prefix of the list that the quoted register covers and raises when
there is none; ``check_ima`` judges the entries of that prefix. What follows the prefix was measured after the quote,
is counted, and is judged next time.

Why the SHA-1 template hash is not looked at: a quote of the SHA-256 bank covers SHA-256 of the template data and
nothing else of an entry. Whoever can write the list can write any SHA-1. Its one use, all zeros for a violation, is
proven by the replay: a violation extends 0xff..ff instead of a hash, so either lie misses the quoted value.

Speed: nearly every entry of a good host is exactly one of the template-data strings that the manifest predicts. So the
loop asks one dictionary for the bytes as they stand: the answer is the judgement *and* the value to extend. Only what
is not found is taken apart.

Source: Linux 6.12, security/integrity/ima/ima_queue.c (ima_add_template_entry, ima_pcr_extend),
ima_crypto.c (ima_calc_boot_aggregate_tfm).
"""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from ..errors import EvidenceError, ParseError, UsageError, shown
from ..model.finding import Finding, Locator, Severity, deny
from ..model.ima import BOOT_AGGREGATE, IMA_PCR, FileManifest, ImaResume
from ..parse.imalog import MAX_ENTRIES, VIOLATION_HASH, ImaEntry, ImaFields, encode_template_data, read_entry

PART = "ima"
SUBJECT = f"pcr:{IMA_PCR}"
SOURCE = "Linux 6.12 security/integrity/ima"

MAX_REPORTED = 64
"""Findings of one list that are spelt out; the rest is one finding with their number."""

FAST_TEMPLATES = ("ima-ng", "ima-sig")

_VIOLATION_DIGEST = b"\xff" * 32


class ReferenceList:
    """The manifest as template data: bytes of an acceptable entry -> their SHA-256.

    Made once per release and template, used for every list of every host that runs the release.

    Args:
        manifest: Files of the release; the caller has compared its digest with the verified release.
    """

    __slots__ = ("_tables", "manifest")

    def __init__(self, manifest: FileManifest) -> None:
        if not manifest.files:
            raise UsageError("an empty manifest accepts nothing", code="manifest.empty")
        self.manifest = manifest
        self._tables: dict[str, dict[bytes, bytes]] = {}

    def table(self, template: str) -> dict[bytes, bytes]:
        """Return template data -> its SHA-256, for every file of the manifest measured with ``template``."""
        table = self._tables.get(template)
        if table is None:
            predicted = (encode_template_data(template, "sha256", digest, path) for path, digest in self.manifest.files)
            table = {data: hashlib.sha256(data).digest() for data in predicted}
            self._tables[template] = table
        return table

    def accepts(self, fields: ImaFields) -> bool:
        """Say whether a file of the manifest was measured, whatever template says so."""
        return (
            fields.algorithm == "sha256"
            and fields.digest_type in ("", "ima")
            and (fields.path, fields.digest) in self.manifest.files
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class ReplayedIma:
    """A list whose beginning is proven by the quoted PCR 10. Made by ``replay_ima`` only.

    Attributes:
        resume: The place behind the last covered entry, with the quoted register.
        first_entry: Index of the first entry looked at.
        open_entries: Covered entries that are not simply in the manifest, in order: still to be judged.
        tail_entries: Entries measured after the quote; not judged.
        tail_bytes: Their length.
    """

    resume: ImaResume
    first_entry: int
    open_entries: tuple[ImaEntry, ...]
    tail_entries: int
    tail_bytes: int

    @property
    def covered_entries(self) -> int:
        """Number of entries this replay proved."""
        return self.resume.entries - self.first_entry


def replay_ima(log: bytes, *, start: ImaResume, quoted_pcr10: bytes, reference: ReferenceList) -> ReplayedIma:
    """Return what the quoted PCR 10 proves of ``log``.

    Args:
        log: Binary list from ``start.offset_bytes`` on, whole entries.
        start: Where the last accepted replay of this boot ended (``ImaResume.start`` for none).
        quoted_pcr10: 32-byte value under a verified quote of the SHA-256 bank.
        reference: Accepted entries; only decides which entries stay open.

    Raises:
        EvidenceError: ``ima.replay.mismatch`` when no prefix ends at the quoted value, the parser's code when the
            bytes are no list.

    Trust: ``log`` is the attester's. Afterwards order and template data of the covered entries are proven.
    """
    if len(quoted_pcr10) != 32:
        raise UsageError("PCR 10 of the SHA-256 bank has 32 bytes")
    try:
        return _replay(log, start, quoted_pcr10, reference)
    except ParseError as error:
        raise malformed(error) from None


def _replay(log: bytes, start: ImaResume, quoted: bytes, reference: ReferenceList) -> ReplayedIma:
    sha256, ours, violation = hashlib.sha256, IMA_PCR, VIOLATION_HASH  # Local names: this loop is the hot one.
    register, at, index, size = start.pcr10, 0, start.entries, len(log)
    left_open: list[ImaEntry] = []
    unpack, head_size, mark, table = _fast_reader(log, reference)
    find = table.get
    reached = register == quoted
    while at < size and not reached:
        try:
            pcr, template_hash, name, length = unpack(log, at)
        except struct.error:  # Too few bytes for this header: a shorter template name, or a cut entry.
            pcr, template_hash, name, length = 0, b"", b"", 0
        end = at + head_size + length
        data = log[at + head_size : end]
        digest = find(data)
        if digest and pcr == ours and name == mark and template_hash != violation and end <= size:
            at = end
        else:
            entry = read_entry(log, at, index=index, base_offset=start.offset_bytes)
            if len(left_open) >= MAX_ENTRIES:
                raise ParseError(PART, entry.offset_bytes, f"more than {MAX_ENTRIES} entries", code="parse.too-large")
            left_open.append(entry)
            at += entry.size_bytes
            if entry.pcr != IMA_PCR:
                index += 1
                continue
            digest = _VIOLATION_DIGEST if entry.violation else sha256(entry.template_data).digest()
        register = sha256(register + digest).digest()
        index += 1
        reached = register == quoted
    if not reached:
        raise deny(
            "ima.replay.mismatch",
            SUBJECT,
            expected=quoted,
            actual=register,
            where=Locator(part=PART, offset_bytes=start.offset_bytes + at, entry=index),
            source=SOURCE,
        )
    tail = sum(1 for _ in _frames(log, at, index, start.offset_bytes))
    resume = ImaResume(
        offset_bytes=start.offset_bytes + at,
        entries=index,
        pcr10=register,
        reset_count=start.reset_count,
        restart_count=start.restart_count,
    )
    return ReplayedIma(
        resume=resume,
        first_entry=start.entries,
        open_entries=tuple(left_open),
        tail_entries=tail,
        tail_bytes=size - at,
    )


def check_ima(replayed: ReplayedIma, *, reference: ReferenceList, boot_aggregate: bytes | None) -> tuple[Finding, ...]:
    """Return the findings on every covered entry; none when all are files of the release.

    Args:
        replayed: What ``replay_ima`` proved.
        reference: Accepted entries.
        boot_aggregate: SHA-256 over the quoted PCRs 0 to 9 (``model.boot.boot_aggregate``); None only when the
            replay resumed behind the first entry.

    Returns:
        DENY findings: ``ima.entry.unknown``, ``ima.violation``, ``ima.pcr.unexpected``,
        ``ima.boot-aggregate.missing``, ``ima.boot-aggregate.mismatch``, and a NOTE ``ima.tail.uncovered``.
    """
    found: list[Finding] = []
    entries = replayed.open_entries
    if replayed.first_entry == 0:
        if boot_aggregate is None:
            raise UsageError("a list judged from its first entry needs the boot aggregate")
        if not entries or entries[0].index != 0 or replayed.covered_entries == 0:
            found.append(_finding("ima.boot-aggregate.missing", None, "boot_aggregate first", "another entry or none"))
        else:
            found.extend(_check_first(entries[0], boot_aggregate))
            entries = entries[1:]
    cut = 0
    for entry in entries:
        # A hostile list has half a million such entries: those that are not spelt out are only counted.
        if len(found) >= MAX_REPORTED:
            cut += not _accepted(entry, reference)
        elif (finding := _check_entry(entry, reference)) is not None:
            found.append(finding)
    if cut:
        found.append(_finding("ima.findings.more", None, "0", f"{cut} more findings"))
    if replayed.tail_entries:
        where = Locator(part=PART, offset_bytes=replayed.resume.offset_bytes, entry=replayed.resume.entries)
        found.append(
            Finding(
                code="ima.tail.uncovered",
                severity=Severity.NOTE,
                subject=SUBJECT,
                where=where,
                actual=f"{replayed.tail_entries} entries measured after the quote",
                source=SOURCE,
            )
        )
    return tuple(found)


def malformed(error: ParseError) -> EvidenceError:
    """Return (not raise) the evidence error for a list that cannot be read."""
    return deny(
        error.code,
        PART,
        expected=error.field,
        actual=error.problem,
        where=Locator(part=PART, offset_bytes=error.offset_bytes),
        source=SOURCE,
    )


def _check_first(entry: ImaEntry, boot_aggregate: bytes) -> Iterator[Finding]:
    fields = _fields(entry)
    if isinstance(fields, Finding):
        yield fields
    elif fields.path != BOOT_AGGREGATE or entry.pcr != IMA_PCR:
        yield _finding("ima.boot-aggregate.missing", entry, "boot_aggregate first", fields.path)
    elif entry.violation or fields.digest != boot_aggregate or fields.algorithm != "sha256":
        actual = "a violation" if entry.violation else f"{fields.algorithm}:{fields.digest.hex()}"
        yield _finding("ima.boot-aggregate.mismatch", entry, f"sha256:{boot_aggregate.hex()}", actual)


def _accepted(entry: ImaEntry, reference: ReferenceList) -> bool:
    """Say whether ``_check_entry`` has nothing to report."""
    if entry.pcr != IMA_PCR or entry.violation:
        return False
    try:
        return reference.accepts(entry.fields())
    except ParseError:
        return False


def _check_entry(entry: ImaEntry, reference: ReferenceList) -> Finding | None:
    fields = _fields(entry)
    if isinstance(fields, Finding):
        return fields
    if entry.pcr != IMA_PCR:
        return _finding("ima.pcr.unexpected", entry, f"PCR {IMA_PCR}", f"PCR {entry.pcr}")
    path = _text(fields.path)
    if entry.violation:
        return _finding("ima.violation", entry, "a file nobody writes while it is measured", path)
    if reference.accepts(fields):
        return None
    known = reference.manifest.digests_of(fields.path)
    expected = f"sha256:{known[0].hex()}" if known else "no such file in the release"
    kind = f"{fields.digest_type}:" if fields.digest_type else ""
    return _finding("ima.entry.unknown", entry, expected, f"{path} {kind}{fields.algorithm}:{fields.digest.hex()}")


def _fields(entry: ImaEntry) -> ImaFields | Finding:
    try:
        return entry.fields()
    except ParseError as error:
        return _finding("ima.entry.malformed", entry, error.field, error.problem)


def _finding(code: str, entry: ImaEntry | None, expected: str, actual: str | bytes) -> Finding:
    where = None if entry is None else Locator(part=PART, offset_bytes=entry.offset_bytes, entry=entry.index)
    text = _text(actual) if isinstance(actual, bytes) else actual
    return Finding(
        code=code,
        severity=Severity.DENY,
        subject=SUBJECT,
        where=where,
        expected=expected,
        actual=text[:400],
        source=SOURCE,
    )


def _text(path: bytes) -> str:
    return shown(path.decode("utf-8", "backslashreplace"))


def _frames(log: bytes, at: int, index: int, base_offset: int) -> Iterator[ImaEntry]:
    while at < len(log):
        entry = read_entry(log, at, index=index, base_offset=base_offset)
        yield entry
        at += entry.size_bytes
        index += 1


def _fast_reader(
    log: bytes, reference: ReferenceList
) -> tuple[Callable[[bytes, int], tuple[Any, ...]], int, bytes, dict[bytes, bytes]]:
    """Return how to read an entry of the list's main template in one step: header, its size, name field, table."""
    name_bytes = int.from_bytes(log[24:28], "little")
    template = log[28 : 28 + min(name_bytes, 32)].decode("ascii", "replace")
    if template not in FAST_TEMPLATES:
        template = FAST_TEMPLATES[-1]
    mark = len(template).to_bytes(4, "little") + template.encode("ascii")
    header = struct.Struct(f"<I20s{len(mark)}sI")
    return header.unpack_from, header.size, mark, reference.table(template)
