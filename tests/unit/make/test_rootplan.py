# SPDX-License-Identifier: GPL-3.0-or-later
"""Only what is named goes in, and what is named must be there."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import pytest
from ansible.module_utils.vouch.errors import UsageError
from ansible.module_utils.vouch.make.rootplan import choose_paths, merged, owners_of, package_of

LISTS = {
    "bash": ["/.", "/bin", "/bin/bash", "/etc", "/etc/bash.bashrc"],
    "libc6": ["/lib/x86_64-linux-gnu/libc.so.6", "/lib64/ld-linux-x86-64.so.2"],
    "xen": ["/usr/sbin/xl", "/usr/sbin/xentop"],
}


@pytest.mark.parametrize(
    ("path", "result"),
    [
        ("/bin/bash", "usr/bin/bash"),
        ("/lib64/ld.so", "usr/lib64/ld.so"),
        ("/usr/bin/env", "usr/bin/env"),
        ("/bin", "bin"),
        ("/library/x", "library/x"),
    ],
)
def test_merged(path: str, result: str) -> None:
    assert merged(path) == result


def test_package_of() -> None:
    assert package_of("libc6:amd64.list") == "libc6"
    assert package_of("xen-utils-4.20.list") == "xen-utils-4.20"


def test_choice_names_paths_and_their_packages() -> None:
    choice = choose_paths(LISTS, {"bash": ["/usr/bin/bash"], "xen": ["/usr/sbin/x*"]})
    assert choice.owners == {"usr/bin/bash": "bash", "usr/sbin/xl": "xen", "usr/sbin/xentop": "xen"}
    assert choice.paths == ("usr/bin/bash", "usr/sbin/xentop", "usr/sbin/xl") or choice.paths == tuple(
        sorted(choice.owners)
    )


@pytest.mark.parametrize(
    ("plan", "named"),
    [
        ({}, "no packages"),
        ({"zsh": ["/usr/bin/zsh"]}, "zsh"),
        ({"bash": ["/usr/bin/bash", "/usr/bin/rbash"]}, "/usr/bin/rbash"),
        ({"bash": ["/bin/bash"]}, "/bin/bash"),
    ],
    ids=["empty", "absent package", "unmatched", "not merged"],
)
def test_bad_plans_are_refused_by_name(plan: Mapping[str, Sequence[str]], named: str) -> None:
    with pytest.raises(UsageError) as caught:
        choose_paths(LISTS, plan)
    assert caught.value.code == "image.plan"
    assert named in caught.value.message


def test_owners_of_libraries() -> None:
    assert owners_of(LISTS, ["usr/lib/x86_64-linux-gnu/libc.so.6", "usr/lib/none"]) == {
        "usr/lib/x86_64-linux-gnu/libc.so.6": "libc6"
    }
