# SPDX-License-Identifier: GPL-3.0-or-later
"""The signed packages, as a host would judge them before a start."""

from __future__ import annotations

import pytest
from runs import DEBUG, PRODUCTION, said_of_package

MAX_FILTERS = 12


@pytest.mark.parametrize("name", [run.image for run in PRODUCTION])
def test_production_packages_hold(name: str) -> None:
    said = said_of_package(name)
    assert (said["verdict"], said["signed"], said["proven"]) == ("affirming", True, True), said["findings"]
    assert len(said["filters"]) <= MAX_FILTERS
    assert all(entry["reason"].strip() for entry in said["filters"])


@pytest.mark.parametrize("name", sorted({run.image for run in DEBUG}))
def test_debug_packages_are_refused_unless_asked_for(name: str) -> None:
    said = said_of_package(name)
    assert said["verdict"] == "contraindicated"
    assert [finding["code"] for finding in said["findings"]] == ["package.debug"]
    assert said["proven"]
