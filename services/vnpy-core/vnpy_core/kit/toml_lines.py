"""Where in a TOML file a key stands: tomllib does not tell, and people look for a line number."""

from __future__ import annotations

import tomllib
from collections.abc import Iterator
from typing import Any

Path = tuple[str, ...]


def key_lines(text: str) -> dict[Path, int]:
    """The line, from 1, of each table and key of a valid TOML `text`; keys of inline tables have their statement's."""
    lines: dict[Path, int] = {}
    table: Path = ()
    for number, source, parsed in _statements(text):
        if source.lstrip().startswith("["):
            table = max(_paths(parsed), key=len)
            for end in range(1, len(table) + 1):
                lines.setdefault(table[:end], number)
        else:
            for path in _paths(parsed):
                lines.setdefault(table + path, number)
    return lines


def _statements(text: str) -> Iterator[tuple[int, str, dict[str, Any]]]:
    """`(first line, source, parsed)` of each header and each `key = value`, however many lines it takes."""
    source, start = "", 0
    for number, line in enumerate(text.splitlines(keepends=True), 1):
        start = start if source else number
        source += line
        try:
            parsed = tomllib.loads(source)
        except tomllib.TOMLDecodeError:
            continue  # a value that goes on in the next line
        if parsed:
            yield start, source, parsed
        source = ""


def _paths(value: dict[str, Any]) -> Iterator[Path]:
    for key, inner in value.items():
        yield (key,)
        if isinstance(inner, dict):
            yield from ((key, *rest) for rest in _paths(inner))
