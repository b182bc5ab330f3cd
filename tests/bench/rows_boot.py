# SPDX-License-Identifier: GPL-3.0-or-later
"""Power-on to first evidence, beside an ordinary Debian dom0's power-on to its login prompt, one after the other."""

from __future__ import annotations

from . import untrimmed
from .harness import Measured, at_most, row
from .measured import power_on_to_evidence


@row(
    "boot.evidence",
    "s",
    baseline="untrimmed Debian 13 dom0, power-on to login prompt",
    slow=True,
)
def evidence() -> Measured:
    """The demo's host, switched off and on; then the other machine. Neither runs while the other is timed."""
    value = power_on_to_evidence()
    baseline = untrimmed.power_on_to_login()
    return Measured(
        value=value, baseline_value=baseline, target=at_most(baseline / 2), note="target: half the baseline"
    )
