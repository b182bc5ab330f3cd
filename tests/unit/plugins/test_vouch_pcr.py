# SPDX-License-Identifier: GPL-3.0-or-later
"""The PCR filters: by hand, and as Ansible loads and documents them."""

from __future__ import annotations

import hashlib
import importlib.util
import pathlib
from collections.abc import Callable

import pytest
import yaml
from ansible.errors import AnsibleFilterError
from ansible.module_utils.vouch.make.predict import predict_pcr4, predict_uki_pcr4

FOLDER = pathlib.Path(__file__).resolve().parents[3] / "filter_plugins"
DIGEST = "ab" * 32


@pytest.fixture(scope="module")
def filters() -> dict[str, Callable[..., str]]:
    spec = importlib.util.spec_from_file_location("vouch_pcr", FOLDER / "vouch_pcr.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.FilterModule().filters()


def test_extend(filters: dict[str, Callable[..., str]]) -> None:
    extend = filters["vouch_pcr_extend"]
    once = hashlib.sha256(bytes(32) + bytes.fromhex(DIGEST)).hexdigest()
    assert extend("00" * 32, DIGEST) == once
    assert extend("00" * 32, [DIGEST]) == once
    assert extend("00" * 32, [DIGEST, DIGEST.upper()]) == extend(once, DIGEST)
    assert extend(once, []) == once


def test_pcr4(filters: dict[str, Callable[..., str]]) -> None:
    predict, digest = filters["vouch_pcr4"], bytes.fromhex(DIGEST)
    assert predict(DIGEST) == predict_pcr4(digest).hex()
    assert predict(DIGEST, failed_attempts=2) == predict_pcr4(digest, 2).hex()
    assert predict(DIGEST, kernel="cd" * 32) == predict_uki_pcr4(digest, bytes.fromhex("cd" * 32)).hex()


@pytest.mark.parametrize(
    ("name", "arguments", "message"),
    [
        ("vouch_pcr_extend", ("00" * 32, "zz"), "is not hexadecimal"),
        ("vouch_pcr_extend", ("00" * 20, DIGEST), "64 hexadecimal digits"),
        ("vouch_pcr_extend", (None, DIGEST), "NoneType"),
        ("vouch_pcr_extend", ("00" * 32, [1]), "int"),
        ("vouch_pcr4", ("",), "64 hexadecimal digits"),
        ("vouch_pcr4", (DIGEST, "", 17), "from 0 to 16"),
        ("vouch_pcr4", (DIGEST, "", True), "whole number"),
        ("vouch_pcr4", (DIGEST, "", "1"), "whole number"),
        ("vouch_pcr4", (DIGEST, "ab"), "64 hexadecimal digits"),
    ],
)
def test_refusals(
    filters: dict[str, Callable[..., str]], name: str, arguments: tuple[object, ...], message: str
) -> None:
    with pytest.raises(AnsibleFilterError, match=message):
        filters[name](*arguments)


def test_every_filter_has_its_documentation(filters: dict[str, Callable[..., str]]) -> None:
    for name in filters:
        text = yaml.safe_load((FOLDER / f"{name}.yml").read_text())
        assert set(text) == {"DOCUMENTATION", "EXAMPLES", "RETURN"}
        assert text["DOCUMENTATION"]["name"] == name
        yaml.safe_load(text["EXAMPLES"])
