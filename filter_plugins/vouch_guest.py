# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: the Vouch authors
"""Filters about guests in playbooks: a thin shim over the core. Each filter is documented in its own .yml file."""

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

from ansible.module_utils.vouch.errors import UsageError  # noqa: E402
from ansible.module_utils.vouch.model.guestaddress import address_of, derived_mac  # noqa: E402


def guest_address(guest: Any, host_id: Any, mac: Any = "") -> str:
    """Return the IPv6 address that the guest has on that host."""
    for value, what in ((guest, "the guest"), (host_id, "host_id"), (mac, "mac")):
        if not isinstance(value, str) or (not value and what != "mac"):
            raise AnsibleFilterError(f"vouch_guest_address: {what} must be a string that is not empty")
    try:
        return address_of(host_id, mac or derived_mac(host_id, guest))
    except UsageError as error:
        raise AnsibleFilterError(f"vouch_guest_address: {error}") from error


class FilterModule:
    """What Ansible looks for in this file."""

    def filters(self) -> dict[str, Callable[..., str]]:
        """Return the filters by name."""
        return {"vouch_guest_address": guest_address}
