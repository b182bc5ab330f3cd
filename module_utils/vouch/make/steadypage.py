# SPDX-License-Identifier: GPL-3.0-or-later
"""A page of a kernel's code that nothing ever patches: in memory it is what it is in the file, in every guest."""

from __future__ import annotations

from bisect import bisect_left

from ..errors import ParseError
from ..model.kernelprofile import TEXT, Profile
from ..model.profileparts import PAGE_BYTES
from .introspection import profile_of
from .kernelimage import KernelImage

LONGEST_SITE_BYTES = 64
"""No patch site is longer, so none that begins so far before the page reaches into it."""


def steady_page(vmlinuz: bytes, profile: Profile | None = None) -> tuple[int, bytes]:
    """Return address and content of the last such page of the text.

    Args:
        vmlinuz: The boot image, as the distribution signed it.
        profile: Its own, where it is at hand; otherwise it is made, which takes seconds.

    Raises:
        ParseError: what ``make_profile`` raises, or ``kernel.patched`` when every page has a patch site.
    """
    kernel = KernelImage(vmlinuz)
    region = (profile or profile_of(kernel)).regions[TEXT]
    for page in range(region.size_bytes // PAGE_BYTES - 1, 0, -1):
        begin = page * PAGE_BYTES
        at = bisect_left(region.site_offsets, begin - LONGEST_SITE_BYTES)
        if at == len(region.site_offsets) or region.site_offsets[at] >= begin + PAGE_BYTES:
            content = kernel.elf.read(region.start + begin, PAGE_BYTES).tobytes()
            # Padding is the same in every kernel, and in a hundred places of each.
            if len(set(content)) > PAGE_BYTES // 64:
                return region.start + begin, content
    raise ParseError("vmlinuz", 0, "every page of its text has a patch site", code="kernel.patched")
