# SPDX-License-Identifier: GPL-3.0-or-later
"""The host, and one guest at a time on it."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[3] / "module_utils"))
sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "shared"))
sys.path.insert(0, str(Path(__file__).resolve().parent))

from runs import BOOT_LIMIT_S, HOST, HOST_LIMIT_S, OUTPUT, PORT, STATE, Run
from xen_guests import TAIL_CHARS, Guest, XenHost


@pytest.fixture(scope="session")
def dom0() -> Iterator[XenHost]:
    """The debug host, once it starts guests."""
    host = XenHost(
        name=HOST, port=PORT, key=STATE / "keys" / "controller", known_hosts=STATE / "lab" / f"{HOST}.known_hosts"
    )
    try:
        host.wait_until_up(HOST_LIMIT_S)
        yield host
    finally:
        host.close()


@pytest.fixture(scope="module")
def guest(request: pytest.FixtureRequest, dom0: XenHost) -> Iterator[Guest]:
    """The guest of a ``Run``, given indirectly, once it says that it is ready."""
    run: Run = request.param
    with dom0.guest(run.domain()) as started:
        try:
            seconds = started.wait_for(f"vouch-guest: ready {run.guest}\n", BOOT_LIMIT_S)
            print(f"{run}: ready {seconds:.1f} s after xl create")
            yield started
        finally:
            keep_console(str(run), started)


def keep_console(name: str, guest: Guest) -> None:
    """Write down what a guest showed on its console."""
    folder = OUTPUT / "guests"
    folder.mkdir(mode=0o700, exist_ok=True)
    (folder / f"{name}.console.log").write_text(guest.console)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[Any]) -> Any:
    """Show the guest's console below the report of a test that failed."""
    report = yield
    started = getattr(item, "funcargs", {}).get("guest")
    if report.failed and isinstance(started, Guest):
        report.sections.append((f"console of {started.domain.name}", started.console[-TAIL_CHARS:]))
    return report
