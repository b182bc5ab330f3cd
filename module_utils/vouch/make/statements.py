# SPDX-License-Identifier: GPL-3.0-or-later
"""Documents ready to sign: the host release of one build.

The install statement needs no maker: the installer fills ``model.release.InstallStatement`` and the TPM signs it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping

from ..errors import UsageError
from ..model.image import IN_TOTO_PAYLOAD_TYPE
from ..model.release import HostRelease
from .sign import PrivateKey, sign_envelope


def sign_host_release(release: HostRelease, private_key: PrivateKey) -> bytes:
    """Return the signed release file (DSSE); its SHA-256 is the release id."""
    return sign_envelope(IN_TOTO_PAYLOAD_TYPE, release.to_bytes(), private_key)


def manifest_blob(files: Mapping[str, bytes] | Iterable[tuple[str, bytes]]) -> bytes:
    """Return the manifest: sorted lines ``sha256hex  /path``.

    Args:
        files: Absolute path to SHA-256. As pairs, a path may come with several digests (the same path in the
            initrd and in the root).

    Raises:
        UsageError: for a relative path, a line break in one, a wrong digest length, or no file at all.
    """
    pairs = files.items() if isinstance(files, Mapping) else files
    lines: set[tuple[bytes, bytes]] = set()
    for path, digest in pairs:
        name = path.encode("utf-8", "surrogateescape")
        if not name.startswith(b"/") or b"\n" in name or b"\0" in name:
            raise UsageError(f"{path!r} is no absolute path in one line", code="manifest.path")
        if len(digest) != hashlib.sha256().digest_size:
            raise UsageError(f"{path!r}: a manifest holds SHA-256 digests", code="manifest.digest")
        lines.add((name, digest.hex().encode("ascii")))
    if not lines:
        raise UsageError("an empty manifest accepts nothing", code="manifest.empty")
    return b"".join(b"%b  %b\n" % (digest, name) for name, digest in sorted(lines))
