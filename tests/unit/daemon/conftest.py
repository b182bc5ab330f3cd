# SPDX-License-Identifier: GPL-3.0-or-later
"""A host that starts guests, one for each test; one software TPM for all of them, reset in between."""

from __future__ import annotations

import pathlib
from collections.abc import Iterator

import pytest

from guests_harness import Guests, guests
from verifier_harness import EnrolledTpm


@pytest.fixture(scope="module")
def guest_tpm(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EnrolledTpm]:
    tpm = EnrolledTpm(tmp_path_factory.mktemp("tpm"))
    yield tpm
    tpm.stop()


@pytest.fixture
def host(tmp_path: pathlib.Path, guest_tpm: EnrolledTpm) -> Iterator[Guests]:
    # PCR 14 is that of a new boot, as the empty log says.
    guest_tpm.stop()
    guest_tpm.start()
    with guests(tmp_path, guest_tpm.tcti) as host:
        yield host
