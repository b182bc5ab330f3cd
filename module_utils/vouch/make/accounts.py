# SPDX-License-Identifier: GPL-3.0-or-later
"""The accounts of a host: few, all without a password, one of them reachable.

Source: passwd(5), shadow(5), group(5); sshd(8) on locked accounts ("!" in front locks keys out too, "*" does not).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

NOLOGIN = "/usr/sbin/nologin"
_DAYS = 20000
"""Last change of the password; a fixed day, only so that the field is not 0 ("must be changed")."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Account:
    """One user with a group of the same name and number.

    Attributes:
        name: Login name.
        number: User and group id.
        home: Home directory.
        shell: What a login runs.
        keys: Whether sshd may let it in by key. No account has a password.
    """

    name: str
    number: int
    home: str = "/nonexistent"
    shell: str = NOLOGIN
    keys: bool = False


def host_accounts(*, debug: bool, ssh_user: str, ssh_shell: str) -> tuple[Account, ...]:
    """Return the accounts of a host image; only the debug variant lets root in."""
    root = Account(name="root", number=0, home="/root", shell="/bin/bash" if debug else NOLOGIN, keys=debug)
    return (
        root,
        Account(name="sshd", number=100, home="/run/sshd"),
        Account(name=ssh_user, number=101, shell=ssh_shell, keys=True),
        Account(name="nobody", number=65534),
    )


def account_files(accounts: Sequence[Account]) -> dict[str, tuple[str, int]]:
    """Return path to (content, mode) of the files that define ``accounts``."""
    passwd = "".join(f"{a.name}:x:{a.number}:{a.number}::{a.home}:{a.shell}\n" for a in accounts)
    group = "".join(f"{a.name}:x:{a.number}:\n" for a in accounts) + "tty:x:5:\ndisk:x:6:\nkmem:x:15:\n"
    shadow = "".join(f"{a.name}:{'*' if a.keys else '!*'}:{_DAYS}::::::\n" for a in accounts)
    return {"etc/passwd": (passwd, 0o644), "etc/group": (group, 0o644), "etc/shadow": (shadow, 0o600)}
