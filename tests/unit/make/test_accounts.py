# SPDX-License-Identifier: GPL-3.0-or-later
"""No account has a password, and production lets nobody in but the subsystem's user."""

from __future__ import annotations

import pytest
from ansible.module_utils.vouch.make.accounts import NOLOGIN, account_files, host_accounts

RELAY = "/usr/lib/vouch/relay"


def fields(text: str) -> dict[str, list[str]]:
    return {line.split(":")[0]: line.split(":") for line in text.splitlines()}


@pytest.mark.parametrize("debug", [False, True])
def test_no_account_has_a_password(debug: bool) -> None:
    files = account_files(host_accounts(debug=debug, ssh_user="vouch", ssh_shell=RELAY))
    shadow = fields(files["etc/shadow"][0])
    assert files["etc/shadow"][1] == 0o600
    assert {entry[1] for entry in shadow.values()} <= {"*", "!*"}
    assert {name for name, entry in shadow.items() if entry[1] == "*"} == ({"vouch", "root"} if debug else {"vouch"})


def test_production_has_no_shell() -> None:
    files = account_files(host_accounts(debug=False, ssh_user="vouch", ssh_shell=RELAY))
    shells = {name: entry[6] for name, entry in fields(files["etc/passwd"][0]).items()}
    assert shells.pop("vouch") == RELAY
    assert set(shells.values()) == {NOLOGIN}


def test_every_account_has_its_group() -> None:
    files = account_files(host_accounts(debug=False, ssh_user="vouch", ssh_shell=RELAY))
    groups = {entry[2] for entry in fields(files["etc/group"][0]).values()}
    assert {entry[3] for entry in fields(files["etc/passwd"][0]).values()} <= groups
