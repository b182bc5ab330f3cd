# SPDX-License-Identifier: GPL-3.0-or-later
"""What charon is told: our key, and for each accepted peer one connection that takes its exact certificate.

charon decides nothing here. It has no authority that it would trust: a connection names one peer by address, by name
and by the certificate itself, so an unknown peer meets no connection, and a peer with another certificate fails.

Transport mode between two addresses; AES-256-GCM, P-256, in IKE and again for each new key of the ESP channel.

Source: swanctl.conf(5); strongSwan, src/libcharon/plugins/vici/README.md; RFC 7296; RFC 4106.
"""

from __future__ import annotations

from collections.abc import Mapping

from ..errors import UnreachableError
from ..parse.vici import Given, section_of, text_of
from ..port.vici import SOCKET, Vici
from ..port.xfrm import forget_ipsec

IKE_PROPOSAL = "aes256gcm16-prfsha256-ecp256"
ESP_PROPOSAL = "aes256gcm16-ecp256"
DEAD_PEER_S = 2
INITIATE_S = 8.0
CHILD = "esp"
ESTABLISHED, INSTALLED = "ESTABLISHED", "INSTALLED"


def connection(
    *,
    own_address: str,
    own_name: str,
    own_certificate: bytes,
    address: str,
    name: str,
    certificate: bytes,
    tunnel: bool = False,
    dead_peer_s: int = DEAD_PEER_S,
) -> dict[str, Given]:
    """Return the connection to one peer, as ``load-conn`` takes it.

    Args:
        own_address, own_name, own_certificate: Ours: IPv6 address, name in the certificate, DER.
        address, name, certificate: The peer's.
        tunnel: For a kernel without ESP, where charon does it itself (its plugin kernel-libipsec): that knows tunnels
            in UDP alone.
        dead_peer_s: Seconds without a sign of life after which charon asks for one.
    """
    return {
        "version": "2",
        "mobike": "no",
        "unique": "replace",
        "dpd_delay": f"{dead_peer_s}s",
        "proposals": [IKE_PROPOSAL],
        "local_addrs": [own_address],
        "remote_addrs": [address],
        "encap": "yes" if tunnel else "no",
        "send_certreq": "no",
        "send_cert": "always",
        "local": {"auth": "pubkey", "id": f"@{own_name}", "certs": [own_certificate]},
        "remote": {"auth": "pubkey", "id": f"@{name}", "certs": [certificate]},
        "children": {
            CHILD: {
                "mode": "tunnel" if tunnel else "transport",
                "esp_proposals": [ESP_PROPOSAL],
                "local_ts": ["dynamic"],
                "remote_ts": ["dynamic"],
                "start_action": "none",
                "close_action": "none",
                "dpd_action": "clear",
            }
        },
    }


def connection_name(address: str) -> str:
    """Return what the connection to a peer is called."""
    return f"peer-{address}"


class Ike:
    """charon, as the authority uses it. Every call but ``started_anew`` blocks, and may be made from any thread.

    Args:
        path: Its socket.
        tunnel, dead_peer_s: As ``connection``.

    Raises:
        UnreachableError: as ``port.vici.Vici``.
    """

    def __init__(self, path: str = SOCKET, *, tunnel: bool = False, dead_peer_s: int = DEAD_PEER_S) -> None:
        self._path, self.tunnel, self.dead_peer_s = path, tunnel, dead_peer_s
        self._watch, self._gone = Vici(path), False

    def load_own(self, private_key: bytes, certificate: bytes) -> None:
        """Take our key and certificate, and forget every other: those of peers are loaded again by the caller."""
        with Vici(self._path) as vici:
            vici.ask("clear-creds")
            vici.ask("load-key", {"type": "ecdsa", "data": private_key})
            vici.ask("load-cert", {"type": "X509", "flag": "NONE", "data": certificate})

    def forget_all(self) -> None:
        """End every channel and unload every connection: what an earlier run left, of us or of charon."""
        with Vici(self._path) as vici:
            found = vici.ask("get-conns").message.get("conns")
            names = {item.decode("ascii", "replace") for item in found} if isinstance(found, list) else set()
            for name in sorted(names):
                self._end(vici, name)
        # A charon that died took its connections with it, and left the kernel to go on.
        forget_ipsec()
        self._gone = False

    def started_anew(self) -> bool:
        """Say whether charon went away since ``forget_all``, and is back: then it knows nothing of us.

        One connection is kept for nothing else; when charon goes, it breaks. Does not block, and asks charon nothing.
        """
        try:
            self._watch.check()
        except UnreachableError as error:
            self._gone = self._gone or error.code in ("vici.lost", "vici.connect")
            raise
        return self._gone

    def load_peer(self, name: str, loaded: Mapping[str, Given]) -> None:
        """Load the connection to a peer, or replace it."""
        with Vici(self._path) as vici:
            vici.ask("load-conn", {name: loaded})

    def end_peer(self, name: str) -> None:
        """End the channel to a peer at once, and unload its connection, so that none begins again."""
        with Vici(self._path) as vici:
            self._end(vici, name)

    def initiate(self, name: str) -> None:
        """Open the channel; returns when it is up."""
        with Vici(self._path) as vici:
            request = {"child": CHILD, "ike": name, "timeout": str(int(INITIATE_S * 1000)), "loglevel": "-1"}
            vici.ask("initiate", request, timeout_s=INITIATE_S + 2)

    def is_up(self, name: str) -> bool:
        """Say whether there is a channel to that peer now."""
        with Vici(self._path) as vici:
            return _up(vici, name)

    def _end(self, vici: Vici, name: str) -> None:
        # The connection first: otherwise the peer could begin again in between.
        for command, message in (
            ("unload-conn", {"name": name}),
            # Forced: gone here at once, whether or not the peer still answers.
            ("terminate", {"ike": name, "force": "yes", "timeout": "-1", "loglevel": "-1"}),
        ):
            try:
                vici.ask(command, message)
            except UnreachableError as error:
                # Also where there was none: what counts is what is left.
                if error.code != "vici.refused":
                    raise
        if _known(vici, name):
            raise UnreachableError(f"charon still has a channel {name}", code="ike.left")


def _up(vici: Vici, name: str) -> bool:
    for event in vici.ask("list-sas", {"ike": name}, event="list-sa").events:
        found = section_of(event.get(name))
        children = section_of(found.get("child-sas")).values()
        if text_of(found.get("state")) == ESTABLISHED and any(
            text_of(section_of(child).get("state")) == INSTALLED for child in children
        ):
            return True
    return False


def _known(vici: Vici, name: str) -> bool:
    return any(name in event for event in vici.ask("list-sas", {"ike": name}, event="list-sa").events)
