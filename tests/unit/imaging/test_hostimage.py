# SPDX-License-Identifier: GPL-3.0-or-later
"""From a tree to the files of a release, with stand-ins for the tools; the real build is tests/system."""

from __future__ import annotations

import hashlib
import os
import pathlib
from collections.abc import Callable
from typing import Any

import pytest
from ansible.module_utils.vouch.errors import UnreachableError, UsageError, VouchError
from ansible.module_utils.vouch.imaging.hostimage import FILES, CachedImage, ImageCache
from ansible.module_utils.vouch.imaging.spec import ImageSpec
from ansible.module_utils.vouch.make.predict import predict_pcr4
from ansible.module_utils.vouch.make.verity import hash_tree, verity_argument
from ansible.module_utils.vouch.parse.pe import authenticode_digest, parse_pe

from sim.debiantree import INIT, KERNEL, KEY, LIBS, MODULES, Tools, image_spec, make_tree

PYTHON = {"": b"", "daemon": b"", "daemon.relay": b"# relay\n"}


class Bench:
    """A builder with its cache."""

    def __init__(self, folder: pathlib.Path, name: str = "cache") -> None:
        self.tools = Tools()
        self.folder = folder / name
        self.cache = ImageCache(self.folder, runner=self.tools)
        self.tree = folder / "tree.tar"
        if not self.tree.exists():
            make_tree(folder)

    def build(self, spec: ImageSpec | None = None, *, rebuild: bool = False) -> tuple[CachedImage, bool]:
        spec = spec or image_spec()
        key = spec.key(tree_sha256="0" * 64, code=PYTHON)
        return self.cache.build(spec, tree=self.tree, key=key, python=PYTHON, rebuild=rebuild)

    def left_over(self) -> list[str]:
        return sorted(p.name for p in self.folder.glob(".*"))


@pytest.fixture(autouse=True)
def as_root(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 0)


@pytest.fixture
def bench(tmp_path: pathlib.Path) -> Bench:
    return Bench(tmp_path)


def listing(image: CachedImage) -> dict[str, tuple[int, str]]:
    """Return path to (mode, content or target) of the root image, as the stand-in for mkfs.erofs wrote it."""
    data = (image.folder / "root.img").read_bytes()[: image.image.verity.data_blocks * 4096].rstrip(b"\0").decode()
    rows = (line.split(" ", 2) for line in data.splitlines())
    return {path: (int(mode, 8), content) for path, mode, content in rows}


def text(content: str) -> str:
    return bytes.fromhex(content).decode()


def test_root_holds_what_was_named_and_its_libraries(bench: Bench) -> None:
    files = listing(bench.build()[0])
    assert {
        "usr/bin/tool",
        "usr/bin/busybox",
        f"{LIBS}/libneeded.so.1",
        f"{LIBS}/libneeded.so.1.2",
        f"{LIBS}/libc.so.6",
    } <= set(files)
    assert not {"usr/bin/unwanted", f"{LIBS}/libother.so.1", "usr/sbin/dmsetup", "var/lib/dpkg/status"} & set(files)
    assert files[f"{LIBS}/libneeded.so.1"][1] == "libneeded.so.1.2"
    assert files["bin"][1] == "usr/bin"
    assert {"dev", "proc", "sys", "run", "tmp", "var"} <= set(files)


def test_modules_come_with_what_they_need(bench: Bench) -> None:
    files = listing(bench.build()[0])
    assert f"{MODULES}/kernel/net.ko.xz" in files
    assert f"{MODULES}/kernel/disk.ko.xz" in files
    assert f"{MODULES}/kernel/erofs.ko.xz" not in files


def test_own_files_accounts_and_python(bench: Bench) -> None:
    files = listing(bench.build()[0])
    assert text(files["etc/ssh/authorized_keys/vouch"][1]) == KEY
    assert files["usr/lib/vouch/relay"][0] & 0o777 == 0o755
    assert files["etc/mtab"][1] == "../proc/self/mounts"
    assert files["etc/shadow"][0] & 0o777 == 0o600
    assert text(files["usr/lib/vouch/python/vouch/daemon/relay.py"][1]) == "# relay\n"
    assert "usr/lib/vouch/python/vouch/daemon/__init__.py" in files


def test_no_file_keeps_a_set_user_id_bit(bench: Bench) -> None:
    image, _ = bench.build()
    assert not [path for path, (mode, _) in listing(image).items() if mode & 0o6000 and mode & 0o100000]
    assert image.image.statistics["setid_dropped"] == 1


def test_image_is_verity_protected_and_named_on_the_command_line(bench: Bench) -> None:
    image, _ = bench.build()
    data = (image.folder / "root.img").read_bytes()
    verity = image.image.verity
    size = verity.data_blocks * 4096
    expected = hash_tree(data[:size], verity.salt)
    assert expected.verity == verity
    assert data[size:] == expected.tree
    efi = (image.folder / "xen.efi").read_bytes()
    config = parse_pe(efi).section(".config")
    assert config is not None
    lines = efi[config.raw_offset :][: config.virtual_size].decode().splitlines()
    assert f"kernel=vmlinuz console=hvc0 {verity_argument(verity)} --" in lines


def test_pcr4_is_predicted_from_the_file(bench: Bench) -> None:
    image, _ = bench.build()
    authenticode = authenticode_digest((image.folder / "xen.efi").read_bytes())
    assert image.image.authenticode_sha256 == authenticode.hex()
    assert image.image.pcr4 == predict_pcr4(authenticode).hex()


def test_manifest_covers_root_and_initrd(bench: Bench) -> None:
    image, _ = bench.build()
    lines = (image.folder / "manifest").read_text().splitlines()
    assert lines == sorted(lines, key=lambda line: line[66:])
    assert len(lines) == image.image.manifest_files
    names = {line[66:]: line[:64] for line in lines}
    assert names["/init"] == hashlib.sha256(INIT.encode()).hexdigest()
    assert names[f"/lib/modules/{KERNEL}/kernel/erofs.ko"] == hashlib.sha256(b"erofs module").hexdigest()
    regular = {"/" + path: content for path, (mode, content) in listing(image).items() if mode & 0o170000 == 0o100000}
    for path, content in regular.items():
        if path != "/usr/bin/busybox":
            assert names[path] == hashlib.sha256(bytes.fromhex(content)).hexdigest()


def test_packages_are_those_that_gave_something(bench: Bench) -> None:
    names = {package.name for package in bench.build()[0].image.packages}
    assert {
        "tool",
        "libneeded1",
        "libc6",
        "busybox-static",
        f"linux-image-{KERNEL}",
        "xen-hypervisor-4.20-amd64",
    } <= names
    assert "libother1" not in names


def test_same_inputs_same_bytes_in_another_place(tmp_path: pathlib.Path) -> None:
    first, _ = Bench(tmp_path, "one").build()
    second, _ = Bench(tmp_path, "two").build()
    for name in (*FILES, "image.json"):
        assert (first.folder / name).read_bytes() == (second.folder / name).read_bytes()


def test_variants_differ_in_pcr4(bench: Bench) -> None:
    production, debug = (bench.build(image_spec(variant=variant))[0].image for variant in ("production", "debug"))
    assert production.pcr4 != debug.pcr4
    assert production.verity.root_hash != debug.verity.root_hash


def test_second_call_uses_the_cache(bench: Bench) -> None:
    first, built = bench.build()
    count = len(bench.tools.ran)
    second, again = bench.build()
    assert (built, again) == (True, False)
    assert len(bench.tools.ran) == count
    assert first == second
    assert bench.build(rebuild=True)[1]


@pytest.mark.parametrize("name", [*FILES, "image.json"])
@pytest.mark.parametrize("damage", [lambda p: p.unlink(), lambda p: p.write_bytes(p.read_bytes()[:-2])])
def test_a_damaged_cache_is_built_again(bench: Bench, name: str, damage: Callable[[pathlib.Path], Any]) -> None:
    image, _ = bench.build()
    good = (image.folder / name).read_bytes()
    damage(image.folder / name)
    again, built = bench.build()
    assert built
    assert (again.folder / name).read_bytes() == good


@pytest.mark.parametrize("program", ["depmod", "ldconfig", "mkfs.erofs", "zstd", "python3.13"])
def test_a_failing_tool_leaves_nothing_behind(bench: Bench, program: str) -> None:
    bench.tools.broken.add(program)
    with pytest.raises(UnreachableError, match="No space left"):
        bench.build()
    assert bench.left_over() == []
    assert [p.suffix for p in bench.folder.iterdir()] == [".lock"]
    bench.tools.broken.clear()
    assert bench.build()[1]


def test_leavings_of_a_killed_build_are_removed(bench: Bench) -> None:
    spec = image_spec()
    stale = bench.folder / f".{spec.key(tree_sha256='0' * 64, code=PYTHON)}.123"
    stale.mkdir(parents=True)
    bench.build(spec)
    assert bench.left_over() == []


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"packages": {"absent": ["/x"]}}, "absent"),
        ({"packages": {"tool": ["/usr/bin/gone"]}}, "/usr/bin/gone"),
        ({"modules": ["nosuch"]}, "nosuch"),
        ({"initrd_load": ["nosuch"]}, "nosuch"),
        ({"libraries": ["libgone.so"]}, "libgone.so"),
        ({"xen_options": ["two words"]}, "two words"),
    ],
)
def test_what_the_tree_does_not_have_is_named(bench: Bench, changes: dict[str, Any], named: str) -> None:
    with pytest.raises(UsageError, match=named):
        bench.build(image_spec(**changes))
    assert bench.left_over() == []


def test_only_root_builds(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    with pytest.raises(UnreachableError) as caught:
        bench.build()
    assert caught.value.code == "image.privilege"


def test_a_missing_tree_is_an_error_of_the_surroundings(bench: Bench) -> None:
    bench.tree.unlink()
    with pytest.raises(VouchError, match="tar"):
        bench.build()
    assert bench.left_over() == []
