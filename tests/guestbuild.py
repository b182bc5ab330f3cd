# SPDX-License-Identifier: GPL-3.0-or-later
"""A guest image built by the role, as a playbook would have it built."""

from __future__ import annotations

import json
import os
import pathlib
import shutil
import subprocess
import sys

import pytest

ROOT = pathlib.Path(__file__).resolve().parents[1]


def require_builder() -> None:
    """Skip where no guest image can be built."""
    if os.geteuid() != 0 or not all(map(shutil.which, ("mmdebstrap", "qemu-system-x86_64"))):
        pytest.skip("building a guest image needs root, mmdebstrap and qemu-system-x86_64")


def build_guest(
    guest: str, place: pathlib.Path, signing_key: pathlib.Path, *, cache: pathlib.Path | None = None
) -> pathlib.Path:
    """Run the role with everything below ``place`` and return the folder of the image.

    Args:
        guest: Which one.
        place: Where its files go.
        signing_key: Of its package; made when missing.
        cache: Of trees and images; None for the one that every build on this machine shares.
    """
    variables = {
        "guest_image_guest": guest,
        "guest_image_cache_dir": "" if cache is None else str(cache),
        "guest_image_output_dir": str(place / guest),
        "guest_image_package_dir": str(place / "packages"),
        "guest_image_signing_key": str(signing_key),
        # QEMU's own network hands out addresses, which is not what a host does.
        "guest_image_network": {
            "services": [{"protocol": "udp", "port": 68, "reason": "DHCP of the emulated network"}]
        },
        "guest_image_install_packages": False,
        "ansible_python_interpreter": sys.executable,
    }
    play = [{"hosts": "localhost", "connection": "local", "gather_facts": False, "roles": ["guest_image"]}]
    book = place / "play.yml"
    book.write_text(json.dumps(play))
    argv = [sys.executable, "-m", "ansible.cli.playbook", "-i", "localhost,", "-e", json.dumps(variables), str(book)]
    environment = {**os.environ, "ANSIBLE_CONFIG": str(ROOT / "ansible.cfg"), "PYTHONDONTWRITEBYTECODE": "1"}
    done = subprocess.run(argv, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-2000:]
    return place / guest
