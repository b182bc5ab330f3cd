# SPDX-License-Identifier: GPL-3.0-or-later
"""The introspection profile of one guest kernel: what its memory must look like, told from its ``vmlinuz`` alone.

======== ===== =====================================================
offset   size  field
======== ===== =====================================================
0        8     ``VOUCHKP`` and the version, 1
8        4     bytes of the header
12       …     header: canonical JSON
…        …     a region after the other, by name: SHA-256 of each page (32 bytes), CRC-32 of each 256 bytes (4 bytes),
               offset of each site (4 bytes), form set of each site (4 bytes)
…        …     names of what is in the regions, for people: lines of address and name
…        …     form sets: where each begins and where the last ends (4 bytes), then the sets themselves
======== ===== =====================================================

Numbers are little-endian; addresses in the header are hexadecimal text, since JSON's integers are too small for them.
Reading it checks every count, order and bound; a form set is decoded when it is first asked for.

The header::

    {"release": str, "banner": hex, "symbols": {name: address}, "offsets": {"struct.member": bytes},
     "sizes": {"struct" or "struct.member": bytes}, "constants": {name: int},
     "segments": [{"virtual","physical","size_bytes","file_bytes","sha256"}],
     "regions": {name: {"start","size_bytes","sha256","sites"}}, "form_sets": int, "names": int (bytes),
     "values": [{"name","size_bytes","file","allowed":[hex]}],
     "hooks": {name: {"offset","slots","functions":[address]}}, "gates": {vector: [address]}}

Source: docs/introspection.md.
"""

from __future__ import annotations

import json
import operator
import sys
from array import array
from bisect import bisect_right
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any

from ..errors import ParseError, UsageError
from ..parse.canonical import dump_canonical, load_canonical
from ..parse.cursor import Cursor
from ..parse.fields import Fields
from .codeform import FormSet, decode_form_set, encode_form_set
from .profileparts import (
    Hook,
    Region,
    Segment,
    Value,
    hook_json,
    read_address,
    read_counts,
    read_gates,
    read_hooks,
    read_numbers,
    read_region,
    read_segments,
    read_values,
    region_json,
    segment_json,
    value_json,
)

MAGIC = b"VOUCHKP\x01"

MAX_PROFILE_BYTES = 32 << 20
MAX_HEADER_BYTES = 4 << 20
MAX_FORM_SETS = 1_000_000
MAX_NAMES_BYTES = 16 << 20

TEXT, RODATA = "text", "rodata"


class Profile:
    """One kernel, as its guest's memory must show it.

    Attributes:
        release: Its version, such as ``6.12.117+deb13-amd64``.
        banner: ``linux_banner`` up to its NUL.
        symbols: Name to virtual address, of those that the measurer asks for.
        offsets: ``struct.member`` to its bytes from the start; of a bit field ``struct.member:bit`` to its bits.
        sizes: ``struct`` or ``struct.member`` to bytes.
        constants: Name to number.
        segments: What is loaded where.
        regions: ``text`` and ``rodata``.
        values: What is written into the code at run time.
        hooks: The hooks of the security modules, by name.
        gates: Vector of the processor to the handlers that the kernel has for it.
        form_sets: Number of form sets.

    Raises:
        UsageError: by the constructor, for parts that no reader would accept.
    """

    __slots__ = (
        "_decoded", "_named", "_names", "_set_at", "_set_data", "banner", "constants", "gates", "hooks", "offsets",
        "regions", "release",
        "segments", "sizes", "symbols", "values",
    )  # fmt: skip

    def __init__(
        self,
        *,
        release: str,
        banner: bytes,
        symbols: Mapping[str, int],
        offsets: Mapping[str, int],
        sizes: Mapping[str, int],
        constants: Mapping[str, int],
        segments: Sequence[Segment],
        regions: Mapping[str, Region],
        form_sets: Sequence[bytes],
        values: Sequence[Value] = (),
        hooks: Mapping[str, Hook] | None = None,
        gates: Mapping[int, tuple[int, ...]] | None = None,
        names: Sequence[tuple[int, str]] = (),
    ) -> None:
        self.release = release
        self.banner = banner
        self.symbols: Mapping[str, int] = MappingProxyType(dict(symbols))
        self.offsets: Mapping[str, int] = MappingProxyType(dict(offsets))
        self.sizes: Mapping[str, int] = MappingProxyType(dict(sizes))
        self.constants: Mapping[str, int] = MappingProxyType(dict(constants))
        self.segments = tuple(segments)
        self.regions: Mapping[str, Region] = MappingProxyType({name: regions[name] for name in sorted(regions)})
        self.values = tuple(values)
        self.hooks: Mapping[str, Hook] = MappingProxyType(dict(hooks or {}))
        self.gates: Mapping[int, tuple[int, ...]] = MappingProxyType(dict(gates or {}))
        lines = "".join(f"{address:x} {name}\n" for address, name in sorted(names))
        self._names = lines.encode("utf-8")
        self._named: tuple[list[int], list[str]] | None = None
        self._set_at = array("I", [0])
        for encoded in form_sets:
            self._set_at.append(self._set_at[-1] + len(encoded))
        self._set_data = b"".join(form_sets)
        self._decoded: dict[int, FormSet] = {}

    @property
    def form_sets(self) -> int:
        """How many form sets there are."""
        return len(self._set_at) - 1

    def form_set(self, index: int) -> FormSet:
        """Return a form set by its number.

        Raises:
            ParseError: it is malformed.
        """
        found = self._decoded.get(index)
        if found is None:
            start, end = self._set_at[index], self._set_at[index + 1]
            found = decode_form_set(self._set_data[start:end], values=len(self.values), base=start)
            self._decoded[index] = found
        return found

    def reason(self, index: int) -> int:
        """Return why a form set is one: index into ``REASONS``."""
        return self._set_data[self._set_at[index] + 4]

    def name_of(self, address: int) -> str:
        """Return ``symbol+offset`` of an address in a region, or the address where no name is known; for people."""
        if self._named is None:
            self._named = _read_names(self._names)
        starts, names = self._named
        at = bisect_right(starts, address)
        if not at:
            return f"{address:#x}"
        distance = address - starts[at - 1]
        return f"{names[at - 1]}+{distance:#x}" if distance else names[at - 1]

    def to_bytes(self) -> bytes:
        """Return the file.

        Raises:
            UsageError: this machine's numbers are not little-endian.
        """
        if sys.byteorder != "little":
            raise UsageError("profiles are made on little-endian machines", code="profile.byteorder")
        header = dump_canonical(self._header())
        out = [MAGIC, len(header).to_bytes(4, "little"), header]
        for region in self.regions.values():
            out += [region.page_digests, region.line_sums.tobytes()]
            out += [region.site_offsets.tobytes(), region.site_sets.tobytes()]
        return b"".join([*out, self._names, self._set_at.tobytes(), self._set_data])

    @classmethod
    def from_bytes(cls, data: bytes, *, known: bool = False) -> Profile:
        """Return the profile of a file.

        Args:
            data: The file.
            known: The very same bytes were read before. Then what takes a look at each of 100,000 sites is not done
                again, nor is the header held against its canonical form.

        Raises:
            ParseError: anything else than one profile within its limits.

        Trust: nothing is proven; compare the file's digest with the guest package's first.
        """
        cursor = Cursor(data, limit_bytes=MAX_PROFILE_BYTES, what="profile")
        cursor.expect(MAGIC, "magic")
        raw = cursor.take(cursor.u32le("header"), "header")
        fields = Fields(json.loads(raw) if known else load_canonical(raw, limit_bytes=MAX_HEADER_BYTES), "profile")
        heads = fields.object("regions")
        regions = {name: read_region(cursor, heads.object(name), name) for name in (RODATA, TEXT)}
        heads.done()
        names = cursor.take(fields.integer("names", maximum=MAX_NAMES_BYTES), "names")
        set_at = read_numbers(cursor, fields.integer("form_sets", maximum=MAX_FORM_SETS) + 1, "form_sets")
        rest = cursor.take(cursor.remaining, "form_sets")
        if set_at[0] or set_at[-1] != len(rest) or not (known or all(map(operator.lt, set_at, set_at[1:]))):
            raise cursor.fail("form_sets", "do not stand one after the other")
        symbols = fields.object("symbols").rest()
        profile = cls(
            release=fields.text("release", maximum_chars=256),
            banner=fields.hex("banner"),
            symbols={name: read_address(name, at) for name, at in symbols.items()},
            offsets=read_counts(fields.object("offsets")),
            sizes=read_counts(fields.object("sizes")),
            constants=read_counts(fields.object("constants"), negative=True),
            segments=read_segments(fields),
            regions=regions,
            form_sets=(),
            values=read_values(fields),
            hooks=read_hooks(fields.object("hooks")),
            gates=read_gates(fields.object("gates")),
        )
        fields.done()
        profile._names = names
        profile._set_at = set_at
        profile._set_data = rest
        if not known:
            # The length of a set is its first four bytes.
            lengths = [int.from_bytes(rest[at : at + 4], "little") for at in set_at[:-1]]
            for name, region in regions.items():
                profile._check_sites(name, region, lengths)
        return profile

    def _check_sites(self, name: str, region: Region, lengths: Sequence[int]) -> None:
        """Return when every site has a form set, lies inside the region, and none overlaps the next."""
        offsets, sets = region.site_offsets, region.site_sets
        if not offsets:
            return
        if max(sets) >= self.form_sets:
            raise ParseError(f"profile.{name}", 0, f"form set {max(sets)} of {self.form_sets}")
        ends = list(map(operator.add, offsets, map(lengths.__getitem__, sets)))
        if not all(map(operator.le, ends, offsets[1:])) or ends[-1] > region.size_bytes or min(lengths) < 1:
            raise ParseError(f"profile.{name}", 0, "sites overlap or lie outside")

    def _header(self) -> dict[str, Any]:
        return {
            "release": self.release,
            "banner": self.banner.hex(),
            "symbols": {name: f"{at:x}" for name, at in self.symbols.items()},
            "offsets": self.offsets,
            "sizes": self.sizes,
            "constants": self.constants,
            "segments": [segment_json(item) for item in self.segments],
            "regions": {name: region_json(region) for name, region in self.regions.items()},
            "form_sets": self.form_sets,
            "names": len(self._names),
            "values": [value_json(item) for item in self.values],
            "hooks": {name: hook_json(hook) for name, hook in self.hooks.items()},
            "gates": {str(vector): [f"{at:x}" for at in handlers] for vector, handlers in self.gates.items()},
        }


def encoded_sets(sets: Sequence[FormSet]) -> list[bytes]:
    """Return form sets as the constructor of ``Profile`` takes them."""
    return [encode_form_set(item) for item in sets]


def _read_names(data: bytes) -> tuple[list[int], list[str]]:
    """Return addresses and names; a table that is malformed has none, since it decides nothing."""
    try:
        text = data.decode("utf-8")
        pairs = [(int(address, 16), name) for address, name in (line.split(" ", 1) for line in text.splitlines())]
    except ValueError:
        return [], []
    return [address for address, _ in pairs], [name for _, name in pairs]
