# SPDX-License-Identifier: GPL-3.0-or-later
"""The introspection profile of a kernel, out of its ``vmlinuz`` and nothing else.

Which symbols, members and constants go in is ``model.kernelneeds``' to say.
"""

from __future__ import annotations

import hashlib
import zlib
from array import array
from collections.abc import Iterator, Mapping

from ..errors import ParseError
from ..model.codeform import REASONS, FormSet, anything
from ..model.kernelneeds import CONSTANTS, OPTIONAL, OPTIONAL_STRUCTS, SIZES, STRUCTS, SYMBOLS
from ..model.kernelprofile import RODATA, TEXT, Profile, encoded_sets
from ..model.profileparts import DIGEST_BYTES, LINE_BYTES, PAGE_BYTES, Region, Segment
from ..parse.btf import Btf
from .hooktables import find_gates, find_hooks
from .kernelimage import KernelImage
from .patchsites import PatchSites

MAX_BANNER_BYTES = 512

_UNTELLING = (
    *("__pfx_", "__ksymtab", "__kcrctab", "__kstrtab", "__BTF_ID__", "__already_done", "__bpf_trace_", "__UNIQUE_ID"),
    "__SCT__tp_func",
)
"""How names begin that the build made up; they are half of all."""

Sites = Mapping[int, FormSet]
"""Offset from the start of a region to what may stand there."""


def make_profile(vmlinuz: bytes) -> Profile:
    """Return the profile of a kernel.

    Args:
        vmlinuz: The boot image, as the distribution signed it.

    Raises:
        ParseError: it is no x86-64 kernel with BTF and kallsyms, or lacks something that every kernel of the supported
            versions has.
    """
    return profile_of(KernelImage(vmlinuz))


def profile_of(kernel: KernelImage) -> Profile:
    """Return the profile of a kernel that was taken apart already."""
    banner = kernel.elf.read(kernel.symbol("linux_banner"), MAX_BANNER_BYTES).tobytes().partition(b"\0")[0]
    hooks = find_hooks(kernel)
    sites = PatchSites(kernel, hooks)
    text = sites.find(kernel.symbol("_stext"), kernel.symbol("_etext"))
    sets: dict[FormSet, int] = {}
    regions = {
        TEXT: region(kernel, "_stext", "_etext", text, sets),
        RODATA: region(kernel, "__start_rodata", "__end_rodata", _read_only_later(kernel), sets),
    }
    offsets, sizes = layout(kernel.btf)
    return Profile(
        release=release_of(banner),
        banner=banner,
        symbols=dict(_symbols(kernel)),
        offsets=offsets,
        sizes=sizes,
        constants={
            **{name: kernel.btf.enumerator(name) for name in CONSTANTS},
            "selinux_hooks.count": kernel.span("selinux_hooks") // kernel.btf.size("security_hook_list"),
        },
        segments=[
            Segment(
                virtual=item.virtual,
                physical=item.physical,
                size_bytes=item.size_bytes,
                file_bytes=len(item.data),
                sha256=hashlib.sha256(item.data).digest(),
            )
            for item in kernel.elf.segments
        ],
        regions=regions,
        form_sets=encoded_sets(list(sets)),
        values=sites.values,
        hooks=hooks,
        gates=find_gates(kernel),
        names=list(_names(kernel, regions)),
    )


def _read_only_later(kernel: KernelImage) -> Sites:
    """Return the part of the read-only data that the kernel fills while it starts; the measurer freezes it then."""
    start, data = kernel.between("__start_ro_after_init", "__end_ro_after_init")
    allowed = FormSet(len(data), REASONS.index("read-only after start"), ((anything(len(data)),),))
    return {start - kernel.symbol("__start_rodata"): allowed}


def _names(kernel: KernelImage, regions: Mapping[str, Region]) -> Iterator[tuple[int, str]]:
    """Yield address and name of what is in the regions; of several at one address the first by name."""
    last = -1
    for address, name in kernel.named():
        inside = any(0 <= address - item.start < item.size_bytes for item in regions.values())
        if inside and address != last and not name.startswith(_UNTELLING):
            last = address
            yield address, name


def release_of(banner: bytes) -> str:
    """Return the version in ``Linux version 6.12.1-x (builder) …``.

    Raises:
        ParseError: the banner begins otherwise.
    """
    words = banner.split(b" ", 3)
    if words[:2] != [b"Linux", b"version"] or len(words) < 3 or not words[2].isascii():
        raise ParseError("kernel.linux_banner", 0, "begins with something else than Linux version")
    return words[2].decode("ascii")


def region(kernel: KernelImage, start: str, stop: str, sites: Sites, sets: dict[FormSet, int]) -> Region:
    """Return a region between two symbols.

    Args:
        kernel: The kernel.
        start: Symbol of its first byte.
        stop: Symbol behind its last one. It may stand behind what is loaded, at the end of a page; nobody says what is
            between the two.
        sites: Where it may change, none overlapping the next.
        sets: Form sets so far, with their numbers; new ones are added.
    """
    first = kernel.symbol(start)
    data = kernel.image(first, min(kernel.symbol(stop), kernel.loaded_until(first)) - first)
    places = sorted(sites)
    blank = bytearray(data)
    for at in places:
        length = sites[at].length
        blank[at : at + length] = bytes(length)
    view = memoryview(blank)
    digests = b"".join(hashlib.sha256(view[at : at + PAGE_BYTES]).digest() for at in range(0, len(blank), PAGE_BYTES))
    assert len(digests) == DIGEST_BYTES * -(-len(data) // PAGE_BYTES)
    return Region(
        start=first,
        size_bytes=len(data),
        sha256=hashlib.sha256(data).digest(),
        page_digests=digests,
        line_sums=array("I", [zlib.crc32(view[at : at + LINE_BYTES]) for at in range(0, len(blank), LINE_BYTES)]),
        site_offsets=array("I", places),
        site_sets=array("I", [sets.setdefault(sites[at], len(sets)) for at in places]),
    )


def layout(btf: Btf) -> tuple[dict[str, int], dict[str, int]]:
    """Return where the members are that the measurer needs, and how large they and their structures are.

    Raises:
        ParseError: a member is missing that is not optional.
    """
    offsets: dict[str, int] = {}
    sizes: dict[str, int] = {}
    for wanted, needed in ((STRUCTS, True), (OPTIONAL_STRUCTS, False)):
        for struct_name, members in wanted.items():
            for member in members:
                try:
                    found = btf.member(struct_name, member)
                except ParseError:
                    if needed:
                        raise
                    continue
                name = f"{struct_name}.{member}"
                if found.bit_field:
                    offsets[f"{name}:bit"] = found.offset_bits
                else:
                    offsets[name] = found.offset_bits // 8
                    sizes[name] = found.size_bytes
    for name in SIZES:
        try:
            sizes[name] = btf.size(name)
        except ParseError:
            continue
    return offsets, sizes


def _symbols(kernel: KernelImage) -> Iterator[tuple[str, int]]:
    for name in SYMBOLS:
        yield name, kernel.symbol(name)
    for name in OPTIONAL:
        found = kernel.find(name)
        if found is not None:
            yield name, found
