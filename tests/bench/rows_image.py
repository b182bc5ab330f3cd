# SPDX-License-Identifier: GPL-3.0-or-later
"""What the newest production release in the image store is made of: looked at in the image, not in a report of it."""

from __future__ import annotations

import functools
import io
import os
import pathlib
import shlex
import shutil
import stat
import subprocess
import tempfile
import tokenize
from dataclasses import dataclass

from .harness import Measured, NotMeasuredError, at_most, row

OUR_FOLDER = "usr/lib/vouch"
EXTRACT_LIMIT_S = 300
SSH_LIMIT_S = 60


@dataclass(frozen=True, slots=True)
class Image:
    """One release, looked at."""

    name: str
    root_bytes: int
    efi_bytes: int
    packages: int
    privileged: tuple[str, ...]
    python_files: int
    python_lines: int
    python_code_lines: int


def store() -> pathlib.Path:
    """Return the folder of the image store: ``VOUCH_STORE``, or where the lab keeps it."""
    state = os.environ.get("XDG_STATE_HOME") or pathlib.Path.home() / ".local" / "state"
    return pathlib.Path(os.environ.get("VOUCH_STORE") or pathlib.Path(state) / "vouch" / "store")


@functools.cache
def image() -> Image:
    """Return what the newest production release holds.

    Raises:
        NotMeasuredError: when nothing was built yet, or erofs-utils is missing.
    """
    from vouch.errors import ParseError
    from vouch.model.image import PRODUCTION, ROOT_IMAGE
    from vouch.model.release import HYPERVISOR, HostRelease
    from vouch.parse.envelope import parse_envelope

    files = sorted((store() / "releases").glob("*.dsse.json"), key=lambda path: path.stat().st_mtime, reverse=True)
    for file in files:
        try:
            release = HostRelease.from_bytes(parse_envelope(file.read_bytes()).payload)
        except ParseError:
            continue  # The installer's release lies beside it and is of another type.
        blobs = {name: store() / "sha256" / digest.hex() for name, digest in release.subjects.items()}
        if release.variant == PRODUCTION and all(path.is_file() for path in blobs.values()):
            privileged, sources = look_inside(blobs[ROOT_IMAGE])
            return Image(
                name=release.name,
                root_bytes=blobs[ROOT_IMAGE].stat().st_size,
                efi_bytes=blobs[HYPERVISOR].stat().st_size,
                packages=len(release.packages),
                privileged=privileged,
                python_files=len(sources),
                python_lines=sum(len(source.splitlines()) for source in sources),
                python_code_lines=sum(code_lines(source) for source in sources),
            )
    raise NotMeasuredError(
        f"no production release in {store()}; `make demo` builds one, VOUCH_STORE names another store"
    )


def look_inside(root_image: pathlib.Path) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Return the setuid and setgid files, and the source of each of our Python files, in an erofs image."""
    if shutil.which("fsck.erofs") is None or os.geteuid() != 0:
        raise NotMeasuredError("looking into the image needs fsck.erofs (package erofs-utils) and root, to keep modes")
    with tempfile.TemporaryDirectory(prefix="vouch-bench-") as name:
        tree = pathlib.Path(name) / "tree"
        subprocess.run(
            ["fsck.erofs", f"--extract={tree}", "--preserve-perms", str(root_image)],
            check=True,
            capture_output=True,
            timeout=EXTRACT_LIMIT_S,
        )
        regular = [path for path in sorted(tree.rglob("*")) if stat.S_ISREG(path.lstat().st_mode)]
        privileged = tuple(
            f"/{p.relative_to(tree)}" for p in regular if p.stat().st_mode & (stat.S_ISUID | stat.S_ISGID)
        )
        ours = [path for path in regular if path.is_relative_to(tree / OUR_FOLDER) and is_python(path)]
        return privileged, tuple(path.read_text(encoding="utf-8") for path in ours)


def is_python(path: pathlib.Path) -> bool:
    """Say whether ``path`` is Python by name or by its first line."""
    if path.suffix == ".py":
        return True
    with path.open("rb") as stream:
        first = stream.readline(128)
    return first.startswith(b"#!") and b"python" in first


def code_lines(source: str) -> int:
    """Return the number of lines that hold code: neither blank, comment nor docstring."""
    layout = {tokenize.NL, tokenize.COMMENT, tokenize.ENCODING, tokenize.ENDMARKER, tokenize.INDENT, tokenize.DEDENT}
    lines: set[int] = set()
    at_start = True
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type in layout:
            continue
        # A string that begins a statement is a docstring, or a note to a constant.
        if not (at_start and token.type == tokenize.STRING) and token.type != tokenize.NEWLINE:
            lines.update(range(token.start[0], token.end[0] + 1))
        at_start = token.type == tokenize.NEWLINE
    return len(lines)


@row("image.disk", "MB", target=at_most(200))
def disk() -> Measured:
    """Root file system with its hash tree, and the unified xen.efi: what one slot takes, in 10^6 bytes."""
    found = image()
    note = f"{found.name}: root {found.root_bytes / 1e6:.0f} MB, xen.efi {found.efi_bytes / 1e6:.0f} MB"
    return Measured(value=(found.root_bytes + found.efi_bytes) / 1e6, note=note)


@row("image.packages", "packages")
def packages() -> Measured:
    """Debian packages in the image, by its release."""
    return Measured(value=image().packages)


@row("image.setuid", "files")
def setuid() -> Measured:
    """Setuid and setgid files in the image."""
    found = image()
    return Measured(value=len(found.privileged), note=", ".join(found.privileged))


@row("image.python", "lines")
def python() -> Measured:
    """Lines of our own Python in dom0, comments and docstrings included."""
    found = image()
    note = f"{found.python_files} files, of which {found.python_code_lines} lines are code"
    return Measured(value=found.python_lines, note=note)


@row("image.ports", "ports", target=at_most(1))
def ports() -> Measured:
    """Listening TCP ports and bound UDP ports of a running host. Only a debug host lets us look."""
    target = os.environ.get("VOUCH_DEBUG_SSH", "")
    if not target:
        raise NotMeasuredError(
            "set VOUCH_DEBUG_SSH to the ssh arguments of a running debug host, e.g. '-p 22082 root@127.0.0.1'; "
            "the molecule scenario tests the same"
        )
    done = subprocess.run(
        [
            "ssh",
            "-o",
            "BatchMode=yes",
            *shlex.split(target),
            "cat /proc/net/tcp /proc/net/tcp6 /proc/net/udp /proc/net/udp6",
        ],
        capture_output=True,
        text=True,
        check=False,
        stdin=subprocess.DEVNULL,
        timeout=SSH_LIMIT_S,
    )
    if done.returncode != 0:
        raise NotMeasuredError(f"ssh {target}: {done.stderr.strip()[-200:]}")
    listening, unconnected = "0A", "07"
    found = set()
    for columns in (line.split() for line in done.stdout.splitlines()):
        if len(columns) > 3 and columns[3] in {listening, unconnected}:
            found.add((columns[3] == listening, int(columns[1].rsplit(":", 1)[1], 16)))
    note = ", ".join(f"{'tcp' if tcp else 'udp'}/{port}" for tcp, port in sorted(found))
    return Measured(value=len(found), note=note)
