# SPDX-License-Identifier: GPL-3.0-or-later
"""Built files put where they are wanted: an output folder, an image store."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterable, Mapping
from pathlib import Path

from ..port.files import make_private_folder
from .cache import file_sha256


def deliver(origin: Path, places: Iterable[tuple[str, Mapping[str, str]]], *, check_mode: bool) -> bool:
    """Copy files of a build where they differ; return whether any did.

    Args:
        origin: Folder of the build.
        places: Target folder (nothing is done for an empty one), and name in ``origin`` to name in it.
        check_mode: Only look.
    """
    changed = False
    for folder, names in places:
        if folder:
            if not check_mode:
                make_private_folder(folder)
            changed = _place(origin, Path(folder), names, check_mode=check_mode) or changed
    return changed


def _place(origin: Path, folder: Path, names: Mapping[str, str], *, check_mode: bool) -> bool:
    changed = False
    for name, target_name in names.items():
        source, target = origin / name, folder / target_name
        same_size = target.is_file() and target.stat().st_size == source.stat().st_size
        if same_size and file_sha256(target) == file_sha256(source):
            continue
        changed = True
        if not check_mode:
            target.parent.mkdir(parents=True, exist_ok=True)
            temporary = target.with_name(f".{target.name}.{os.getpid()}")
            try:
                shutil.copyfile(source, temporary)
                os.replace(temporary, target)
            finally:
                temporary.unlink(missing_ok=True)
    return changed
