# SPDX-License-Identifier: GPL-3.0-or-later
"""Every place of a kernel's text that it may rewrite, with all that it may write there, from the tables in its file.

====================================  ==========================================================
table                                 what is done at its sites
====================================  ==========================================================
``.altinstructions``                  code for what the processor can do, copied over the code for any processor
``.parainstructions`` (before 6.7)    a call through ``pv_ops`` becomes a direct one
``.retpoline_sites``                  a call of a thunk becomes an indirect call
``.return_sites``                     a jump to the return thunk becomes a return, or a jump to another thunk
``.smp_locks``                        lock prefixes, with one processor only
``__jump_table``                      a jump that is there or not
static call sites, ``__SCT__`` stubs  a call whose target is chosen at run time
``__mcount_loc``                      entries of functions, for tracing
``.ibt_endbr_seal``                   branch targets that nothing branches to
``runtime_*`` (6.12)                  constants that are known at run time only
no table                              how a PV guest of Xen returns from interrupts
====================================  ==========================================================

Left out on purpose: ``.call_sites``, which are rewritten only when the command line says ``retbleed=stuff``.

Source: Linux 6.1 and 6.12, arch/x86/kernel/{alternative,jump_label,static_call,ftrace}.c, kernel/static_call_inline.c.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator
from typing import NamedTuple

from ..errors import ParseError
from ..model.codeform import REASONS, VALUE, Form, FormSet, Part
from ..model.profileparts import Hook, Value
from .calltargets import CallTargets
from .codelift import copies, joined, jump_to, lift, padded
from .kernelimage import KernelImage
from .patchforms import BRANCH_BYTES, PatchForms

MAX_SITE_BYTES = 255
DIRECT_CALL = 2
"""Flag of an alternative: the call goes where the pointer names that is called through (ALT_FLAG_DIRECT_CALL)."""

_CALL_POINTER = b"\xff\x15"
_SEVERAL = REASONS.index("several")
_USER_LIMITS = ((1 << 47) - 4096, (1 << 56) - 4096)
"""TASK_SIZE_MAX with four and with five levels of page tables."""

_RUNTIME = ("runtime_ptr_", "runtime_shift_")


class Patch(NamedTuple):
    """One entry of a table."""

    address: int
    length: int
    reason: int
    forms: tuple[Form, ...]


class PatchSites:
    """The sites of one kernel.

    Args:
        kernel: The kernel.
        hooks: Its hooks: where they are called, any function of a security module may stand.
    """

    def __init__(self, kernel: KernelImage, hooks: dict[str, Hook]) -> None:
        self._kernel = kernel
        self._hooks = hooks
        self._forms = PatchForms(kernel)
        self._targets = CallTargets(kernel)
        self._text = (kernel.symbol("_stext"), kernel.symbol("_etext"))
        self._pv_ops = kernel.find("pv_ops")
        self._keys = {address: name.removeprefix("__SCK__") for name, address in kernel.starting("__SCK__")}
        replacements = kernel.elf.section(".altinstr_replacement")
        ends = replacements.address + replacements.size_bytes
        sites = relative_offsets(kernel, ".return_sites")
        self._returns = [site for site in sites if replacements.address <= site < ends]
        self._originals: dict[bytes, Form] = {}
        self.values: list[Value] = []
        """What is written as a constant; complete once ``find`` has returned."""

    def find(self, start: int, stop: int) -> dict[int, FormSet]:
        """Return offset from ``start`` to what may stand there, of all sites up to ``stop``.

        Raises:
            ParseError: a table says what its kernel would not do, or sites overlap in a way we do not know.
        """
        patches = sorted((patch for patch in self._all() if start <= patch.address < stop), key=lambda item: item[:3])
        found: dict[int, FormSet] = {}
        cluster: list[Patch] = []
        end = 0
        for patch in patches:
            if cluster and patch.address >= end:
                found[cluster[0].address - start] = self._joined(cluster)
                cluster = []
            cluster.append(patch)
            end = max(end, patch.address + patch.length) if len(cluster) > 1 else patch.address + patch.length
        if cluster:
            found[cluster[0].address - start] = self._joined(cluster)
        return found

    def _joined(self, patches: list[Patch]) -> FormSet:
        """Return what may stand where several entries meet: what one of them writes over what the file has."""
        first = patches[0].address
        if len(patches) == 1:
            return self._alone(patches[0])
        length = max(patch.address + patch.length for patch in patches) - first
        forms: dict[Form, None] = {self._forms.original(first, length): None}
        raw = self._kernel.elf.read(first, length).tobytes()
        for patch in patches:
            at, end = patch.address - first, patch.address - first + patch.length
            for form in patch.forms:
                if not at:
                    # What is in front of the file's own code does nothing there either.
                    rest = lift(raw[end:], first + end, first=first, last=first + length)
                    forms.setdefault(joined([*form, *rest]))
                else:
                    # The instructions in front are not touched.
                    before = lift(raw[:at], first, first=first, last=first + length)
                    after = lift(raw[end:], first + end, first=first, last=first + length)
                    forms.setdefault(joined([*before, *form, *after]))
        reasons = {patch.reason for patch in patches}
        return FormSet(length, reasons.pop() if len(reasons) == 1 else _SEVERAL, tuple(forms))

    def _alone(self, patch: Patch) -> FormSet:
        raw = self._kernel.elf.read(patch.address, patch.length).tobytes()
        original = self._originals.get(raw)
        if original is None:
            original = lift(raw, patch.address)
            # What leads somewhere else is another form at each site.
            if all(not part.target for part in original):
                self._originals[raw] = original
        if patch.forms and original == patch.forms[0]:
            return FormSet(patch.length, patch.reason, patch.forms)
        others = tuple(form for form in patch.forms if form != original)
        return FormSet(patch.length, patch.reason, (original, *others))

    def _all(self) -> Iterator[Patch]:
        yield from self._alternatives()
        yield from self._pv_calls()
        for section, reason, forms in (
            (".smp_locks", "lock prefix", self._forms.lock()),
            (".ibt_endbr_seal", "branch target", self._forms.sealed()),
            (".return_sites", "return", (5, list(self._forms.returns))),
        ):
            shared = _patch(0, forms[0], reason, forms[1])
            yield from (shared._replace(address=site) for site in relative_offsets(self._kernel, section))
        for site in relative_offsets(self._kernel, ".retpoline_sites"):
            if self._in_text(site):
                yield _patch(site, *_named("retpoline", self._forms.retpoline(site)))
        yield from self._jump_labels()
        yield from self._static_calls()
        shared = _patch(0, *_named("ftrace", self._forms.ftrace()))
        for (site,) in struct.iter_unpack("<Q", self._kernel.between("__start_mcount_loc", "__stop_mcount_loc")[1]):
            yield shared._replace(address=site)
        yield from self._constants()
        yield from self._xen_return()

    def _xen_return(self) -> Iterator[Patch]:
        """Yield the one place that is in no table: a PV guest of Xen returns from interrupts by a jump of its own.

        Source: Linux 6.12, arch/x86/entry/entry_64.S (early_xen_iret_patch), arch/x86/xen/enlighten_pv.c.
        """
        site, target = self._kernel.find("early_xen_iret_patch"), self._kernel.find("xen_iret")
        if site is not None and target is not None:
            yield _patch(site, BRANCH_BYTES, "alternative", [jump_to(target)])

    def _alternatives(self) -> Iterator[Patch]:
        section, size = self._kernel.elf.section(".altinstructions"), self._kernel.btf.size("alt_instr")
        if size not in (12, 14):
            raise ParseError("kernel.altinstructions", section.address, f"entries of {size} bytes")
        bug = self._kernel.find("BUG_func")
        for at in range(0, section.size_bytes - size + 1, size):
            site_from, code_from, flags, length, code_length = struct.unpack_from(
                "<iiHBB" if size == 12 else "<iiIBB", section.data, at
            )
            site, code_at = section.address + at + site_from, section.address + at + 4 + code_from
            if not self._in_text(site) or not length:
                continue
            if size == 14 and flags >> 16 & DIRECT_CALL:
                yield _patch(site, length, "alternative", self._direct_call(site, length, bug))
                continue
            code = self._kernel.elf.read(code_at, code_length).tobytes() if code_length else b""
            forms = copies(code, code_at, site, length)
            # A return inside the replacement is a site of its own, and rewritten before the replacement is copied.
            if any(code_at <= place < code_at + code_length for place in self._returns):
                forms += [other for form in forms for other in self._forms.with_returns(form)]
            yield _patch(site, length, "alternative", forms)

    def _direct_call(self, site: int, length: int, bug: int | None) -> list[Form]:
        raw = self._kernel.elf.read(site, 6).tobytes()
        if raw[:2] != _CALL_POINTER or length != 6:
            raise ParseError("kernel.altinstructions", site, f"{site:#x} is no call by a pointer: {raw.hex()}")
        pointer = site + 6 + int.from_bytes(raw[2:], "little", signed=True)
        nothing = self._kernel.find("nop_func")
        return self._forms.pv_call(length, self._pointed(pointer), nothing, bug)

    def _pointed(self, pointer: int) -> tuple[int, ...]:
        slots = self._kernel.btf.size("paravirt_patch_template") // 8 if self._pv_ops is not None else 0
        slot, rest = divmod(pointer - (self._pv_ops or 0), 8)
        return self._targets.of_pv_slot(slot) if not rest and 0 <= slot < slots else self._targets.of_variable(pointer)

    def _pv_calls(self) -> Iterator[Patch]:
        section = self._kernel.elf.sections.get(".parainstructions")
        nothing = self._kernel.find("_paravirt_nop")
        for at in range(0, section.size_bytes - 15 if section is not None else 0, 16):
            assert section is not None
            site, slot, length = struct.unpack_from("<QBB", section.data, at)
            forms = self._forms.pv_call(length, self._targets.of_pv_slot(slot), nothing, None)
            yield _patch(site, length, "paravirt call", forms)

    def _jump_labels(self) -> Iterator[Patch]:
        start, data = self._kernel.between("__start___jump_table", "__stop___jump_table")
        for at in range(0, len(data) - 15, 16):
            code, target = struct.unpack_from("<ii", data, at)
            site = start + at + code
            if self._in_text(site):
                length, forms = self._forms.jump_label(site, start + at + 4 + target)
                yield _patch(site, length, "jump label", forms)

    def _static_calls(self) -> Iterator[Patch]:
        start, data = self._kernel.between("__start_static_call_sites", "__stop_static_call_sites")
        for at in range(0, len(data) - 7, 8):
            code, key = struct.unpack_from("<ii", data, at)
            site = start + at + code
            if self._in_text(site):
                # The two lowest bits of a key are flags.
                length, forms = self._forms.static_call(site, self._called(start + at + 4 + key & ~3), trampoline=False)
                yield _patch(site, length, "static call", forms)
        by_name = {name: key for key, name in self._keys.items()}
        for name, site in self._kernel.starting("__SCT__"):
            key = by_name.get(name.removeprefix("__SCT__"))
            targets = self._called(key) if key is not None else ()
            length, forms = self._forms.static_call(site, targets, trampoline=True)
            yield _patch(site, length, "trampoline", forms)

    def _called(self, key: int) -> tuple[int, ...]:
        name = self._keys.get(key, "")
        found = set(self._targets.of_static_call(key))
        if name.startswith("lsm_static_call_"):
            hook = self._hooks.get(name.removeprefix("lsm_static_call_").rpartition("_")[0])
            found.update(hook.functions if hook is not None else ())
        elif name.startswith("apic_call_"):
            found.update(self._targets.of_apic(name.removeprefix("apic_call_")))
        return tuple(sorted(found))

    def _constants(self) -> Iterator[Patch]:
        for section in self._kernel.elf.sections:
            prefix = next((item for item in _RUNTIME if section.startswith(item)), "")
            if not prefix:
                continue
            size = 1 if prefix == "runtime_shift_" else 8
            for site in relative_offsets(self._kernel, section):
                if not self._in_text(site):
                    continue
                held = int.from_bytes(self._kernel.elf.read(site, size), "little")
                value = self._value(section.removeprefix(prefix), size, held)
                yield _patch(site, size, "run-time constant", [(Part(VALUE, size, value=value),)])

    def _value(self, name: str, size: int, held: int) -> int:
        for number, value in enumerate(self.values):
            if value.name == name:
                return number
        allowed = _USER_LIMITS if name == "USER_PTR_MAX" else ()
        self.values.append(Value(name, size, held, allowed))
        return len(self.values) - 1

    def _in_text(self, address: int) -> bool:
        return self._text[0] <= address < self._text[1]


def relative_offsets(kernel: KernelImage, section: str) -> Iterator[int]:
    """Yield the addresses of a section that holds distances from each entry itself; nothing without such a section."""
    found = kernel.elf.sections.get(section)
    if found is not None:
        for number, (distance,) in enumerate(struct.iter_unpack("<i", found.data[: len(found.data) & ~3])):
            yield found.address + 4 * number + distance


def _named(reason: str, forms: tuple[int, list[Form]]) -> tuple[int, str, list[Form]]:
    return forms[0], reason, forms[1]


def _patch(address: int, length: int, reason: str, forms: Iterable[Form]) -> Patch:
    if not 0 < length <= MAX_SITE_BYTES:
        raise ParseError("kernel.sites", address, f"{length} bytes at {address:#x}")
    return Patch(address, length, REASONS.index(reason), tuple(dict.fromkeys(padded(form, length) for form in forms)))
