# SPDX-License-Identifier: GPL-3.0-or-later
"""Real kernels for tests: the guest's, from the cache of images, and an older one where there is one.

No kernel is in this tree. ``VOUCH_TEST_KERNELS`` may name a folder with files ``vmlinuz*``; otherwise the kernels of
the guests that were built on this machine are taken, one file of each content.
"""

from __future__ import annotations

import functools
import hashlib
import os
import pathlib
from collections.abc import Iterator

from ansible.module_utils.vouch.make.introspection import make_profile
from ansible.module_utils.vouch.model.kernelprofile import Profile


def kernels() -> list[pathlib.Path]:
    """Return the kernels that there are, each content once."""
    found: dict[str, pathlib.Path] = {}
    for path in _candidates():
        if path.is_file():
            found.setdefault(hashlib.sha256(path.read_bytes()).hexdigest(), path)
    return list(found.values())


@functools.cache
def profile(path: pathlib.Path) -> Profile:
    """Return the profile of a kernel; making one takes seconds, so each process makes it once."""
    return make_profile(path.read_bytes())


def _candidates() -> Iterator[pathlib.Path]:
    folder = os.environ.get("VOUCH_TEST_KERNELS")
    if folder:
        yield from sorted(pathlib.Path(folder).glob("vmlinuz*"))
        return
    cache = pathlib.Path(os.environ.get("XDG_CACHE_HOME") or pathlib.Path.home() / ".cache") / "vouch" / "guests"
    # The newest few are of one kernel; looking at all would take longer than the test.
    yield from sorted(cache.glob("*/vmlinuz"), key=lambda path: -path.stat().st_mtime)[:3]
