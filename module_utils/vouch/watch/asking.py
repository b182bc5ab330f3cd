# SPDX-License-Identifier: GPL-3.0-or-later
"""One question to one host, and what its answer is worth. Everything here blocks; the watch calls it in threads.

What stands in the way on the host's side is a result: not proven. What stands in the way on ours is none: while the
enrolments cannot be read, or the clock never rests, nothing is said about any host.

A question is put again where the first answer cannot be judged through nobody's fault:

* a host that booted meanwhile has another measurement list, and is asked for all of it;
* a clock of ours that jumped makes an answer look old, or from the future, that is neither. How long a question took
  is measured by the clock that never jumps.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from ..errors import UnreachableError, UsageError
from ..fleet.appraiser import Answer, Appraisal, Appraiser
from ..model.enrolment import Enrolment
from ..model.merkle import NONCE_BYTES
from ..port.clock import Clock
from ..port.hostlink import HostLink
from ..store.anyenrolments import Enrolments
from .config import WatchedHost

CLOCK_SLACK_S = 5
"""As far may the two clocks drift apart while a question is answered."""

MAX_JUMPS = 2
"""So often is a question put again because the clock jumped."""

MALFORMED = "enrolment.malformed"
OFFSET_MISMATCH = "ima.offset.mismatch"

Connect = Callable[[Enrolment], HostLink]
"""Returns the connection to the host of an enrolment; raises ``UnreachableError``, ``UsageError``."""


class Asked(NamedTuple):
    """What one host was found to be, and the enrolment that it was judged by."""

    appraisal: Appraisal
    before: Enrolment | None


class Asker:
    """Asks for one appraiser."""

    def __init__(self, appraiser: Appraiser, enrolments: Enrolments, clock: Clock) -> None:
        self._appraiser = appraiser
        self._enrolments = enrolments
        self._clock = clock

    def ask(self, host: WatchedHost, connect: Connect) -> Asked:
        """Ask with a fresh nonce, and appraise what comes back.

        Raises:
            UnreachableError: when the enrolments cannot be read, or ``clock.jumped``: that is no result, and says
                nothing about the host.
        """
        try:
            known = self._enrolments.find(host.host_id)
        except UnreachableError as error:
            if error.code != MALFORMED:
                raise
            return Asked(self._appraise(host, error, None, self._now_s()), None)
        if known is None:
            missing = UnreachableError(f"{host.name} is not enrolled", code="enrolment.missing")
            return Asked(self._appraise(host, missing, None, self._now_s()), None)
        offset, jumps = 0 if known.ima is None else known.ima.offset_bytes, 0
        while True:
            answer, now_s = self._question(known, connect, offset)
            if isinstance(answer, Answer) and abs(self._now_s() - now_s) > CLOCK_SLACK_S:
                jumps += 1
                if jumps <= MAX_JUMPS:
                    continue
                raise UnreachableError(
                    f"the clock of this machine jumped {jumps} times while {host.name} was asked", code="clock.jumped"
                )
            appraisal = self._appraise(host, answer, known, now_s)
            if not offset or OFFSET_MISMATCH not in appraisal.result.codes:
                return Asked(appraisal, known)
            offset = 0

    def _question(self, known: Enrolment, connect: Connect, offset: int) -> tuple[Answer | UnreachableError, int]:
        """Return the answer to one nonce, and when it came by the clock that the nonce was made by."""
        asked_at_s, began_s = self._now_s(), self._clock.monotonic_s()
        answer: Answer | UnreachableError
        try:
            nonce = self._clock.random_bytes(NONCE_BYTES)
            found = connect(known).ask(nonce, self._appraiser.policy.pcrs, ima_offset=offset)
            answer = Answer(evidence=found.data, nonce=nonce, channel_key=found.channel_key, asked_at_s=asked_at_s)
        except UnreachableError as error:
            answer = error
        except UsageError as error:
            answer = UnreachableError(error.message, code=error.code)
        return answer, asked_at_s + int(self._clock.monotonic_s() - began_s)

    def _appraise(
        self, host: WatchedHost, answer: Answer | UnreachableError, known: Enrolment | None, now_s: int
    ) -> Appraisal:
        try:
            return self._appraiser.appraise(host.host_id, answer, known, now_s=now_s)
        except UsageError as error:
            # An enrolment that is not this host's: nothing that the host could be blamed for.
            refused = UnreachableError(error.message, code=error.code)
            return self._appraiser.appraise(host.host_id, refused, known, now_s=now_s)

    def _now_s(self) -> int:
        return int(self._clock.now().timestamp())
