# SPDX-License-Identifier: GPL-3.0-or-later
"""Which kernel modules go along with the wanted ones."""

from __future__ import annotations

import pytest
from ansible.module_utils.vouch.errors import ParseError, UsageError
from ansible.module_utils.vouch.make.kmods import choose_modules, module_name, parse_modules_dep

DEP = """kernel/fs/ext4/ext4.ko.xz: kernel/fs/jbd2/jbd2.ko.xz kernel/lib/crc16.ko.xz
kernel/fs/jbd2/jbd2.ko.xz:
kernel/lib/crc16.ko.xz:
kernel/drivers/net/net_failover.ko.xz: kernel/net/core/failover.ko.xz
kernel/drivers/net/virtio_net.ko.xz: kernel/drivers/net/net_failover.ko.xz
kernel/net/core/failover.ko.xz:
kernel/drivers/char/hw_random/virtio-rng.ko.xz:
"""


def test_dependencies_come_along() -> None:
    choice = choose_modules(parse_modules_dep(DEP), ["virtio_net"])
    assert {module_name(path) for path in choice.paths} == {"virtio_net", "net_failover", "failover"}


def test_hyphens_and_patterns() -> None:
    choice = choose_modules(parse_modules_dep(DEP), ["virtio-rng", "kernel/fs/ext4/*"])
    assert {module_name(path) for path in choice.paths} == {"virtio_rng", "ext4", "jbd2", "crc16"}
    assert choice.missing == ()


def test_unknown_names_are_told() -> None:
    assert choose_modules(parse_modules_dep(DEP), ["tpm_tis", "ext4", "kernel/none/*"]).missing == (
        "kernel/none/*",
        "tpm_tis",
    )


def test_refusals() -> None:
    with pytest.raises(ParseError):
        parse_modules_dep("kernel/fs/ext4/ext4.ko.xz\n")
    with pytest.raises(UsageError):
        choose_modules(parse_modules_dep(DEP), [])
    with pytest.raises(UsageError):
        module_name("kernel/readme")
