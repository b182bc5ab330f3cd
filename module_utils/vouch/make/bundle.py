# SPDX-License-Identifier: GPL-3.0-or-later
"""The evidence bundle: everything one appraisal was made from, in one file that anyone can check again.

A tar (ustar) of named parts, ``bundle.json`` first: it names each part's SHA-256 and size. Nothing in it depends on
who wrote it or when, so the same appraisal gives the same bytes.

=================  ============================================================================
``bundle.json``    ``{"type": "urn:vouch:bundle:1", "parts": {name: {"sha256", "size"}}}``
``context.json``   what the appraiser knew itself: host id, nonce, channel key, time
``evidence.json``  the host's answer, byte for byte; absent when there was none
``enrolment.json`` what was recorded of the host before this appraisal
``policy.json``    the policy in canonical form
``release.json``   the signed release file that was accepted, ``manifest`` its file list
``packages/``      signed packages of the host's guests, each under its id
``result.json``    the result, ``result.jwt`` its signed form (EAR)
=================  ============================================================================
"""

from __future__ import annotations

import io
import re
import tarfile
from collections.abc import Mapping

from ..errors import UsageError
from ..model.digest import sha256
from ..parse.canonical import dump_canonical

BUNDLE_TYPE = "urn:vouch:bundle:1"
INDEX = "bundle.json"
PARTS = frozenset(
    (
        "context.json",
        "evidence.json",
        "enrolment.json",
        "policy.json",
        "release.json",
        "manifest",
        "result.json",
        "result.jwt",
    )
)
PACKAGE = re.compile(r"packages/[0-9a-f]{64}\.json\Z")


def bundle_index(parts: Mapping[str, bytes]) -> bytes:
    """Return ``bundle.json`` of ``parts``; its SHA-256 names the bundle.

    Raises:
        UsageError: for a part that has no place in a bundle, or none at all.
    """
    unknown = sorted(name for name in set(parts) - PARTS if not PACKAGE.match(name))
    if unknown or not parts:
        raise UsageError(f"a bundle has no part {', '.join(unknown) or 'at all'}", code="bundle.part")
    return dump_canonical(
        {
            "type": BUNDLE_TYPE,
            "parts": {name: {"sha256": sha256(data).hex(), "size": len(data)} for name, data in parts.items()},
        }
    )


def write_bundle(parts: Mapping[str, bytes]) -> bytes:
    """Return the bundle of ``parts``; raises as ``bundle_index``."""
    index = bundle_index(parts)
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w", format=tarfile.USTAR_FORMAT) as archive:
        for name, data in ((INDEX, index), *sorted(parts.items())):
            entry = tarfile.TarInfo(name)
            entry.size, entry.mode = len(data), 0o644
            archive.addfile(entry, io.BytesIO(data))
    return stream.getvalue()
