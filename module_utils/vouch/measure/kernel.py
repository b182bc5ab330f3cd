# SPDX-License-Identifier: GPL-3.0-or-later
"""The guest's kernel by names: symbols, members of structs, lists. The profile says where everything is."""

from __future__ import annotations

from collections.abc import Iterator

from ..model.kernelprofile import Profile
from .memory import GuestMemoryError
from .pages import AddressSpace

MAX_LIST = 65_536
"""Items of one list; an honest guest has hundreds of tasks and dozens of modules."""

MAX_STRING_BYTES = 4096


class Kernel:
    """One kernel.

    Args:
        space: Its address space.
        profile: What it was built from.

    Raises:
        GuestMemoryError: by every method, as ``AddressSpace``.
    """

    __slots__ = ("profile", "space")

    def __init__(self, space: AddressSpace, profile: Profile) -> None:
        self.space = space
        self.profile = profile

    def symbol(self, name: str) -> int:
        """Return the address of a symbol; a name the profile lacks is our own mistake (``KeyError``)."""
        return self.profile.symbols[name]

    def has(self, name: str) -> bool:
        """Say whether this kernel has the symbol or the member ``struct.member``."""
        return name in self.profile.symbols or name in self.profile.offsets

    def place(self, base: int, member: str) -> int:
        """Return the address of ``struct.member`` (members of members joined by dots) of the struct at ``base``."""
        return base + self.profile.offsets[member]

    def value(self, base: int, member: str) -> int:
        """Return an unsigned member of the struct at ``base``."""
        return self.space.unsigned(self.place(base, member), self.profile.sizes[member])

    def pointer(self, base: int, member: str) -> int:
        """Return a member that is a pointer."""
        return self.space.u64(self.place(base, member))

    def number(self, name: str, size_bytes: int = 4) -> int:
        """Return an unsigned variable."""
        return self.space.unsigned(self.symbol(name), size_bytes)

    def string(self, base: int, member: str) -> str:
        """Return a member that is an array of characters, up to its NUL."""
        data = self.space.read(self.place(base, member), min(self.profile.sizes[member], MAX_STRING_BYTES))
        return data.split(b"\0", 1)[0].decode("ascii", "replace")

    def entries(self, head: int, member: str, *, limit: int = MAX_LIST) -> Iterator[int]:
        """Yield the structs on the ``list_head`` at ``head`` that hang there by ``struct.member``.

        Raises:
            GuestMemoryError: ``guest.list.broken`` where a link back is not the way we came, ``guest.list.endless``.
        """
        offset = self.profile.offsets[member]
        before, at = head, self.space.u64(head)
        for _ in range(limit):
            self.space.budget.spend()
            back = self.space.u64(at + 8)
            if back != before:
                raise GuestMemoryError(
                    f"the list at {head:#x} is cut: a link leads to {back:#x}", code="guest.list.broken"
                )
            if at == head:
                return
            yield at - offset
            before, at = at, self.space.u64(at)
        raise GuestMemoryError(f"the list at {head:#x} has no end", code="guest.list.endless")

    def inside_text(self, address: int) -> bool:
        """Say whether the address is in the kernel's own text."""
        region = self.profile.regions["text"]
        return region.start <= address < region.start + region.size_bytes
