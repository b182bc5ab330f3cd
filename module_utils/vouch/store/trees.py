# SPDX-License-Identifier: GPL-3.0-or-later
"""The cache of bootstrapped Debian trees: one tar file and one description per key.

==================== =======================================================
``KEY.tar``          the tree
``KEY.json``         its SHA-256, its size, its packages and the inputs
``KEY.lock``         held while somebody builds or checks that key
``KEY.log``          what mmdebstrap said, last time
==================== =======================================================

A reader never sees a half-written tree: both files are renamed into place, the description last, and a tree whose
bytes do not match its description is built again.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import os
import tarfile
import threading
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

from ..errors import UnreachableError
from ..make.tree import MAX_STATUS_BYTES, Package, TreeSpec, mmdebstrap_argv, parse_dpkg_status
from ..port.command import Runner, run
from ..port.files import make_private_folder, read_bounded, write_atomic
from ..port.progress import report

BOOTSTRAP_TIMEOUT_S = 1800.0
MAX_DESCRIPTION_BYTES = 16 << 20
_FOLLOW_INTERVAL_S = 0.5
_CHUNK_BYTES = 1 << 20
_PROXIES = ("http_proxy", "https_proxy", "no_proxy", "HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY")


@dataclass(frozen=True, slots=True, kw_only=True)
class CachedTree:
    """A tree that is in the cache, its bytes checked."""

    path: Path
    sha256: str
    size_bytes: int
    packages: tuple[Package, ...]


class TreeCache:
    """Trees under one folder.

    Args:
        folder: Made when missing, private to its owner.
        runner: Runs mmdebstrap.
        environ: Where proxy settings are read from.
    """

    def __init__(self, folder: Path, *, runner: Runner = run, environ: Mapping[str, str] = os.environ) -> None:
        self._folder = folder
        self._run = runner
        self._environ = environ

    def path(self, spec: TreeSpec) -> Path:
        """Return where the tree of ``spec`` is or would be."""
        return self._folder / f"{spec.key}.tar"

    def find(self, spec: TreeSpec) -> CachedTree | None:
        """Return the tree of ``spec``, or None when it is not there or not whole."""
        path = self.path(spec)
        try:
            found = json.loads(read_bounded(self._description(spec), limit_bytes=MAX_DESCRIPTION_BYTES))
            tree = CachedTree(
                path=path,
                sha256=found["sha256"],
                size_bytes=found["size_bytes"],
                packages=tuple(Package(**package) for package in found["packages"]),
            )
            if path.stat().st_size != tree.size_bytes or _sha256(path) != tree.sha256:
                return None
        except (UnreachableError, OSError, ValueError, KeyError, TypeError):
            return None
        return tree

    def ensure(self, spec: TreeSpec, *, rebuild: bool = False) -> tuple[CachedTree, bool]:
        """Return the tree of ``spec`` and whether it was built just now.

        Raises:
            CommandError: mmdebstrap is missing or failed.
            UnreachableError: the folder cannot be written, or the archive gave a tree without packages.
        """
        make_private_folder(self._folder)
        with self._locked(spec):
            if not rebuild and (tree := self.find(spec)) is not None:
                report(f"tree {spec.label}: from the cache")
                return tree, False
            return self._build(spec), True

    def remove(self, spec: TreeSpec) -> bool:
        """Remove the tree of ``spec``; return whether there was one."""
        if not self._folder.is_dir():
            return False
        with self._locked(spec):
            # The description goes first: a tree without one counts as absent.
            return any([_unlink(self._description(spec)), _unlink(self.path(spec)), _unlink(self._log(spec))])

    def _description(self, spec: TreeSpec) -> Path:
        return self._folder / f"{spec.key}.json"

    def _log(self, spec: TreeSpec) -> Path:
        return self._folder / f"{spec.key}.log"

    @contextlib.contextmanager
    def _locked(self, spec: TreeSpec) -> Iterator[None]:
        # The lock lives with the open file, so a killed builder leaves none behind.
        with (self._folder / f"{spec.key}.lock").open("w") as stream:
            fcntl.flock(stream, fcntl.LOCK_EX)
            yield

    def _build(self, spec: TreeSpec) -> CachedTree:
        for stale in self._folder.glob(f".{spec.key}.*.tar"):
            _unlink(stale)
        temporary = self._folder / f".{spec.key}.{os.getpid()}.tar"
        log = self._log(spec)
        _unlink(log)
        argv = mmdebstrap_argv(spec, str(temporary))
        argv.insert(1, f"--logfile={log}")
        environment = {name: self._environ[name] for name in _PROXIES if name in self._environ}
        # The kernel packages' hook (initramfs-tools) obeys INITRD=No: our images bring their own initial RAM disks.
        environment |= {"SOURCE_DATE_EPOCH": str(spec.source_date_epoch), "INITRD": "No"}
        report(f"tree {spec.label}: bootstrapping {len(spec.packages)} packages and what they need")
        try:
            with _followed(log, lambda line: report(f"tree {spec.label}: {line}")):
                self._run(argv, timeout_s=BOOTSTRAP_TIMEOUT_S, environment=environment)
            packages = _packages_of(temporary)
            tree = CachedTree(
                path=self.path(spec),
                sha256=_sha256(temporary),
                size_bytes=temporary.stat().st_size,
                packages=packages,
            )
            _unlink(self._description(spec))
            os.replace(temporary, tree.path)
        except OSError as exc:
            raise UnreachableError(f"{self._folder}: {exc.strerror}", code="tree.cache") from exc
        except UnreachableError as exc:
            raise UnreachableError(
                f"cannot bootstrap {spec.suite}: {exc.message}", code=exc.code, hint=_hint(log)
            ) from exc
        finally:
            _unlink(temporary)
        description = {
            "inputs": asdict(spec),
            "packages": [asdict(package) for package in packages],
            "sha256": tree.sha256,
            "size_bytes": tree.size_bytes,
        }
        write_atomic(self._description(spec), json.dumps(description, indent=1, sort_keys=True).encode())
        report(f"tree {spec.label}: {len(packages)} packages, {tree.size_bytes >> 20} MiB")
        return tree


def _hint(log: Path) -> str:
    try:
        lines = [line for line in log.read_text(errors="replace").splitlines() if line.startswith(("E:", "Err"))]
    except OSError:
        return ""
    return f"{' / '.join(lines[-3:])} (all of it: {log})" if lines else f"See {log}"


def _packages_of(path: Path) -> tuple[Package, ...]:
    try:
        with tarfile.open(path) as archive:
            for member in archive:
                if member.name.removeprefix("./") == "var/lib/dpkg/status":
                    stream = archive.extractfile(member)
                    if stream is not None:
                        return parse_dpkg_status(stream.read(MAX_STATUS_BYTES + 1))
    except tarfile.TarError as exc:
        raise UnreachableError(f"mmdebstrap left no tar file: {exc}", code="tree.tar") from exc
    raise UnreachableError("the tree has no package database", code="tree.status")


def _sha256(path: Path) -> str:
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def _unlink(path: Path) -> bool:
    try:
        path.unlink()
    except FileNotFoundError:
        return False
    return True


@contextlib.contextmanager
def _followed(log: Path, line: Callable[[str], None]) -> Iterator[None]:
    """Call ``line`` for every ``I:`` line that appears in ``log`` meanwhile."""
    done = threading.Event()
    offset = 0

    def take() -> None:
        nonlocal offset
        with contextlib.suppress(OSError), log.open("rb") as stream:
            stream.seek(offset)
            new = stream.read()
            whole = new[: new.rfind(b"\n") + 1]
            offset += len(whole)
            for text in whole.decode("utf-8", "replace").splitlines():
                if text.startswith("I: "):
                    line(text[3:])

    def follow() -> None:
        while not done.wait(_FOLLOW_INTERVAL_S):
            take()

    thread = threading.Thread(target=follow, name="tree-log", daemon=True)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()
        take()
