# SPDX-License-Identifier: GPL-3.0-or-later
"""Fuzz target: what a kernel says of itself is read, or refused with ParseError; nothing else.

Run ``python tests/fuzz/fuzz_kernel.py CORPUS_FOLDER`` where the package ``atheris`` is installed; without it, the same
property runs on random changes in tests/property/test_kernelreaders.py. Each crash becomes a unit test.
"""

from __future__ import annotations

import contextlib
import pathlib
import sys

ROOT = pathlib.Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "module_utils"))

from vouch.errors import ParseError  # noqa: E402
from vouch.parse.btf import Btf  # noqa: E402
from vouch.parse.bzimage import parse_bzimage  # noqa: E402
from vouch.parse.elf import parse_elf  # noqa: E402
from vouch.parse.kallsyms import parse_kallsyms  # noqa: E402
from vouch.parse.x86insn import parse_instruction  # noqa: E402


def one_input(data: bytes) -> None:
    """Hand ``data`` to each reader."""
    for read in (parse_bzimage, parse_elf, parse_kallsyms, parse_instruction):
        with contextlib.suppress(ParseError):
            read(data)
    with contextlib.suppress(ParseError):
        Btf(data).member("task_struct", "cred")


def main() -> None:
    """Hand the target to libFuzzer."""
    import atheris  # type: ignore[import-not-found]

    atheris.instrument_all()
    atheris.Setup(sys.argv, one_input)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
