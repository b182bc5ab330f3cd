# SPDX-License-Identifier: GPL-3.0-or-later
"""A guest's text and read-only data against its profile: each difference is explained by a patch site, or reported.

1. Outside of the sites every page hashes to what the profile says.
2. At each site stands one of its forms.
3. Constants that are known at run time only are the same at each of their sites, and of a kind that they can be.

A later round needs to look only at pages that changed since an earlier one passed: ``changed_pages`` finds those. The
kernel rewrites a site in steps that another processor can see (first a trap, then the rest), so whoever reads a running
guest looks a second time before a difference counts.

Standard library only: dom0 runs this. Pure: bytes in, findings out.

Source: docs/introspection.md.
"""

from __future__ import annotations

import hashlib
import zlib
from bisect import bisect_left
from collections.abc import Iterable, Iterator
from itertools import islice

from ..errors import UsageError
from ..model.codeform import REASONS
from ..model.finding import Finding, Locator, Severity
from ..model.kernelprofile import TEXT, Profile
from ..model.profileparts import DIGEST_BYTES, LINE_BYTES, PAGE_BYTES, Region, Value
from .codematch import Matcher, compile_forms

MAX_FINDINGS = 32
"""More would say no more."""

COMPARED_PAGES = 64
"""Pages compared at once when looking for those that changed."""

_LOWEST_KERNEL = 0xFF00_0000_0000_0000
"""Of five levels of page tables; with four it is higher."""
_CONSTANT = REASONS.index("run-time constant")


class RegionCheck:
    """One region of one profile, ready to be compared with memory.

    Args:
        profile: What it should be.
        name: ``text`` or ``rodata``.
        live: Whether the kernel may have run; without, its sites hold what the file has.
    """

    __slots__ = ("_constant_sites", "_live", "_matchers", "_name", "_profile", "_region")

    def __init__(self, profile: Profile, name: str, *, live: bool) -> None:
        self._profile = profile
        self._name = name
        self._live = live
        self._region: Region = profile.regions[name]
        self._matchers: dict[int, Matcher] = {}
        # Constants are few, and each is compared with all the others, whichever page changed.
        constants = {index for index in range(profile.form_sets) if profile.reason(index) == _CONSTANT}
        sets = self._region.site_sets
        self._constant_sites = [at for at, index in enumerate(sets) if index in constants] if constants else []

    def check(self, data: bytes | memoryview, pages: Iterable[int] | None = None) -> tuple[Finding, ...]:
        """Return what cannot be explained.

        Args:
            data: The whole region.
            pages: Numbers of the pages to look at; all when None.

        Returns:
            At most ``MAX_FINDINGS``, each at an address and with the symbol there.

        Raises:
            UsageError: ``data`` has another length than the region.
            ParseError: a form set of the profile is malformed.

        Trust: ``data`` is an attacker's.
        """
        if len(data) != self._region.size_bytes:
            raise UsageError(f"{len(data)} bytes of a region of {self._region.size_bytes}", code="guest.region.size")
        view = memoryview(data)
        if not self._live and pages is None and hashlib.sha256(view).digest() == self._region.sha256:
            return ()
        numbers = range(self._region.pages) if pages is None else sorted(set(pages))
        found = tuple(islice(self._all(view, numbers), MAX_FINDINGS))
        if not self._live and pages is None and not found:
            # A site that does the same in another spelling: nobody has had the chance to write it.
            return (self._finding(0, self._region.sha256.hex(), hashlib.sha256(view).digest()),)
        return found

    def constants(self, data: bytes | memoryview) -> dict[str, tuple[int, ...]]:
        """Return what stands in the code for each variable that is written into it, unless it is still the file's.

        Whoever can read the variable compares the two.
        """
        seen: dict[int, set[int]] = {}
        view = memoryview(data)
        for site in self._constant_sites:
            self._site(view, site, seen)
        return {
            value.name: tuple(sorted(seen.get(index, set()) - {value.file}))
            for index, value in enumerate(self._profile.values)
        }

    def _all(self, view: memoryview, pages: Iterable[int]) -> Iterator[Finding]:
        offsets = self._region.site_offsets
        seen: dict[int, set[int]] = {}
        done = 0
        for page in pages:
            start, end = page * PAGE_BYTES, min((page + 1) * PAGE_BYTES, self._region.size_bytes)
            first, last = bisect_left(offsets, start), bisect_left(offsets, end)
            # A site may reach in from the page before.
            if first and offsets[first - 1] + self._matcher(first - 1).length > start:
                first -= 1
            yield from self._page(view, page, start, end, range(first, last))
            for site in range(max(first, done), last):
                if not self._site(view, site, seen):
                    yield self._bad_site(view, site)
            done = last
        for site in self._constant_sites:
            self._site(view, site, seen)
        for index, value in enumerate(self._profile.values):
            yield from self._constant(value, seen.get(index, set()))

    def _page(self, view: memoryview, page: int, start: int, end: int, sites: range) -> Iterator[Finding]:
        blank = bytearray(view[start:end])
        offsets = self._region.site_offsets
        for site in sites:
            at = offsets[site] - start
            low, high = max(at, 0), min(at + self._matcher(site).length, len(blank))
            blank[low:high] = bytes(high - low)
        wanted = self._region.page_digests[page * DIGEST_BYTES : (page + 1) * DIGEST_BYTES]
        found = hashlib.sha256(blank).digest()
        if found == wanted:
            return
        at = self._first_line(page, blank)
        yield self._finding(start + at, "the code of the file" if self._name == TEXT else "the data of the file", found)

    def _first_line(self, page: int, blank: bytearray) -> int:
        """Return where in the page the first changed line begins; only a help for people."""
        sums, first = self._region.line_sums, page * (PAGE_BYTES // LINE_BYTES)
        for number, at in enumerate(range(0, len(blank), LINE_BYTES)):
            if zlib.crc32(blank[at : at + LINE_BYTES]) != sums[first + number]:
                return at
        return 0

    def _site(self, view: memoryview, site: int, seen: dict[int, set[int]]) -> bool:
        at = self._region.site_offsets[site]
        matcher = self._matcher(site)
        return matcher.allows(bytes(view[at : at + matcher.length]), self._region.start + at, seen)

    def _matcher(self, site: int) -> Matcher:
        index = self._region.site_sets[site]
        found = self._matchers.get(index)
        if found is None:
            found = self._matchers[index] = compile_forms(self._profile.form_set(index), first_only=not self._live)
        return found

    def _bad_site(self, view: memoryview, site: int) -> Finding:
        at = self._region.site_offsets[site]
        index = self._region.site_sets[site]
        reason = REASONS[self._profile.reason(index)]
        return self._finding(at, f"a form of its {reason}", bytes(view[at : at + self._matcher(site).length]))

    def _constant(self, value: Value, seen: set[int]) -> Iterator[Finding]:
        found = seen - {value.file} if self._live else seen
        fit = all(_fits(value, number) for number in found) if self._live else found <= {value.file}
        if len(found) <= 1 and fit:
            return
        shown_values = ", ".join(f"{number:#x}" for number in sorted(found)[:4])
        yield Finding(
            code="guest.text.changed" if self._name == TEXT else "guest.rodata.changed",
            severity=Severity.DENY,
            subject=f"kernel:{self._name}",
            where=Locator(part=f"constant {value.name}"),
            expected="one value, the same at each place, that it can have",
            actual=shown_values,
        )

    def _finding(self, at: int, expected: str, found: bytes) -> Finding:
        address = self._region.start + at
        return Finding(
            code="guest.text.changed" if self._name == TEXT else "guest.rodata.changed",
            severity=Severity.DENY,
            subject=f"kernel:{self._name}",
            where=Locator(part=f"{self._profile.name_of(address)} at {address:#x}"),
            expected=expected,
            actual=found.hex()[:64],
        )


def check_region(
    profile: Profile, name: str, data: bytes | memoryview, *, live: bool, pages: Iterable[int] | None = None
) -> tuple[Finding, ...]:
    """Return what cannot be explained in a region, as ``RegionCheck.check`` does; for one look."""
    return RegionCheck(profile, name, live=live).check(data, pages)


def changed_pages(before: bytes | bytearray, after: bytes | bytearray) -> Iterator[int]:
    """Yield the numbers of the pages in which two snapshots of a region differ.

    Raises:
        UsageError: they have different lengths.
    """
    if len(before) != len(after):
        raise UsageError(f"snapshots of {len(before)} and {len(after)} bytes", code="guest.region.size")
    # Slices are copies, and yet much faster than views: those are compared byte after byte.
    step = COMPARED_PAGES * PAGE_BYTES
    for start in range(0, len(before), step):
        if before[start : start + step] == after[start : start + step]:
            continue
        for at in range(start, min(start + step, len(before)), PAGE_BYTES):
            if before[at : at + PAGE_BYTES] != after[at : at + PAGE_BYTES]:
                yield at // PAGE_BYTES


def _fits(value: Value, number: int) -> bool:
    if value.allowed:
        return number in value.allowed
    if value.size_bytes == 1:
        return 0 < number < 64
    return number >= _LOWEST_KERNEL and number % 8 == 0
