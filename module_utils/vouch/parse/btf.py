# SPDX-License-Identifier: GPL-3.0-or-later
"""BTF, the kernel's own description of its types: offsets of members, sizes, values of enumerations.

Source: Linux 6.12, Documentation/bpf/btf.rst, 2 (encoding).
"""

from __future__ import annotations

import struct
from typing import NamedTuple

from ..errors import ParseError

MAX_BTF_BYTES = 32 << 20
MAX_TYPES = 1 << 20
MAX_DEPTH = 32

_INT, _POINTER, _ARRAY, _STRUCT, _UNION, _ENUM, _FORWARD, _TYPEDEF = range(1, 9)
_VOLATILE, _CONST, _RESTRICT, _FUNC, _PROTOTYPE, _VAR, _DATASEC, _FLOAT, _DECL_TAG, _TYPE_TAG, _ENUM64 = range(9, 20)
_MAGIC = 0xEB9F
_HEADER = struct.Struct("<HBBIIIII")
_TYPE = struct.Struct("<III")
_MEMBER = struct.Struct("<III")
_THROUGH = frozenset({_TYPEDEF, _VOLATILE, _CONST, _RESTRICT, _TYPE_TAG})
_POINTER_BYTES = 8

_FIXED = {_INT: 4, _ARRAY: 12, _VAR: 4, _DECL_TAG: 4}
_PER_ITEM = {_STRUCT: 12, _UNION: 12, _ENUM: 8, _PROTOTYPE: 8, _DATASEC: 12, _ENUM64: 12}


class _Type(NamedTuple):
    kind: int
    name: int
    items: int
    flag: bool
    size_or_type: int
    at: int
    """Where what follows the common part begins."""


class Member(NamedTuple):
    """A member of a struct: its place in bits, its size in bytes (of the whole member), and the name of its struct."""

    offset_bits: int
    size_bytes: int
    bit_field: int
    """Bits of a bit field; 0 for any other member."""
    struct: str
    """Name of the struct or union it is, or points to; empty for anything else."""


class Btf:
    """The types of one kernel.

    Args:
        data: The section ``.BTF``.

    Raises:
        ParseError: by the constructor and every method: malformed, or there is no such type or member.
    """

    def __init__(self, data: bytes) -> None:
        if len(data) > MAX_BTF_BYTES:
            raise ParseError("BTF", 0, f"{len(data)} bytes, more than {MAX_BTF_BYTES}", code="parse.too-large")
        if len(data) < _HEADER.size:
            raise ParseError("BTF", 0, "ends within its header", code="parse.truncated")
        magic, version, _, length, types_at, types, strings_at, strings = _HEADER.unpack_from(data)
        if magic != _MAGIC or version != 1 or length < _HEADER.size:
            raise ParseError("BTF.header", 0, "is no BTF of version 1")
        begin, end = length + types_at, length + types_at + types
        names_at = length + strings_at
        if end > len(data) or names_at + strings > len(data):
            raise ParseError("BTF.header", 8, "types or names are not inside the data", code="parse.truncated")
        self._data = data
        self._names = data[names_at : names_at + strings]
        self._types: list[_Type] = [_Type(0, 0, 0, False, 0, 0)]
        self._by_name: dict[tuple[bool, str], int] = {}
        self._read(begin, end)

    def size(self, struct_name: str) -> int:
        """Return the bytes of a struct or union."""
        return self._types[self._struct(struct_name)].size_or_type

    def member(self, struct_name: str, path: str) -> Member:
        """Return a member by its dotted path; unnamed structs and unions within are looked through.

        Args:
            struct_name: Such as ``task_struct``.
            path: Such as ``comm`` or ``policydb.te_avtab.nel``: members of members, not through pointers.
        """
        at, bits = self._struct(struct_name), 0
        found: tuple[int, int, int] | None = None
        for name in path.split("."):
            found = self._find(at, name, 0)
            if found is None:
                raise ParseError(f"BTF.{struct_name}", 0, f"has no member {path}", code="parse.btf.member")
            bits += found[0]
            at = self._through(found[1])
        assert found is not None
        kind = self._types[at].kind
        struct = ""
        if kind in (_STRUCT, _UNION):
            struct = self._name(self._types[at].name)
        elif kind == _POINTER:
            target = self._types[self._through(self._types[at].size_or_type)]
            if target.kind in (_STRUCT, _UNION, _FORWARD):
                struct = self._name(target.name)
        return Member(bits, self._size_of(found[1], 0), found[2], struct)

    def members(self, struct_name: str) -> tuple[tuple[str, int, int], ...]:
        """Return name, offset in bits and size in bytes of each named member, in the order of the struct."""
        item = self._types[self._struct(struct_name)]
        found = []
        for name, target, place in self._members(item):
            if name:
                found.append((self._name(name), place & 0xFFFFFF if item.flag else place, self._size_of(target, 0)))
        return tuple(found)

    def enumerator(self, name: str) -> int:
        """Return the value of an enumeration's constant, of whichever enumeration."""
        for item in self._types:
            if item.kind == _ENUM:
                for index in range(item.items):
                    at, value = struct.unpack_from("<Ii" if item.flag else "<II", self._data, item.at + 8 * index)
                    if self._name(at) == name:
                        return int(value)
        raise ParseError("BTF.enum", 0, f"there is no constant {name}", code="parse.btf.constant")

    def elements(self, struct_name: str, path: str) -> int:
        """Return how many elements an array has that is a member."""
        at = self._struct(struct_name)
        for name in path.split("."):
            found = self._find(at, name, 0)
            if found is None:
                raise ParseError(f"BTF.{struct_name}", 0, f"has no member {path}", code="parse.btf.member")
            at = self._through(found[1])
        item = self._types[at]
        if item.kind != _ARRAY:
            raise ParseError(f"BTF.{struct_name}", 0, f"{path} is no array", code="parse.btf.member")
        return int(struct.unpack_from("<I", self._data, item.at + 8)[0])

    def _read(self, at: int, end: int) -> None:
        data = self._data
        while at < end:
            if at + 12 > end or len(self._types) > MAX_TYPES:
                raise ParseError("BTF.types", at, "a type ends behind the table", code="parse.truncated")
            name, info, size = _TYPE.unpack_from(data, at)
            kind, items = (info >> 24) & 0x1F, info & 0xFFFF
            if not 1 <= kind <= _ENUM64:
                raise ParseError("BTF.types", at, f"kind {kind} is unknown")
            body = at + 12
            self._types.append(_Type(kind, name, items, bool(info >> 31), size, body))
            if kind in (_STRUCT, _UNION) and name:
                self._by_name.setdefault((True, self._name(name)), len(self._types) - 1)
            elif kind == _TYPEDEF:
                self._by_name.setdefault((False, self._name(name)), len(self._types) - 1)
            at = body + _FIXED.get(kind, 0) + _PER_ITEM.get(kind, 0) * items
        if at != end:
            raise ParseError("BTF.types", at, "the last type ends behind the table", code="parse.truncated")

    def _name(self, at: int) -> str:
        end = self._names.find(b"\0", at)
        if at > len(self._names) or end < 0:
            raise ParseError("BTF.name_off", at, "is outside the table of names")
        return self._names[at:end].decode("ascii", "replace")

    def _struct(self, name: str) -> int:
        for plain in (True, False):
            index = self._by_name.get((plain, name))
            if index is not None:
                index = self._through(index)
                if self._types[index].kind in (_STRUCT, _UNION):
                    return index
        raise ParseError("BTF.types", 0, f"there is no struct {name}", code="parse.btf.struct")

    def _item(self, index: int) -> _Type:
        if not 0 <= index < len(self._types):
            raise ParseError("BTF.types", 0, f"there is no type {index}")
        return self._types[index]

    def _through(self, index: int) -> int:
        for _ in range(MAX_DEPTH):
            item = self._item(index)
            if item.kind not in _THROUGH:
                return index
            index = item.size_or_type
        raise ParseError("BTF.types", 0, f"type {index} leads in a circle")

    def _members(self, item: _Type) -> list[tuple[int, int, int]]:
        end = item.at + _MEMBER.size * item.items
        return list(_MEMBER.iter_unpack(self._data[item.at : end]))

    def _find(self, index: int, name: str, depth: int) -> tuple[int, int, int] | None:
        """Return offset in bits, type and bit-field size of a member, unnamed ones looked through."""
        item = self._item(index)
        if item.kind not in (_STRUCT, _UNION) or depth > MAX_DEPTH:
            return None
        for name_at, target, place in self._members(item):
            bits, field = (place & 0xFFFFFF, place >> 24) if item.flag else (place, 0)
            if name_at and self._name(name_at) == name:
                return bits, target, field
            if not name_at:
                inner = self._find(self._through(target), name, depth + 1)
                if inner is not None:
                    return bits + inner[0], inner[1], inner[2]
        return None

    def _size_of(self, index: int, depth: int) -> int:
        if depth > MAX_DEPTH:
            raise ParseError("BTF.types", 0, f"type {index} leads in a circle")
        item = self._item(self._through(index))
        if item.kind == _POINTER:
            return _POINTER_BYTES
        if item.kind == _ARRAY:
            element, _, count = struct.unpack_from("<III", self._data, item.at)
            return self._size_of(element, depth + 1) * int(count)
        return item.size_or_type if item.kind in (_INT, _STRUCT, _UNION, _ENUM, _FLOAT, _ENUM64) else 0
