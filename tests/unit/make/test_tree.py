# SPDX-License-Identifier: GPL-3.0-or-later
"""Cache key, command and package list of a Debian tree."""

from __future__ import annotations

import io
import pathlib
import subprocess
import tarfile
from typing import Any

import pytest
from ansible.module_utils.vouch.errors import ParseError, UsageError
from ansible.module_utils.vouch.make.tree import (
    TreeSpec,
    mmdebstrap_argv,
    parse_dpkg_status,
    source_hook,
    source_version,
)

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
        {"sources": ("aa",)},
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


def test_trees_without_sources_are_those_from_before_there_were_any() -> None:
    spec = TreeSpec(suite="trixie", packages=("busybox",), source_date_epoch=1)
    assert spec.key == "c4e4289973da0af1a3e375b9c6d783eab825de0bc8c75e1d9323c837bbe03409"


def test_sources_are_fetched_by_the_trees_own_apt() -> None:
    argv = mmdebstrap_argv(TreeSpec(suite="trixie", sources=("lua5.4", "hello")), "out.tar")
    (hook,) = [word.removeprefix("--customize-hook=") for word in argv if word.startswith("--customize-hook=")]
    fetched = [line for line in hook.splitlines() if "apt-get source" in line]
    assert ["hello" in line for line in fetched] == [True, False]
    assert all(line.startswith('chroot "$1" ') for line in fetched)
    assert hook.splitlines()[0] == "set -e"


def run_hook(tmp_path: pathlib.Path, archives: dict[str, str]) -> subprocess.CompletedProcess[str]:
    """Run the hook for ``hello`` on an empty tree; chroot is a stand-in that has ``archives``: name to top folder."""
    tree, programs = tmp_path / "tree", tmp_path / "bin"
    (tree / "etc/apt/sources.list.d").mkdir(parents=True)
    (tree / "etc/apt/sources.list").write_text("deb https://mirror.example/debian trixie main\n")
    programs.mkdir()
    for name, top in archives.items():
        with tarfile.open(tmp_path / name, "w:gz") as stream:
            member = tarfile.TarInfo(f"{top}/hello.c")
            stream.addfile(member, io.BytesIO())
    chroot = programs / "chroot"
    chroot.write_text(
        f"""#!/bin/sh
        case $* in
        *"apt-get update") grep -q "^deb-src https://mirror.example" "$1"/etc/apt/sources.list.d/* ;;
        *) cd "$1/usr/src/.fetched" && cp {tmp_path}/*.tar.gz . && echo "Version: 2.10-5" > hello_2.10-5.dsc ;;
        esac
        """
    )
    chroot.chmod(0o755)
    return subprocess.run(
        ["sh", "-c", source_hook(["hello"]), "hook", str(tree)],
        env={"PATH": f"{programs}:/usr/bin:/bin"},
        capture_output=True,
        text=True,
        check=False,
    )


def test_upstreams_archive_is_unpacked_and_nothing_is_left_behind(tmp_path: pathlib.Path) -> None:
    done = run_hook(tmp_path, {"hello_2.10.orig.tar.gz": "hello-2.10"})
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "tree/usr/src/hello/hello.c").is_file()
    assert source_version((tmp_path / "tree/usr/src/hello.dsc").read_bytes()) == "2.10-5"
    assert sorted(path.name for path in (tmp_path / "tree/usr/src").iterdir()) == ["hello", "hello.dsc"]
    assert list((tmp_path / "tree/etc/apt/sources.list.d").iterdir()) == []


def test_a_source_package_without_upstreams_archive_ends_the_bootstrap(tmp_path: pathlib.Path) -> None:
    assert run_hook(tmp_path, {}).returncode != 0


def test_a_description_without_a_version() -> None:
    with pytest.raises(ParseError):
        source_version(b"Source: hello\nVersion:\n")


@pytest.mark.parametrize(
    ("fields", "code"),
    [
        ({"suite": "--help"}, "tree.suite"),
        ({"suite": ""}, "tree.suite"),
        ({"variant": "huge"}, "tree.variant"),
        ({"packages": ("a,b",)}, "tree.package"),
        ({"packages": ("--simulate",)}, "tree.package"),
        ({"sources": ("a$(b)",)}, "tree.source-package"),
        ({"sources": ("a=1",)}, "tree.source-package"),
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
