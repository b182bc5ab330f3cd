# SPDX-License-Identifier: GPL-3.0-or-later
"""KVM only where it works."""

from __future__ import annotations

import pathlib

import pytest
from ansible.module_utils.vouch.errors import UsageError
from ansible.module_utils.vouch.lab.accel import choose, kvm_usable

PLAIN = "processor\t: 0\nflags\t\t: fpu sse2 nx\n"
INTEL = "processor\t: 0\nflags\t\t: fpu vmx nx\n"
AMD = "flags\t\t: svm\n"


@pytest.mark.parametrize(
    ("cpuinfo", "usable"), [(PLAIN, False), (INTEL, True), (AMD, True), ("", False), ("model: vmx\n", False)]
)
def test_flags_decide(tmp_path: pathlib.Path, cpuinfo: str, usable: bool) -> None:
    device = tmp_path / "kvm"
    device.touch()
    assert kvm_usable(cpuinfo, str(device)) is usable


def test_flags_without_a_device(tmp_path: pathlib.Path) -> None:
    assert not kvm_usable(INTEL, str(tmp_path / "kvm"))


@pytest.mark.parametrize(
    ("requested", "kvm", "name"),
    [("auto", True, "kvm"), ("auto", False, "tcg"), ("tcg", True, "tcg"), ("tcg", False, "tcg"), ("kvm", True, "kvm")],
)
def test_choice(requested: str, kvm: bool, name: str) -> None:
    assert choose(requested, kvm=kvm).name == name


def test_tcg_hides_what_breaks_xen() -> None:
    accelerator = choose("tcg", kvm=False, translation_cache_mb=64)
    assert accelerator.cpu == "max,-smap,-smep,-xsave"
    assert accelerator.accel == "tcg,thread=multi,tb-size=64"


@pytest.mark.parametrize(("requested", "code"), [("kvm", "lab.kvm"), ("hvf", "lab.accelerator")])
def test_refusals(requested: str, code: str) -> None:
    with pytest.raises(UsageError) as refused:
        choose(requested, kvm=False)
    assert refused.value.code == code
