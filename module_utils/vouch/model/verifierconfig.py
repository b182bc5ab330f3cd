# SPDX-License-Identifier: GPL-3.0-or-later
"""What the VM verifier of one host image believes and allows: ``/etc/vouch/verifier.json``, part of the measured image.

    version            1
    package_keys       list of PEM texts: who may sign guest packages; never empty
    order_keys         list of PEM texts: application authorities, who may give orders; never empty
    release_keys       list of PEM texts: who may sign the release that this one is updated to; without it, no updates
    allow_debug        whether debug packages may be started
    light_s            seconds from the end of one light round of checks to the begin of the next
    heavy_s            the same for heavy rounds
    boot_limit_s       seconds within which a guest has to be up
    answer_limit_s     a guest is paused whose watcher says nothing for so long
    memory_reserve_mb  memory of the machine that no guest gets
    tsc_mode           word for ``tsc_mode=`` of the domains; "" leaves it to Xen. Emulated processors need "native"

Members that are numbers, ``tsc_mode`` and ``release_keys`` may be missing. A host without the file takes no orders.
"""

from __future__ import annotations

import re
from typing import Any, NamedTuple

from ..errors import ParseError
from ..parse.canonical import load_json
from ..parse.fields import Fields
from .key import PublicKey

MAX_CONFIG_BYTES = 256 * 1024
MAX_KEYS = 64
MAX_SECONDS = 86_400

_TSC_MODE = re.compile(r"(?:default|always_emulate|native)\Z")
"""Who reads the processor's time stamp counter (xl.cfg(5), TSC_MODE)."""


class VerifierConfig(NamedTuple):
    """The file, read. Times are in seconds."""

    package_keys: tuple[PublicKey, ...]
    order_keys: tuple[PublicKey, ...]
    allow_debug: bool = False
    light_s: float = 1.0
    heavy_s: float = 30.0
    boot_limit_s: float = 600.0
    answer_limit_s: float = 180.0
    memory_reserve_mb: int = 64
    tsc_mode: str = ""
    release_keys: tuple[PublicKey, ...] = ()

    @classmethod
    def from_bytes(cls, data: bytes) -> VerifierConfig:
        """Return the configuration of the file's content.

        Raises:
            ParseError: for an unknown, missing or malformed member, and for an empty list of keys.
        """
        fields = Fields(load_json(data, limit_bytes=MAX_CONFIG_BYTES, allow_floats=True), "verifier")
        fields.literal("version", 1)
        config = cls(
            package_keys=_keys(fields, "package_keys"),
            order_keys=_keys(fields, "order_keys"),
            allow_debug=_flag(fields, "allow_debug"),
            light_s=_seconds(fields, "light_s", 0.05),
            heavy_s=_seconds(fields, "heavy_s", 1.0),
            boot_limit_s=_seconds(fields, "boot_limit_s", 1.0),
            answer_limit_s=_seconds(fields, "answer_limit_s", 1.0),
            memory_reserve_mb=fields.integer("memory_reserve_mb", maximum=1 << 20)
            if fields.has("memory_reserve_mb")
            else cls._field_defaults["memory_reserve_mb"],
            tsc_mode=fields.text("tsc_mode", maximum_chars=32, pattern=_TSC_MODE, empty=True)
            if fields.has("tsc_mode")
            else "",
            release_keys=_keys(fields, "release_keys") if fields.has("release_keys") else (),
        )
        fields.done()
        return config


def _keys(fields: Fields, name: str) -> tuple[PublicKey, ...]:
    found = fields.array(name, maximum=MAX_KEYS)
    if not found:
        raise fields.fail(name, "is empty: nobody could be believed")
    keys = []
    for item in found:
        if not isinstance(item, str):
            raise fields.fail(name, "holds something that is no text")
        try:
            keys.append(PublicKey.from_pem(item))
        except ParseError as error:
            raise fields.fail(name, str(error)) from None
    return tuple(keys)


def _flag(fields: Fields, name: str) -> bool:
    found = fields.take(name)
    if not isinstance(found, bool):
        raise fields.fail(name, "is neither true nor false")
    return found


def _seconds(fields: Fields, name: str, minimum: float) -> float:
    found: Any = fields.take(name) if fields.has(name) else VerifierConfig._field_defaults[name]
    # bool is an int to Python.
    if type(found) not in (int, float) or not minimum <= found <= MAX_SECONDS:
        raise fields.fail(name, f"is no number of seconds within {minimum:g} and {MAX_SECONDS}")
    return float(found)
