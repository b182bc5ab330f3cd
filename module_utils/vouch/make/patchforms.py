# SPDX-License-Identifier: GPL-3.0-or-later
"""What the kernel may write at each kind of patch site: one function a kind, each cites the code that writes it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from ..errors import ParseError
from ..model.codeform import LITERAL, Form, literal, nops, relative
from .codelift import CALL, JUMP, JUMP_SHORT, RETURN, TRAP, joined, jump_to, lift, padded
from .kernelimage import KernelImage

RETURN_THUNKS = (
    *("__x86_return_thunk", "retbleed_return_thunk", "zen_return_thunk", "srso_return_thunk"),
    *("srso_alias_return_thunk", "call_depth_return_thunk", "its_return_thunk"),
)
"""Everything that x86_return_thunk may name (arch/x86/kernel/cpu/bugs.c)."""

REGISTERS = (
    *("rax", "rcx", "rdx", "rbx", "rsp", "rbp", "rsi", "rdi"),
    *("r8", "r9", "r10", "r11", "r12", "r13", "r14", "r15"),
)
_FENCE = b"\x0f\xae\xe8"
_ZERO_RAX = (b"\x66\x66\x48\x31\xc0", b"\x2e\x2e\x2e\x31\xc0")
"""Five bytes that give 0, as 6.1 and as later kernels write them."""
_SEALED = (b"\x66\x0f\x1f\x00", b"\x0f\x1f\x40\xd6")
_UNDEFINED = b"\x0f\x0b"
BRANCH_BYTES = 5


class PatchForms:
    """The forms of a kernel's sites.

    Args:
        kernel: The kernel.
    """

    def __init__(self, kernel: KernelImage) -> None:
        self._kernel = kernel
        self._thunk = kernel.find("__x86_return_thunk") or -1
        thunks = [address for name in RETURN_THUNKS if (address := kernel.find(name)) is not None]
        bare = literal(bytes([RETURN]) + bytes([TRAP]) * (BRANCH_BYTES - 1))
        self.returns: tuple[Form, ...] = ((bare,), *[jump_to(thunk) for thunk in thunks])
        """``apply_returns`` (alternative.c)."""
        self._thunks = {
            address: register
            for register, name in enumerate(REGISTERS)
            if (address := kernel.find(f"__x86_indirect_thunk_{name}")) is not None
        }

    def retpoline(self, site: int) -> tuple[int, list[Form]]:
        """Return length and forms of an indirect branch (``patch_retpoline``, ``emit_indirect``).

        Raises:
            ParseError: the site leads to no thunk.
        """
        raw = self._kernel.elf.read(site, 7).tobytes()
        prefix = 1 if raw[0] == 0x2E else 0
        condition = raw[prefix + 1] & 0xF if raw[prefix] == 0x0F else -1
        length = prefix + (6 if condition >= 0 else BRANCH_BYTES)
        target = site + length + int.from_bytes(raw[length - 4 : length], "little", signed=True)
        register = self._thunks.get(target)
        if register is None:
            raise ParseError("kernel.retpoline_sites", site, f"{site:#x} leads to no thunk: {raw.hex()}")
        jumps = raw[prefix] != CALL
        found: list[Form] = []
        lead = b"" if condition < 0 else bytes([0x70 + (condition ^ 1), length - 2])
        for fence in (b"", _FENCE):
            code = lead + fence + _indirect(register, jump=jumps)
            if len(code) <= length:
                trap = bytes([TRAP]) if jumps and len(code) < length else b""
                found.append(padded((literal(code + trap),), length))
                found.append(padded((literal(code),), length))
        head = raw[: length - 4]
        for kind in ("its", "jump" if jumps else "call"):
            other = self._kernel.find(f"__x86_indirect_{kind}_thunk_{REGISTERS[register]}")
            if other is not None:
                found.append((literal(head), relative(other)))
        return length, found

    def jump_label(self, site: int, target: int) -> tuple[int, list[Form]]:
        """Return length and forms of a jump that is there or not (``__jump_label_transform``).

        Raises:
            ParseError: the site holds neither.
        """
        raw = self._kernel.elf.read(site, BRANCH_BYTES).tobytes()
        if raw[0] == JUMP_SHORT or raw[:2] == b"\x66\x90":
            return 2, [(nops(2),), (literal(bytes([JUMP_SHORT])), relative(target, length=1))]
        if raw[0] == JUMP or raw == b"\x0f\x1f\x44\x00\x00":
            return BRANCH_BYTES, [(nops(BRANCH_BYTES),), jump_to(target)]
        raise ParseError("kernel.jump_table", site, f"{site:#x} holds no jump: {raw.hex()}")

    def static_call(self, site: int, targets: Iterable[int], *, trampoline: bool) -> tuple[int, list[Form]]:
        """Return length and forms of a call whose target is chosen at run time (``__static_call_transform``).

        Args:
            site: Its address.
            targets: Whom it may call.
            trampoline: It is the stub that is called where a site cannot be rewritten: a jump, or a return.
        """
        raw = self._kernel.elf.read(site, 6).tobytes()
        if raw[0] == 0x0F and raw[1] & 0xF0 == 0x80:
            back = self._kernel.find("__static_call_return")
            all_of = [*targets, *([back] if back is not None else [])]
            return 6, [(literal(raw[:2]), relative(target)) for target in all_of]
        if trampoline or raw[0] == JUMP or raw[0] == RETURN:
            return BRANCH_BYTES, [*[jump_to(target) for target in targets], *self.returns]
        zero = [(literal(code),) for code in _ZERO_RAX]
        return BRANCH_BYTES, [*[jump_to(target, CALL) for target in targets], (nops(BRANCH_BYTES),), *zero]

    def ftrace(self) -> tuple[int, list[Form]]:
        """Return length and forms of a function's entry (``ftrace_make_nop``): nothing is traced in a guest."""
        entry = self._kernel.find("__fentry__")
        calls = [jump_to(entry, CALL)] if entry is not None else []
        return BRANCH_BYTES, [(nops(BRANCH_BYTES),), *calls]

    def lock(self) -> tuple[int, list[Form]]:
        """Return length and forms of a lock prefix (``alternatives_smp_lock``): with one processor another prefix."""
        return 1, [(literal(b"\xf0"),), (literal(b"\x3e"),)]

    def sealed(self) -> tuple[int, list[Form]]:
        """Return length and forms of a branch target that nothing branches to (``apply_seal_endbr``)."""
        return 4, [(literal(code),) for code in _SEALED]

    def pv_call(self, length: int, targets: Iterable[int], nothing: int | None, bug: int | None) -> list[Form]:
        """Return the forms of a call through ``pv_ops`` (``paravirt_patch``; from 6.7 on ``alt_replace_call``)."""
        found: list[Form] = [padded((literal(_UNDEFINED),), length)]
        for target in (*targets, *([bug] if bug is not None else [])):
            if target == nothing:
                found.append((nops(length),))
            if length >= BRANCH_BYTES:
                found.append(padded(jump_to(target, CALL), length))
        return found

    def with_returns(self, form: Form) -> Iterator[Form]:
        """Yield the forms that come of rewriting the one jump to the return thunk that a form has."""
        for index, part in enumerate(form[:-1]):
            if part.kind == LITERAL and part.data[-1] == JUMP and form[index + 1].target == self._thunk:
                before = [*form[:index], literal(part.data[:-1])]
                for back in self.returns:
                    yield joined([*before, *back, *form[index + 2 :]])

    def original(self, site: int, length: int) -> Form:
        """Return what the file has at a site."""
        return lift(self._kernel.elf.read(site, length).tobytes(), site)


def _indirect(register: int, *, jump: bool) -> bytes:
    """Return ``call *%register`` or ``jmp *%register``."""
    prefix = b"\x41" if register >= 8 else b""
    return prefix + bytes([0xFF, (0xE0 if jump else 0xD0) + (register & 7)])
