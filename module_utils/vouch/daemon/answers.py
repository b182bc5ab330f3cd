# SPDX-License-Identifier: GPL-3.0-or-later
"""What the main process answers out of itself: everything but proofs, for which it needs the TPM.

An answer is made when its client can take it; what makes it is a ``Render``.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from ..errors import UsageError, VouchError
from .evidence import EvidenceMaker
from .exchange import (
    CertifyRequest,
    ChallengeRequest,
    FetchRequest,
    HelloRequest,
    HostOrderRequest,
    ListRequest,
    OrderRequest,
    OwnPapersRequest,
    PaperRequest,
    PapersStatusRequest,
    Refusal,
    Request,
    StatusRequest,
    encode_answer,
    encode_error,
)
from .fetch import Fetcher
from .guestport import GuestPort
from .guests import Answer, Guests
from .papers import HostPapers

Render = Callable[[], bytes]


def rendered(ident: str, value: Mapping[str, Any]) -> Render:
    """Return what makes a successful answer."""
    return lambda: encode_answer(ident, dict(value))


def refusal(ident: str, code: str, message: str) -> Render:
    """Return what makes an error answer."""
    return lambda: encode_error(ident, code, message)


class Answers:
    """Who is asked for what.

    Args:
        maker: Says hello.
        guests: The host's guests.
        papers: What the host shows to strangers.
        port: Where guests ask; None on a host that lets none ask.
        fetcher: Reads what guests made.
    """

    __slots__ = ("_fetcher", "_guests", "_maker", "_papers", "_port")

    def __init__(
        self, maker: EvidenceMaker, guests: Guests, papers: HostPapers, port: GuestPort | None, fetcher: Fetcher
    ) -> None:
        self._maker, self._guests, self._papers, self._port = maker, guests, papers, port
        self._fetcher = fetcher

    def render(
        self, request: Request, guest: str, later: Callable[[], Answer], wanted: Callable[[], bool]
    ) -> Render | None:
        """Return the answer, or None for one that ``later`` is told when what was asked has been done.

        Args:
            request: What is asked; neither for evidence nor to watch.
            guest: Id of the guest that asks; "" for a client over SSH.
            later: Returns what an order or a fetch is answered through.
            wanted: Says whether the answer is still waited for.
        """
        if isinstance(request, Refusal):
            return refusal(request.id, request.code, request.message)
        try:
            if isinstance(request, OrderRequest):
                self._guests.order(request.order, later())
                return None
            if isinstance(request, HostOrderRequest):
                self._guests.order(request.order, later(), "host-order")
                return None
            if isinstance(request, FetchRequest):
                self._fetcher.begin(request.guest, request.port, later(), wanted)
                return None
            return rendered(request.id, self._value(request, guest))
        except VouchError as problem:
            return refusal(request.id, problem.code, problem.message)

    def _value(self, request: Request, guest: str) -> Mapping[str, Any]:
        if isinstance(request, HelloRequest):
            return self._maker.hello()
        if isinstance(request, ChallengeRequest):
            return self._guests.challenge()
        if isinstance(request, ListRequest):
            return self._guests.listed()
        if isinstance(request, StatusRequest):
            return self._guests.host_status()
        if isinstance(request, PapersStatusRequest):
            return self._papers.status()
        if isinstance(request, PaperRequest):
            return self._papers.put(*request[1:])
        if isinstance(request, OwnPapersRequest) and self._port is not None:
            return self._port.channels.papers(guest)
        if isinstance(request, CertifyRequest) and self._port is not None:
            return self._port.channels.certify(guest, request.key)
        raise UsageError(f"nobody answers {type(request).__name__}")
