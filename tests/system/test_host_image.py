# SPDX-License-Identifier: GPL-3.0-or-later
"""The real host image: built twice by the role, in two places, with the real tools."""

from __future__ import annotations

import json
import os
import pathlib
import shutil
import subprocess
import sys

import pytest

ROOT = pathlib.Path(__file__).resolve().parents[2]
KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8g test"
MAX_IMAGE_BYTES = 200 * 1000 * 1000
FILES = ("xen.efi", "root.img", "manifest", "image.json", "release.dsse.json")

pytestmark = pytest.mark.lab


def build(place: pathlib.Path, signing_key: pathlib.Path) -> pathlib.Path:
    """Run the role with everything below ``place`` and return the folder of the image."""
    variables = {
        "host_image_authorized_keys": [KEY],
        "host_image_cache_dir": str(place / "cache"),
        "host_image_output_dir": str(place / "out"),
        "host_image_release_dir": str(place / "releases"),
        "host_image_signing_key": str(signing_key),
        "host_image_install_packages": False,
        "ansible_python_interpreter": sys.executable,
    }
    play = [{"hosts": "localhost", "connection": "local", "gather_facts": False, "roles": ["host_image"]}]
    book = place / "play.yml"
    book.write_text(json.dumps(play))
    argv = [sys.executable, "-m", "ansible.cli.playbook", "-i", "localhost,", "-e", json.dumps(variables), str(book)]
    environment = {**os.environ, "ANSIBLE_CONFIG": str(ROOT / "ansible.cfg"), "PYTHONDONTWRITEBYTECODE": "1"}
    done = subprocess.run(argv, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-2000:]
    return place / "out"


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> tuple[pathlib.Path, pathlib.Path]:
    """Return the folders of two builds from one tree."""
    if os.geteuid() != 0 or shutil.which("mmdebstrap") is None:
        pytest.skip("building a host image needs root and mmdebstrap")
    base = tmp_path_factory.mktemp("images")
    first, second = base / "first", base / "second"
    for place in (first, second):
        place.mkdir()
    one = build(first, base / "release.pem")
    # The archive moves; "the same inputs" begin with the same tree.
    shutil.copytree(first / "cache/trees", second / "cache/trees", copy_function=os.link)
    return one, build(second, base / "release.pem")


def test_two_builds_are_the_same_bytes(images: tuple[pathlib.Path, pathlib.Path]) -> None:
    first, second = images
    different = [name for name in FILES if (first / name).read_bytes() != (second / name).read_bytes()]
    assert not different


def test_image_is_small_and_has_no_set_user_id_file_left(images: tuple[pathlib.Path, pathlib.Path]) -> None:
    image = json.loads((images[0] / "image.json").read_text())
    assert (images[0] / "root.img").stat().st_size + (images[0] / "xen.efi").stat().st_size < MAX_IMAGE_BYTES
    assert image["statistics"]["packages"] == len(image["packages"])


def test_manifest_names_what_runs(images: tuple[pathlib.Path, pathlib.Path]) -> None:
    names = {line[66:] for line in (images[0] / "manifest").read_text().splitlines()}
    assert {"/init", "/bin/busybox", "/usr/lib/systemd/systemd", "/usr/lib/vouch/verifier", "/usr/sbin/sshd"} <= names
    assert not {"/usr/bin/apt", "/usr/bin/dpkg", "/usr/bin/perl", "/usr/bin/ps", "/usr/sbin/agetty"} & names
