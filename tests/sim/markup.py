# SPDX-License-Identifier: GPL-3.0-or-later
"""A page read by a parser that is not ours: which elements it has, with which attributes, and whether they nest."""

from __future__ import annotations

from html.parser import HTMLParser

VOID = frozenset({"meta", "br", "path", "rect", "circle"})
"""Elements without an end here: HTML's, and SVG's that end themselves."""


class Outline(HTMLParser):
    """What a page consists of.

    Attributes:
        elements: Every (element, attribute, value); an element without attributes has ("", "").
        text: All text, that of the style sheet left out.
        style: The style sheet.
        faults: Ends without a beginning, beginnings without an end, comments, instructions.
    """

    def __init__(self, page: str) -> None:
        super().__init__(convert_charrefs=True)
        self.elements: list[tuple[str, str, str]] = []
        self.text = ""
        self.style = ""
        self.faults: list[str] = []
        self._open: list[str] = []
        self.feed(page)
        self.close()
        self.faults += [f"{tag} is not closed" for tag in self._open]

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Note an element."""
        self.elements += [(tag, name, value or "") for name, value in attrs or [("", "")]]
        if len({name for name, _ in attrs}) != len(attrs):
            self.faults.append(f"{tag} has an attribute twice")
        if tag not in VOID:
            self._open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Note an element that ends itself."""
        self.elements += [(tag, name, value or "") for name, value in attrs or [("", "")]]
        if tag not in VOID:
            self.faults.append(f"{tag} ends itself")

    def handle_endtag(self, tag: str) -> None:
        """Note an end."""
        if not self._open or self._open.pop() != tag:
            self.faults.append(f"</{tag}> ends something else")

    def handle_data(self, data: str) -> None:
        """Note text."""
        if self._open and self._open[-1] == "style":
            self.style += data
        else:
            self.text += data

    def handle_comment(self, data: str) -> None:
        """Note a comment: the page has none."""
        self.faults.append(f"comment {data!r}")

    def unknown_decl(self, data: str) -> None:
        """Note a declaration."""
        self.faults.append(f"declaration {data!r}")

    def handle_pi(self, data: str) -> None:
        """Note an instruction."""
        self.faults.append(f"instruction {data!r}")

    def values(self, attribute: str) -> list[str]:
        """Return every value of ``attribute``."""
        return [value for _, name, value in self.elements if name == attribute]

    def names(self) -> set[tuple[str, str]]:
        """Return every (element, attribute)."""
        return {(element, name) for element, name, _ in self.elements}
