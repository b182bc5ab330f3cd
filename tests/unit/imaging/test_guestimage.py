# SPDX-License-Identifier: GPL-3.0-or-later
"""From a tree to the files of a guest package, with stand-ins for the tools; the real build is tests/system."""

from __future__ import annotations

import os
import pathlib
from typing import Any

import pytest
from ansible.module_utils.vouch.check.flowproof import verify_proof
from ansible.module_utils.vouch.errors import UnreachableError, UsageError
from ansible.module_utils.vouch.imaging import guestimage
from ansible.module_utils.vouch.imaging.guestimage import FILES, CachedGuest, GuestCache
from ansible.module_utils.vouch.imaging.guestspec import GuestSpec
from ansible.module_utils.vouch.make.guestpackage import GuestImage
from ansible.module_utils.vouch.make.verity import hash_tree, verity_argument
from ansible.module_utils.vouch.model.image import Package

from sim.buildnode import intent, policy, proof
from sim.debiantree import make_tree
from sim.guestbuild import CONTEXTS, GuestTools, guest_spec, profiled, reordered
from sim.policy import allow

CODE = {"build/imaging.guestimage": b""}
PYTHON = {"": b"", "authority": b"", "authority.__main__": b"print()\n"}
LABELS = "etc/selinux/vouch/contexts/files/file_contexts"


class Bench:
    """A builder with its cache."""

    def __init__(self, folder: pathlib.Path, name: str = "cache") -> None:
        self.tools = GuestTools()
        self.folder = folder / name
        self.cache = GuestCache(self.folder, runner=self.tools, profiler=profiled)
        self.tree = folder / "tree.tar"
        if not self.tree.exists():
            make_tree(folder)

    def build(self, spec: GuestSpec | None = None, *, rebuild: bool = False) -> tuple[CachedGuest, bool]:
        spec = spec or guest_spec()
        key = spec.key(tree_sha256="0" * 64, code=CODE)
        return self.cache.build(spec, tree=self.tree, key=key, python=PYTHON, rebuild=rebuild)

    def left_over(self) -> list[str]:
        return sorted(p.name for p in self.folder.glob(".*"))


@pytest.fixture(autouse=True)
def as_root(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 0)


@pytest.fixture
def bench(tmp_path: pathlib.Path) -> Bench:
    return Bench(tmp_path)


def listing(guest: CachedGuest) -> dict[str, tuple[int, str]]:
    """Return path to (mode, content or target) of the root image, as the stand-in for mkfs.erofs wrote it."""
    data = (guest.folder / "root.img").read_bytes()[: guest.image.verity.data_blocks * 4096].rstrip(b"\0").decode()
    rows = (line.split(" ", 2) for line in data.splitlines())
    return {path: (int(mode, 8), content) for path, mode, content in rows}


def test_policy_is_the_kernels_form_in_image_and_root(bench: Bench) -> None:
    guest, _ = bench.build()
    form = reordered(policy()).to_bytes()
    assert form != policy().to_bytes()
    assert (guest.folder / "policy").read_bytes() == form
    files = listing(guest)
    assert bytes.fromhex(files["etc/selinux/vouch/policy/policy.33"][1]) == form
    assert bytes.fromhex(files[LABELS][1]).decode() == CONTEXTS
    assert guest.image.policy.sha256.hex() == guest.image.files["policy"]


def test_labels_are_laid_by_the_trees_own_tools(bench: Bench) -> None:
    bench.build()
    (made,) = [command for command in bench.tools.ran if command[0] == "mkfs.erofs"]
    assert any(word.startswith("--file-contexts=") and word.endswith(LABELS) for word in made)
    assert bench.tools.sources == [guest_spec().policy]
    assert [command[0] for command in bench.tools.ran].index("setfiles") < bench.tools.ran.index(made)


def test_proof_holds_for_policy_and_intent(bench: Bench) -> None:
    guest, _ = bench.build()
    proof, policy_bytes = ((guest.folder / name).read_bytes() for name in ("proof.json", "policy"))
    assert verify_proof(proof, policy=policy_bytes, intent=intent())
    assert (guest.folder / "intent.json").read_bytes() == intent().to_bytes()
    assert guest.image.cwlite.filters == len(intent().filters)
    assert guest.image.cwlite.proof_sha256.hex() == guest.image.files["proof.json"]


def test_a_policy_that_does_not_keep_to_its_intent_is_not_built(bench: Bench) -> None:
    bench.tools.compiled.rules = [*policy().rules, allow("cc_t distccd_exec_t:file write")]
    with pytest.raises(UsageError, match="distccd_exec_t") as caught:
        bench.build()
    assert caught.value.code == "guest.conflicts"
    assert [p.suffix for p in bench.folder.iterdir()] == [".lock"]


def test_a_permissive_type_is_not_built(bench: Bench) -> None:
    bench.tools.compiled.permissive = ["cc_t"]
    with pytest.raises(UsageError, match="permissive") as caught:
        bench.build()
    assert caught.value.code == "guest.conflicts"


def test_two_checkers_must_agree(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(guestimage, "make_proof", lambda *given: proof())
    bench.tools.compiled.rules = [*policy().rules, allow("cc_t cc_tmp_t:file unlink")]
    with pytest.raises(UsageError, match="disagree") as caught:
        bench.build()
    assert caught.value.code == "guest.proof"


def test_command_line_names_the_root_and_ends(bench: Bench) -> None:
    guest, _ = bench.build()
    image = guest.image
    assert image.cmdline == f"console=hvc0 security=selinux enforcing=1 {verity_argument(image.verity)} --"
    data = (guest.folder / "root.img").read_bytes()
    size = image.verity.data_blocks * 4096
    expected = hash_tree(data[:size], image.verity.salt)
    assert expected.verity == image.verity
    assert data[size:] == expected.tree


def test_kernel_is_the_packages_own(bench: Bench) -> None:
    guest, _ = bench.build()
    assert (guest.folder / "vmlinuz").read_bytes() == b"kernel" * 100
    assert guest.image.kernel == "6.12.1-amd64"


def test_tools_of_the_build_stay_out(bench: Bench) -> None:
    files = listing(bench.build()[0])
    assert "usr/bin/tool" in files
    assert not {"usr/bin/busybox", "usr/sbin/dmsetup", "usr/bin/unwanted"} & set(files)
    assert not [path for path in files if path.startswith("usr/lib/modules")]
    assert not [path for path, (mode, _) in files.items() if mode & 0o6000 and mode & 0o100000]


def test_our_own_modules_are_in_the_guest(bench: Bench) -> None:
    files = listing(bench.build()[0])
    assert bytes.fromhex(files["usr/lib/vouch/python/vouch/authority/__main__.py"][1]) == PYTHON["authority.__main__"]
    compiled = [command[-1] for command in bench.tools.ran if command[0] == "python3.13"]
    assert [path.rpartition("/usr/")[2] for path in compiled] == ["lib/vouch/python"]


def test_sources_are_in_the_guest_and_named(bench: Bench) -> None:
    guest, _ = bench.build(guest_spec(sources=["hello"]))
    assert bytes.fromhex(listing(guest)["usr/src/hello/hello.c"][1]) == b"int hello;\n"
    assert Package(name="src:hello", version="2.10-5") in guest.image.packages
    assert not [path for path in listing(bench.build()[0]) if path.startswith("usr/src")]


def test_packages_are_those_that_gave_something(bench: Bench) -> None:
    image = bench.build()[0].image
    assert {"tool", "libneeded1", "busybox-static", "dmsetup"} <= {package.name for package in image.packages}
    assert "libother1" not in {package.name for package in image.packages}
    assert image.statistics["policy_types"] == len(policy().types)


def test_description_becomes_a_package(bench: Bench) -> None:
    image = bench.build()[0].image
    assert GuestImage.from_json(image.to_json()) == image
    assert image.package().name == "node"


def test_same_inputs_same_bytes_in_another_place(tmp_path: pathlib.Path) -> None:
    first, second = (Bench(tmp_path, name).build()[0] for name in ("one", "two"))
    for name in (*FILES, "image.json"):
        assert (first.folder / name).read_bytes() == (second.folder / name).read_bytes()


def test_second_call_uses_the_cache(bench: Bench) -> None:
    first, built = bench.build()
    count = len(bench.tools.ran)
    second, again = bench.build()
    assert (built, again, len(bench.tools.ran)) == (True, False, count)
    assert first == second
    assert bench.build(rebuild=True)[1]


@pytest.mark.parametrize("name", [*FILES, "image.json"])
def test_a_damaged_cache_is_built_again(bench: Bench, name: str) -> None:
    guest, _ = bench.build()
    path = guest.folder / name
    good = path.read_bytes()
    path.write_bytes(good[:-2])
    again, built = bench.build()
    assert built
    assert (again.folder / name).read_bytes() == good


@pytest.mark.parametrize("program", ["secilc", "setfiles", "mkfs.erofs", "zstd", "depmod"])
def test_a_failing_tool_leaves_nothing_behind(bench: Bench, program: str) -> None:
    bench.tools.broken.add(program)
    with pytest.raises(UnreachableError, match="No space left"):
        bench.build()
    assert bench.left_over() == []
    bench.tools.broken.clear()
    assert bench.build()[1]


def test_a_kernel_that_refuses_the_policy_leaves_nothing_behind(bench: Bench) -> None:
    bench.tools.kernel.form = lambda given: None
    with pytest.raises(UnreachableError) as caught:
        bench.build()
    assert caught.value.code == "guest.normal-form"
    assert bench.left_over() == []


def test_the_reference_boot_loads_what_its_disk_needs_first(bench: Bench) -> None:
    bench.build()
    (members,) = bench.tools.kernel.booted
    assert members["modules"] == b"virtio_ring.ko\nvirtio_blk.ko\n"
    assert members["virtio_ring.ko"] == b"ring module"


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"packages": {"absent": ["/x"]}}, "absent"),
        ({"packages": {"tool": ["/usr/bin/gone"]}}, "/usr/bin/gone"),
        ({"initrd_load": ["nosuch"]}, "nosuch"),
        ({"libraries": ["libgone.so"]}, "libgone.so"),
        ({"sources": ["gone"]}, "no sources of gone"),
    ],
)
def test_what_the_tree_does_not_have_is_named(bench: Bench, changes: dict[str, Any], named: str) -> None:
    with pytest.raises(UsageError, match=named):
        bench.build(guest_spec(**changes))
    assert bench.left_over() == []


def test_only_root_builds(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    with pytest.raises(UnreachableError) as caught:
        bench.build()
    assert caught.value.code == "image.privilege"
