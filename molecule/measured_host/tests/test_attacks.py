# SPDX-License-Identifier: GPL-3.0-or-later
"""Attacks on real machines, each with the refusal it must end in; and the controls without which that says nothing."""

from __future__ import annotations

import json

import pytest
from outcomes import OUTPUT, console_tail, outcome

from vouch.check.bootpcrs import pcr4_values

UNREACHABLE = 4
"""Exit code of ansible-playbook when a host went away."""

EXPECTED = (
    # Nothing was changed: what is refused below is refused for its change.
    ("untouched-mh1", "affirming", []),
    ("control", "affirming", []),
    ("untouched-mh2", "warning", ["release.debug"]),
    ("restarted-mh1", "affirming", []),
    ("restarted-mh2", "warning", ["release.debug"]),
    # Another thing is booted.
    ("xen-config", "contraindicated", ["boot.pcr4.unexpected"]),
    ("other-kernel", "contraindicated", ["boot.pcr4.unexpected"]),
    ("debug-image", "contraindicated", ["boot.pcr4.unexpected"]),
    # Another TPM answers, or none of ours.
    ("other-tpm", "contraindicated", ["quote.signature.invalid"]),
    ("tpm-cleared", "none", ["tpm.ak.missing"]),
    # Another channel.
    ("ssh-key", "none", ["channel.key.mismatch"]),
    ("ssh-key-follow", "contraindicated", ["channel.key.mismatch"]),
    # Less is proven than asked for.
    ("fewer-pcrs", "contraindicated", ["quote.selection.mismatch"]),
    # Something runs that is not of the release. The debug image is what allows to start it.
    ("unknown-program", "contraindicated", ["release.debug", "ima.entry.unknown"]),
)


@pytest.mark.parametrize(("name", "verdict", "codes"), EXPECTED, ids=[row[0] for row in EXPECTED])
def test_outcome(name: str, verdict: str, codes: list[str]) -> None:
    found = outcome(name)
    assert (found.verdict, found.codes) == (verdict, codes), f"{found.appraisal['findings']}\n{console_tail(name)}"


@pytest.mark.parametrize("name", ["xen-config", "other-kernel", "debug-image"])
def test_pcr_4_is_that_of_the_changed_file(name: str) -> None:
    """The refusal is for the file that was put there: the register is the one predicted for exactly that file."""
    found = outcome(name)
    pcr4 = found.appraisal["result"]["pcr4"]
    assert pcr4["found"] == pcr4_values(bytes.fromhex(found.tampered["after"]), 0)[0].hex()
    assert pcr4["expected"] == pcr4_values(bytes.fromhex(found.tampered["before"]), 0)[0].hex()


def test_the_debug_image_is_called_by_its_name() -> None:
    assert "debug release vouch-host-debug" in outcome("debug-image").finding("boot.pcr4.unexpected")["actual"]


def test_a_flipped_bit_stops_the_host() -> None:
    """The byte lies before the file system's superblock, so nothing but dm-verity looks at it."""
    found = outcome("root-image")
    console = (OUTPUT / "attacks" / "root-image.console.log").read_text(errors="replace")
    assert "data block 0 is corrupted" in console, console_tail("root-image")
    assert "dm-verity device corrupted" in found.console_line
    assert found.evidence["collected"] is False
    assert found.evidence["code"].startswith("ssh.")
    assert (found.verdict, found.codes) == ("none", [found.evidence["code"]])


def test_the_swapped_host_key_is_the_one_that_was_seen() -> None:
    found = outcome("ssh-key")
    assert found.evidence["ssh_host_key"] == found.tampered["after"] != found.tampered["before"]


def test_the_unknown_program_is_named() -> None:
    found = outcome("unknown-program")
    assert found.finding("ima.entry.unknown")["actual"] == f"/run/implant sha256:{found.tampered['after']}"


@pytest.mark.parametrize("moment", ["root-image", "boot-entry"])
def test_the_installation_was_cut_off(moment: str) -> None:
    """That it was carried on is what ``converge`` showed; here: it really had been interrupted, at that moment."""
    kept = json.loads((OUTPUT / "power_cuts" / f"{moment}.json").read_text())
    assert kept["moment"] == moment
    assert kept["playbook_rc"] == UNREACHABLE
    assert kept["enrolled"] is False
