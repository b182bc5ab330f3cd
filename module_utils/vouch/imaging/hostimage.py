# SPDX-License-Identifier: GPL-3.0-or-later
"""One host image, from a tree to the files of a release; kept in a cache by what it was made of.

Order: root file system, erofs, dm-verity tree, initrd, xen.cfg with the root hash, xen.efi, predicted PCR 4.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from pathlib import Path

from ..errors import UsageError
from ..make.predict import predict_pcr4
from ..make.statements import manifest_blob
from ..make.verity import HashTree, verity_argument
from ..make.xenconfig import xen_config
from ..make.xenefi import unified_xen_efi
from ..model.image import Package
from ..parse.pe import authenticode_digest
from ..port.command import Runner, run
from ..port.progress import report
from .cache import DESCRIPTION, BuildCache, Cached, file_sha256
from .chroot import Tree
from .parts import compressed, initrd_of, kernel_version, protected_root
from .rootfs import RootFacts, fill_root
from .spec import BuiltImage, ImageSpec

__all__ = ["DESCRIPTION", "FILES", "CachedImage", "ImageCache"]

XEN_EFI, ROOT_IMAGE, MANIFEST = "xen.efi", "root.img", "manifest"
FILES = (XEN_EFI, ROOT_IMAGE, MANIFEST)
CachedImage = Cached[BuiltImage]


class ImageCache(BuildCache[BuiltImage]):
    """Host images under one folder.

    Args:
        folder: Made when missing, private to its owner.
        runner: Runs tar, chroot and, inside the tree, its tools.
    """

    def __init__(self, folder: Path, *, runner: Runner = run) -> None:
        super().__init__(folder, what="host image", read=BuiltImage.from_json)
        self._run = runner

    def build(
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
        return self.ensure(
            key, lambda place: self._build(spec, tree, place, python), name=spec.variant, rebuild=rebuild
        )

    def _build(self, spec: ImageSpec, archive: Path, place: Path, python: Mapping[str, bytes]) -> BuiltImage:
        def say(text: str) -> None:
            report(f"host image {spec.variant}: {text}")

        out = place / "out"
        say("unpacking the tree")
        tree = Tree(place / "tree", runner=self._run, epoch=spec.source_date_epoch)
        tree.unpack(archive)
        say("choosing files")
        root = tree.work / "root"
        facts = fill_root(tree, root, spec, python)
        say("packing the root image")
        protected = protected_root(
            tree, root, epoch=spec.source_date_epoch, options=spec.erofs_options, target=out / ROOT_IMAGE
        )
        say("initrd and xen.efi")
        initrd = initrd_of(tree, script=spec.initrd_script, modules=spec.initrd_modules, load=spec.initrd_load)
        efi = unified_xen_efi(
            tree.one("boot/xen-*.efi").read_bytes(),
            xen_config(
                xen_options=spec.xen_options, kernel_options=(*spec.kernel_options, verity_argument(protected.verity))
            ),
            (tree.path / f"boot/vmlinuz-{kernel_version(tree)}").read_bytes(),
            compressed(tree, initrd.archive),
        )
        (out / XEN_EFI).write_bytes(efi)
        measured = [*_measured(root), *initrd.files]
        blob = manifest_blob(measured)
        (out / MANIFEST).write_bytes(blob)
        image = _described(tree, spec, facts, out, protected, efi, blob)
        say(f"{(out / ROOT_IMAGE).stat().st_size >> 20} MiB, {len(image.packages)} packages, PCR 4 {image.pcr4[:16]}…")
        return image


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
    kernel = kernel_version(tree)
    # Boot parts come from packages that give the root file system nothing.
    names = sorted(facts.packages | {hypervisor.name, f"linux-image-{kernel}", "busybox-static", "dmsetup"})
    authenticode = authenticode_digest(efi)
    return BuiltImage(
        variant=spec.variant,
        files={name: file_sha256(out / name) for name in FILES},
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
