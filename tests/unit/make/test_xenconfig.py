# SPDX-License-Identifier: GPL-3.0-or-later
"""xen.cfg is complete, ends its last line, and an option cannot smuggle in another line."""

from __future__ import annotations

import pytest
from ansible.module_utils.vouch.errors import UsageError
from ansible.module_utils.vouch.make.xenconfig import xen_config


def test_text() -> None:
    text = xen_config(xen_options=["console=com1", "com1=115200,8n1"], kernel_options=["console=hvc0", "quiet"])
    assert text == (
        b"[global]\ndefault=vouch\n[vouch]\noptions=console=com1 com1=115200,8n1\n"
        b"kernel=vmlinuz console=hvc0 quiet --\nramdisk=initrd.img\n"
    )


@pytest.mark.parametrize("option", ["", "--", "two words", "line\nkernel=x", "tab\t", "\N{DEGREE SIGN}", "\0"])
@pytest.mark.parametrize("place", ["xen_options", "kernel_options"])
def test_what_is_not_one_word_is_refused(option: str, place: str) -> None:
    options: dict[str, list[str]] = {"xen_options": ["a"], "kernel_options": ["b"]}
    options[place] = [option]
    with pytest.raises(UsageError) as caught:
        xen_config(**options)
    assert caught.value.code == "image.option"
