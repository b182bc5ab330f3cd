# SPDX-License-Identifier: GPL-3.0-or-later
"""The VM verifier under load: how many askers one quote serves, and what 10,000 requests leave behind."""

from __future__ import annotations

import functools
import time
from dataclasses import dataclass

from .harness import Measured, at_least, at_most, row
from .service import Usage, ask, new_nonces, open_handles, running

CONNECTIONS, PIPELINED = 32, 64
BURSTS = 8
SEQUENTIAL = 300
WARM_UP, REQUESTS, PER_CONNECTION = 2_000, 10_000, 10


@dataclass(frozen=True, slots=True)
class Burst:
    """What many askers at once got."""

    per_quote: float
    per_second: float
    one_by_one_per_second: float


@dataclass(frozen=True, slots=True)
class Endurance:
    """One service before and after ``REQUESTS`` evidence requests."""

    before: Usage
    after: Usage
    handles: int


@functools.cache
def burst() -> Burst:
    """Let ``CONNECTIONS`` clients ask ``PIPELINED`` times each, ``BURSTS`` times over; then one after the other."""
    with running() as service:
        clients = [service.connect() for _ in range(CONNECTIONS)]
        began = time.monotonic()
        for _ in range(BURSTS):
            asked = [new_nonces(PIPELINED) for _ in clients]
            for client, nonces in zip(clients, asked, strict=True):
                client.sendall(b"".join(service.request(nonce) for nonce in nonces))
            for client, nonces in zip(clients, asked, strict=True):
                collect(client, nonces)
        seconds = time.monotonic() - began
        for client in clients:
            client.close()
        proofs, quotes = service.stop()
    with running() as service:
        client = service.connect()
        ask(service, client, new_nonces(1))
        began = time.monotonic()
        for _ in range(SEQUENTIAL):
            ask(service, client, new_nonces(1))
        alone = time.monotonic() - began
        client.close()
    return Burst(proofs / quotes, proofs / seconds, SEQUENTIAL / alone)


def collect(client: object, nonces: list[bytes]) -> None:
    """Read one answer per nonce and check that each is that asker's and lies under the quoted root."""
    import base64
    import hashlib
    import socket

    from vouch.model.merkle import leaf, root_from_path

    from .service import read_answer

    assert isinstance(client, socket.socket)
    for number, nonce in enumerate(nonces):
        result = read_answer(client)
        if result["nonce"] != nonce.hex():
            raise RuntimeError("an answer carries another asker's nonce")
        if number == 0:
            tree, digest = result["merkle"], hashlib.sha256(base64.b64decode(result["statement"])).digest()
            path = [bytes.fromhex(node) for node in tree["path"]]
            root = root_from_path(leaf(nonce, digest), tree["index"], tree["size"], path)
            if root not in base64.b64decode(result["attest"]):
                raise RuntimeError("a proof does not lead to the quoted root")


@functools.cache
def endurance() -> Endurance:
    """Ask one service ``REQUESTS`` times over many short connections."""
    with running() as service:

        def load(requests: int) -> None:
            for _ in range(requests // PER_CONNECTION):
                with service.connect() as client:
                    ask(service, client, new_nonces(PER_CONNECTION))
            # The last connection is closed by us at once and by the service in its next turn.
            time.sleep(0.5)

        load(WARM_UP)
        before = service.usage()
        load(REQUESTS)
        after = service.usage()
        service.stop()
        return Endurance(before, after, open_handles(service.tcti))


@row("batch.proofs", "proofs/quote", target=at_least(1_000))
def batch_proofs() -> Measured:
    """How many askers one quote of a real software TPM served, on average, while all of them asked at once."""
    note = f"{CONNECTIONS} connections, {PIPELINED} requests each, {BURSTS} times; every proof leads to its quote"
    return Measured(value=burst().per_quote, note=note)


@row("batch.requests", "requests/s", baseline="the same service, each request with a quote of its own")
def batch_requests() -> Measured:
    """Evidence requests per second through the socket; client, service and swtpm share the machine."""
    return Measured(value=burst().per_second, baseline_value=burst().one_by_one_per_second)


@row("service.tpm_handles", "handles", target=at_most(0))
def tpm_handles() -> Measured:
    """Transient objects and sessions in the TPM after 10,000 requests; a fresh one with a persistent key has none."""
    return Measured(value=endurance().handles, note=f"after {REQUESTS:,} evidence requests")


@row("service.descriptors", "descriptors", target=at_most(0))
def descriptors() -> Measured:
    """Growth of the service's open files over 10,000 requests and 1,000 connections."""
    found = endurance()
    note = f"{found.before.descriptors} before, {found.after.descriptors} after {REQUESTS:,} evidence requests"
    return Measured(value=found.after.descriptors - found.before.descriptors, note=note)


@row("service.memory", "KiB", target=at_most(64))
def memory() -> Measured:
    """Growth of the service's resident memory over 10,000 requests, after a warm-up of 2,000."""
    found = endurance()
    grown = (found.after.memory_bytes - found.before.memory_bytes) / 1024
    return Measured(
        value=grown, note=f"{found.after.memory_bytes / 2**20:.1f} MiB after {REQUESTS:,} evidence requests"
    )
