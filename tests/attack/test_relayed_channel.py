# SPDX-License-Identifier: GPL-3.0-or-later
"""The evidence is genuine, but the connection it came through ends somewhere else."""

from __future__ import annotations

from sim.attester import SimAppraiser, SimHost, ssh_key

IMPOSTOR = ssh_key(99)


def test_a_relay_with_its_own_host_key() -> None:
    result = SimAppraiser(host=SimHost(), channel_key=IMPOSTOR).appraise().result
    assert (result.stage, result.codes) == ("channel", ("channel.key.mismatch",))


def test_the_host_key_was_exchanged_on_the_disk() -> None:
    """Statement and connection agree; the installer and the enrolment know better."""
    host = SimHost()
    host.ssh_host_key = IMPOSTOR
    result = SimAppraiser(host=host, channel_key=IMPOSTOR).appraise().result
    assert (result.stage, result.codes) == ("channel", ("channel.key.mismatch",))


def test_a_statement_that_claims_the_relays_key() -> None:
    host = SimHost()
    host.statement_changes = {"ssh_host_key": IMPOSTOR}
    assert SimAppraiser(host=host).appraise().result.codes == ("channel.key.mismatch",)
