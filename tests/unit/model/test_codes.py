# SPDX-License-Identifier: GPL-3.0-or-later
"""Every code of a finding is registered once, is produced somewhere, and is described in the document."""

from __future__ import annotations

import importlib.util
import pathlib
from types import ModuleType

import pytest
from ansible.module_utils.vouch.model.codes import CODES

ROOT = pathlib.Path(__file__).resolve().parents[3]


@pytest.fixture(scope="module")
def tool() -> ModuleType:
    """Return tools/findings.py as a module."""
    spec = importlib.util.spec_from_file_location("findings_tool", ROOT / "tools" / "findings.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_every_code_in_the_source_is_registered(tool: ModuleType) -> None:
    used = tool.finding_codes()
    unknown = {code: sorted(used[code]) for code in set(used) - set(CODES)}
    assert not unknown, f"register in module_utils/vouch/model/codes.py: {unknown}"


def test_every_registered_code_is_produced(tool: ModuleType) -> None:
    unused = set(CODES) - set(tool.finding_codes())
    assert not unused, f"nothing produces {sorted(unused)}: take them out of model/codes.py, or produce them"


def test_the_document_is_current(tool: ModuleType) -> None:
    assert tool.DOCUMENT.read_text(encoding="utf-8") == tool.document(), "run tools/findings.py"


def test_entries_are_sentences() -> None:
    for code, entry in CODES.items():
        assert entry.code == code
        assert entry.severities
        assert entry.meaning.endswith("."), code
        assert "|" not in entry.meaning + entry.cure, code
