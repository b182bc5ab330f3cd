# SPDX-License-Identifier: GPL-3.0-or-later
"""One guest under watch: which checks, in which order, in which phase of its life.

===========  =======================================================  ==============================================
phase        is                                                       what is checked
===========  =======================================================  ==============================================
``loaded``   created, and paused before its first instruction         ``first``: the kernel lies in memory as packaged
``booting``  from there until its policy is in force and it is up     that it gets on; control flow into known text
``running``  from then on                                             ``light`` and ``heavy``: everything
===========  =======================================================  ==============================================

The step from ``booting`` to ``running`` explains all of text and read-only data and takes the copies that later rounds
compare with; it happens once.

Whatever cannot be read, has no end or takes too long is a violation: a guest that hides is not one that holds. A guest
in which something was found while it stood still is left standing.

Source: docs/introspection.md.
"""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable, Iterable, Iterator
from typing import NamedTuple

from ..model.finding import Finding
from ..model.kernelprofile import Profile
from ..model.package import GuestPackage
from ..parse.sepolicy import parse_policy
from .avc import Answers, check_cache
from .classmap import Translation, check_map, expected_map
from .cpu import PAGING, Processors
from .hooks import Hooks
from .kernel import Kernel
from .loaded import Copies, check_loaded
from .measurements import EMPTY_HEAD, Measurements
from .memory import PV, GuestMemory, GuestMemoryError, VcpuState
from .modules import Modules
from .pages import AddressSpace, Budget, Frames
from .regions import Region
from .selinux import SelinuxFacts, SelinuxState
from .sids import SidHistory, Sids
from .switches import Switches
from .tables import Executables, builder_range, check_roots, check_tables, generated
from .tasks import TaskRules, Tasks

LOADED, BOOTING, RUNNING = "loaded", "booting", "running"

LIGHT_STEPS, HEAVY_STEPS = 20_000, 2_000_000
LIGHT_LIMIT_S, HEAVY_LIMIT_S, SETTLE_LIMIT_S = 20.0, 60.0, 300.0
"""Bounds of one round; an honest guest needs a tenth."""

PATCH_LOOKS, PATCH_LIMIT_S = 3, 1.5
"""So many looks in a row may find a patch under way within such a time; the kernel needs milliseconds for one."""

MAX_FINDINGS = 32
_ROOT_MASK = ~0x1FFF
"""The lowest 12 bits are flags, and bit 12 tells the user half of page-table isolation from the kernel's."""


class Report(NamedTuple):
    """What one round found.

    Attributes:
        phase: Of the guest, after the round.
        violations: What speaks against it; empty when everything holds.
        ima_count, ima_head: Its measurement list, as far as it was read.
        pause_s: How long it stood still for this round.
        seconds: How long the round took.
        rounds: Rounds so far, this one included.
    """

    phase: str
    violations: tuple[Finding, ...]
    ima_count: int
    ima_head: bytes
    pause_s: float
    seconds: float
    rounds: int


class Measurer:
    """The checks of one guest.

    Args:
        profile: Of its kernel.
        policy: Its approved SELinux policy.
        package: What it was started from.
        memory: The guest.
        monotonic_s: Seconds that never go backwards.
        boot_limit_s: How long it may take until its policy is in force.
        adopted: Whether it ran before this measurer was made.
        copies: Kernels that were compared before.

    Raises:
        ParseError: the policy cannot be read.
    """

    def __init__(
        self,
        *,
        profile: Profile,
        policy: bytes,
        package: GuestPackage,
        memory: GuestMemory,
        monotonic_s: Callable[[], float],
        boot_limit_s: float = 600.0,
        adopted: bool = False,
        copies: Copies | None = None,
    ) -> None:
        self._profile, self._package, self._memory = profile, package, memory
        self._copies = copies
        self._monotonic_s, self._boot_limit_s = monotonic_s, boot_limit_s
        database = parse_policy(policy)
        self._facts = SelinuxFacts(database, len(policy))
        self._answers, self._database = Answers(database), database
        self._classes: Translation = {}
        self._rules = TaskRules(database)
        self._tasks = Tasks(self._rules)
        self._measurements = Measurements(package.policy.sha256)
        self._frames = Frames(memory)
        self._text, self._rodata = Region(profile, "text"), Region(profile, "rodata")
        self._processors, self._modules, self._switches = Processors(), Modules(), Switches()
        self._hooks, self._hooked, self._history = Hooks(profile), True, SidHistory()
        self._executables = Executables(builder_range(profile) if memory.kind == PV else (0, 0))
        self._kernel: Kernel | None = None
        self._selinux: SelinuxState | None = None
        self._began_s = monotonic_s()
        self._patches: tuple[int, float] | None = None
        """How many looks in a row found a patch under way, and when the first of them was."""
        self._pause_s = 0.0
        self._rounds = 0
        self.phase = BOOTING if adopted else LOADED

    def first(self) -> Report:
        """Check a guest that was created paused: its kernel lies in memory as the package says."""

        def judge() -> Iterator[Finding]:
            if not self._memory.state().paused:
                yield _finding("guest.start.running", "a guest that has not run", "it runs already")
            yield from check_loaded(self._memory, self._profile, self._copies)
            self.phase = BOOTING
            self._began_s = self._monotonic_s()

        return self._round(judge)

    def light(self) -> Report:
        """The checks of every second."""
        return self._round(self._boot if self.phase != RUNNING else self._light)

    def heavy(self) -> Report:
        """The checks of every half minute: everything."""
        return self._round(self._boot if self.phase != RUNNING else self._heavy)

    def _round(self, judge: Callable[[], Iterable[Finding]]) -> Report:
        began_s = self._monotonic_s()
        self._pause_s = 0.0
        findings: list[Finding] = []
        try:
            state = self._memory.state()
            if state.dying or state.reason >= 0:
                findings.append(_finding("guest.gone", "a guest that lives", f"shut down, reason {state.reason}"))
            else:
                for finding in judge():
                    findings.append(finding)
                    if len(findings) >= MAX_FINDINGS:
                        break
        except GuestMemoryError as error:
            findings.append(_finding(error.code, "data of a kernel that is as packaged", error.message))
        self._rounds += 1
        return Report(
            phase=self.phase,
            violations=tuple(findings),
            ima_count=self._measurements.count,
            ima_head=self._measurements.head if self._measurements.count else EMPTY_HEAD,
            pause_s=self._pause_s,
            seconds=self._monotonic_s() - began_s,
            rounds=self._rounds,
        )

    def _still(
        self, judge: Callable[[], Iterable[Finding]], excused: Callable[[], bool] | None = None
    ) -> list[Finding]:
        """Return the findings of ``judge`` while the guest stands still; with a finding, or an error, it stays so.

        Args:
            judge: Gives the findings.
            excused: Says whether they are to be forgotten.
        """
        began_s = self._monotonic_s()
        self._memory.pause()
        findings = list(judge())
        if findings and excused is not None and excused():
            findings = []
        if not findings:
            self._memory.unpause()
        self._pause_s += self._monotonic_s() - began_s
        return findings

    def _budget(self, steps: int, limit_s: float) -> Budget:
        return Budget(steps, self._monotonic_s() + limit_s, self._monotonic_s)

    def _open(self, root: int, budget: Budget) -> Kernel:
        """Return the kernel behind a topmost page table; from then on its own table is the way in."""
        space = AddressSpace(self._frames, root, budget)
        kernel = Kernel(space, self._profile)
        banner = space.read(self._profile.symbols["linux_banner"], len(self._profile.banner))
        if banner != self._profile.banner:
            raise GuestMemoryError("the kernel in memory is another one", code="guest.kernel.other")
        space.root = space.frame(self._profile.symbols["init_top_pgt"])
        space.forget()
        return kernel

    # The phase "booting".
    def _boot(self) -> Iterator[Finding]:
        waited_s = self._monotonic_s() - self._began_s
        if waited_s > self._boot_limit_s:
            yield _finding("guest.boot.overdue", f"a policy in force after {self._boot_limit_s:g} s", "none")
            return
        vcpus = self._memory.vcpus()
        if not vcpus or not _has_tables(self._memory.kind, vcpus[0]):
            return
        self._frames.renew()
        try:
            kernel = self._open(_root(vcpus[0]), self._budget(LIGHT_STEPS, LIGHT_LIMIT_S))
            selinux = SelinuxState(kernel, self._facts)
            up = kernel.number("system_state") == self._profile.constants["SYSTEM_RUNNING"]
            # Loading is switched off by the first program, after the last module and before the policy.
            if not up or not kernel.number("modules_disabled") or not selinux.loaded():
                return
        except GuestMemoryError as error:
            # Until the kernel has made its own tables, there is nothing to read; that has the same time limit.
            if error.code != "guest.memory.unmapped":
                yield _finding(error.code, "a kernel that comes up", error.message)
            return
        kernel.space.forget()
        kernel.space.budget = self._budget(HEAVY_STEPS, SETTLE_LIMIT_S)
        for region in (self._text, self._rodata):
            # The kernel rewrites its code in steps: what cannot be explained has to be seen twice.
            if region.settle(kernel.space, self._frames):
                findings = region.settle(kernel.space, self._frames)
                if findings and self._patching():
                    return
                yield from findings
        yield from self._still(lambda: self._settle(kernel, selinux))

    def _settle(self, kernel: Kernel, selinux: SelinuxState) -> Iterator[Finding]:
        """Take everything that later rounds compare with, each part only after it was judged."""
        space = kernel.space
        space.forget()
        space.budget = self._budget(HEAVY_STEPS, HEAVY_LIMIT_S)
        findings = self._text.check(self._frames)
        if findings and self._patching():
            return
        yield from findings
        yield from self._rodata.check(self._frames)
        yield from self._modules.settle(kernel)
        yield from self._switches.settle(kernel)
        yield from self._hooks.check(kernel)
        yield from selinux.check_state()
        selinux.policy = kernel.pointer(kernel.symbol("selinux_state"), "selinux_state.policy")
        self._classes = expected_map(kernel, self._database)
        self._kernel, self._selinux = kernel, selinux
        for part in self._parts(kernel, selinux, self._tasks, self._measurements, self._history):
            yield from part()
        self._executables.settle()
        self.phase = RUNNING

    # The phase "running".
    def _light(self) -> Iterator[Finding]:
        kernel, selinux = self._ready(LIGHT_STEPS, LIGHT_LIMIT_S)
        yield from self._regions(kernel)
        yield from self._still(lambda: self._quick(kernel, selinux, self._tasks))

    def _heavy(self) -> Iterator[Finding]:
        kernel, selinux = self._ready(HEAVY_STEPS, HEAVY_LIMIT_S)
        moves = self._memory.kind != PV
        if moves:
            # Frames of a PVH guest are numbers of its own; whatever they mean now is what gets compared.
            self._frames.renew()
            for region in (self._text, self._rodata):
                region.renew(self._frames)
        yield from self._regions(kernel)
        others = Tasks(self._rules), Measurements(self._package.policy.sha256), SidHistory()
        rehearsal = self._parts(kernel, selinux, *others)
        parts = self._parts(kernel, selinux, self._tasks, self._measurements, self._history)
        for part, rehearsed in zip(parts, rehearsal, strict=True):
            if moves:
                # Once while it runs, for the mappings alone: what it finds in data that move is worth nothing. Then
                # in earnest, and the guest stands still for as long as reading takes.
                with contextlib.suppress(GuestMemoryError):
                    list(rehearsed())
                kernel.space.forget()
            yield from self._still(part)

    def _regions(self, kernel: Kernel) -> Iterator[Finding]:
        """Look at text and read-only data while the guest runs; where they changed, it stands still for the reason."""
        if self._rodata.changed(self._frames):
            yield from self._still(functools.partial(self._rodata.check, self._frames))
        if self._text.changed(self._frames) or not self._hooked:
            # The kernel's own means of patching, in a form that is allowed, can let it pass a hook by. Everything that
            # decides about hooks is code or read-only data, so nothing else can.
            self._hooked = False
            findings = self._still(lambda: self._code_and_hooks(kernel), self._patching)
            self._hooked = not findings
            yield from findings
        else:
            self._patches = None

    def _code_and_hooks(self, kernel: Kernel) -> Iterator[Finding]:
        findings = self._text.check(self._frames)
        yield from findings
        if not self._text.unfinished:
            self._patches = None
            yield from self._hooks.check(kernel)

    def _patching(self) -> bool:
        """Say whether a difference in the text may be a patch that the kernel is about to finish."""
        if not self._text.unfinished:
            return False
        now_s = self._monotonic_s()
        looks, since_s = self._patches or (0, now_s)
        self._patches = (looks + 1, since_s)
        return looks + 1 < PATCH_LOOKS or now_s - since_s < PATCH_LIMIT_S

    def _ready(self, steps: int, limit_s: float) -> tuple[Kernel, SelinuxState]:
        kernel, selinux = self._kernel, self._selinux
        if kernel is None or selinux is None:
            raise GuestMemoryError("the guest was never up", code="guest.kernel.other")
        kernel.space.forget()
        kernel.space.budget = self._budget(steps, limit_s)
        return kernel, selinux

    def _quick(self, kernel: Kernel, selinux: SelinuxState, tasks: Tasks) -> Iterator[Finding]:
        vcpus = self._memory.vcpus()
        yield from selinux.check_state()
        yield from self._processors.check(kernel, self._memory.kind, vcpus)
        yield from check_roots(self._frames, kernel.space.root, {_root(vcpu) for vcpu in vcpus}, self._memory.kind)
        yield from self._switches.check(kernel)
        if tasks.suspicious:
            yield from tasks.check(kernel, Sids(kernel, selinux.policy), self._memory.state().ran_ns)

    def _parts(
        self,
        kernel: Kernel,
        selinux: SelinuxState,
        tasks: Tasks,
        measurements: Measurements,
        history: SidHistory,
    ) -> tuple[Callable[[], Iterable[Finding]], ...]:
        """Return everything, in parts for each of which the guest has to stand still."""
        return (
            lambda: self._quick(kernel, selinux, tasks),
            lambda: self._modules.check(kernel),
            lambda: self._tables(kernel),
            lambda: check_roots(self._frames, kernel.space.root, tasks.roots(kernel), self._memory.kind),
            lambda: (*selinux.check_policy(), *check_map(kernel, selinux.policy, self._classes)),
            lambda: self._labels(kernel, selinux, tasks, history),
            lambda: measurements.check(kernel),
        )

    def _tables(self, kernel: Kernel) -> Iterator[Finding]:
        self._executables.allow(self._code(kernel))
        yield from check_tables(kernel.space, self._frames, self._memory.kind, self._executables)

    def _labels(self, kernel: Kernel, selinux: SelinuxState, tasks: Tasks, history: SidHistory) -> Iterator[Finding]:
        sids, unknown = Sids(kernel, selinux.policy), self._database.handle_unknown
        yield from history.check(sids)
        yield from check_cache(kernel, sids, self._answers, self._classes, handle_unknown=unknown)
        yield from tasks.check(kernel, sids, self._memory.state().ran_ns)

    def _code(self, kernel: Kernel) -> Iterator[tuple[int, int]]:
        """Yield where code may be."""
        text = self._profile.regions["text"]
        # Large pages round the text up to 2 MiB.
        yield text.start, text.start + text.size_bytes + 0x1F_FFFF & ~0x1F_FFFF
        yield from self._modules.ranges
        yield from generated(kernel)


def _root(vcpu: VcpuState) -> int:
    return (vcpu.cr3 & _ROOT_MASK & 0x000F_FFFF_FFFF_F000) >> 12


def _has_tables(kind: str, vcpu: VcpuState) -> bool:
    return kind == PV or bool(vcpu.cr0 & PAGING)


def _finding(code: str, expected: str, actual: str) -> Finding:
    return Finding.deny(code, "guest", expected, actual, source="docs/introspection.md")
