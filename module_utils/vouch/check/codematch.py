# SPDX-License-Identifier: GPL-3.0-or-later
"""Whether the bytes at a patch site are one of its forms.

Most sites hold a branch or a few fixed bytes, so a form set is first turned into what can be compared at once: exact
bytes, and branches by their targets. What is left is matched part by part.

Source: Linux 6.1 and 6.12, arch/x86/kernel/alternative.c (x86_nops, add_nop).
"""

from __future__ import annotations

import re
from typing import NamedTuple

from ..model.codeform import ANY, LITERAL, NOPS, REL32, VALUE, Form, FormSet

NOPS_BY_LENGTH = (
    b"",
    b"\x90",
    b"\x66\x90",
    b"\x0f\x1f\x00",
    b"\x0f\x1f\x40\x00",
    b"\x0f\x1f\x44\x00\x00",
    b"\x66\x0f\x1f\x44\x00\x00",
    b"\x0f\x1f\x80\x00\x00\x00\x00",
    b"\x0f\x1f\x84\x00\x00\x00\x00\x00",
)
"""How the kernel spells doing nothing."""

_NOTHING = re.compile(
    rb"(?:\x66{0,3}\x90|\x66{0,4}\x2e?\x0f\x1f(?:\x00|\x40\x00|\x44\x00\x00|\x80\x00{4}|\x84\x00{5}))+"
)
_SHORT_OVER, _LONG_OVER = 0xEB, 0xE9
_FILL = frozenset(b"\xcc\x90")
_ADDRESSES = (1 << 64) - 1


class Matcher(NamedTuple):
    """A form set, ready to be compared.

    Attributes:
        length: Bytes of the site.
        exact: Contents that are allowed wherever the site is.
        branches: What stands in front of a distance of four bytes that ends the site, to the targets allowed.
        others: Forms that need more.
    """

    length: int
    exact: frozenset[bytes]
    branches: dict[bytes, frozenset[int]]
    others: tuple[Form, ...]

    def allows(self, found: bytes, address: int, values: dict[int, set[int]]) -> bool:
        """Say whether ``found`` may stand at ``address``.

        Args:
            found: As many bytes as the site has.
            address: Where they stand.
            values: Is given each constant that a form leaves open.
        """
        if found in self.exact:
            return True
        if self.length > 4:
            targets = self.branches.get(found[:-4])
            if targets is not None:
                distance = int.from_bytes(found[-4:], "little", signed=True)
                if (address + self.length + distance) & _ADDRESSES in targets:
                    return True
        return any(_matches(form, found, address, values) for form in self.others)


def compile_forms(wanted: FormSet, *, first_only: bool = False) -> Matcher:
    """Return the matcher of a form set.

    Args:
        wanted: The forms.
        first_only: Only what the file has is allowed.
    """
    exact: set[bytes] = set()
    branches: dict[bytes, set[int]] = {}
    others: list[Form] = []
    for form in wanted.forms[:1] if first_only else wanted.forms:
        kinds = tuple(part.kind for part in form)
        if kinds == (LITERAL, REL32) and not form[1].tail:
            branches.setdefault(form[0].data, set()).add(form[1].target)
            continue
        if set(kinds) <= {LITERAL, NOPS}:
            exact.add(b"".join(part.data or nothing(part.length) for part in form))
        if kinds != (LITERAL,):
            others.append(form)
    targets = {head: frozenset(found) for head, found in branches.items()}
    return Matcher(wanted.length, frozenset(exact), targets, tuple(others))


def nothing(length: int) -> bytes:
    """Return ``length`` bytes that do nothing, as the kernel writes them."""
    longest = len(NOPS_BY_LENGTH) - 1
    return NOPS_BY_LENGTH[longest] * (length // longest) + NOPS_BY_LENGTH[length % longest]


def is_nothing(code: bytes) -> bool:
    """Say whether these bytes do nothing: known spellings in a row, or a jump to their end."""
    if _NOTHING.fullmatch(code):
        return True
    for opcode, size in ((_SHORT_OVER, 2), (_LONG_OVER, 5)):
        if len(code) > size and code[0] == opcode and _FILL.issuperset(code[size:]):
            return int.from_bytes(code[1:size], "little", signed=True) == len(code) - size
    return False


def _matches(form: Form, found: bytes, address: int, values: dict[int, set[int]]) -> bool:
    at = 0
    seen: list[tuple[int, int]] = []
    for part in form:
        end = at + part.length
        here = found[at:end]
        if part.kind == LITERAL:
            if here != part.data:
                return False
        elif part.kind == NOPS:
            if not is_nothing(here):
                return False
        elif part.kind == VALUE:
            seen.append((part.value, int.from_bytes(here, "little")))
        elif part.kind != ANY:
            distance = int.from_bytes(here, "little", signed=True)
            if (address + end + part.tail + distance) & _ADDRESSES != part.target:
                return False
        at = end
    for value, number in seen:
        values.setdefault(value, set()).add(number)
    return True
