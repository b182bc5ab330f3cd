# SPDX-License-Identifier: GPL-3.0-or-later
"""Debian's own SELinux policies, whole, and what setools counts in them: built once, kept in the user's cache.

A policy is compiled by the maintainer script of ``selinux-policy-default`` in a tree of its release, so its format is
that release's newest, and so are the tools that count.
"""

from __future__ import annotations

import os
import pathlib
import re
import subprocess
import tempfile
from dataclasses import dataclass

SUITES = ("bookworm", "trixie")
BUILD_LIMIT_S = 1200
_PACKAGES = "policycoreutils,selinux-policy-default,setools"
_COUNT = re.compile(r"([A-Z][A-Za-z_.]*(?: [A-Za-z_.]+)*):\s+([0-9]+)")


class NoPolicyError(Exception):
    """The policy cannot be built here; the text says why."""


@dataclass(frozen=True)
class DebianPolicy:
    """One built policy.

    Attributes:
        path: The binary policy.
        counts: What ``seinfo`` of the same release counts in it, by its words.
    """

    path: pathlib.Path
    counts: dict[str, int]


def debian_policy(suite: str) -> DebianPolicy:
    """Return the default policy of ``suite``, from the cache or built.

    Raises:
        NoPolicyError: mmdebstrap is not there, or fails.
    """
    base = pathlib.Path(os.environ.get("XDG_CACHE_HOME") or pathlib.Path.home() / ".cache") / "vouch" / "policies"
    folder = base / suite
    if not folder.is_dir():
        base.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=base) as name:
            fresh = pathlib.Path(name) / "new"
            fresh.mkdir()
            _build(suite, fresh)
            fresh.rename(folder)
    counts = {word: int(number) for word, number in _COUNT.findall((folder / "seinfo.txt").read_text())}
    return DebianPolicy(path=folder / "policy", counts=counts)


def _build(suite: str, folder: pathlib.Path) -> None:
    command = [
        *("nice", "mmdebstrap", "--variant=minbase", "--format=null", f"--include={_PACKAGES}"),
        '--customize-hook=chroot "$1" sh -c "cp /etc/selinux/default/policy/policy.* /policy"',
        '--customize-hook=chroot "$1" sh -c "seinfo /policy > /seinfo.txt"',
        f"--customize-hook=copy-out /policy /seinfo.txt {folder}",
        suite,
    ]
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, check=False, stdin=subprocess.DEVNULL, timeout=BUILD_LIMIT_S
        )
    except (FileNotFoundError, subprocess.TimeoutExpired) as error:
        raise NoPolicyError(f"mmdebstrap: {error}") from error
    if done.returncode != 0 or not (folder / "policy").is_file():
        raise NoPolicyError(f"mmdebstrap of {suite} failed: {done.stderr.strip().splitlines()[-1][:200]}")
