# SPDX-License-Identifier: GPL-3.0-or-later
"""A host's VM verifier as tests ask it: orders, lists, events; each over a connection of its own, as the modules do."""

from __future__ import annotations

import contextlib
import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from xen_guests import XenHost

from vouch.errors import UnreachableError
from vouch.make.order import sign_guest_order
from vouch.make.sign import PrivateKey, load_private_key
from vouch.model.gueststate import UP, GuestRecord
from vouch.model.order import START, GuestOrder
from vouch.model.package import package_id
from vouch.port.guestclient import GuestClient
from vouch.port.ssh import HostAnswerError, Limits, SshVerifier

BOOT_LIMIT_S = 900
ORDER_LIMIT_S = 900
POLL_S = 1.0


class VerifiedHost:
    """The VM verifier of a host.

    Args:
        dom0: The same host's shell.
        port: Of the loopback address.
        host_id: Its UUID.
        host_key: Type and base64.
        state: Folder with ``keys`` and ``packages``.
        store: URL of the image store, as the host reaches it.
    """

    def __init__(self, dom0: XenHost, *, port: int, host_id: str, host_key: str, state: Path, store: str) -> None:
        self.dom0, self.host_id = dom0, host_id
        self._port, self._host_key, self._state, self._store = port, host_key, state, store

    def package(self, image: str) -> bytes:
        """Return the signed package file of an image."""
        return (self._state / "packages" / f"{image}.dsse.json").read_bytes()

    @contextmanager
    def client(self, limit_s: float = ORDER_LIMIT_S) -> Iterator[GuestClient]:
        """Return a connection."""
        with SshVerifier(
            "127.0.0.1",
            port=self._port,
            key_file=str(self._state / "keys" / "controller"),
            host_key=self._host_key,
            limits=Limits(connect_s=60, banner_s=120, auth_s=120, answer_s=limit_s),
        ) as verifier:
            yield GuestClient(verifier)

    def signed(
        self, client: GuestClient, action: str, guest: str, *, key: PrivateKey | None = None, **members: Any
    ) -> bytes:
        """Return a signed order with a fresh challenge; ``members`` replace those of the order."""
        order = GuestOrder(action, self.host_id, guest, client.challenge())
        if action == START:
            order = order._replace(store=self._store)
        return sign_guest_order(order._replace(**members), key or self._order_key())

    def order(self, action: str, guest: str, *, key: PrivateKey | None = None, **members: Any) -> dict[str, Any]:
        """Give one order; raises ``HostAnswerError`` with the host's code."""
        with self.client() as client:
            return client.order(self.signed(client, action, guest, key=key, **members))

    def start(self, guest: str, image: str, kind: str) -> dict[str, Any]:
        """Start a guest from a package."""
        return self.order(START, guest, package=package_id(self.package(image)), kind=kind)

    def refusal(self, action: str, guest: str, **members: Any) -> str:
        """Return the code that an order is refused with."""
        try:
            answer = self.order(action, guest, **members)
        except HostAnswerError as error:
            return error.code
        raise AssertionError(f"the host obeyed: {answer}")

    def guests(self) -> dict[str, GuestRecord]:
        """Return the guests by id."""
        with self.client() as client:
            return {item.record.id: item.record for item in client.guests()}

    def wait_until(self, guest: str, wanted: Any, limit_s: float, what: str) -> GuestRecord:
        """Return the guest's record once ``wanted`` says so of it."""
        deadline = time.monotonic() + limit_s
        record = None
        while time.monotonic() < deadline:
            # One connection for all looks, since a handshake takes dom0's processor from the guest. A verifier that was
            # killed ends it, and answers a new one after some seconds.
            with contextlib.suppress(UnreachableError), self.client() as client:
                while time.monotonic() < deadline:
                    record = next((item.record for item in client.guests() if item.record.id == guest), None)
                    if record is not None and wanted(record):
                        return record
                    time.sleep(POLL_S)
            time.sleep(POLL_S)
        raise AssertionError(f"{guest} is not {what} after {limit_s:g} s: {record}\n{self.journal()}")

    def wait_until_up(self, guest: str) -> GuestRecord:
        """Return the guest's record once it is up and checked, or has a violation."""
        record = self.wait_until(guest, lambda found: found.phase == UP or found.violations, BOOT_LIMIT_S, "up")
        assert record.violations == (), f"{record}\n{self.journal()}"
        return record

    def events(self) -> list[dict[str, Any]]:
        """Return the contents of the VM verifier's event log."""
        lines = self.dom0.run("cat /run/vouch/eventlog").splitlines()
        return [json.loads(line)["content"] for line in lines]

    def wait_for_event(self, name: str, guest: str, limit_s: float) -> dict[str, Any]:
        """Return the last event of that name about the guest, once there is one."""
        deadline = time.monotonic() + limit_s
        while time.monotonic() < deadline:
            found = [event for event in self.events() if (event["event"], event.get("guest")) == (name, guest)]
            if found:
                return found[-1]
            time.sleep(POLL_S)
        raise AssertionError(f"no {name} of {guest} after {limit_s:g} s\n{self.journal()}")

    def journal(self) -> str:
        """Return the last of what the VM verifier said and how the machine is, for a failure."""
        return self.dom0.run("xl list; losetup --list; tail -n 40 /run/vouch/*.log 2> /dev/null || :")

    def remove_all(self) -> list[str]:
        """End every guest; return their ids."""
        names = sorted(self.guests())
        for name in names:
            self.order("stop", name)
        return names

    def _order_key(self) -> PrivateKey:
        """Return the application authority's key."""
        return load_private_key((self._state / "keys" / "order.pem").read_bytes())
