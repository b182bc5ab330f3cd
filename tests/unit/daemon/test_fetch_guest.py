# SPDX-License-Identifier: GPL-3.0-or-later
"""A guest that the real service started is fetched from, through its card, at the address that its ids give.

One network namespace is dom0, with the service, its keeper, its TPM and the image store in it; the other is the guest.
"""

from __future__ import annotations

import base64
import contextlib
import pathlib

from ansible.module_utils.vouch.model.grant import Network, Service
from ansible.module_utils.vouch.model.guestaddress import HOST_MAC, address_of, derived_mac

from fetchparts import GuestService, says
from guests_harness import guests
from netns_harness import Namespace, namespace
from verifier_harness import HOST_ID, EnrolledTpm

CONTENT = bytes(range(256)) * 100
PORT = 4470


def lay_card(dom0: Namespace, guest: Namespace, card: str, address: str, mac: str) -> None:
    """Connect the two as xl and the firewall do."""
    dom0.ip("link", "add", card, "address", HOST_MAC, "type", "veth", "peer", "name", "eth0", "netns", guest.name)
    guest.ip("link", "set", "eth0", "address", mac)
    for space, name in ((dom0, card), (guest, "eth0")):
        space.run("sysctl", "-qw", f"net/ipv6/conf/{name}/accept_dad=0")
        space.ip("link", "set", name, "up")
    guest.ip("-6", "addr", "add", f"{address}/128", "dev", "eth0", "nodad")
    dom0.ip("-6", "route", "replace", f"{address}/128", "dev", card)


def fetch_and_stop(folder: pathlib.Path, dom0: Namespace, guest: Namespace) -> None:
    """Start a guest, fetch from it, stop it; runs in the namespace of dom0."""
    address, mac = address_of(HOST_ID, derived_mac(HOST_ID, "g1")), derived_mac(HOST_ID, "g1")
    services = (Service(protocol="tcp", port=PORT, reason="it is read"),)
    with contextlib.ExitStack() as stack:
        tpm = EnrolledTpm(folder)
        stack.callback(tpm.stop)
        host = stack.enter_context(guests(folder / "host", tpm.tcti))
        fetch = {"request": "guest.fetch", "guest": "g1", "port": PORT}
        assert host.ask(fetch)["error"]["code"] == "guest.unknown"
        assert host.start_guest(host.publish(network=Network(services=services)))["ok"]
        assert host.ask(fetch)["error"]["code"] == "fetch.unreachable", "it has no card"
        lay_card(dom0, guest, f"vif{host.listed()['g1']['domain_id']}.0", address, mac)
        service = guest.call(lambda: GuestService(says(CONTENT), address, PORT))
        stack.callback(service.close)
        assert base64.b64decode(host.ask(fetch)["result"]["content"]) == CONTENT
        assert host.ask({**fetch, "port": PORT + 1})["error"]["code"] == "fetch.service"
        assert host.order("pause")["ok"]
        assert host.ask(fetch)["error"]["code"] == "fetch.state"
        assert host.order("resume")["ok"]
        assert base64.b64decode(host.ask(fetch)["result"]["content"]) == CONTENT
        assert host.order("stop")["ok"]
        assert host.ask(fetch)["error"]["code"] == "guest.unknown"


def test_a_guest_is_fetched_from_while_it_runs(tmp_path: pathlib.Path) -> None:
    (tmp_path / "host").mkdir()
    with namespace("dom0") as dom0, namespace("guest") as guest:
        dom0.call(lambda: fetch_and_stop(tmp_path, dom0, guest))
