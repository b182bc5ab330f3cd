# SPDX-License-Identifier: GPL-3.0-or-later
"""Enrolments that have begun: the challenge's secret until it was answered, then the fact that it was.

One private file per host beside the enrolments. The secret never enters a play's variables; only the answer does.
"""

from __future__ import annotations

import contextlib
import hmac
import os
import pathlib
import re
from dataclasses import dataclass, replace

from ..errors import ParseError, UnreachableError, UsageError
from ..parse.canonical import dump_canonical, load_json
from ..parse.fields import Fields, encode_base64
from ..port.files import make_private_folder, read_bounded, write_atomic

PENDING_TYPE = "urn:vouch:pending-enrolment:1"
MAX_PENDING_BYTES = 64 << 10
MAX_AGE_S = 3600
"""A challenge is answered within minutes; an older secret is worth less than a new one."""

_HOST_ID = re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}\Z")


@dataclass(frozen=True, slots=True, kw_only=True)
class PendingEnrolment:
    """One challenge.

    Attributes:
        host_id: Host that shall be enrolled.
        ek_sha256: Endorsement key it was made for.
        ak_public: Attestation key it was made for.
        secret: What the TPM must return; None once it did.
        begun_at_s: Unix seconds.
    """

    host_id: str
    ek_sha256: bytes
    ak_public: bytes
    secret: bytes | None
    begun_at_s: int

    @property
    def activated(self) -> bool:
        """Whether the TPM returned the secret."""
        return self.secret is None

    def to_bytes(self) -> bytes:
        """Return the JSON form."""
        return dump_canonical(
            {
                "type": PENDING_TYPE,
                "host_id": self.host_id,
                "ek_sha256": self.ek_sha256.hex(),
                "ak_public": encode_base64(self.ak_public),
                "secret": None if self.secret is None else self.secret.hex(),
                "begun_at": self.begun_at_s,
            }
        )

    @classmethod
    def from_bytes(cls, data: bytes) -> PendingEnrolment:
        """Return the challenge of its JSON form; raises ``ParseError``."""
        fields = Fields(load_json(data, limit_bytes=MAX_PENDING_BYTES), "pending-enrolment")
        fields.literal("type", PENDING_TYPE)
        secret = fields.take("secret")
        pending = cls(
            host_id=fields.uuid("host_id"),
            ek_sha256=fields.hex("ek_sha256", 32),
            ak_public=fields.blob("ak_public", limit_bytes=1024),
            secret=None if secret is None else fields.decode_hex("secret", secret, 32),
            begun_at_s=fields.integer("begun_at"),
        )
        fields.done()
        return pending


class PendingStore:
    """The begun enrolments in ``folder``/pending."""

    def __init__(self, folder: str | os.PathLike[str]) -> None:
        self._folder = pathlib.Path(folder) / "pending"

    def find(self, host_id: str, *, now_s: int) -> PendingEnrolment | None:
        """Return what was begun for a host; None for nothing, too old, or damaged (then it is begun again)."""
        path = self._path(host_id)
        if not path.exists():
            return None
        try:
            pending = PendingEnrolment.from_bytes(read_bounded(path, limit_bytes=MAX_PENDING_BYTES))
        except ParseError:
            return None
        fresh = 0 <= now_s - pending.begun_at_s <= MAX_AGE_S
        return pending if fresh and pending.host_id == host_id else None

    def begin(self, pending: PendingEnrolment) -> None:
        """Keep a new challenge in place of any older one."""
        make_private_folder(self._folder.parent)
        make_private_folder(self._folder)
        write_atomic(self._path(pending.host_id), pending.to_bytes())

    def answer(self, host_id: str, secret: bytes, *, now_s: int) -> PendingEnrolment:
        """Return the activated enrolment when ``secret`` is the challenge's; an answer counts once.

        Raises:
            UsageError: ``challenge.missing`` when none is open, ``challenge.wrong`` (the challenge is spent then).
        """
        pending = self.find(host_id, now_s=now_s)
        if pending is None or pending.secret is None:
            raise UsageError(
                f"no challenge is open for host {host_id}", code="challenge.missing", hint="Run the enrolment again."
            )
        if not hmac.compare_digest(pending.secret, secret):
            self.end(host_id)
            raise UsageError(
                f"host {host_id} did not answer the challenge: its attestation key is not in the TPM it shows",
                code="challenge.wrong",
                hint="Do not install this machine before you know why.",
            )
        activated = replace(pending, secret=None)
        self.begin(activated)
        return activated

    def end(self, host_id: str) -> None:
        """Forget what was begun for a host."""
        path = self._path(host_id)
        try:
            with contextlib.suppress(FileNotFoundError):
                path.unlink()
        except OSError as error:
            raise UnreachableError(f"{path} cannot be removed: {error.strerror}", code="files.unwritable") from None

    def _path(self, host_id: str) -> pathlib.Path:
        if _HOST_ID.match(host_id) is None:
            raise UsageError(f"{host_id!r} is no host id", code="enrolment.host-id")
        return self._folder / f"{host_id}.json"
