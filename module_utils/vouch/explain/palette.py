# SPDX-License-Identifier: GPL-3.0-or-later
"""The colours and letters of every page this project makes, for light and dark paper.

Text on ``--paper`` and on each of the fills stands out by 4.5 to 1 or more in both. Pictures that are saved as files
of their own repeat these values, because what converts them often does not know custom properties (``drawing.py``).

Source: W3C WCAG 2.2, 1.4.3 (contrast); CSS Media Queries 5, 11.2 (prefers-color-scheme).
"""

from __future__ import annotations

ROOT = """
:root{color-scheme:light dark;--paper:#fff;--ink:#1c2126;--dim:#5b6670;--line:#d3d9de;--pass:#23713a;--fail:#b3372b;
--warn:#7d5200;--edge:#8a949e;--box:#f1f3f5;--high:#dff0e3;--low:#fbe3df;--mid:#fbefd2}
@media (prefers-color-scheme:dark){:root{--paper:#15191d;--ink:#e6e9ec;--dim:#a2acb5;--line:#3a434b;--pass:#6fc488;
--fail:#f0897d;--warn:#e3b95c;--edge:#7c8791;--box:#262c32;--high:#1c3a25;--low:#4a221e;--mid:#40330f}}
"""
"""Custom properties. ``high``, ``low``, ``mid`` lie behind what is good, bad, doubtful; ``box`` behind the rest."""

SANS = "system-ui,sans-serif"
MONO = "ui-monospace,Menlo,Consolas,monospace"
