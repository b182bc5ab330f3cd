# SPDX-License-Identifier: GPL-3.0-or-later
"""Fuzz target: a profile is read and written back as it was, or refused with ParseError; nothing else.

Run ``python tests/fuzz/fuzz_profile.py CORPUS_FOLDER`` where the package ``atheris`` is installed; without it, the same
property runs on random changes in tests/property/test_kernelreaders.py. Each crash becomes a unit test.
"""

from __future__ import annotations

import contextlib
import pathlib
import sys

ROOT = pathlib.Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "module_utils"))

from vouch.errors import ParseError  # noqa: E402
from vouch.model.kernelprofile import Profile  # noqa: E402


def one_input(data: bytes) -> None:
    """Read ``data`` with all its form sets, and write it again."""
    with contextlib.suppress(ParseError):
        profile = Profile.from_bytes(data)
        if profile.to_bytes() != data:
            raise AssertionError("two files are one profile")
        for index in range(profile.form_sets):
            profile.form_set(index)


def main() -> None:
    """Hand the target to libFuzzer."""
    import atheris  # type: ignore[import-not-found]

    atheris.instrument_all()
    atheris.Setup(sys.argv, one_input)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
