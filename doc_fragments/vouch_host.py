# SPDX-License-Identifier: GPL-3.0-or-later
"""What every module says of the options by which it reaches the VM verifier of a host."""

from __future__ import annotations


class ModuleDocFragment:
    """Extends the documentation of a module whose argument specification has ``port.hostoptions.HOST_OPTIONS``."""

    DOCUMENTATION = r"""
options:
  host:
    description: Name or address of the host.
    type: str
    required: true
  port:
    description: TCP port of its SSH server.
    type: int
    default: 22
  user:
    description: Account whose only service is the subsystem.
    type: str
    default: vouch
  private_key_file:
    description: Private key that the host image lets in. It must not be encrypted.
    type: path
    required: true
  host_key:
    description:
      - The only SSH host key that is accepted, as type and base64, from the enrolment of the host.
      - When the host shows another key, nothing is asked and the result has the code V(channel.key.mismatch).
    type: str
    required: true
requirements:
  - paramiko
"""
