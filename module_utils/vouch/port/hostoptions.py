# SPDX-License-Identifier: GPL-3.0-or-later
"""The options by which a module reaches the VM verifier of a host, the same in each; without paramiko."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

HOST_OPTIONS: Mapping[str, Mapping[str, Any]] = MappingProxyType(
    {
        "host": {"type": "str", "required": True},
        "port": {"type": "int", "default": 22},
        "user": {"type": "str", "default": "vouch"},
        "private_key_file": {"type": "path", "required": True, "no_log": False},
        "host_key": {"type": "str", "required": True, "no_log": False},
    }
)
"""For ``argument_spec``; ``doc_fragments/vouch_host.py`` is their documentation. The key file is a path, and the host
key is public: neither is a secret."""
