# SPDX-License-Identifier: GPL-3.0-or-later
"""How many measurements of dom0's list are replayed and judged per second."""

from __future__ import annotations

import functools
import hashlib
from dataclasses import dataclass

from . import keylime
from .harness import Measured, NotMeasuredError, at_least, rate, row

ENTRIES = 100_000
TEMPLATE = "ima-sig"
BOOT_AGGREGATE = bytes(range(32))


@dataclass(frozen=True, slots=True)
class Generated:
    """One measurement list in both spellings, with its manifest and the register it leads to."""

    binary: bytes
    ascii: str
    manifest: bytes
    digests: dict[str, list[str]]
    pcr10: bytes


@functools.cache
def generated() -> Generated:
    """Return a list of ``ENTRIES`` different files, each in the manifest; the first entry is boot_aggregate."""
    from vouch.parse.imalog import encode_entry, encode_template_data

    binary, text, lines = [], [], []
    digests: dict[str, list[str]] = {}
    pcr10 = bytes(32)
    for number in range(ENTRIES):
        path = f"/usr/lib/x86_64-linux-gnu/package-{number % 997}/libexample-{number}.so.{number % 7}"
        digest = hashlib.sha256(path.encode()).digest()
        if number == 0:
            path, digest = "boot_aggregate", BOOT_AGGREGATE
        else:
            lines.append(f"{digest.hex()}  {path}")
        digests[path] = [digest.hex()]
        data = encode_template_data(TEMPLATE, "sha256", digest, path.encode())
        binary.append(encode_entry(10, TEMPLATE, data))
        text.append(
            f"10 {hashlib.sha1(data, usedforsecurity=False).hexdigest()} {TEMPLATE} sha256:{digest.hex()} {path} "
        )
        pcr10 = hashlib.sha256(pcr10 + hashlib.sha256(data).digest()).digest()
    manifest = ("\n".join(sorted(lines)) + "\n").encode()
    return Generated(b"".join(binary), "\n".join(text), manifest, digests, pcr10)


@functools.cache
def keylime_rate() -> tuple[float | None, str]:
    """Return Keylime's rate on the same list, or None and why."""
    data = generated()
    try:
        return keylime.measure(data.ascii, data.digests, data.pcr10, ENTRIES), ""
    except NotMeasuredError as error:
        return None, f"no baseline value: {error}"


def judge(reference: object) -> None:
    """Replay and judge the whole list; any finding is an error of the benchmark."""
    from vouch.check.imarules import ReferenceList, check_ima, replay_ima
    from vouch.model.ima import ImaResume

    assert isinstance(reference, ReferenceList)
    data = generated()
    start = ImaResume.start(reset_count=1, restart_count=0)
    replayed = replay_ima(data.binary, start=start, quoted_pcr10=data.pcr10, reference=reference)
    findings = check_ima(replayed, reference=reference, boot_aggregate=BOOT_AGGREGATE)
    if findings or replayed.covered_entries != ENTRIES:
        raise RuntimeError(f"{len(findings)} findings on a good list, {replayed.covered_entries} entries covered")


@row("ima.replay.first", "entries/s/core", target=at_least(300_000), baseline=keylime.NAME)
def first_list() -> Measured:
    """The first list judged against a release. Its table is ready, like Keylime's policy; no digest is known yet."""
    from vouch.check.imarules import ReferenceList
    from vouch.model.ima import FileManifest

    manifest = FileManifest.from_bytes(generated().manifest)

    def fresh() -> ReferenceList:
        reference = ReferenceList(manifest)
        reference.table(TEMPLATE)
        return reference

    value = rate(ENTRIES, judge, prepare=fresh)
    baseline, note = keylime_rate()
    about = f"{ENTRIES:,} different entries of {TEMPLATE}, each in the manifest; first list of that release"
    return Measured(value=value, baseline_value=baseline, note="; ".join(part for part in (about, note) if part))


@row("ima.replay.next", "entries/s/core", target=at_least(300_000), baseline=keylime.NAME)
def next_list() -> Measured:
    """Every later list of the same release, of any host: the digests it predicts are in the table already."""
    from vouch.check.imarules import ReferenceList
    from vouch.model.ima import FileManifest

    reference = ReferenceList(FileManifest.from_bytes(generated().manifest))
    judge(reference)
    value = rate(ENTRIES, lambda _: judge(reference))
    baseline, note = keylime_rate()
    about = f"the same {ENTRIES:,} entries again, as from a second host"
    return Measured(value=value, baseline_value=baseline, note="; ".join(part for part in (about, note) if part))


@row("ima.reference.build", "files/s/core")
def reference_build() -> Measured:
    """Manifest bytes to a ready reference table, once per release and process."""
    from vouch.check.imarules import ReferenceList
    from vouch.model.ima import FileManifest

    manifest = generated().manifest
    return Measured(value=rate(ENTRIES, lambda _: ReferenceList(FileManifest.from_bytes(manifest)).table(TEMPLATE)))
