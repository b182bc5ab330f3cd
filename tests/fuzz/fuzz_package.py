# SPDX-License-Identifier: GPL-3.0-or-later
"""Guest packages: any bytes are read or refused with ``ParseError``, and what is read has that one spelling.

Run with atheris: ``python tests/fuzz/fuzz_package.py -max_total_time=60``.
"""

from __future__ import annotations

import pathlib
import sys

import ansible.module_utils

ansible.module_utils.__path__.append(str(pathlib.Path(__file__).resolve().parents[2] / "module_utils"))

from ansible.module_utils.vouch.check.packagerules import check_statement  # noqa: E402
from ansible.module_utils.vouch.errors import ParseError  # noqa: E402
from ansible.module_utils.vouch.model.package import GuestPackage  # noqa: E402


def one_input(data: bytes) -> None:
    """Read one input."""
    try:
        package = GuestPackage.from_bytes(data)
    except ParseError:
        return
    assert package.to_bytes() == data
    check_statement(package)


if __name__ == "__main__":
    import atheris

    atheris.instrument_all()
    atheris.Setup(sys.argv, one_input)
    atheris.Fuzz()
