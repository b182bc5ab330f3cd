# SPDX-License-Identifier: GPL-3.0-or-later
"""An intent as a person wrote it: YAML or JSON, strictly read."""

from __future__ import annotations

from typing import Any

from ..errors import ParseError, UsageError, shown
from ..model.integrity import Intent
from ..parse.canonical import load_json

MAX_INTENT_BYTES = 1 << 20
"""An intent of one guest has some kilobytes."""


def read_intent(data: bytes, *, name: str) -> Intent:
    """Return the intent that ``data`` holds: JSON when it begins with a brace, else YAML.

    Args:
        data: Content of the file.
        name: What the file is called, for messages.

    Raises:
        ParseError: when it is neither, says a member twice, or is no intent.
        UsageError: ``python.library`` when it is YAML and PyYAML is not installed here.
    """
    if len(data) > MAX_INTENT_BYTES:
        problem = f"{len(data)} bytes, more than the {MAX_INTENT_BYTES} allowed"
        raise ParseError(name, 0, problem, code="parse.too-large")
    if data.lstrip()[:1] == b"{":
        try:
            return Intent.from_json(load_json(data, limit_bytes=MAX_INTENT_BYTES))
        except ParseError as error:
            if error.code != "parse.json.syntax":
                raise
    return Intent.from_json(_yaml(data, name))


def _yaml(data: bytes, name: str) -> Any:
    """Return the document of YAML text; a mapping that says a key twice is refused, as in JSON."""
    try:
        import yaml
    except ImportError:
        raise UsageError(
            f"{shown(name)} is YAML, and PyYAML is not installed here",
            code="python.library",
            hint="install python3-yaml, or write the intent as JSON",
        ) from None

    class Strict(yaml.SafeLoader):
        """Plain values only, each key once."""

        def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
            keys = [self.construct_object(key, deep=True) for key, _ in node.value]
            for key in keys:
                if not isinstance(key, str) or keys.count(key) > 1:
                    line = node.start_mark.line + 1
                    raise ParseError(
                        f"{name} line {line}", 0, f"member {shown(key)!r} stands twice or is no text", code="parse.yaml"
                    )
            return super().construct_mapping(node, deep)

    try:
        return yaml.load(data, Loader=Strict)  # noqa: S506  # Strict is a SafeLoader
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        line = f" line {mark.line + 1}" if mark is not None else ""
        problem = getattr(error, "problem", None) or "is no YAML"
        raise ParseError(f"{name}{line}", 0, shown(problem), code="parse.yaml") from None
    except (RecursionError, ValueError) as error:
        if isinstance(error, ParseError):
            raise
        raise ParseError(name, 0, "is nested too deeply, or holds a value that is none", code="parse.yaml") from None
