# SPDX-License-Identifier: GPL-3.0-or-later
"""Who was in which group after each step, and who was handed the secret."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest
import yaml

OUTPUT = Path(os.environ["VOUCH_SCENARIO"])
SECRET = yaml.safe_load((OUTPUT / "secret.yml").read_text())["word"]

STEPS = (
    ("untouched", {"good": "affirming", "shelled": "warning", "never": "none"}, {"good"}),
    ("tampered", {"good": "affirming", "shelled": "contraindicated", "never": "none"}, {"good"}),
    ("verifier-down", {"good": "affirming", "shelled": "none", "never": "none"}, {"good"}),
    ("expired", {"good": "expired", "shelled": "none", "never": "none"}, set()),
    ("host-down", {"good": "none", "shelled": "none", "never": "none"}, set()),
)
"""Step, what each host is worth after it, who gets the secret in it."""


def kept(step: str) -> Any:
    return json.loads((OUTPUT / f"{step}.json").read_text())


@pytest.mark.parametrize(("step", "worth", "released"), STEPS, ids=[row[0] for row in STEPS])
def test_step(step: str, worth: dict[str, str], released: set[str]) -> None:
    groups = kept(step)["groups"]
    found = {host: group.removeprefix("attestation_") for group, hosts in groups.items() for host in hosts}
    assert found == worth, kept(step)["shown"]
    assert {path.suffix[1:] for path in (OUTPUT / "released").glob(f"{step}.*")} == released


def test_what_was_released_is_the_secret() -> None:
    released = list((OUTPUT / "released").iterdir())
    assert [path.read_text() for path in released] == [SECRET] * 3


def test_the_reasons_are_shown() -> None:
    assert "ima.entry.unknown" in kept("tampered")["shown"]["shelled"]["reasons"]
    assert kept("host-down")["shown"]["good"]["reasons"] != []
    assert kept("untouched")["shown"]["never"]["reasons"] == ["enrolment.missing"]


def test_an_expired_proof_is_refused_by_name() -> None:
    message = (OUTPUT / "expired.message").read_text()
    assert "good is expired, not affirming" in message
