# SPDX-License-Identifier: GPL-3.0-or-later
"""How long two guests take from a wish to a channel: both judged, IKE done, ESP up."""

from __future__ import annotations

import contextlib
import pathlib
import statistics
import tempfile

from .harness import Measured, NotMeasuredError, at_most, row, use_tests

LABS = 5
"""Set-ups from nothing: neither side has seen the other, or any of its papers."""


@row("channel.setup.native", "s", target=at_most(0.15))
def channel_setup_native() -> Measured:
    """Measure the slowest of ``LABS`` set-ups between network namespaces of this machine.

    Authorities, charon, routing and IKE are real; the hosts are simulated and quote with a software key, so what a TPM
    takes for its quotes (one on each side, at the same time) is not in it.
    """
    use_tests()
    import pytest

    from channel_harness import lab

    took: list[float] = []
    steps: dict[str, list[int]] = {}
    esp = "by the kernel"
    try:
        for _ in range(LABS):
            with contextlib.ExitStack() as stack:
                folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="vouch-bench-"))
                two = stack.enter_context(lab(pathlib.Path(folder)))
                if two.a.charon.user_space:
                    esp = "by charon (this kernel has none)"
                outcome, seconds = two.connect()
                if not outcome.get("up") or not two.a.reaches(two.b):
                    raise RuntimeError(f"no channel: {outcome}\n{two.a.said}\n{two.b.said}")
                took.append(seconds)
                for name, value in outcome["steps_ms"].items():
                    steps.setdefault(name, []).append(value)
    except pytest.skip.Exception as error:
        raise NotMeasuredError(str(error)) from None
    each = ", ".join(f"{name} {statistics.median(values):g}" for name, values in steps.items() if name != "all")
    return Measured(
        value=max(took),
        note=f"quotes by a software key; ESP {esp}; median {statistics.median(took):.3f} s; median ms: {each}",
    )
