# SPDX-License-Identifier: GPL-3.0-or-later
"""Cache key, command and package list of a Debian tree."""

from __future__ import annotations

from typing import Any

import pytest
from ansible.module_utils.vouch.errors import ParseError, UsageError
from ansible.module_utils.vouch.make.tree import TreeSpec, mmdebstrap_argv, parse_dpkg_status

STATUS = b"""Package: zlib1g
Status: install ok installed
Architecture: amd64
Version: 1:1.3
Description: compression
 more: text
 .

Package: gone
Status: deinstall ok config-files
Architecture: amd64
Version: 1

Package: base-files
Status: install ok installed
Architecture: amd64
Version: 13
"""


def test_key_ignores_the_order_of_packages() -> None:
    one = TreeSpec(suite="trixie", packages=("bb", "aa", "bb"))
    assert one.key == TreeSpec(suite="trixie", packages=("aa", "bb")).key
    assert one.label.startswith("trixie-")


@pytest.mark.parametrize(
    "change",
    [
        {"suite": "bookworm"},
        {"variant": "apt"},
        {"packages": ("aa",)},
        {"components": ("main", "contrib")},
        {"mirror": "https://mirror.example/debian"},
        {"path_excludes": ("/usr/share/doc/*",)},
        {"path_includes": ("/usr/share/doc/*",)},
        {"source_date_epoch": 1},
    ],
    ids=str,
)
def test_each_input_changes_the_key(change: dict[str, Any]) -> None:
    assert TreeSpec(**{"suite": "trixie", **change}).key != TreeSpec(suite="trixie").key


def test_command() -> None:
    spec = TreeSpec(
        suite="trixie",
        packages=("openssh-server", "busybox"),
        path_excludes=("/usr/share/doc/*",),
        path_includes=("/usr/share/doc/*/copyright",),
        mirror="https://mirror.example/debian",
    )
    argv = mmdebstrap_argv(spec, "/cache/x.tar")
    assert argv[0] == "mmdebstrap"
    assert "--include=busybox,openssh-server" in argv
    assert argv.index("--dpkgopt=path-exclude=/usr/share/doc/*") < argv.index(
        "--dpkgopt=path-include=/usr/share/doc/*/copyright"
    )
    assert argv[-3:] == ["trixie", "/cache/x.tar", "https://mirror.example/debian"]


def test_no_mirror_leaves_the_choice_to_mmdebstrap() -> None:
    assert mmdebstrap_argv(TreeSpec(suite="trixie"), "out.tar")[-2:] == ["trixie", "out.tar"]


@pytest.mark.parametrize(
    ("fields", "code"),
    [
        ({"suite": "--help"}, "tree.suite"),
        ({"suite": ""}, "tree.suite"),
        ({"variant": "huge"}, "tree.variant"),
        ({"packages": ("a,b",)}, "tree.package"),
        ({"packages": ("--simulate",)}, "tree.package"),
        ({"components": ()}, "tree.components"),
        ({"components": ("main,contrib",)}, "tree.component"),
        ({"path_excludes": ("usr/share",)}, "tree.path-pattern"),
        ({"mirror": "mirror.example"}, "tree.mirror"),
        ({"source_date_epoch": -1}, "tree.epoch"),
    ],
)
def test_refused_inputs(fields: dict[str, Any], code: str) -> None:
    with pytest.raises(UsageError) as refused:
        TreeSpec(**{"suite": "trixie", **fields})
    assert refused.value.code == code


def test_installed_packages_only_and_sorted() -> None:
    assert [(p.name, p.version) for p in parse_dpkg_status(STATUS)] == [("base-files", "13"), ("zlib1g", "1:1.3")]


@pytest.mark.parametrize(
    "data", [b"Status: install ok installed\n", b"Package: x\n", b"\xff\xfe", b"Package: x\nStatus: a b installed\n"]
)
def test_damaged_status(data: bytes) -> None:
    with pytest.raises(ParseError):
        parse_dpkg_status(data)
