# SPDX-License-Identifier: GPL-3.0-or-later
"""Blobs of the image store, by digest, over plain HTTP.

The channel needs no secrecy and no server identity: what arrives is what its SHA-256 says, or it is refused.
"""

from __future__ import annotations

import hashlib
import http.client
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator

from ..errors import UnreachableError, UsageError, shown

CHUNK_BYTES = 1 << 20
TIMEOUT_S = 60.0
"""Longest silence of the server."""


def stream_blob(
    store_url: str, digest: bytes, *, limit_bytes: int, progress: Callable[[int, int], None] | None = None
) -> Iterator[bytes]:
    """Yield the blob with SHA-256 ``digest`` in chunks; the last chunk only after the digest was found right.

    Args:
        store_url: Base URL of the store.
        digest: SHA-256, 32 bytes.
        limit_bytes: Refuse a larger blob, by its announced length before the first byte.
        progress: Called with bytes so far and bytes in all.

    Raises:
        UnreachableError: ``store.unreachable``, ``store.missing``, ``store.too-large``, ``store.digest``.

    Trust: server and network are an attacker's; the digest is proven when the iteration ends without an error.
    """
    if not store_url.startswith(("http://", "https://")) or len(digest) != hashlib.sha256().digest_size:
        raise UsageError(f"not an image store and digest: {shown(store_url)} {digest.hex()}")
    url = f"{store_url.rstrip('/')}/sha256/{digest.hex()}"
    # No proxies: the environment of whoever started us must not decide where images come from.
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with opener.open(url, timeout=TIMEOUT_S) as response:
            size = int(response.headers.get("Content-Length", -1))
            if size < 0 or size > limit_bytes:
                raise UnreachableError(f"{url} has {size} bytes, room is for {limit_bytes}", code="store.too-large")
            yield from _checked(response, url, size, digest, progress)
    except urllib.error.HTTPError as error:
        raise UnreachableError(
            f"the image store has no {url} (HTTP {error.code})",
            code="store.missing",
            hint="Run playbooks/build.yml, or point measured_host_image_store_url at the store that has the release.",
        ) from None
    except (OSError, http.client.HTTPException, ValueError) as error:
        raise UnreachableError(
            f"the image store does not answer at {url}: {shown(error)}",
            code="store.unreachable",
            hint="Check that it runs and that this machine can reach it.",
        ) from None


def _checked(
    response: http.client.HTTPResponse,
    url: str,
    size: int,
    digest: bytes,
    progress: Callable[[int, int], None] | None,
) -> Iterator[bytes]:
    state = hashlib.sha256()
    total = 0
    held = b""
    while total < size:
        chunk = response.read(min(CHUNK_BYTES, size - total))
        if not chunk:
            raise UnreachableError(f"{url} ended after {total} of {size} bytes", code="store.unreachable")
        if held:
            yield held
        held = chunk
        total += len(chunk)
        state.update(chunk)
        if progress is not None:
            progress(total, size)
    if state.digest() != digest:
        raise UnreachableError(
            f"{url} has the content {state.hexdigest()}", code="store.digest", hint="The image store is damaged."
        )
    yield held
