# SPDX-License-Identifier: GPL-3.0-or-later
"""Which of our own code decides the bytes of an image, and so the key of the cache."""

from __future__ import annotations

import subprocess
import sys

import pytest
from ansible.module_utils.vouch.imaging.sources import builder_code, source

from conftest import ROOT


@pytest.mark.parametrize("name", ["", "imaging", "imaging.sources", "make.verity"])
def test_source_of_a_module_or_package(name: str) -> None:
    found = source(name)
    assert found is not None
    assert b'"""' in found


@pytest.mark.parametrize("name", ["nosuch", "imaging.nosuch", "imaging.sources.deeper"])
def test_what_is_not_ours_has_none(name: str) -> None:
    assert source(name) is None


def keys(module: str) -> set[str]:
    """Return the names that decide the images of ``module``, in a process that has imported nothing else."""
    script = (
        "import sys, ansible.module_utils as m; m.__path__.append('module_utils'); sys.path.insert(0, 'library');"
        f"import {module} as module; print(*module.builder_code())"
    )
    done = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=True)
    return set(done.stdout.split())


def test_a_host_image_does_not_depend_on_how_policies_are_judged_at_the_build() -> None:
    """What its VM verifier judges a policy with is part of the image; what the builder does is not."""
    names = keys("vouch_host_image")
    assert {"build/imaging.hostimage", "build/make.xenefi", "build/imaging.parts"} <= names
    assert not [name for name in names if name.startswith(("build/check.cwlite", "build/check.flowsums"))]


def test_a_guest_image_depends_on_what_judges_its_policy() -> None:
    names = keys("vouch_guest_image")
    deciding = {
        *("imaging.guestimage", "imaging.normalform", "imaging.parts", "make.flowproof", "make.verity"),
        *("check.cwlite", "check.flowproof", "model.flowmap", "model.flowtable", "model.integrity"),
        *("model.policydigest", "parse.sepolicy", "parse.serules", "parse.sebitmap"),
    }
    assert {f"build/{name}" for name in deciding} <= names


def test_only_sources_are_in_it() -> None:
    assert all(b'"""' in text for text in builder_code().values())
