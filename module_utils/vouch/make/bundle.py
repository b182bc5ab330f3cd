# SPDX-License-Identifier: GPL-3.0-or-later
"""The evidence bundle: everything one appraisal was made from, in one file that anyone can check again.

A tar (ustar) of named parts, ``bundle.json`` first: it names each part's SHA-256 and size. Nothing in it depends on
who wrote it or when, so the same appraisal gives the same bytes. ``parse.bundle`` reads it.

=================  ============================================================================
``bundle.json``    ``{"type": "urn:vouch:bundle:1", "parts": {name: {"sha256", "size"}}}``
``context.json``   what the appraiser knew itself: host id, nonce, channel key, time
``evidence.json``  the host's answer, byte for byte; absent when there was none
``enrolment.json`` what was recorded of the host before this appraisal
``policy.json``    the policy in canonical form
``release.json``   the signed release file that the host states, ``manifest`` its file list
``former/``        signed releases that the host was installed with or ran before, each under its id; no file lists
``packages/``      signed packages of the host's guests, each under its id
``result.json``    the result, ``result.jwt`` its signed form (EAR)
=================  ============================================================================
"""

from __future__ import annotations

import io
import tarfile
from collections.abc import Mapping

from ..errors import UsageError
from ..parse.bundle import BUNDLE_TYPE, part_limit
from ..parse.indexedtar import INDEX, index_of


def check_parts(parts: Mapping[str, bytes]) -> None:
    """Return when every part has a place in a bundle.

    Raises:
        UsageError: ``bundle.part`` for one that has none, or no part at all.
    """
    unknown = sorted(name for name in parts if name == INDEX or part_limit(name) is None)
    if unknown or not parts:
        raise UsageError(f"a bundle has no part {', '.join(unknown) or 'at all'}", code="bundle.part")


def write_bundle(parts: Mapping[str, bytes]) -> bytes:
    """Return the bundle of ``parts``; raises as ``check_parts``."""
    check_parts(parts)
    return write_tar(BUNDLE_TYPE, parts)


def write_tar(form_type: str, parts: Mapping[str, bytes]) -> bytes:
    """Return the tar of ``parts`` with their index (``parse.indexedtar``), whichever kind of bundle it is."""
    stream = io.BytesIO()
    # The standard library's writer, on purpose: what it writes and what ``parse`` reads were made apart.
    with tarfile.open(fileobj=stream, mode="w", format=tarfile.USTAR_FORMAT) as archive:
        for name, data in ((INDEX, index_of(form_type, parts)), *sorted(parts.items())):
            entry = tarfile.TarInfo(name)
            entry.size, entry.mode = len(data), 0o644
            archive.addfile(entry, io.BytesIO(data))
    return stream.getvalue()
