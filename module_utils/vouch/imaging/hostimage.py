# SPDX-License-Identifier: GPL-3.0-or-later
"""One host image, from a tree to the files of a release; kept in a cache by what it was made of.

Order: root file system, erofs, dm-verity tree, initrd, xen.cfg with the root hash, xen.efi, predicted PCR 4.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import lzma
import os
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from ..errors import ParseError, UnreachableError, UsageError
from ..make.cpio import CpioEntry, write_newc
from ..make.elfneeds import closure
from ..make.initrd import initrd_entries
from ..make.kmods import choose_modules, parse_modules_dep
from ..make.predict import predict_pcr4
from ..make.statements import manifest_blob
from ..make.verity import HashTree, content_salt, hash_tree, padded, verity_argument
from ..make.xenconfig import xen_config
from ..make.xenefi import unified_xen_efi
from ..model.release import Package
from ..parse.pe import authenticode_digest
from ..port.command import Runner, run
from ..port.files import make_private_folder, read_bounded, write_atomic
from ..port.progress import report
from .chroot import WORK, Tree
from .rootfs import RootFacts, fill_root
from .spec import BuiltImage, ImageSpec

XEN_EFI, ROOT_IMAGE, MANIFEST, DESCRIPTION = "xen.efi", "root.img", "manifest", "image.json"
FILES = (XEN_EFI, ROOT_IMAGE, MANIFEST)
MAX_DESCRIPTION_BYTES = 4 << 20
_INITRD_PROGRAMS = {"busybox": "usr/bin/busybox", "dmsetup": "usr/sbin/dmsetup"}


@dataclass(frozen=True, slots=True, kw_only=True)
class CachedImage:
    """A whole image in the cache."""

    folder: Path
    key: str
    image: BuiltImage


class ImageCache:
    """Host images under one folder.

    Args:
        folder: Made when missing, private to its owner.
        runner: Runs tar, chroot and, inside the tree, its tools.
    """

    def __init__(self, folder: Path, *, runner: Runner = run) -> None:
        self._folder = folder
        self._run = runner

    def find(self, key: str) -> CachedImage | None:
        """Return the image ``key``, or None when it is not there or its files are not what they should be."""
        folder = self._folder / key
        try:
            description = json.loads(read_bounded(folder / DESCRIPTION, limit_bytes=MAX_DESCRIPTION_BYTES))
            image = BuiltImage.from_json(description)
            if any(_sha256(folder / name) != image.files[name] for name in FILES):
                return None
        except (UnreachableError, UsageError, ParseError, OSError, ValueError, KeyError, TypeError):
            return None
        return CachedImage(folder=folder, key=key, image=image)

    def ensure(
        self,
        spec: ImageSpec,
        *,
        tree: Path,
        key: str,
        python: Mapping[str, bytes],
        rebuild: bool = False,
    ) -> tuple[CachedImage, bool]:
        """Return the image and whether it was built just now.

        Args:
            spec: What it is made of.
            tree: Tar file of the Debian tree.
            key: ``spec.key`` of all inputs.
            python: Sources for dom0, dotted name below ``vouch`` to content.
            rebuild: Build although it is there.

        Raises:
            UnreachableError: a tool failed, the disk is full, the builder is not root.
            UsageError: the specification does not fit the tree.
        """
        make_private_folder(self._folder)
        with self._locked(key):
            if not rebuild and (found := self.find(key)) is not None:
                report(f"host image {spec.variant}: from the cache")
                return found, False
            if os.geteuid() != 0:
                raise UnreachableError("a host image is built by root (chroot)", code="image.privilege")
            for stale in self._folder.glob(f".{key}.*"):
                shutil.rmtree(stale, ignore_errors=True)
            place = self._folder / f".{key}.{os.getpid()}"
            try:
                image = self._build(spec, tree, place, python)
                final = self._folder / key
                shutil.rmtree(final, ignore_errors=True)
                os.replace(place / "out", final)
            except OSError as error:
                raise UnreachableError(
                    f"the image cannot be written: {error.strerror or error}: {error.filename}", code="image.write"
                ) from error
            finally:
                shutil.rmtree(place, ignore_errors=True)
            return CachedImage(folder=final, key=key, image=image), True

    @contextlib.contextmanager
    def _locked(self, key: str) -> Iterator[None]:
        with (self._folder / f"{key}.lock").open("w") as stream:
            fcntl.flock(stream, fcntl.LOCK_EX)
            yield

    def _build(self, spec: ImageSpec, archive: Path, place: Path, python: Mapping[str, bytes]) -> BuiltImage:
        def say(text: str) -> None:
            report(f"host image {spec.variant}: {text}")

        out = place / "out"
        out.mkdir(parents=True, mode=0o700)
        say("unpacking the tree")
        tree = Tree(place / "tree", runner=self._run, epoch=spec.source_date_epoch)
        tree.unpack(archive)
        say("choosing files")
        root = tree.work / "root"
        facts = fill_root(tree, root, spec, python)
        say("packing the root image")
        protected = _root_image(tree, root, spec, out / ROOT_IMAGE)
        say("initrd and xen.efi")
        initrd = _initrd(tree, spec)
        archive_bytes = write_newc(initrd.entries)
        kernel = tree.one("usr/lib/modules/*").name
        efi = unified_xen_efi(
            tree.one("boot/xen-*.efi").read_bytes(),
            xen_config(
                xen_options=spec.xen_options, kernel_options=(*spec.kernel_options, verity_argument(protected.verity))
            ),
            (tree.path / f"boot/vmlinuz-{kernel}").read_bytes(),
            _compressed(tree, archive_bytes),
        )
        (out / XEN_EFI).write_bytes(efi)
        measured = [*_measured(root), *initrd.files]
        blob = manifest_blob(measured)
        (out / MANIFEST).write_bytes(blob)
        image = _described(tree, spec, facts, out, protected, efi, blob)
        write_atomic(out / DESCRIPTION, (json.dumps(image.to_json(), indent=1, sort_keys=True) + "\n").encode())
        say(f"{(out / ROOT_IMAGE).stat().st_size >> 20} MiB, {len(image.packages)} packages, PCR 4 {image.pcr4[:16]}…")
        return image


def _root_image(tree: Tree, root: Path, spec: ImageSpec, target: Path) -> HashTree:
    """Write the erofs image and its hash tree to ``target``; return the tree."""
    # The UUID must not be random, and says nothing: what identifies the image is its root hash.
    uuid = "00000000-0000-4000-8000-000000000000"
    argv = ["mkfs.erofs", "--quiet", "--all-root", f"-T{spec.source_date_epoch}", "-U", uuid, *spec.erofs_options]
    tree.run([*argv, f"/{WORK}/root.erofs", f"/{WORK}/{root.name}"])
    image = tree.work / "root.erofs"
    data = padded(image.read_bytes())
    image.unlink()
    protected = hash_tree(data, content_salt(data))
    with target.open("wb") as stream:
        stream.write(data)
        stream.write(protected.tree)
        stream.flush()
        os.fsync(stream.fileno())
    return protected


@dataclass(frozen=True, slots=True)
class _Initrd:
    entries: list[CpioEntry]
    files: list[tuple[str, bytes]]


def _initrd(tree: Tree, spec: ImageSpec) -> _Initrd:
    programs = {name: _must_read(tree, path) for name, path in _INITRD_PROGRAMS.items()}
    known = tree.libraries()
    needed = closure(_INITRD_PROGRAMS.values(), read=tree.read, libraries=known) - set(_INITRD_PROGRAMS.values())
    libraries = {path: _must_read(tree, path) for path in needed}
    # dmsetup's interpreter is an absolute path that no DT_NEEDED names.
    loader = "usr/lib64/ld-linux-x86-64.so.2"
    libraries[loader] = _must_read(tree, loader)
    entries = initrd_entries(
        script=spec.initrd_script.encode(),
        programs=programs,
        libraries=libraries,
        modules=_initrd_modules(tree, spec),
        load_always=spec.initrd_load,
    )
    files = [
        ("/" + entry.path, hashlib.sha256(entry.data).digest())
        for entry in entries
        if isinstance(entry.data, bytes) and entry.mode & 0o170000 == 0o100000
    ]
    return _Initrd(entries, files)


def _initrd_modules(tree: Tree, spec: ImageSpec) -> dict[str, bytes]:
    """Return modules for the initrd, unpacked (the archive is compressed as a whole), with depmod's text files."""
    kernel = tree.one("usr/lib/modules/*").name
    folder = tree.path / "usr/lib/modules" / kernel
    choice = choose_modules(
        parse_modules_dep((folder / "modules.dep").read_text()), [*spec.initrd_modules, *spec.initrd_load]
    )
    if choice.missing:
        raise UsageError(f"kernel {kernel} has no module {', '.join(choice.missing)}", code="image.modules")
    staging = tree.work / "initrd"
    target = staging / "lib/modules" / kernel
    for path in choice.paths:
        packed = (folder / path).read_bytes()
        plain = target / path.removesuffix(".xz")
        plain.parent.mkdir(parents=True, exist_ok=True)
        plain.write_bytes(lzma.decompress(packed) if path.endswith(".xz") else packed)
    tree.run(["depmod", "-b", f"/{WORK}/{staging.name}", kernel])
    kept = [*target.rglob("*.ko"), target / "modules.dep", target / "modules.alias"]
    return {str(path.relative_to(staging)): path.read_bytes() for path in kept}


def _compressed(tree: Tree, archive: bytes) -> bytes:
    plain = tree.work / "initrd.cpio"
    plain.write_bytes(archive)
    tree.run(["zstd", "-q", "-19", "-T1", "--no-progress", f"/{WORK}/initrd.cpio", "-o", f"/{WORK}/initrd.img"])
    return (tree.work / "initrd.img").read_bytes()


def _measured(root: Path) -> Iterator[tuple[str, bytes]]:
    """Yield (path as IMA logs it, digest) of every regular file of the root file system."""
    for path in root.rglob("*"):
        if path.is_file() and not path.is_symlink():
            yield "/" + str(path.relative_to(root)), hashlib.sha256(path.read_bytes()).digest()


def _described(
    tree: Tree, spec: ImageSpec, facts: RootFacts, out: Path, protected: HashTree, efi: bytes, blob: bytes
) -> BuiltImage:
    installed = tree.packages()
    hypervisor = next((p for name, p in sorted(installed.items()) if name.startswith("xen-hypervisor-")), None)
    if hypervisor is None:
        raise UsageError("the tree has no hypervisor package", code="image.tree")
    kernel = tree.one("usr/lib/modules/*").name
    # Boot parts come from packages that give the root file system nothing.
    names = sorted(facts.packages | {hypervisor.name, f"linux-image-{kernel}", "busybox-static", "dmsetup"})
    authenticode = authenticode_digest(efi)
    return BuiltImage(
        variant=spec.variant,
        files={name: _sha256(out / name) for name in FILES},
        authenticode_sha256=authenticode.hex(),
        pcr4=predict_pcr4(authenticode).hex(),
        verity=protected.verity,
        manifest_files=blob.count(b"\n"),
        ssh_user=spec.ssh_user,
        packages=tuple(Package(name=name, version=installed[name].version) for name in names if name in installed),
        xen=hypervisor.version,
        kernel=kernel,
        source_date_epoch=spec.source_date_epoch,
        statistics={
            "root_image_bytes": (out / ROOT_IMAGE).stat().st_size,
            "xen_efi_bytes": len(efi),
            "packages": len(names),
            "setid_dropped": facts.setid_dropped,
        },
    )


def _must_read(tree: Tree, path: str) -> bytes:
    data = tree.read(path)
    if data is None:
        raise UsageError(f"the tree has no /{path}", code="image.tree")
    return data


def _sha256(path: Path) -> str:
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
