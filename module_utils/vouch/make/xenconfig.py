# SPDX-License-Identifier: GPL-3.0-or-later
"""Text of the xen.cfg inside a unified xen.efi.

Source: xen docs/misc/efi.pandoc, "The configuration file".
"""

from __future__ import annotations

from collections.abc import Iterable

from ..errors import UsageError

_SECTION = "vouch"


def xen_config(*, xen_options: Iterable[str], kernel_options: Iterable[str]) -> bytes:
    """Return the configuration that boots the kernel and initrd which lie beside it in the same file.

    The kernel's line ends in ``--``: without Secure Boot, Xen appends words of the boot entry to that line, and the
    kernel obeys no word behind ``--``. The initrd refuses to go on when one stands there.

    Raises:
        UsageError: an option that is empty or would end the line or be two words.
    """
    hypervisor, kernel = (tuple(options) for options in (xen_options, kernel_options))
    for option in (*hypervisor, *kernel):
        if not option or not option.isascii() or any(c.isspace() or not c.isprintable() for c in option):
            raise UsageError(f"{option!r} is not one word of a boot command line", code="image.option")
        if option == "--":
            raise UsageError("'--' would end the options early", code="image.option")
    # Of ``kernel=`` and ``ramdisk=`` the file names are ignored when the parts are sections; the rest counts.
    lines = (
        "[global]",
        f"default={_SECTION}",
        f"[{_SECTION}]",
        f"options={' '.join(hypervisor)}",
        f"kernel={' '.join(('vmlinuz', *kernel, '--'))}",
        "ramdisk=initrd.img",
    )
    return ("\n".join(lines) + "\n").encode()
