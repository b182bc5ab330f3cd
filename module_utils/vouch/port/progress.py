# SPDX-License-Identifier: GPL-3.0-or-later
"""One line per step of long work, for a person who waits.

Ansible shows nothing while a module runs. A front end that wants to show more names a file in the environment
variable ``VOUCH_PROGRESS`` and follows it; without the variable nothing is written.
"""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Mapping

VARIABLE = "VOUCH_PROGRESS"
MAX_LINE_CHARS = 200


def report(text: str, environ: Mapping[str, str] = os.environ) -> None:
    """Append one line, ``HH:MM:SS text``, to the progress file; never fails.

    A full disk must not end the work whose progress it only displays.
    """
    path = environ.get(VARIABLE)
    if not path:
        return
    clean = "".join(c if c.isprintable() else " " for c in text).strip()[:MAX_LINE_CHARS]
    line = f"{time.strftime('%H:%M:%S')} {clean}\n".encode()
    with contextlib.suppress(OSError):
        # O_APPEND keeps the lines of several writers whole.
        descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            os.write(descriptor, line)
        finally:
            os.close(descriptor)
