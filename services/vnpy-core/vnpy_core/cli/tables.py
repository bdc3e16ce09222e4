"""Plain tables: columns that line up also where Chinese characters take two places."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from unicodedata import combining, east_asian_width

from vnpy_core.cli.connecting import printable


def table(head: Sequence[str], rows: Iterable[Sequence[object]], *, right: Iterable[int] = ()) -> list[str]:
    """Lines of `rows` under `head`; the columns numbered in `right` line up at their right end."""
    cells = [list(head), *([printable(_shown(cell)) for cell in row] for row in rows)]
    widths = [max(map(width, column)) for column in zip(*cells, strict=True)]
    to_right = frozenset(right)
    return ["  ".join(_padded(row, widths, to_right)).rstrip() for row in cells]


def width(text: str) -> int:
    """How many places of a terminal's line `text` takes."""
    return sum(0 if combining(each) else 2 if east_asian_width(each) in "WF" else 1 for each in text)


def _padded(row: Sequence[str], widths: Sequence[int], to_right: frozenset[int]) -> Iterable[str]:
    for number, (cell, wide) in enumerate(zip(row, widths, strict=True)):
        gap = " " * (wide - width(cell))
        yield gap + cell if number in to_right else cell + gap


def _shown(cell: object) -> str:
    match cell:
        case None:
            return ""
        case bool():
            return "yes" if cell else "no"
        case float():
            return f"{cell:.10g}"
        case _:
            return str(cell)
