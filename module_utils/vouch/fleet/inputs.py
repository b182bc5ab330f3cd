# SPDX-License-Identifier: GPL-3.0-or-later
"""What an appraiser is given in files: keys of its policy, signed releases with their file lists, signed packages."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from ..appraise.policy import POLICY_TYPE, AppraisalPolicy
from ..errors import ParseError, UsageError
from ..model.release import HostRelease, release_id
from ..parse.envelope import parse_envelope
from ..port.files import read_bounded

MAX_FILE_BYTES = 64 << 20


def read_policy(options: Mapping[str, Any]) -> AppraisalPolicy:
    """Return the policy that options declare: its JSON form, but for keys that are names of PEM files.

    Raises:
        UsageError: ``policy.invalid``.
        UnreachableError: for a file that cannot be read.
    """
    keys = {
        name: [read_bounded(key, limit_bytes=MAX_FILE_BYTES).decode("ascii", "replace") for key in options[name]]
        for name in ("release_keys", "package_keys")
        if options.get(name) is not None
    }
    declared = {name: value for name, value in options.items() if value is not None}
    return AppraisalPolicy.from_json({**declared, **keys, "type": POLICY_TYPE})


def read_releases(paths: Iterable[str], store: str) -> dict[bytes, tuple[bytes, bytes]]:
    """Return release id to signed file and file list.

    The file list is looked up by the digest that the release names; whether that release is to be believed is judged
    by ``References``, which holds both against the policy's keys.

    Args:
        paths: Signed release files.
        store: Folder of the image store.

    Raises:
        UsageError: ``release.malformed``.
        UnreachableError: for a file that cannot be read.
    """
    found: dict[bytes, tuple[bytes, bytes]] = {}
    for path in paths:
        envelope = read_bounded(path, limit_bytes=MAX_FILE_BYTES)
        try:
            release = HostRelease.from_bytes(parse_envelope(envelope).payload)
        except ParseError as error:
            raise UsageError(f"{path} is no host release: {error}", code="release.malformed") from None
        manifest = Path(store, "sha256", release.manifest_sha256.hex())
        found[release_id(envelope)] = (envelope, read_bounded(manifest, limit_bytes=MAX_FILE_BYTES))
    return found
