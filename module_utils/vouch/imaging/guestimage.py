# SPDX-License-Identifier: GPL-3.0-or-later
"""One guest image, from a tree to the files of a package; kept in a cache by what it was made of.

Order: root file system, profile of the kernel, policy (compiled, in the kernel's form, checked against its intent,
proven), erofs with labels, dm-verity tree, initrd, command line with the root hash. A guest whose policy does not pass
is not built.
"""

from __future__ import annotations

import lzma
import shutil
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from ..check.cwlite import PolicyVerdict, check_policy
from ..check.flowproof import verify_proof
from ..errors import EvidenceError, ParseError, UsageError
from ..make.flowproof import make_proof
from ..make.guestpackage import GuestImage
from ..make.introspection import make_profile
from ..make.kmods import choose_modules, parse_modules_dep
from ..make.verity import HashTree, verity_argument
from ..model.digest import sha256
from ..model.flowmap import flow_map_digest
from ..model.image import Package
from ..model.kernelprofile import RODATA, TEXT, Profile
from ..model.package import FlowFacts, IntrospectionFacts, PolicyFacts
from ..model.policydigest import semantic_digest
from ..parse.sepolicy import PolicyDb, parse_policy
from ..port.command import Runner, run
from ..port.progress import report
from .cache import BuildCache, Cached, file_sha256
from .chroot import WORK, Tree
from .guestspec import POLICY_NAME, GuestSpec
from .normalform import DISK_MODULES, normal_form
from .parts import compressed, initrd_of, kernel_version, must_read, protected_root
from .rootfs import RootFacts, copy_sources, fill_root, write_file

KERNEL, INITRD, ROOT_IMAGE, POLICY, PROOF, INTENT, PROFILE = (
    *("vmlinuz", "initrd.img", "root.img"),
    *("policy", "proof.json", "intent.json", "profile"),
)
FILES = (KERNEL, INITRD, ROOT_IMAGE, POLICY, PROOF, INTENT, PROFILE)
POLICY_VERSION = 33
"""The newest that Linux 6.12 reads."""
SHOWN_CONFLICTS = 5
CachedGuest = Cached[GuestImage]


class GuestCache(BuildCache[GuestImage]):
    """Guest images under one folder.

    Args:
        folder: Made when missing, private to its owner.
        runner: Runs tar, chroot and, inside the tree, its tools; and QEMU.
        profiler: Makes the introspection profile of a ``vmlinuz``.
    """

    def __init__(
        self, folder: Path, *, runner: Runner = run, profiler: Callable[[bytes], Profile] = make_profile
    ) -> None:
        super().__init__(folder, what="guest image", read=GuestImage.from_json)
        self._run = runner
        self._profiler = profiler

    def build(
        self, spec: GuestSpec, *, tree: Path, key: str, python: Mapping[str, bytes], rebuild: bool = False
    ) -> tuple[CachedGuest, bool]:
        """Return the image and whether it was built just now.

        Args:
            spec: What it is made of.
            tree: Tar file of the Debian tree.
            key: ``spec.key`` of all inputs.
            python: Sources for the guest, dotted name below ``vouch`` to content.
            rebuild: Build although it is there.

        Raises:
            UnreachableError: a tool failed, the disk is full, the builder is not root.
            UsageError: the specification does not fit the tree, or the policy not its intent (``guest.conflicts``).
        """
        name = f"{spec.name} {spec.variant}"
        return self.ensure(key, lambda place: self._build(spec, tree, place, python), name=name, rebuild=rebuild)

    def _build(self, spec: GuestSpec, archive: Path, place: Path, python: Mapping[str, bytes]) -> GuestImage:
        def say(text: str) -> None:
            report(f"guest image {spec.name} {spec.variant}: {text}")

        out = place / "out"
        say("unpacking the tree")
        tree = Tree(place / "tree", runner=self._run, epoch=spec.source_date_epoch)
        tree.unpack(archive)
        say("choosing files")
        root = tree.work / "root"
        facts = fill_root(tree, root, spec, python)
        sources = copy_sources(tree, root, spec.sources)
        kernel = kernel_version(tree)
        shutil.copyfile(tree.path / f"boot/vmlinuz-{kernel}", out / KERNEL)
        say("reading the kernel for its introspection profile")
        profile = _profiled(self._profiler, out / KERNEL, kernel)
        (out / PROFILE).write_bytes(profile.to_bytes())
        say("compiling the policy")
        compiled = _compile(tree, spec)
        say("booting the kernel for its form of the policy")
        policy = normal_form(
            compiled,
            kernel=out / KERNEL,
            busybox=must_read(tree, "usr/bin/busybox"),
            modules=_disk_modules(tree),
            place=place / "normal-form",
            runner=self._run,
        )
        say("checking the policy against its intent")
        db = parse_policy(policy)
        proof = _proven(policy, db, spec)
        (out / POLICY).write_bytes(policy)
        (out / PROOF).write_bytes(proof)
        (out / INTENT).write_bytes(spec.read_intent().to_bytes())
        write_file(root / f"etc/selinux/{POLICY_NAME}/policy/policy.{POLICY_VERSION}", policy, 0o644)
        labels = f"etc/selinux/{POLICY_NAME}/contexts/files/file_contexts"
        write_file(root / labels, spec.file_contexts.encode(), 0o644)
        say("packing the root image")
        protected = protected_root(
            tree,
            root,
            epoch=spec.source_date_epoch,
            options=[*spec.erofs_options, f"--file-contexts=/{WORK}/{root.name}/{labels}"],
            target=out / ROOT_IMAGE,
        )
        say("initrd")
        initrd = initrd_of(tree, script=spec.initrd_script, modules=spec.initrd_modules, load=spec.initrd_load)
        (out / INITRD).write_bytes(compressed(tree, initrd.archive))
        image = _described(tree, spec, facts, out, protected, db, profile, sources)
        size = sum(image.sizes[name] for name in (KERNEL, INITRD, ROOT_IMAGE))
        say(f"{size >> 20} MiB, {len(image.packages)} packages, {len(db.types)} types, policy passes")
        return image


def _profiled(profiler: Callable[[bytes], Profile], vmlinuz: Path, kernel: str) -> Profile:
    """Return the profile of the guest's kernel.

    Raises:
        UsageError: ``guest.profile``: the kernel is none that can be read from outside, or another than the tree says.
    """
    try:
        profile = profiler(vmlinuz.read_bytes())
    except ParseError as error:
        raise UsageError(
            f"there is no introspection profile of kernel {kernel}: {error}", code="guest.profile"
        ) from None
    if profile.release != kernel:
        raise UsageError(f"the kernel of {kernel} calls itself {profile.release}", code="guest.profile")
    return profile


def _compile(tree: Tree, spec: GuestSpec) -> bytes:
    """Return the binary policy that the tree's secilc makes, after the tree's setfiles has read the labels."""
    (tree.work / "policy.cil").write_text(spec.policy, encoding="ascii")
    (tree.work / "file_contexts").write_text(spec.file_contexts, encoding="ascii")
    target = f"/{WORK}/policy.bin"
    # secilc also writes contexts for files; ours come as a file of their own.
    argv = ["secilc", "-c", str(POLICY_VERSION), "-o", target, "-f", f"/{WORK}/contexts.unused"]
    tree.run([*argv, f"/{WORK}/policy.cil"])
    tree.run(["setfiles", "-c", target, f"/{WORK}/file_contexts"])
    return (tree.work / "policy.bin").read_bytes()


def _disk_modules(tree: Tree) -> Mapping[str, bytes]:
    """Return the modules of the reference boot's disk in the order of loading, not compressed."""
    folder = tree.path / "usr/lib/modules" / kernel_version(tree)
    depends = parse_modules_dep((folder / "modules.dep").read_text())
    found: dict[str, bytes] = {}
    for name in DISK_MODULES:
        choice = choose_modules(depends, [name])
        # What a module needs stands behind it, the deepest last.
        for path in sorted(choice.paths):
            for needed in [*reversed(depends[path]), path]:
                data = (folder / needed).read_bytes()
                plain = needed.rsplit("/", 1)[-1].removesuffix(".xz")
                found.setdefault(plain, lzma.decompress(data) if needed.endswith(".xz") else data)
    return found


def _proven(policy: bytes, db: PolicyDb, spec: GuestSpec) -> bytes:
    """Return the proof, once the small checker has accepted it too."""
    intent = spec.read_intent()
    verdict = check_policy(db, intent)
    if not verdict.passed:
        raise UsageError(
            f"the policy of guest {spec.name} ({spec.variant}) does not keep to its intent: {_first_faults(verdict)}",
            code="guest.conflicts",
            hint="docs/cwlite.md tells what each conflict means and how it is cleared.",
        )
    proof = make_proof(policy, db, intent, verdict)
    try:
        verify_proof(proof, policy=policy, intent=intent)
    except EvidenceError as error:
        raise UsageError(f"the two checkers of the policy disagree: {error}", code="guest.proof") from None
    return proof


def _first_faults(verdict: PolicyVerdict) -> str:
    told = [str(fault) for fault in verdict.faults]
    for conflict, _ in zip(verdict.conflicts(), range(SHOWN_CONFLICTS), strict=False):
        told.append(
            f"{conflict.kind} {conflict.severity} {conflict.subject} and {conflict.object}:{conflict.class_name}"
            + (f" to {conflict.becomes}" if conflict.becomes else "")
        )
    return f"{verdict.conflict_count} conflicts: {'; '.join(told)}"


def _described(
    tree: Tree,
    spec: GuestSpec,
    facts: RootFacts,
    out: Path,
    protected: HashTree,
    db: PolicyDb,
    profile: Profile,
    sources: Sequence[Package],
) -> GuestImage:
    installed = tree.packages()
    kernel = kernel_version(tree)
    # Boot parts come from packages that give the root file system nothing.
    names = sorted(facts.packages | {f"linux-image-{kernel}", "busybox-static", "dmsetup"})
    intent = spec.read_intent()
    files = {name: file_sha256(out / name) for name in FILES}
    sizes = {name: (out / name).stat().st_size for name in FILES}
    return GuestImage(
        name=spec.name,
        variant=spec.variant,
        kernel=kernel,
        cmdline=" ".join([*spec.kernel_options, verity_argument(protected.verity), "--"]),
        files=files,
        sizes=sizes,
        verity=protected.verity,
        policy=PolicyFacts(
            sha256=bytes.fromhex(files[POLICY]),
            semantic_sha256=semantic_digest(db),
            version=db.version,
            boolean_mode=intent.boolean_mode,
        ),
        cwlite=FlowFacts(
            proof_sha256=bytes.fromhex(files[PROOF]),
            flow_map=flow_map_digest(),
            intent_sha256=sha256(intent.to_bytes()),
            filters=len(intent.filters),
            entries=len(intent.entries),
        ),
        introspection=IntrospectionFacts(
            profile_sha256=bytes.fromhex(files[PROFILE]),
            release=profile.release,
            text_sha256=profile.regions[TEXT].sha256,
            rodata_sha256=profile.regions[RODATA].sha256,
        ),
        packages=(
            *(Package(name=name, version=installed[name].version) for name in names if name in installed),
            *sources,
        ),
        source_date_epoch=spec.source_date_epoch,
        statistics={
            "root_image_bytes": sizes[ROOT_IMAGE],
            "packages": len(names),
            "setid_dropped": facts.setid_dropped,
            "policy_types": len(db.types),
            "policy_rules": sum(table.count for table in db.tables()),
        },
    )
