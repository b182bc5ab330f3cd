# SPDX-License-Identifier: GPL-3.0-or-later
"""Shared test set-up: the core as ``ansible.module_utils.vouch``, and the place of foreign test data."""

from __future__ import annotations

import json
import os
import pathlib
import sys
from collections.abc import Callable
from typing import Any

import ansible.module_utils as module_utils
import pytest

ROOT = pathlib.Path(__file__).resolve().parents[1]
module_utils.__path__.append(str(ROOT / "module_utils"))
sys.path[:0] = [str(ROOT / "library"), str(ROOT / "tests")]

DATA = pathlib.Path(os.environ.get("VOUCH_TEST_DATA", ROOT.parent / "shared" / "data"))


def foreign(kind: str) -> pathlib.Path:
    """Return the folder of foreign test data ``kind``; skip where absent, fail where CI says it must be there."""
    folder = DATA / kind
    if not (folder / "expected.json").is_file():
        reason = f"foreign test data {kind!r} not found under {DATA}; set VOUCH_TEST_DATA"
        if os.environ.get("CI") == "true":
            pytest.fail(reason)
        pytest.skip(reason)
    return folder


@pytest.fixture
def shared_data() -> Callable[[str], pathlib.Path]:
    """Return ``foreign``: kind of data to its folder."""
    return foreign


def expected(kind: str) -> Any:
    """Return the parsed ``expected.json`` of ``kind`` (skips like ``foreign``)."""
    return json.loads((foreign(kind) / "expected.json").read_text())


def pytest_xdist_auto_num_workers(config: pytest.Config) -> int:
    """Return two processes for each processor: half of the time, a test waits for a program or for a limit."""
    return 2 * len(os.sched_getaffinity(0))


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave out what is marked ``thorough`` where somebody waits; put first what is marked ``kernel``."""
    left_out = [] if THOROUGH else [item for item in items if item.get_closest_marker("thorough")]
    if left_out:
        config.hook.pytest_deselected(items=left_out)
        items[:] = [item for item in items if not item.get_closest_marker("thorough")]
    items.sort(key=lambda item: item.get_closest_marker("kernel") is None)


from postgres_fixture import postgres_server, store_url  # noqa: E402, F401 - fixtures for every test below
from sshd_harness import sshd, verifier  # noqa: E402, F401
from swtpm_fixture import fresh_software_tpm, software_tpm  # noqa: E402, F401 - fixtures for every test below
from thorough import THOROUGH  # noqa: E402
