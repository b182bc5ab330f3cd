# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: the Vouch authors
"""Filters for PCR values in playbooks: a thin shim over the core. Each filter is documented in its own .yml file."""

from __future__ import annotations

import pathlib
from collections.abc import Callable
from typing import Any

import ansible.module_utils as _module_utils
from ansible.errors import AnsibleFilterError

# On the controller only the module packer knows module_utils/ of this project; a filter has to say where it is.
_CORE = str(pathlib.Path(__file__).resolve().parent.parent / "module_utils")
if _CORE not in _module_utils.__path__:
    _module_utils.__path__.append(_CORE)

from ansible.module_utils.vouch.errors import ParseError, UsageError  # noqa: E402
from ansible.module_utils.vouch.make.predict import extend_all, predict_pcr4, predict_uki_pcr4  # noqa: E402
from ansible.module_utils.vouch.parse.hexdigest import parse_sha256  # noqa: E402


def _digest(value: Any, what: str) -> bytes:
    """Return the bytes of a hexadecimal SHA-256 digest."""
    if not isinstance(value, str):
        raise AnsibleFilterError(f"{what}: expected a hexadecimal string, not {type(value).__name__}")
    try:
        return parse_sha256(value)
    except ParseError as error:
        raise AnsibleFilterError(f"{what}: {error.problem}") from None


def pcr_extend(register: Any, digests: Any) -> str:
    """Return the register after it was extended by each of ``digests``."""
    items = [digests] if isinstance(digests, str) else list(digests)
    start = _digest(register, "vouch_pcr_extend: register")
    return extend_all((_digest(item, "vouch_pcr_extend: digest") for item in items), start=start).hex()


def pcr4(authenticode: Any, kernel: Any = "", failed_attempts: Any = 0) -> str:
    """Return PCR 4 after the firmware has started an image with this Authenticode digest."""
    if isinstance(failed_attempts, bool) or not isinstance(failed_attempts, int):
        raise AnsibleFilterError("vouch_pcr4: failed_attempts must be a whole number")
    image = _digest(authenticode, "vouch_pcr4")
    try:
        if kernel:
            return predict_uki_pcr4(image, _digest(kernel, "vouch_pcr4: kernel"), failed_attempts).hex()
        return predict_pcr4(image, failed_attempts).hex()
    except UsageError as error:
        raise AnsibleFilterError(f"vouch_pcr4: {error}") from error


class FilterModule:
    """What Ansible looks for in this file."""

    def filters(self) -> dict[str, Callable[..., str]]:
        """Return the filters by name."""
        return {"vouch_pcr_extend": pcr_extend, "vouch_pcr4": pcr4}
