# SPDX-License-Identifier: GPL-3.0-or-later
"""Filling the root file system of an image from a tree."""

from __future__ import annotations

import shutil
import stat
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from ..errors import UsageError
from ..make.accounts import Account, account_files
from ..make.elfneeds import closure
from ..make.kmods import choose_modules, parse_modules_dep
from ..make.rootplan import MERGED, choose_paths, owners_of
from ..make.tree import SOURCE_FOLDER, source_version
from ..model.image import Package
from .chroot import WORK, Tree
from .spec import ImageFile

PYTHON_FOLDER = "usr/lib/vouch/python"
COMPILED = ("usr/lib/python3.13", "usr/lib/python3/dist-packages", PYTHON_FOLDER)
MOUNT_POINTS = ("dev", "proc", "run", "sys", "tmp", "var", "mnt")
MODULE_LISTS = ("modules.order", "modules.builtin", "modules.builtin.modinfo")
_SETID = stat.S_ISUID | stat.S_ISGID


class RootSpec(Protocol):
    """What decides a root file system: the part that host and guest specifications have in common."""

    @property
    def packages(self) -> Mapping[str, Sequence[str]]:
        """Package to patterns of its paths (``make.rootplan``)."""
        ...

    @property
    def libraries(self) -> Sequence[str]:
        """Library names that are loaded at run time by name, so no program lists them."""
        ...

    @property
    def modules(self) -> Sequence[str]:
        """Kernel modules of the root: names, or patterns with a ``/``; none is fine."""
        ...

    @property
    def files(self) -> Sequence[ImageFile]:
        """Our own files; they win over those of packages."""
        ...

    @property
    def accounts(self) -> Sequence[Account]:
        """Users and groups."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class RootFacts:
    """What went into a root file system.

    Attributes:
        packages: Names of the packages that gave at least one file.
        setid_dropped: Files that lost their set-user-id or set-group-id bit.
    """

    packages: frozenset[str]
    setid_dropped: int


def fill_root(tree: Tree, root: Path, spec: RootSpec, python: Mapping[str, bytes]) -> RootFacts:
    """Make the root file system of ``spec`` at ``root`` (inside the tree's work folder).

    Args:
        tree: The unpacked tree.
        root: A folder that does not exist yet.
        spec: What the image is made of.
        python: Dotted module name below ``vouch`` to its source.

    Raises:
        UsageError: the specification names what the tree does not have.
        CommandError: a tool failed.
    """
    lists = tree.package_lists()
    chosen = dict(choose_paths(lists, spec.packages).owners)
    libraries = _libraries(tree, chosen, spec.libraries)
    chosen.update(owners_of(lists, libraries))
    root.mkdir()
    for name in MERGED:
        (root / "usr" / name).mkdir(parents=True)
        (root / name).symlink_to(f"usr/{name}")
    for name in MOUNT_POINTS:
        (root / name).mkdir()
    (root / "root").mkdir(mode=0o700)
    for path in sorted({*chosen, *libraries}):
        _copy(tree.path / path, root / path)
    kernel = tree.one("usr/lib/modules/*").name
    if spec.modules:
        _copy_modules(tree, root, spec, kernel)
    _write_own(root, spec, python)
    dropped = _drop_setid(root)
    inside = f"/{WORK}/{root.name}"
    if spec.modules:
        tree.run(["depmod", "-b", inside, kernel])
    tree.run(["ldconfig", "-r", inside])
    _compile(tree, inside, [folder for folder in COMPILED if (root / folder).is_dir()])
    # ldconfig's notes for its next run, which will not come.
    shutil.rmtree(root / "var/cache/ldconfig", ignore_errors=True)
    if (root / "var/cache").is_dir() and not any((root / "var/cache").iterdir()):
        (root / "var/cache").rmdir()
    # Module files belong to the image package; its name carries the kernel's version.
    packages = {*chosen.values(), *owners_of(lists, _module_paths(root, kernel)).values()}
    return RootFacts(packages=frozenset(packages), setid_dropped=dropped)


def copy_sources(tree: Tree, root: Path, names: Iterable[str]) -> tuple[Package, ...]:
    """Put the unpacked sources of the tree into the root file system, and return which they are: ``src:NAME``.

    Raises:
        UsageError: the tree has no such sources.
    """
    found = []
    for name in names:
        place = f"{SOURCE_FOLDER}/{name}"
        if not (tree.path / place).is_dir():
            raise UsageError(f"the tree has no sources of {name}", code="image.sources")
        shutil.copytree(tree.path / place, root / place, symlinks=True)
        version = source_version((tree.path / f"{place}.dsc").read_bytes())
        found.append(Package(name=f"src:{name}", version=version))
    return tuple(found)


def _libraries(tree: Tree, chosen: Iterable[str], by_name: Iterable[str]) -> set[str]:
    """Return the libraries that the chosen programs need, and the links that lead to them."""
    known = tree.libraries()
    absent = sorted(set(by_name) - set(known))
    if absent:
        raise UsageError(f"the tree has no library {', '.join(absent)}", code="image.plan")
    roots = {*chosen, *(known[name] for name in by_name)}
    needed = closure(roots, read=tree.read, libraries=known) - set(chosen)
    found = set(needed)
    for path in needed:
        resolved = tree.resolve(path)
        if resolved is not None:
            found.add(str(resolved.relative_to(tree.path)))
    return found


def _copy(source: Path, target: Path) -> None:
    if target.is_symlink() or target.exists():
        return
    target.parent.mkdir(parents=True, exist_ok=True)
    if source.is_symlink():
        target.symlink_to(source.readlink())
    elif source.is_dir():
        target.mkdir()
    elif source.is_file():
        shutil.copyfile(source, target)
        target.chmod(stat.S_IMODE(source.stat().st_mode))
    else:
        raise UsageError(f"{source} is no file, link or folder", code="image.tree")


def _copy_modules(tree: Tree, root: Path, spec: RootSpec, kernel: str) -> None:
    folder = f"usr/lib/modules/{kernel}"
    depends = parse_modules_dep((tree.path / folder / "modules.dep").read_text())
    choice = choose_modules(depends, spec.modules)
    if choice.missing:
        raise UsageError(f"kernel {kernel} has no module {', '.join(choice.missing)}", code="image.modules")
    for path in sorted(choice.paths):
        _copy(tree.path / folder / path, root / folder / path)
    for name in MODULE_LISTS:
        _copy(tree.path / folder / name, root / folder / name)


def _module_paths(root: Path, kernel: str) -> set[str]:
    return {str(path.relative_to(root)) for path in (root / "usr/lib/modules" / kernel).rglob("*.ko*")}


def _write_own(root: Path, spec: RootSpec, python: Mapping[str, bytes]) -> None:
    for name, source in python.items():
        path = root / PYTHON_FOLDER / "vouch" / name.replace(".", "/")
        below = any(other.startswith(f"{name}." if name else "") and other != name for other in python)
        write_file(path / "__init__.py" if below or not name else path.with_suffix(".py"), source, 0o644)
    for relative, (text, mode) in account_files(spec.accounts).items():
        write_file(root / relative, text.encode(), mode)
    for entry in spec.files:
        target = root / entry.path[1:]
        if entry.mode:
            write_file(target, entry.content.encode(), entry.mode)
        else:
            target.parent.mkdir(parents=True, exist_ok=True)
            target.unlink(missing_ok=True)
            target.symlink_to(entry.content)


def write_file(path: Path, data: bytes, mode: int) -> None:
    """Put a file of ours at ``path``, whatever was there."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.unlink(missing_ok=True)
    path.write_bytes(data)
    path.chmod(mode)


def _drop_setid(root: Path) -> int:
    """Take set-user-id and set-group-id from every file: nobody here becomes somebody else by running a program."""
    dropped = 0
    for path in root.rglob("*"):
        if path.is_symlink() or not path.is_file():
            continue
        mode = stat.S_IMODE(path.stat().st_mode)
        if mode & _SETID:
            path.chmod(mode & ~_SETID)
            dropped += 1
    return dropped


def _compile(tree: Tree, inside: str, folders: Iterable[str]) -> None:
    """Leave byte code beside each source; "unchecked" because neither can change under dm-verity."""
    for folder in folders:
        argv = ["python3.13", "-I", "-m", "compileall", "-q", "--invalidation-mode", "unchecked-hash"]
        tree.run([*argv, "-s", inside, f"{inside}/{folder}"])
